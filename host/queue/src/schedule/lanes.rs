//! Waiting messages, by destination, class, sender and time.
//!
//! A message stands in a lane: those of its destination, its class of priority and its group of senders. Whose turn it
//! is is decided from the outside in: a class, then a destination in it, then a group of senders, then the earliest. So
//! neither a destination nor a sender with a hundred thousand messages costs another one more than a turn.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use message::Id;

use super::share::{Share, Tier};
use super::waiting::Waiting;
use crate::priority::Class;

/// Names a lane while it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Lane(u32);

/// All lanes. A message stands in one, or is out (being worked on); each destination has so many out at once.
#[derive(Debug)]
pub(crate) struct Lanes {
    share: Share,
    /// Messages that are out.
    out: usize,
    names: HashMap<Arc<str>, Place>,
    destinations: Vec<Destination>,
    unused_places: Vec<Place>,
    /// By what messages of a lane have in common.
    keys: HashMap<(Place, Class, u8), Lane>,
    lanes: Vec<Line>,
    unused: Vec<Lane>,
    /// When each lane that has nothing due has its first message due.
    alarms: BTreeSet<(u64, Lane)>,
    /// Destinations that have something due and may have one more out, in turn, by class.
    rings: [VecDeque<Place>; CLASSES],
    /// Those that had to leave the ring because places were scarce.
    starved: BTreeSet<(Class, Place)>,
    turn: u32,
}

/// Names a destination while it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Place(u32);

#[derive(Debug, Default)]
struct Destination {
    name: Option<Arc<str>>,
    /// Messages that know one of its lanes, waiting or not.
    members: usize,
    out: usize,
    streams: [Stream; CLASSES],
}

/// What one class has due at one destination.
#[derive(Debug, Default)]
struct Stream {
    /// Lanes with something due, in turn.
    ring: VecDeque<Lane>,
    /// It stands in the ring of its class.
    queued: bool,
}

#[derive(Debug)]
struct Line {
    place: Place,
    class: Class,
    group: u8,
    waiting: Waiting,
    alarm: Option<u64>,
    /// It stands in the ring of its stream.
    queued: bool,
    members: usize,
}

impl Lanes {
    /// `active` messages may be out in all, `most_out` of one destination.
    pub(crate) fn new(active: usize, most_out: usize) -> Self {
        Self {
            share: Share::new(active, most_out),
            out: 0,
            names: HashMap::new(),
            destinations: Vec::new(),
            unused_places: Vec::new(),
            keys: HashMap::new(),
            lanes: Vec::new(),
            unused: Vec::new(),
            alarms: BTreeSet::new(),
            rings: Default::default(),
            starved: BTreeSet::new(),
            turn: 0,
        }
    }

    /// A message of this destination, class and sender joins its lane. [`Lanes::leave`] when it is gone or goes elsewhere.
    pub(crate) fn join(&mut self, destination: &str, class: Class, group: u8) -> Lane {
        let place = match self.names.get(destination) {
            Some(place) => *place,
            None => self.make_place(destination),
        };
        self.place(place).members += 1;
        let key = (place, class, group % GROUPS);
        let lane = match self.keys.get(&key) {
            Some(lane) => *lane,
            None => self.make_lane(key),
        };
        self.line(lane).members += 1;
        lane
    }

    /// A message leaves for good.
    pub(crate) fn leave(&mut self, lane: Lane) {
        let line = self.line(lane);
        line.members -= 1;
        let (place, members) = (line.place, line.members);
        if members == 0 {
            self.end_lane(lane);
        }
        let destination = self.place(place);
        destination.members -= 1;
        if destination.members == 0 {
            // Peers make up as many domains as they like: nothing may stay of them.
            let gone = std::mem::take(destination);
            if let Some(name) = gone.name {
                self.names.remove(&name);
            }
            for (ring, _) in
                self.rings.iter_mut().zip(&gone.streams).filter(|(_, stream)| stream.queued)
            {
                ring.retain(|other| *other != place);
            }
            self.starved.retain(|(_, other)| *other != place);
            self.unused_places.push(place);
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
            self.line(lane).alarm = None;
            self.ready(lane);
        }
        while let Some((class, place)) = self.next_stream() {
            if let Some(taken) = self.take_from(class, place, now) {
                self.turn = self.turn.wrapping_add(1);
                return Some(taken);
            }
        }
        None
    }

    /// A message that was taken is out no more.
    pub(crate) fn back(&mut self, lane: Lane) {
        let place = self.line(lane).place;
        let before = self.share.tier(self.out);
        self.out = self.out.saturating_sub(1);
        let destination = self.place(place);
        destination.out = destination.out.saturating_sub(1);
        for class in Class::ALL {
            self.join_ring(class, place);
        }
        if self.share.tier(self.out) < before {
            for (class, place) in std::mem::take(&mut self.starved) {
                self.join_ring(class, place);
            }
        }
    }

    /// When there will be something to take; in the past if there is now.
    pub(crate) fn next_due(&self) -> Option<u64> {
        let alarm = self.alarms.first().map(|(due, _)| *due);
        if self.rings.iter().all(VecDeque::is_empty) { alarm } else { Some(0) }
    }

