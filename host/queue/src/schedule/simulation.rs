//! What others suffer from a dead destination or a busy sender: hours of deliveries in virtual time, with the lanes and
//! turns that the owner of the queue uses. `cargo test -p queue --lib simulation -- --nocapture` prints the figures.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use message::Id;

use super::{Answer, Lane, Lanes, Turns};
use crate::priority::Class;

/// Attempts at once, of all destinations; more is what delivery has by itself.
const WORKERS: usize = 500;
/// Attempts at once for one destination.
const IN_HAND: usize = 10;
/// Messages being routed or delivered.
const ACTIVE: usize = 2000;

#[derive(Clone, Debug)]
struct Mail {
    destination: String,
    group: u8,
    class: Class,
    arrival: u64,
    /// What an attempt takes, in milliseconds.
    takes: u64,
    /// An attempt ends without success, and this is the next wait.
    retry: Option<u64>,
    /// It belongs to those whom we watch.
    watched: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival(u32),
    End(u32),
}

struct World {
    lanes: Lanes,
    turns: Turns,
    mails: Vec<Mail>,
    place: HashMap<u32, Lane>,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    free: usize,
    out: usize,
    latencies: Vec<u64>,
}

fn id(number: u32) -> Id {
    Id::new(std::time::UNIX_EPOCH, number)
}

impl World {
    fn new(mails: Vec<Mail>) -> Self {
        let arrivals = mails.iter().zip(0..);
        let events = arrivals.map(|(mail, n)| Reverse((mail.arrival, Event::Arrival(n))));
        Self {
            lanes: Lanes::new(ACTIVE, IN_HAND * 2),
            turns: Turns::new(WORKERS, IN_HAND),
            place: HashMap::new(),
            events: events.collect(),
            free: WORKERS,
            out: 0,
            latencies: Vec::new(),
            mails,
        }
    }

    /// Lives until `end`; gives the time from arrival to the end of the attempt of those whom we watch, sorted.
    fn run(mut self, end: u64) -> Vec<u64> {
        let numbers: HashMap<Id, u32> =
            (0..).zip(&self.mails).map(|(number, _)| (id(number), number)).collect();
        while let Some(Reverse((now, event))) =
            self.events.pop().filter(|Reverse((now, _))| *now <= end)
        {
            match event {
                Event::Arrival(number) => self.wait(number, now),
                Event::End(number) => self.end(number, now),
            }
            while self.out < ACTIVE {
                let Some((_, taken)) = self.lanes.take(now) else { break };
                self.out += 1;
                let number = numbers[&taken];
                self.turns.add(&self.mails[number as usize].destination, u64::from(number));
            }
            while self.free > 0 {
                let Some(number) = self.turns.take() else { break };
                self.free -= 1;
                let number = u32::try_from(number).expect("it was a u32");
                let takes = self.mails[number as usize].takes;
                self.events.push(Reverse((now + takes, Event::End(number))));
            }
            if let Some(due) = self.lanes.next_due().filter(|due| *due > now) {
                let next = self.events.peek().map_or(u64::MAX, |Reverse((time, _))| *time);
                if due < next {
                    // Somebody has to be there when it is due; an arrival that is over does no harm.
                    self.events.push(Reverse((due, Event::End(u32::MAX))));
                }
            }
        }
        self.latencies.sort_unstable();
        self.latencies
    }

    fn wait(&mut self, number: u32, due: u64) {
        let mail = &self.mails[number as usize];
        let lane = self.lanes.join(&mail.destination, mail.class, mail.group);
        self.lanes.wait(lane, due, id(number));
        self.place.insert(number, lane);
    }

    fn end(&mut self, number: u32, now: u64) {
        if number == u32::MAX {
            return;
        }
        let mail = self.mails[number as usize].clone();
        let lane = self.place.remove(&number).expect("it has a lane");
        let answer = if mail.retry.is_some() { Answer::Silent } else { Answer::Answered };
        self.turns.back(&mail.destination, answer);
        self.lanes.back(lane);
        self.lanes.leave(lane);
        self.free += 1;
        self.out -= 1;
        if mail.watched {
            self.latencies.push(now - mail.arrival);
        }
        if let Some(retry) = mail.retry {
            self.wait(number, now + retry);
        }
    }
}

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as f64 + 1.0) / f64::from(1_u32 << 31)
    }

    /// Times of arrival for so long, so many a second on average.
    fn arrivals(&mut self, seconds: u64, rate: f64) -> Vec<u64> {
        let mut time = 0.0;
        std::iter::from_fn(|| {
            time -= self.roll().min(1.0).ln() * 1000.0 / rate;
            (time < seconds as f64 * 1000.0).then_some(time as u64)
        })
        .collect()
    }
}

