//! System calls that fail: flushes in the running server, and every call on files of one message's way through it and of
//! one start, one after the other.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::cuts::{NextHost, drain};
use super::ledger::{ALL, Ledger, Mix, Place};
use super::load::{one, send};
use super::random::Random;
use super::strace::{self, Call, Strace};
use super::subject::{OurServer, Subject};
use super::{Arguments, say};
use crate::client::Client;
use crate::place::within;

/// `faults flushes`: one in ten fails, then all.
pub fn flushes(arguments: &mut Arguments) -> Result<bool, String> {
    std::mem::take(arguments).finish()?;
    let next = NextHost::start();
    let folder =
        tempfile::Builder::new().prefix("flushes-").tempdir().map_err(|e| e.to_string())?;
    let mut server = OurServer::start(folder, next.sink.port());
    let some = one_in_ten(&mut server, &next);
    let all = all_of_them(&mut server, &next);
    Ok(some && all)
}

fn one_in_ten(server: &mut OurServer, next: &NextHost) -> bool {
    let ledger = Ledger::new(ALL, 100_000);
    let inject = "inject=fdatasync:error=EIO:when=10+10";
    let strace = attach(server, &["-e", "trace=fdatasync,pwritev", "-e", inject]);
    load_until(server, &ledger, || ledger.acknowledged() >= 200 && ledger.refused() >= 3);
    let calls = strace.detach();
    let again = used_after_failure(&calls);
    let failed = calls.iter().filter(|call| call.injected).count();
    drain(server, next, &ledger);
    let tally = ledger.close();
    say(&format!(
        "{}: one fdatasync in ten fails: {failed} failed; segments written or flushed after that: {}; {tally}",
        server.name(),
        again.len()
    ));
    tally.is_clean() && failed > 0 && again.is_empty()
}

fn all_of_them(server: &mut OurServer, next: &NextHost) -> bool {
    let ledger = Ledger::new(ALL, 100_000);
    load_until(server, &ledger, || ledger.acknowledged() >= 20);
    let strace = attach(
        server,
        &["-e", "trace=fdatasync,fsync,pwritev", "-e", "inject=fdatasync,fsync:error=EIO"],
    );
    let before = ledger.acknowledged();
    load_until(server, &ledger, || ledger.refused() >= 20);
    let accepted = ledger.acknowledged() - before;
    // What was under way has ended by now; the messages that wait would be tried every second or two.
    std::thread::sleep(Duration::from_secs(3));
    let tried =
        |next: &NextHost| next.sink.lines().iter().filter(|line| line.starts_with("RCPT")).count();
    let attempts = tried(next);
    std::thread::sleep(Duration::from_secs(5));
    let attempts = tried(next) - attempts;
    let calls = strace.detach();
    let again = used_after_failure(&calls);
    let since = Instant::now();
    let healed = Ledger::new(ALL, 100_000);
    load_until(server, &healed, || healed.acknowledged() >= 1);
    let back = since.elapsed();
    drain(server, next, &healed);
    // Both runs number from 0: what arrived of the first one is in the same books.
    let tally = ledger.close();
    let others = healed.close();
    say(&format!(
        "{}: every flush fails: {} refused, {accepted} accepted, {attempts} deliveries tried meanwhile; segments written or \
         flushed after a failure: {}; accepting again after {back:?}; refused for good: {}",
        server.name(),
        tally.refused,
        again.len(),
        tally.refused_for_good + others.refused_for_good
    ));
    accepted == 0 && attempts == 0 && again.is_empty() && tally.refused_for_good == 0
}

/// Segments that were used once more after one of their flushes had failed.
fn used_after_failure(calls: &[Call]) -> BTreeSet<String> {
    let segment = |call: &Call| {
        let path = call.arguments.split_once('<')?.1.split_once('>')?.0;
        path.contains(".seg").then(|| path.to_owned())
    };
    let (mut failed, mut again) = (BTreeSet::new(), BTreeSet::new());
    for call in calls {
        let Some(path) = segment(call) else { continue };
        if failed.contains(&path) {
            again.insert(path.clone());
        }
        if call.injected {
            failed.insert(path);
        }
    }
    again
}

fn load_until(server: &mut OurServer, ledger: &Ledger, enough: impl Fn() -> bool) {
    let (port, over) = (server.port(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| send(port, ledger, &over));
        }
        within(PATIENCE, "replies", || enough().then_some(()));
        over.store(true, Ordering::SeqCst);
    });
}

