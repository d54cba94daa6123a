//! Deliveries that wait for a worker, by destination.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::share::{Share, Tier};

/// Destinations take turns; each has only so many deliveries in hand: few at first, more with each that it answers, half
/// as many when it does not.
#[derive(Debug)]
pub(crate) struct Turns {
    share: Share,
    most_in_hand: usize,
    /// Deliveries in hand.
    in_hand: usize,
    destinations: HashMap<String, Line>,
    /// What was learned of destinations that have nothing ready or in hand now.
    windows: HashMap<String, usize>,
    ring: VecDeque<String>,
    /// Those that had to leave the ring because workers were scarce.
    starved: BTreeSet<String>,
}

#[derive(Debug)]
struct Line {
    ready: VecDeque<u64>,
    in_hand: usize,
    /// How many may be in hand.
    window: usize,
    in_ring: bool,
}

/// What a delivery that came back says of its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is there, whatever it said of the message.
    Answered,
    /// It is not there, or has enough (421), or had no connection to spare.
    Silent,
    /// Nothing.
    Unknown,
}

impl Turns {
    /// `workers` deliveries can be in hand in all, `most_in_hand` of one destination.
    pub(crate) fn new(workers: usize, most_in_hand: usize) -> Self {
        let most_in_hand = most_in_hand.max(1);
        Self {
            share: Share::new(workers, most_in_hand),
            most_in_hand,
            in_hand: 0,
            destinations: HashMap::new(),
            windows: HashMap::new(),
            ring: VecDeque::new(),
            starved: BTreeSet::new(),
        }
    }

    /// A delivery is ready.
    pub(crate) fn add(&mut self, destination: &str, delivery: u64) {
        let (windows, first) = (&mut self.windows, self.most_in_hand.min(FIRST_WINDOW));
        let line = self.destinations.entry(destination.to_owned()).or_insert_with(|| Line {
            ready: VecDeque::new(),
            in_hand: 0,
            window: windows.remove(destination).unwrap_or(first),
            in_ring: false,
        });
        line.ready.push_back(delivery);
        self.join_ring(destination);
    }

    /// Takes the delivery whose turn it is: it is in hand until [`Turns::back`].
    pub(crate) fn take(&mut self) -> Option<u64> {
        loop {
            let destination = self.ring.pop_front()?;
            let tier = self.share.tier(self.in_hand);
            let Some(line) = self.destinations.get_mut(&destination) else { continue };
            line.in_ring = false;
            if line.in_hand >= line.window.min(self.share.of_one(tier)) {
                if tier > Tier::Ample {
                    self.starved.insert(destination);
                }
                continue;
            }
            let Some(delivery) = line.ready.pop_front() else { continue };
            line.in_hand += 1;
            self.in_hand += 1;
            self.join_ring(&destination);
            return Some(delivery);
        }
    }

    /// A delivery that was taken came back.
    pub(crate) fn back(&mut self, destination: &str, answer: Answer) {
        let before = self.share.tier(self.in_hand);
        self.in_hand = self.in_hand.saturating_sub(1);
        if let Some(line) = self.destinations.get_mut(destination) {
            line.in_hand = line.in_hand.saturating_sub(1);
            line.window = match answer {
                Answer::Answered => (line.window + 1).min(self.most_in_hand),
                Answer::Silent => (line.window / 2).max(1),
                Answer::Unknown => line.window,
            };
        }
        self.join_ring(destination);
        if self.share.tier(self.in_hand) < before {
            for destination in std::mem::take(&mut self.starved) {
                self.join_ring(&destination);
            }
        }
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

    /// Deliveries in hand and ready, by destination.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&str, usize, usize)> {
        self.destinations.iter().map(|(name, line)| (name.as_str(), line.in_hand, line.ready.len()))
    }

    fn join_ring(&mut self, destination: &str) {
        let Some(line) = self.destinations.get_mut(destination) else { return };
        if !line.in_ring && !line.ready.is_empty() && line.in_hand < line.window {
            line.in_ring = true;
            self.ring.push_back(destination.to_owned());
        } else if line.ready.is_empty() && line.in_hand == 0 {
            let gone = self.destinations.remove(destination);
            if self.windows.len() >= REMEMBERED {
                self.windows.clear();
            }
            self.windows.extend(gone.map(|line| (destination.to_owned(), line.window)));
        }
    }
}

/// In hand before anything is known of a destination: enough to learn more, and little if it is dead.
const FIRST_WINDOW: usize = 2;

/// Destinations that are remembered when they have nothing to do; then all are forgotten and learned anew.
const REMEMBERED: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_take_turns_and_have_a_limit_each() {
        let mut turns = Turns::new(500, 2);
        for delivery in 0..10 {
            turns.add("a", delivery);
        }
        turns.add("b", 100);
        let order: Vec<_> = std::iter::from_fn(|| turns.take()).collect();
        assert_eq!(order, [0, 100, 1]);
        turns.back("a", Answer::Answered);
        assert_eq!((turns.take(), turns.take()), (Some(2), None));
    }

    #[test]
    fn what_is_cancelled_is_not_taken() {
        let mut turns = Turns::new(500, 1);
        turns.add("a", 1);
        assert!(turns.cancel("a", 1) && !turns.cancel("a", 1));
        assert_eq!(turns.take(), None);
        assert!(turns.destinations.is_empty() && turns.ring.is_empty());
    }

    #[test]
    fn who_answers_gets_more_and_who_is_silent_less() {
        let mut turns = Turns::new(500, 8);
        let mut check = |answer: Answer, expected: usize| {
            (0..20).for_each(|delivery| turns.add("a", delivery));
            let taken = std::iter::from_fn(|| turns.take()).count();
            assert_eq!(taken, expected, "{answer:?}");
            (0..taken).for_each(|_| turns.back("a", answer));
        };
        check(Answer::Unknown, 2);
        check(Answer::Answered, 2);
        check(Answer::Answered, 4);
        check(Answer::Answered, 8);
        check(Answer::Silent, 8);
        check(Answer::Silent, 1);
        check(Answer::Answered, 1);
        check(Answer::Unknown, 2);
    }

    #[test]
    fn what_was_learned_outlasts_a_pause() {
        let mut turns = Turns::new(500, 8);
        for delivery in 0..20 {
            turns.add("a", delivery);
            assert!(turns.take().is_some());
            turns.back("a", Answer::Answered);
        }
        assert!(turns.destinations.is_empty());
        (0..20).for_each(|delivery| turns.add("a", delivery));
        assert_eq!(std::iter::from_fn(|| turns.take()).count(), 8);
    }

    #[test]
    fn when_workers_are_scarce_each_destination_gets_few() {
        let mut turns = Turns::new(40, 8);
        for destination in 0..20 {
            (0..20).for_each(|delivery| turns.add(&format!("slow{destination}"), delivery));
        }
        assert_eq!(std::iter::from_fn(|| turns.take()).count(), 35);
        turns.add("new", 99);
        assert_eq!((turns.take(), turns.take()), (Some(99), None));
        (0..7).for_each(|_| turns.back("slow0", Answer::Unknown));
        assert!(turns.take().is_some(), "what was kept waiting is woken");
    }
}