    /// The destination of a lane.
    pub(crate) fn destination(&self, lane: Lane) -> &str {
        let place = self.lanes[lane.0 as usize].place;
        self.destinations[place.0 as usize].name.as_deref().unwrap_or_default()
    }

    /// Are there messages for it?
    pub(crate) fn knows(&self, destination: &str) -> bool {
        self.names.contains_key(destination)
    }

    /// The next destination of the class whose turn it is. Most turns are of the highest class that has something due;
    /// some are of the others first, so that nobody waits for ever.
    fn next_stream(&mut self) -> Option<(Class, Place)> {
        let order = match self.turn % 16 {
            15 => [Class::Low, Class::Normal, Class::High],
            3 | 7 | 11 => [Class::Normal, Class::High, Class::Low],
            _ => [Class::High, Class::Normal, Class::Low],
        };
        order.into_iter().find_map(|class| Some((class, self.rings[class as usize].pop_front()?)))
    }

    fn take_from(&mut self, class: Class, place: Place, now: u64) -> Option<(Lane, Id)> {
        let tier = self.share.tier(self.out);
        let limit = self.share.of_one(tier);
        let destination = self.place(place);
        destination.streams[class as usize].queued = false;
        if destination.out >= limit {
            // Back when there are more places, or one of its own.
            if tier > Tier::Ample {
                self.starved.insert((class, place));
            }
            return None;
        }
        while let Some(lane) = self.place(place).streams[class as usize].ring.pop_front() {
            let line = self.line(lane);
            line.queued = false;
            let first = line.waiting.first().filter(|(due, _)| *due <= now);
            if let Some(first) = first {
                line.waiting.remove(&first);
            }
            if line.waiting.first().is_some_and(|(due, _)| due <= now) {
                self.ready(lane);
            } else {
                self.set_alarm(lane);
            }
            if let Some((_, id)) = first {
                self.out += 1;
                self.place(place).out += 1;
                self.join_ring(class, place);
                return Some((lane, id));
            }
        }
        None
    }

    /// A lane has something due.
    fn ready(&mut self, lane: Lane) {
        let line = self.line(lane);
        let (class, place) = (line.class, line.place);
        if !std::mem::replace(&mut line.queued, true) {
            self.place(place).streams[class as usize].ring.push_back(lane);
        }
        self.join_ring(class, place);
    }

    /// A stream stands in the ring of its class if it has something due and its destination may have one more out.
    fn join_ring(&mut self, class: Class, place: Place) {
        let limit = self.share.of_one(Tier::Ample);
        let destination = &mut self.destinations[place.0 as usize];
        let stream = &mut destination.streams[class as usize];
        if !stream.queued && !stream.ring.is_empty() && destination.out < limit {
            stream.queued = true;
            self.rings[class as usize].push_back(place);
        }
    }

    /// A lane that has nothing due has an alarm for its first.
    fn set_alarm(&mut self, lane: Lane) {
        let line = &mut self.lanes[lane.0 as usize];
        if line.queued {
            return;
        }
        let wanted = line.waiting.first().map(|(due, _)| due);
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

    fn make_place(&mut self, name: &str) -> Place {
        let name: Arc<str> = name.into();
        let place = self.unused_places.pop().unwrap_or_else(|| {
            self.destinations.push(Destination::default());
            Place(number(self.destinations.len() - 1))
        });
        self.place(place).name = Some(Arc::clone(&name));
        self.names.insert(name, place);
        place
    }

    fn make_lane(&mut self, key: (Place, Class, u8)) -> Lane {
        let (place, class, group) = key;
        let waiting = Waiting::default();
        let line = Line { place, class, group, waiting, alarm: None, queued: false, members: 0 };
        let lane = match self.unused.pop() {
            Some(lane) => {
                *self.line(lane) = line;
                lane
            }
            None => {
                self.lanes.push(line);
                Lane(number(self.lanes.len() - 1))
            }
        };
        self.keys.insert(key, lane);
        lane
    }

    fn end_lane(&mut self, lane: Lane) {
        let line = self.line(lane);
        line.waiting = Waiting::default();
        let (place, class, group) = (line.place, line.class, line.group);
        let queued = std::mem::take(&mut line.queued);
        if let Some(alarm) = line.alarm.take() {
            self.alarms.remove(&(alarm, lane));
        }
        if queued {
            self.place(place).streams[class as usize].ring.retain(|other| *other != lane);
        }
        self.keys.remove(&(place, class, group));
        self.unused.push(lane);
    }

    fn place(&mut self, place: Place) -> &mut Destination {
        &mut self.destinations[place.0 as usize]
    }

    fn line(&mut self, lane: Lane) -> &mut Line {
        &mut self.lanes[lane.0 as usize]
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index)
        .expect("fewer lanes than messages, and fewer of those than four thousand million")
}

/// Groups of senders at one destination. Two senders of one group share its turn; with more groups fewer do, but a turn
/// of every group is longer.
const GROUPS: u8 = 64;

const CLASSES: usize = Class::ALL.len();

#[cfg(test)]
#[path = "lanes/tests.rs"]
mod tests;
