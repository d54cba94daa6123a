//! The books: what was sent, what was acknowledged, what arrived.
//!
//! Each message is made of its number alone, so whatever arrives can be compared octet for octet without keeping it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use super::random::Random;
use crate::maildir::{header, with_crlf, without_trace};

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A Maildir of the server.
    Here,
    /// A next host that takes everything.
    There,
    /// A next host that refuses for now while the disk is in danger, so that the message stays in the queue.
    Slow,
}

impl Place {
    /// Its recipient.
    pub fn address(self) -> &'static str {
        match self {
            Self::Here => "alice@example.test",
            Self::There => "someone@target.test",
            Self::Slow => "someone@slow.test",
        }
    }
}

/// Which places the messages of a run go to, in turn.
pub type Mix = &'static [&'static [Place]];

/// Into a mailbox, through, staying in the queue, and two of them at once.
pub const ALL: Mix =
    &[&[Place::Here], &[Place::There], &[Place::Slow], &[Place::There, Place::Slow]];

/// Everything stays in the queue until the next host is asked to take it.
pub const STAYING: Mix = &[&[Place::Slow]];

/// Everything goes through at once.
pub const PASSING: Mix = &[&[Place::Here], &[Place::There]];

/// What was sent, acknowledged and received.
#[derive(Debug)]
pub struct Ledger {
    mix: Mix,
    next: AtomicU32,
    /// Messages above this size are never made.
    largest: usize,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    /// The machine has no power: nothing that it says is heard.
    dark: bool,
    acknowledged: BTreeSet<u32>,
    arrived: BTreeMap<(u32, Place), u32>,
    /// How many were acknowledged, in the whole run.
    total: usize,
    tally: Tally,
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages that the server said 250 for.
    pub acknowledged: usize,
    /// Of these, the ones of which a recipient got nothing.
    pub lost: usize,
    /// Copies for a recipient beyond the first.
    pub twice: usize,
    /// Messages without a 250 that were delivered all the same; they were sent, so nobody minds.
    pub beyond: usize,
    /// What arrived and was never sent, or not in these octets.
    pub wrong: usize,
    /// Refusals for now.
    pub refused: usize,
    /// Refusals for good: a fault of the disk must never be one.
    pub refused_for_good: usize,
}

impl Tally {
    /// Nothing lost, nothing wrong, nothing refused for good.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.wrong == 0 && self.refused_for_good == 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, lost, twice, beyond, wrong, refused, refused_for_good } = self;
        write!(
            f,
            "{acknowledged} acknowledged, {lost} lost, {wrong} wrong, {twice} twice, {beyond} without a 250, \
             {refused} refused for now, {refused_for_good} for good"
        )
    }
}

impl Ledger {
    /// Empty books of a run with that mix.
    pub fn new(mix: Mix, largest: usize) -> Self {
        Self { mix, next: AtomicU32::new(0), largest, books: Mutex::default() }
    }

    /// The number of the next message. From now on it may arrive.
    pub fn begin(&self) -> u32 {
        self.next.fetch_add(1, Ordering::SeqCst)
    }

