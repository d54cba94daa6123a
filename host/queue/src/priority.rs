//! Which message goes first.

use serde::{Deserialize, Serialize};

/// From -9 to 9, as RFC 6710 §2 has it; 0 is ordinary mail.
///
/// The schedule knows three classes: what is above 0 goes before ordinary mail, what is below after it; neither can keep
/// the others from having their turn now and then.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(from = "i8", into = "i8")]
pub struct Priority(i8);

impl Priority {
    /// Before everybody.
    pub const HIGHEST: Self = Self(9);
    /// After everybody.
    pub const LOWEST: Self = Self(-9);

    /// The nearest that there is.
    pub fn new(value: i8) -> Self {
        Self(value.clamp(Self::LOWEST.0, Self::HIGHEST.0))
    }

    /// The number.
    pub fn value(self) -> i8 {
        self.0
    }

    pub(crate) fn is_normal(&self) -> bool {
        self.0 == 0
    }

    /// As the schedule sees it.
    pub(crate) fn class(self) -> Class {
        match self.0 {
            1.. => Class::High,
            0 => Class::Normal,
            _ => Class::Low,
        }
    }
}

impl From<i8> for Priority {
    fn from(value: i8) -> Self {
        Self::new(value)
    }
}

impl From<Priority> for i8 {
    fn from(priority: Priority) -> Self {
        priority.0
    }
}

impl std::fmt::Display for Priority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// How soon a message has its turn among those that are due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Class {
    High,
    #[default]
    Normal,
    Low,
}

impl Class {
    pub(crate) const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_keeps_to_its_bounds_and_has_a_class() {
        fn check(value: i8, kept: i8, class: Class) {
            let priority = Priority::new(value);
            assert_eq!((priority.value(), priority.class()), (kept, class), "{value}");
            assert_eq!(serde_json::to_string(&priority).unwrap(), kept.to_string());
            assert_eq!(serde_json::from_str::<Priority>(&value.to_string()).unwrap(), priority);
        }
        check(127, 9, Class::High);
        check(1, 1, Class::High);
        check(0, 0, Class::Normal);
        check(-1, -1, Class::Low);
        check(-128, -9, Class::Low);
    }
}
