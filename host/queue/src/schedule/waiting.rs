//! The messages of one lane, by time.

use std::collections::BTreeSet;

use message::Id;

/// A set that needs no memory of its own while it holds one message: most lanes of a large queue do.
#[derive(Debug, Default)]
pub(super) enum Waiting {
    #[default]
    Nobody,
    One((u64, Id)),
    Many(BTreeSet<(u64, Id)>),
}

impl Waiting {
    pub(super) fn first(&self) -> Option<(u64, Id)> {
        match self {
            Self::Nobody => None,
            Self::One(one) => Some(*one),
            Self::Many(many) => many.first().copied(),
        }
    }

    pub(super) fn insert(&mut self, new: (u64, Id)) {
        match self {
            Self::Nobody => *self = Self::One(new),
            Self::One(one) => *self = Self::Many([*one, new].into()),
            Self::Many(many) => drop(many.insert(new)),
        }
    }

    pub(super) fn remove(&mut self, old: &(u64, Id)) {
        match self {
            Self::Nobody => {}
            Self::One(one) if one == old => *self = Self::Nobody,
            Self::One(_) => {}
            Self::Many(many) => {
                many.remove(old);
                if many.is_empty() {
                    *self = Self::Nobody;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_whatever_the_number() {
        let id = |number| Id::new(std::time::UNIX_EPOCH, number);
        let mut waiting = Waiting::default();
        for (due, number) in [(5, 1), (3, 2), (3, 1), (9, 4)] {
            waiting.insert((due, id(number)));
        }
        waiting.remove(&(7, id(7)));
        let mut order = Vec::new();
        while let Some(first) = waiting.first() {
            waiting.remove(&first);
            order.push(first);
        }
        assert_eq!(order, [(3, id(1)), (3, id(2)), (5, id(1)), (9, id(4))]);
        assert!(matches!(waiting, Waiting::Nobody));
        waiting.insert((1, id(1)));
        waiting.remove(&(2, id(1)));
        assert_eq!(waiting.first(), Some((1, id(1))));
    }
}
