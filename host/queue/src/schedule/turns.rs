//! Deliveries that wait for a worker, by destination.

use std::collections::{HashMap, VecDeque};

/// Destinations take turns; each has only so many deliveries in hand.
#[derive(Debug)]
pub(crate) struct Turns {
    most_in_hand: usize,
    destinations: HashMap<String, Line>,
    ring: VecDeque<String>,
}

#[derive(Debug, Default)]
struct Line {
    ready: VecDeque<u64>,
    in_hand: usize,
    in_ring: bool,
}

impl Turns {
    pub(crate) fn new(most_in_hand: usize) -> Self {
        let most_in_hand = most_in_hand.max(1);
        Self { most_in_hand, destinations: HashMap::new(), ring: VecDeque::new() }
    }

    /// A delivery is ready.
    pub(crate) fn add(&mut self, destination: &str, delivery: u64) {
        self.destinations.entry(destination.to_owned()).or_default().ready.push_back(delivery);
        self.join_ring(destination);
    }

    /// Takes the delivery whose turn it is: it is in hand until [`Turns::back`].
    pub(crate) fn take(&mut self) -> Option<u64> {
        let destination = self.ring.pop_front()?;
        let line = self.destinations.get_mut(&destination)?;
        line.in_ring = false;
        let delivery = line.ready.pop_front();
        line.in_hand += 1;
        self.join_ring(&destination);
        delivery
    }

    /// A delivery that was taken came back.
    pub(crate) fn back(&mut self, destination: &str) {
        if let Some(line) = self.destinations.get_mut(destination) {
            line.in_hand = line.in_hand.saturating_sub(1);
        }
        self.join_ring(destination);
    }

    /// A delivery is not ready any more; `false`: it was not waiting.
    pub(crate) fn cancel(&mut self, destination: &str, delivery: u64) -> bool {
        let Some(line) = self.destinations.get_mut(destination) else { return false };
        let before = line.ready.len();
        line.ready.retain(|other| *other != delivery);
        let cancelled = line.ready.len() < before;
        if line.ready.is_empty() && line.in_ring {
            line.in_ring = false;
            self.ring.retain(|other| other != destination);
        }
        self.join_ring(destination);
        cancelled
    }

    fn join_ring(&mut self, destination: &str) {
        let Some(line) = self.destinations.get_mut(destination) else { return };
        if !line.in_ring && !line.ready.is_empty() && line.in_hand < self.most_in_hand {
            line.in_ring = true;
            self.ring.push_back(destination.to_owned());
        } else if line.ready.is_empty() && line.in_hand == 0 {
            self.destinations.remove(destination);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_take_turns_and_have_a_limit_each() {
        let mut turns = Turns::new(2);
        for delivery in 0..10 {
            turns.add("a", delivery);
        }
        turns.add("b", 100);
        let order: Vec<_> = std::iter::from_fn(|| turns.take()).collect();
        assert_eq!(order, [0, 100, 1]);
        turns.back("a");
        assert_eq!((turns.take(), turns.take()), (Some(2), None));
    }

    #[test]
    fn what_is_cancelled_is_not_taken() {
        let mut turns = Turns::new(1);
        turns.add("a", 1);
        assert!(turns.cancel("a", 1) && !turns.cancel("a", 1));
        assert_eq!(turns.take(), None);
        assert!(turns.destinations.is_empty() && turns.ring.is_empty());
    }
}
