//! Power cuts under load: whatever got a 250 is there afterwards.
//!
//! Each round: clients send, at some moment the power goes, the server is killed, the file system is taken off and
//! mounted again, the server starts. Now and then the next host takes everything, and once the queue is empty the books
//! are closed: what was acknowledged and never arrived is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::image::Image;
use super::ledger::{Ledger, Place, Tally};
use super::load::{Over, send};
use super::random::Random;
use super::subject::Subject;
use crate::place::within;
use crate::sink::{Behaviour, Sink};

/// How a run is to go.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Power cuts.
    pub cuts: u32,
    /// The books are closed after so many.
    pub together: u32,
    /// One round in so many cuts the power while the server starts; 0: none.
    pub starting: u64,
    /// Chooses moments and numbers of sessions.
    pub seed: u64,
}

/// A sink that takes everything but what is for `slow.test`, which it takes when it is told to.
pub struct NextHost {
    /// The sink.
    pub sink: Sink,
    open: Arc<AtomicBool>,
}

impl NextHost {
    /// One that refuses mail for `slow.test` for now.
    pub fn start() -> Self {
        let open = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&open);
        let script = move |line: &str, _: usize| {
            let slow = line.starts_with("RCPT") && line.contains(Place::Slow.address());
            (slow && !asked.load(Ordering::SeqCst)).then(|| "451 4.7.1 Not now".to_owned())
        };
        let behaviour = Behaviour { script: Arc::new(script), ..Behaviour::default() };
        Self { sink: Sink::start(behaviour), open }
    }

    /// Lets it take everything, or refuse for now.
    pub fn open(&self, open: bool) {
        self.open.store(open, Ordering::SeqCst);
    }

    /// Enters what it got into the books.
    pub fn enter(&self, ledger: &Ledger) {
        for taken in self.sink.take() {
            for rcpt in &taken.rcpt {
                let place =
                    if rcpt.contains(Place::Slow.address()) { Place::Slow } else { Place::There };
                ledger.arrive(place, &taken.content);
            }
        }
    }
}

/// Cuts the power of `image`, on which the queue of `subject` lies, as often as planned. `report` gets a line whenever
/// the books are closed.
pub fn run(
    plan: &Plan,
    subject: &mut dyn Subject,
    image: &mut Image,
    next: &NextHost,
    report: &mut dyn FnMut(&str),
) -> Tally {
    let ledger = Ledger::new(subject.mix(), subject.largest());
    let mut random = Random::new(plan.seed);
    let mut tally = Tally::default();
    let start = Instant::now();
    for cut in 1..=plan.cuts {
        if plan.starting > 0 && random.one_in(plan.starting) {
            cut_at_start(subject, image, &mut random);
        }
        cut_under_load(subject, image, &ledger, &mut random);
        if cut % plan.together == 0 || cut == plan.cuts {
            drain(subject, next, &ledger);
            for (number, place) in ledger.missing() {
                report(&format!("lost: n{number}, {place:?}"));
            }
            tally = ledger.close();
            report(&format!("{cut} cuts in {} s: {tally}", start.elapsed().as_secs()));
        }
    }
    tally
}

fn cut_under_load(
    subject: &mut dyn Subject,
    image: &mut Image,
    ledger: &Ledger,
    random: &mut Random,
) {
    let sessions = *random.choose(&[1, 8, 8, 32]);
    let enough = ledger.acknowledged() + usize::try_from(random.between(20, 140)).expect("small");
    let port = subject.port();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = Over(&over);
        for _ in 0..sessions {
            scope.spawn(|| send(port, ledger, &over));
        }
        within(PATIENCE, "acknowledged mail", || (ledger.acknowledged() >= enough).then_some(()));
        std::thread::sleep(Duration::from_millis(random.below(30)));
        // A machine without power says nothing: what a server answers from here on is no promise. (The kernel does
        // answer for a while: ext4 lets an fdatasync under way succeed whose extents it can't convert any more.)
        ledger.power(false);
        image.cut();
        over.store(true, Ordering::SeqCst);
        subject.kill();
    });
    ledger.power(true);
    image.unmount();
    image.mount();
    subject.begin();
    subject.wait_ready();
}

/// The server is asked to start, and the power goes while it does.
fn cut_at_start(subject: &mut dyn Subject, image: &mut Image, random: &mut Random) {
    subject.kill();
    subject.begin();
    std::thread::sleep(Duration::from_millis(random.below(400)));
    image.cut();
    subject.kill();
    image.unmount();
    image.mount();
    subject.begin();
    subject.wait_ready();
}

/// Lets everything out of the queue and enters it into the books. A queue from which nothing comes any more holds what
/// can't be delivered: then that is missing in the books.
pub fn drain(subject: &mut dyn Subject, next: &NextHost, ledger: &Ledger) {
    next.open(true);
    subject.hurry();
    let (start, mut hurried, mut moved) = (Instant::now(), Instant::now(), Instant::now());
    let mut before = usize::MAX;
    while start.elapsed() < PATIENCE && moved.elapsed() < QUIET {
        let queued = subject.queued();
        if queued == 0 {
            break;
        }
        if queued != before {
            (before, moved) = (queued, Instant::now());
        }
        if hurried.elapsed() > Duration::from_secs(5) {
            subject.hurry();
            hurried = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    next.open(false);
    next.enter(ledger);
    for message in subject.mailbox() {
        ledger.arrive(Place::Here, &message);
    }
}

/// How long a queue may take to get empty, or the server to take mail.
const PATIENCE: Duration = Duration::from_secs(180);

/// From a queue out of which nothing comes for so long nothing will come.
const QUIET: Duration = Duration::from_secs(40);