    /// Where a message goes.
    pub fn places(&self, number: u32) -> &'static [Place] {
        self.mix[number as usize % self.mix.len()]
    }

    /// The content of a message: 1 to 8 kB, some larger, with CRLF line ends and dots in awkward places.
    pub fn content(&self, number: u32) -> Vec<u8> {
        let mut random = Random::new(u64::from(number));
        let octets = match number % 200 {
            199 => 1_200_000, // larger than what a segment of our log takes in (1 MiB)
            19 | 59 | 99 | 139 | 179 => 60_000,
            _ => usize::try_from(random.between(700, 8000)).expect("small"),
        };
        let mut text = format!(
            "From: Sender <sender@client.example>\r\nTo: you@example.test\r\nSubject: n{number}\r\n\
             Date: Fri, 20 Nov 2026 10:00:00 +0000\r\nMessage-ID: <n{number}@client.example>\r\n\r\n.\r\n..dots\r\n"
        )
        .into_bytes();
        let octets = octets.min(self.largest);
        while text.len() < octets {
            for _ in 0..8 {
                // each octet of it as one of 32 letters
                text.extend(random.next().to_le_bytes().map(|octet| b'A' + octet % 32));
            }
            text.extend_from_slice(b"\r\n");
        }
        text
    }

    /// The server said 250.
    pub fn acknowledge(&self, number: u32) {
        let mut books = self.books();
        if !books.dark {
            books.acknowledged.insert(number);
            books.total += 1;
        }
    }

    /// The power of the machine goes or comes back; in between nothing is acknowledged or refused.
    pub fn power(&self, on: bool) {
        self.books().dark = !on;
    }

    /// The server refused with this code.
    pub fn refuse(&self, code: u16) {
        let mut books = self.books();
        if books.dark {
            return;
        }
        let tally = &mut books.tally;
        if code < 500 {
            tally.refused += 1;
        } else {
            tally.refused_for_good += 1;
        }
    }

    /// How many were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.books().total
    }

    /// How many transactions were refused so far, for now or for good.
    pub fn refused(&self) -> usize {
        let tally = &self.books().tally;
        tally.refused + tally.refused_for_good
    }

    /// A message arrived there, with what servers put above it. Gives its number if it is one of ours, whole.
    pub fn arrive(&self, place: Place, message: &[u8]) -> Option<u32> {
        let number = self.recognise(place, message);
        let mut books = self.books();
        match number {
            Some(number) => *books.arrived.entry((number, place)).or_default() += 1,
            None => books.tally.wrong += 1,
        }
        number
    }

    /// How often it arrived there, since the books were closed.
    pub fn arrivals(&self, number: u32, place: Place) -> u32 {
        self.books().arrived.get(&(number, place)).copied().unwrap_or(0)
    }

    /// What was acknowledged and hasn't arrived.
    pub fn missing(&self) -> Vec<(u32, Place)> {
        let books = self.books();
        let all = books
            .acknowledged
            .iter()
            .flat_map(|&number| self.places(number).iter().map(move |&place| (number, place)));
        all.filter(|key| !books.arrived.contains_key(key)).collect()
    }

    /// Other books with the same promises, in which nothing has arrived yet.
    pub fn copy(&self) -> Self {
        self.copy_of(|_| true)
    }

    /// [`Ledger::copy`] with some of the promises.
    pub fn copy_of(&self, chosen: impl Fn(u32) -> bool) -> Self {
        let books = self.books();
        let promised = Books {
            acknowledged: books.acknowledged.iter().copied().filter(|&n| chosen(n)).collect(),
            total: books.total,
            ..Books::default()
        };
        let next = AtomicU32::new(self.next.load(Ordering::SeqCst));
        Self { mix: self.mix, next, largest: self.largest, books: Mutex::new(promised) }
    }

    /// Reckons up what is known, and begins new books: the queue is empty.
    pub fn close(&self) -> Tally {
        let missing: BTreeSet<u32> = self.missing().into_iter().map(|(number, _)| number).collect();
        let mut books = self.books();
        let books = &mut *books;
        books.tally.acknowledged += books.acknowledged.len();
        books.tally.lost += missing.len();
        for ((number, _), count) in &books.arrived {
            books.tally.twice += *count as usize - 1;
            if !books.acknowledged.contains(number) {
                books.tally.beyond += 1;
            }
        }
        books.acknowledged.clear();
        books.arrived.clear();
        books.tally.clone()
    }

    fn recognise(&self, place: Place, message: &[u8]) -> Option<u32> {
        let subject = header(message, "Subject").into_iter().next()?;
        let number: u32 = subject.strip_prefix('n')?.parse().ok()?;
        let ours = number < self.next.load(Ordering::SeqCst)
            && self.places(number).contains(&place)
            && with_crlf(without_trace(message)) == self.content(number);
        ours.then_some(number)
    }

    fn books(&self) -> std::sync::MutexGuard<'_, Books> {
        self.books.lock().expect("no holder panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_twice_or_different_is_counted() {
        let ledger = Ledger::new(ALL, usize::MAX);
        for _ in 0..8 {
            ledger.begin();
        }
        for number in [0, 1, 3] {
            ledger.acknowledge(number);
        }
        let with_trace =
            |number| [b"Received: x\r\n\ty\r\n".to_vec(), ledger.content(number)].concat();
        assert_eq!(ledger.arrive(Place::Here, &with_trace(0)), Some(0));
        assert_eq!(ledger.arrive(Place::Here, &with_trace(0)), Some(0));
        assert_eq!(ledger.arrive(Place::There, &with_trace(3)), Some(3));
        assert_eq!(ledger.arrive(Place::Here, &with_trace(4)), Some(4));
        // cut off, for somebody else, never sent
        assert_eq!(ledger.arrive(Place::There, &with_trace(1)[..400]), None);
        assert_eq!(ledger.arrive(Place::Slow, &with_trace(1)), None);
        assert_eq!(ledger.arrive(Place::Here, &with_trace(8)), None);
        assert_eq!(ledger.missing(), [(1, Place::There), (3, Place::Slow)]);
        let tally = ledger.close();
        let seen = (tally.acknowledged, tally.lost, tally.twice, tally.beyond, tally.wrong);
        assert_eq!(seen, (3, 2, 1, 1, 3));
        assert_eq!(ledger.close().lost, 2, "the sum stays, and nothing is counted again");
    }
}