fn attach(server: &mut OurServer, options: &[&str]) -> Strace {
    let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
    let (pid, folder) = (server.server().id(), server.server().folder().to_owned());
    Strace::attach(pid, &folder, &options)
}

/// `faults calls --errors EIO,KILL --most N --seed N`: at most so many points of each operation, all with 0.
pub fn every_call(arguments: &mut Arguments) -> Result<bool, String> {
    let errors = arguments.word("errors", "EIO,ENOSPC,EINTR,EMFILE,KILL");
    let most: usize = arguments.number("most", 0)?;
    let seed = arguments.number("seed", 1)?;
    std::mem::take(arguments).finish()?;
    let next = NextHost::start();
    let folder = tempfile::Builder::new().prefix("calls-").tempdir().map_err(|e| e.to_string())?;
    let server = OurServer::start(folder, next.sink.port());
    let errors: Vec<&str> = errors.split(',').collect();
    let mut sweep = Sweep {
        server,
        next,
        ledger: Ledger::new(THROUGH, 8000),
        refused: Vec::new(),
        faults: Vec::new(),
        points: 0,
        hit: 0,
    };
    let mut random = Random::new(seed);
    let through = sweep.points_through();
    say(&format!("one message's way: {} points", through.len()));
    for (point, error) in chosen(&through, &errors, most, &mut random) {
        sweep.through(&point, error);
    }
    sweep.settle("messages");
    let starting = sweep.points_at_start();
    say(&format!("one start with messages to be moved: {} points", starting.len()));
    for (point, error) in chosen(&starting, &errors, most, &mut random) {
        sweep.start(&point, error);
    }
    sweep.settle("starts");
    for fault in &sweep.faults {
        say(fault);
    }
    say(&format!(
        "{}: {} calls made to fail at {} points with {}; {} against the promise",
        sweep.server.name(),
        sweep.hit,
        sweep.points,
        errors.join(" "),
        sweep.faults.len()
    ));
    Ok(sweep.faults.is_empty() && sweep.hit > 0)
}

type Point = (String, usize);

fn chosen<'a>(
    points: &BTreeSet<Point>,
    errors: &[&'a str],
    most: usize,
    random: &mut Random,
) -> Vec<(Point, &'a str)> {
    let mut all: Vec<(Point, &str)> = points
        .iter()
        .flat_map(|point| errors.iter().map(move |&error| (point.clone(), error)))
        .collect();
    while most > 0 && all.len() > most {
        let index = usize::try_from(random.below(all.len() as u64)).expect("small");
        all.swap_remove(index);
    }
    all
}

struct Sweep {
    server: OurServer,
    next: NextHost,
    ledger: Ledger,
    /// Messages that were refused: nobody may ever get them.
    refused: Vec<u32>,
    faults: Vec<String>,
    points: usize,
    hit: usize,
}

impl Sweep {
    fn points_through(&mut self) -> BTreeSet<Point> {
        let strace = attach(&mut self.server, &["-e", &format!("trace={CALLS}")]);
        let number = self.ledger.begin();
        self.message(number);
        self.wait_empty();
        strace::points(&strace.detach(), |call| call.arguments.contains("/var/"))
    }

    /// One message while that call fails: "4xx and gone", or "250 and present".
    fn through(&mut self, point: &Point, error: &str) {
        let (name, inject) = (point.0.as_str(), injection(point, error));
        let strace = attach(&mut self.server, &["-e", &format!("trace={name}"), "-e", &inject]);
        let number = self.ledger.begin();
        let start = Instant::now();
        self.message(number);
        if start.elapsed() > SLOW {
            self.faults.push(format!("{inject}: the reply took {:?}", start.elapsed()));
        }
        self.wait_empty();
        let died = self.server.server().ended().is_some();
        let calls = strace.detach();
        self.count(&calls, died);
        if died {
            if error != "KILL" {
                self.faults.push(format!("{inject}: the server ended"));
            }
            self.server.server().restart();
        }
        if self.points.is_multiple_of(20) {
            self.settle(&inject);
        }
    }

    fn message(&mut self, number: u32) {
        let reply = Client::connect(("127.0.0.1", self.server.port())).and_then(|mut client| {
            client.set_patience(HANG)?;
            client.hello("client.example")?;
            one(&mut client, &self.ledger, number)
        });
        match reply {
            Ok(250) => {}
            Ok(_) => self.refused.push(number),
            Err(error) if crate::client::is_timeout(&error) => {
                self.faults.push(format!("no reply for {HANG:?}"));
            }
            // The server was killed: whether it took the message nobody knows.
            Err(_) => {}
        }
    }

