//! Waiting messages, by lane and time.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use message::Id;

/// Names a lane while it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Lane(u32);

/// All lanes. A message stands in one lane, or is out (being worked on); each lane has so many out at once.
#[derive(Debug)]
pub(crate) struct Lanes {
    most_out: usize,
    names: HashMap<Arc<str>, Lane>,
    lanes: Vec<Line>,
    unused: Vec<Lane>,
    /// When each lane that is not in the ring has its first message due.
    alarms: BTreeSet<(u64, Lane)>,
    /// Lanes with something due, in turn.
    ring: VecDeque<Lane>,
}

#[derive(Debug, Default)]
struct Line {
    name: Option<Arc<str>>,
    waiting: BTreeSet<(u64, Id)>,
    out: usize,
    alarm: Option<u64>,
    in_ring: bool,
    /// Messages that know this lane, waiting or not.
    members: usize,
}

impl Lanes {
    pub(crate) fn new(most_out: usize) -> Self {
        Self {
            most_out: most_out.max(1),
            names: HashMap::new(),
            lanes: Vec::new(),
            unused: Vec::new(),
            alarms: BTreeSet::new(),
            ring: VecDeque::new(),
        }
    }

    /// A message joins the lane of that name. [`Lanes::leave`] when it is gone or goes elsewhere.
    pub(crate) fn join(&mut self, name: &str) -> Lane {
        let lane = match self.names.get(name) {
            Some(lane) => *lane,
            None => self.make(name),
        };
        self.line(lane).members += 1;
        lane
    }

    /// A message leaves for good.
    pub(crate) fn leave(&mut self, lane: Lane) {
        let line = self.line(lane);
        line.members -= 1;
        if line.members == 0 {
            // Peers make up as many domains as they like: nothing may stay of them.
            let line = std::mem::take(line);
            if let Some(name) = line.name {
                self.names.remove(&name);
            }
            if let Some(alarm) = line.alarm {
                self.alarms.remove(&(alarm, lane));
            }
            if line.in_ring {
                self.ring.retain(|other| *other != lane);
            }
            self.unused.push(lane);
        }
    }

    /// A message waits until `due`.
    pub(crate) fn wait(&mut self, lane: Lane, due: u64, id: Id) {
        self.line(lane).waiting.insert((due, id));
        self.set_alarm(lane);
    }

    /// A message waits no more.
    pub(crate) fn cancel(&mut self, lane: Lane, due: u64, id: Id) {
        self.line(lane).waiting.remove(&(due, id));
        self.set_alarm(lane);
    }

    /// Takes the message whose turn it is: it is out until [`Lanes::back`].
    pub(crate) fn take(&mut self, now: u64) -> Option<(Lane, Id)> {
        while let Some(&(due, lane)) = self.alarms.first().filter(|(due, _)| *due <= now) {
            self.alarms.remove(&(due, lane));
            let line = self.line(lane);
            line.alarm = None;
            line.in_ring = true;
            self.ring.push_back(lane);
        }
        for _ in 0..self.ring.len() {
            let lane = self.ring.pop_front()?;
            let most = self.most_out;
            let line = self.line(lane);
            line.in_ring = false;
            let due = line.waiting.first().copied().filter(|(due, _)| *due <= now);
            let taken = due.filter(|_| line.out < most);
            if let Some(first) = taken {
                line.waiting.remove(&first);
                line.out += 1;
            }
            self.set_alarm(lane);
            if let Some((_, id)) = taken {
                return Some((lane, id));
            }
        }
        None
    }

    /// A message that was taken is out no more.
    pub(crate) fn back(&mut self, lane: Lane) {
        let line = self.line(lane);
        line.out = line.out.saturating_sub(1);
        self.set_alarm(lane);
    }

    /// When there will be something to take; in the past if there is now.
    pub(crate) fn next_due(&self) -> Option<u64> {
        let alarm = self.alarms.first().map(|(due, _)| *due);
        if self.ring.is_empty() { alarm } else { Some(0) }
    }

    fn make(&mut self, name: &str) -> Lane {
        let name: Arc<str> = name.into();
        let lane = self.unused.pop().unwrap_or_else(|| {
            let number = u32::try_from(self.lanes.len()).expect("fewer lanes than messages");
            self.lanes.push(Line::default());
            Lane(number)
        });
        self.line(lane).name = Some(Arc::clone(&name));
        self.names.insert(name, lane);
        lane
    }

    /// A lane outside the ring has an alarm if it has something waiting and may have one more out.
    fn set_alarm(&mut self, lane: Lane) {
        let most = self.most_out;
        let line = self.line(lane);
        if line.in_ring {
            return;
        }
        let first = line.waiting.first().map(|(due, _)| *due);
        let wanted = first.filter(|_| line.out < most);
        let before = std::mem::replace(&mut line.alarm, wanted);
        if before != wanted {
            if let Some(alarm) = before {
                self.alarms.remove(&(alarm, lane));
            }
            if let Some(alarm) = wanted {
                self.alarms.insert((alarm, lane));
            }
        }
    }

    fn line(&mut self, lane: Lane) -> &mut Line {
        &mut self.lanes[lane.0 as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> Id {
        Id::new(std::time::UNIX_EPOCH, number)
    }

    #[test]
    fn lanes_take_turns_whatever_their_length() {
        let mut lanes = Lanes::new(1000);
        for number in 0..100 {
            let lane = lanes.join("dead.example");
            lanes.wait(lane, 0, id(number));
        }
        let small = lanes.join("small.example");
        lanes.wait(small, 5, id(1000));
        let order: Vec<_> = (0..4).filter_map(|_| lanes.take(10)).map(|(_, id)| id).collect();
        assert_eq!(order, [id(0), id(1000), id(1), id(2)]);
    }

    #[test]
    fn a_lane_has_only_so_many_out() {
        let mut lanes = Lanes::new(2);
        let lane = lanes.join("a.example");
        for number in 0..5 {
            lanes.wait(lane, 0, id(number));
        }
        assert!(lanes.take(0).is_some() && lanes.take(0).is_some());
        assert_eq!(lanes.take(0), None);
        assert_eq!(lanes.next_due(), None, "nothing to wake up for");
        lanes.back(lane);
        assert_eq!(lanes.take(0), Some((lane, id(2))));
    }

    #[test]
    fn nothing_is_taken_before_it_is_due_and_the_earliest_comes_first() {
        let mut lanes = Lanes::new(9);
        let lane = lanes.join("a.example");
        lanes.wait(lane, 20, id(1));
        lanes.wait(lane, 10, id(2));
        assert_eq!((lanes.take(9), lanes.next_due()), (None, Some(10)));
        assert_eq!(lanes.take(10), Some((lane, id(2))));
        assert_eq!((lanes.take(19), lanes.next_due()), (None, Some(20)));
        lanes.cancel(lane, 20, id(1));
        assert_eq!((lanes.take(30), lanes.next_due()), (None, None));
    }

    #[test]
    fn a_lane_that_everybody_left_leaves_nothing() {
        let mut lanes = Lanes::new(9);
        for number in 0..1000 {
            let lane = lanes.join(&format!("{number}.example"));
            lanes.wait(lane, 0, id(number));
            assert!(lanes.take(0).is_some());
            lanes.back(lane);
            lanes.leave(lane);
        }
        assert_eq!((lanes.lanes.len(), lanes.names.len(), lanes.alarms.len()), (1, 0, 0));
        assert!(lanes.ring.is_empty());
    }
}
