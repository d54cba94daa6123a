//! How many places one destination may take when places are scarce.

/// A few hundred slow destinations, each within its own limit, could together take every place. The more places are
/// taken, the fewer each destination gets; what is left is for those that had none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    active: usize,
    most: usize,
}

/// How scarce places are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tier {
    /// Less than three quarters are taken.
    Ample,
    /// Less than seven eighths are taken.
    Scarce,
    /// Nearly all are taken.
    Last,
}

impl Share {
    /// `active` places, and `most` for one destination when there are enough.
    pub(super) fn new(active: usize, most: usize) -> Self {
        Self { active, most: most.max(1) }
    }

    /// How scarce places are when so many are taken.
    pub(super) fn tier(self, taken: usize) -> Tier {
        match taken {
            taken if taken < self.active * 3 / 4 => Tier::Ample,
            taken if taken < self.active * 7 / 8 => Tier::Scarce,
            _ => Tier::Last,
        }
    }

    /// Places for one destination.
    pub(super) fn of_one(self, tier: Tier) -> usize {
        match tier {
            Tier::Ample => self.most,
            Tier::Scarce => (self.most / 4).max(1),
            Tier::Last => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scarcer_places_are_the_fewer_one_destination_gets() {
        let share = Share::new(2000, 20);
        let check = |taken, expected| {
            assert_eq!(share.of_one(share.tier(taken)), expected, "{taken}");
        };
        check(0, 20);
        check(1499, 20);
        check(1500, 5);
        check(1749, 5);
        check(1750, 1);
        check(5000, 1);
        assert_eq!(Share::new(1, 0).of_one(Tier::Ample), 1, "nobody is shut out");
    }
}