    /// Gives what was accepted a moment to be delivered. Not more: a failure may have deferred it.
    fn wait_empty(&mut self) {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(700)
            && self.server.server().ended().is_none()
            && !self.ledger.missing().is_empty()
        {
            std::thread::sleep(Duration::from_millis(20));
            self.next.enter(&self.ledger);
        }
    }

    fn points_at_start(&mut self) -> BTreeSet<Point> {
        self.fill();
        let log = self.wrapped_start(&[format!("trace={CALLS}")]);
        strace::points(&strace::calls(&log), |call| call.arguments.contains("var/queue"))
    }

    /// A start during which that call fails; the next one finds everything.
    fn start(&mut self, point: &Point, error: &str) {
        if self.points.is_multiple_of(20) {
            self.settle(&format!("{point:?}"));
            self.fill();
        }
        let inject = injection(point, error);
        let log = self.wrapped_start(&[format!("trace={}", point.0), inject.clone()]);
        self.count(&strace::calls(&log), log.contains("killed by SIGKILL"));
    }

    /// Starts under strace until it is ready and has moved something, or has ended; then kills it and starts it well.
    fn wrapped_start(&mut self, expressions: &[String]) -> String {
        let server = self.server.server();
        let log = server.folder().join("start.log");
        let path = log.display().to_string();
        let mut wrapper = vec!["strace", "-f", "-y", "--seccomp-bpf", "-qq", "-o", &path];
        for expression in expressions {
            wrapper.extend(["-e", expression]);
        }
        server.wrap(&wrapper);
        server.begin();
        let start = Instant::now();
        while !server.is_ready() && server.ended().is_none() {
            if start.elapsed() > HANG {
                self.faults.push(format!("{expressions:?}: neither ready nor ended"));
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(400));
        server.kill();
        server.wrap(&[]);
        server.restart();
        std::fs::read_to_string(&log).unwrap_or_default()
    }

    /// Messages that stay.
    fn fill(&mut self) {
        for _ in 0..6 {
            let mut number = self.ledger.begin();
            while !self.ledger.places(number).contains(&Place::Slow) {
                number = self.ledger.begin();
            }
            self.message(number);
        }
    }

    fn count(&mut self, calls: &[Call], died: bool) {
        let hit = calls.iter().filter(|call| call.injected).count();
        self.points += 1;
        self.hit += if hit == 0 { usize::from(died) } else { hit };
    }

    /// Everything out, and the books compared.
    fn settle(&mut self, after: &str) {
        drain(&mut self.server, &self.next, &self.ledger);
        for number in self.refused.drain(..) {
            let places = self.ledger.places(number);
            if places.iter().any(|&place| self.ledger.arrivals(number, place) > 0) {
                self.faults.push(format!("{after}: n{number} was refused, and delivered"));
            }
        }
        let before = self.faults.len();
        for (number, place) in self.ledger.missing() {
            self.faults
                .push(format!("{after}: n{number} was accepted, and never reached {place:?}"));
        }
        let tally = self.ledger.close();
        if self.faults.len() == before && !tally.is_clean() {
            self.faults.push(format!("{after}: {tally}"));
        }
    }
}

fn injection((name, which): &Point, error: &str) -> String {
    match error {
        "KILL" => format!("inject={name}:signal=KILL:when={which}"),
        _ => format!("inject={name}:error={error}:when={which}"),
    }
}

/// Into a mailbox and through, or staying.
const THROUGH: Mix = &[&[Place::Here, Place::There], &[Place::Here, Place::Slow]];

/// All calls on files that we make, but reading and writing by `read` and `write`: those are used for sockets and for
/// waking threads, too, and full disks show them.
const CALLS: &str = "openat,pwritev,pwrite64,pread64,fdatasync,fsync,rename,renameat,renameat2,linkat,unlink,unlinkat,\
                     fallocate,ftruncate,statx,newfstatat,statfs,fstatfs,mkdir,mkdirat,getdents64,flock";

/// No reply may take longer, and no start.
const HANG: Duration = Duration::from_secs(60);

/// A reply that takes longer waited for something that failed.
const SLOW: Duration = Duration::from_secs(20);

const PATIENCE: Duration = Duration::from_secs(180);