/// 50 destinations that work, with 1000 messages a second in all: each half busy.
fn others(seconds: u64) -> Vec<Mail> {
    let mut dice = Dice(42);
    let mut mails = Vec::new();
    for destination in 0..50 {
        for arrival in dice.arrivals(seconds, 20.0) {
            mails.push(Mail {
                destination: format!("mx:d{destination}.example"),
                group: destination,
                class: Class::Normal,
                arrival,
                takes: 150 + (dice.roll() * 200.0) as u64,
                retry: None,
                watched: true,
            });
        }
    }
    mails
}

fn trouble(count: u32, destinations: u32, takes: u64, retry: Option<u64>) -> Vec<Mail> {
    let trouble = |number: u32| Mail {
        destination: format!("mx:trouble{}.example", number % destinations),
        group: 99,
        class: Class::Normal,
        arrival: 0,
        takes,
        retry,
        watched: false,
    };
    (0..count).map(trouble).collect()
}

fn percentile(sorted: &[u64], share: f64) -> u64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

/// Prints the figures of one world; gives the 99th percentile.
fn tell(what: &str, mails: Vec<Mail>, seconds: u64) -> u64 {
    let sorted = World::new(mails).run(seconds * 1000);
    let [p50, p99, p100] = [0.5, 0.99, 1.0].map(|share| percentile(&sorted, share));
    println!(
        "{what:<66} {:>6} attempts, p50 {p50} ms, p99 {p99} ms, longest {p100} ms",
        sorted.len()
    );
    p99
}

#[test]
fn a_dead_destination_delays_nobody_else() {
    const SECONDS: u64 = 30;
    let alone = tell("the others alone", others(SECONDS), SECONDS);
    let check = |what: &str, mut mails: Vec<Mail>| {
        mails.extend(others(SECONDS));
        let p99 = tell(what, mails, SECONDS);
        assert!(p99 <= alone + alone / 5, "{what}: {p99} ms, alone {alone} ms");
    };
    let minutes = |minutes: u64| Some(minutes * 60_000);
    check(
        "with 100,000 messages to one that answers nothing (30 s each)",
        trouble(100_000, 1, 30_000, minutes(5)),
    );
    check("with 100,000 messages to one that refuses at once", trouble(100_000, 1, 1, minutes(5)));
    check(
        "with 100,000 messages to one that takes 10 s for each",
        trouble(100_000, 1, 10_000, None),
    );
    check(
        "with 100,000 messages to 40 that answer nothing",
        trouble(100_000, 40, 30_000, minutes(5)),
    );
}

#[test]
fn a_busy_sender_delays_no_other_at_its_destination() {
    const SECONDS: u64 = 120;
    let mail = |arrival, group, class, watched| Mail {
        destination: "mx:big.example".to_owned(),
        group,
        class,
        arrival,
        takes: 100,
        retry: None,
        watched,
    };
    let few = |class| {
        let arrivals = Dice(7).arrivals(SECONDS, 5.0).into_iter().zip((0..5).cycle());
        arrivals.map(|(arrival, group)| mail(arrival, group, class, true)).collect::<Vec<_>>()
    };
    let bulk = || (0..100_000).map(|_| mail(0, 99, Class::Normal, false)).collect::<Vec<_>>();
    let with = |class| few(class).into_iter().chain(bulk()).collect::<Vec<_>>();
    let alone = tell(
        "five senders at a destination that takes 100 messages a second",
        few(Class::Normal),
        SECONDS,
    );
    let normal = tell("with another who sent 100,000 before", with(Class::Normal), SECONDS);
    // Ten are in hand and ten are ready before it; in the order of arrival it would be a thousand seconds.
    assert!(normal <= alone + 300, "{normal} ms, alone {alone} ms");
    let mut urgent = bulk();
    urgent.extend((0..100_000).map(|_| mail(0, 98, Class::Low, false)));
    urgent.extend(few(Class::High));
    let high = tell("the same five with priority, among 200,000 of two others", urgent, SECONDS);
    assert!(high <= normal, "{high} ms, {normal} ms without priority");
}
