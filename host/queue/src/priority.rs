//! Which message goes first.

use serde::{Deserialize, Serialize};

/// From -9 to 9, as RFC 6710 §2 has it; 0 is ordinary mail.
///
/// What is above 0 is to go before ordinary mail, what is below after it.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_keeps_to_its_bounds_() {
        fn check(value: i8, kept: i8) {
            let priority = Priority::new(value);
            assert_eq!(priority.value(), kept, "{value}");
            assert_eq!(serde_json::to_string(&priority).unwrap(), kept.to_string());
            assert_eq!(serde_json::from_str::<Priority>(&value.to_string()).unwrap(), priority);
        }
        check(127, 9);
        check(1, 1);
        check(0, 0);
        check(-1, -1);
        check(-128, -9);
    }
}
