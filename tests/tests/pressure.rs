//! Limits and load: mail is refused before there is trouble, and what is served is served as before.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tests::faults::load::Over;
use tests::place::PATIENCE;
use tests::{Client, Foreign, Gatepost, Setup, eventually, letter};

const TO: &str = "someone@hole.test";

/// Takes mail for a domain that is never tried: what is measured is receiving.
fn hole(limits: &str) -> Gatepost {
    let server = Setup::new()
        .with("[relay]\nfrom = [\"127.0.0.0/8\"]\n[log]\nlevel = \"error\"")
        .with(limits)
        .start();
    server.queue(&["suspend", "--destination", "hole.test"]);
    server
}

fn mail(client: &mut Client, from: &str) -> String {
    let reply = client.command(&format!("MAIL FROM:<{from}>")).unwrap();
    client.command("RSET").unwrap();
    reply.to_string()
}

fn give(client: &mut Client, from: &str, count: usize) {
    for _ in 0..count {
        let reply = client.transaction(from, &[TO], &letter::plain("x")).unwrap();
        assert_eq!(reply.code, 250, "{reply}");
    }
}

/// The refusal of MAIL once the messages before it are counted: that is a moment after their receipts.
fn refusal(client: &mut Client, sender: &str) -> String {
    eventually("a refusal", || Some(mail(client, sender)).filter(|reply| reply.starts_with("452")))
}

#[test]
fn a_full_queue_refuses_mail_until_a_tenth_is_gone() {
    let server = hole("[queue]\nmax-messages = 20\nmax-messages-per-sender = 10");
    let mut client = server.session();
    give(&mut client, "one@client.test", 10);
    let own = refusal(&mut client, "one@client.test");
    assert!(own.starts_with("452 4.3.1 Too many of your messages"), "{own}");
    assert!(mail(&mut client, "two@client.test").starts_with("250"), "others go on");
    give(&mut client, "two@client.test", 10);
    let full = refusal(&mut client, "three@client.test");
    assert!(full.starts_with("452 4.3.1 Insufficient"), "{full}");
    server.queue(&["remove", "--sender", "one@client.test", "--limit", "2"]);
    assert!(mail(&mut client, "three@client.test").starts_with("452"), "18 of 20");
    server.queue(&["remove", "--sender", "one@client.test", "--limit", "1"]);
    assert!(mail(&mut client, "three@client.test").starts_with("250"), "17 of 20");
    assert!(mail(&mut client, "one@client.test").starts_with("250"), "7 of 10");
    assert!(mail(&mut client, "two@client.test").starts_with("452"), "10 of 10");
    assert!(mail(&mut client, "").starts_with("250"), "what tells of failures comes in");
}

#[test]
fn a_disk_without_room_refuses_mail_before_it_is_full() {
    let server = hole("[queue]\nfree-space = \"900000000 GiB\"");
    let reply = mail(&mut server.session(), "one@client.test");
    assert!(reply.starts_with("452 4.3.1"), "{reply}");
    let server = hole("[queue]\nfree-inodes = 1000000000000");
    let reply = mail(&mut server.session(), "one@client.test");
    assert!(reply.starts_with("452 4.3.1"), "{reply}");
}

#[test]
fn a_process_that_holds_too_much_memory_takes_no_sessions() {
    let server = Setup::new().with("[limits]\nmemory = \"16 MiB\"").start();
    let greeting = eventually("a refusal", || {
        let greeting = server.connect("mx").reply().ok()?;
        (greeting.code == 421).then_some(greeting)
    });
    assert!(greeting.to_string().starts_with("421 4.3.2"), "{greeting}");
    assert!(server.log().contains("memory is short"), "the operator hears of it");
}

/// `GATEPOST_LOAD_SECONDS=60` for the long form; needs an idle machine for figures that mean something.
#[test]
fn ten_times_the_load_is_served_as_much_and_the_rest_hears_421() {
    let seconds = number("GATEPOST_LOAD_SECONDS", 3);
    let server = hole("[limits]\nconnections = 40\nconnections-per-address = 1000");
    let peak = load(&server, 40, seconds);
    let crowd = load(&server, 400, seconds);
    println!("40 clients, 40 sessions: {peak}");
    println!("400 clients, 40 sessions: {crowd}");
    println!("of the peak: {:.0} %", 100.0 * crowd.taken as f64 / peak.taken as f64);
    assert!(peak.taken > 0 && crowd.taken > 0);
    assert!(crowd.refused > 0 && crowd.other == 0, "{crowd}");
}

#[derive(Debug)]
struct Load {
    seconds: u64,
    taken: usize,
    refused: usize,
    /// Anything but 250 or 421.
    other: usize,
    transactions: Vec<Duration>,
    refusals: Vec<Duration>,
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seconds, taken, refused, other, transactions, refusals } = self;
        write!(
            f,
            "{} messages/s, p99 {:?}; {refused} heard 421, p99 {:?}; {other} something else",
            taken / usize::try_from(*seconds).unwrap(),
            p99(transactions),
            p99(refusals),
        )
    }
}

/// So many clients that come, send ten messages and go, and come again a second after a 421.
fn load(server: &Gatepost, clients: usize, seconds: u64) -> Load {
    let over = AtomicBool::new(false);
    let (refused, other) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (transactions, refusals) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let came = Instant::now();
                    match visit(server, &over) {
                        Ok(Some(times)) => transactions.lock().unwrap().extend(times),
                        Ok(None) => {
                            refused.fetch_add(1, Ordering::Relaxed);
                            refusals.lock().unwrap().push(came.elapsed());
                            std::thread::sleep(Duration::from_secs(1));
                        }
                        Err(error) => {
                            eprintln!("{error}");
                            other.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_secs(seconds));
        over.store(true, Ordering::Relaxed);
    });
    let transactions = sorted(transactions.into_inner().unwrap());
    Load {
        seconds,
        taken: transactions.len(),
        refused: refused.into_inner(),
        other: other.into_inner(),
        transactions,
        refusals: sorted(refusals.into_inner().unwrap()),
    }
}

/// `None`: 421 in place of the greeting.
fn visit(server: &Gatepost, over: &AtomicBool) -> std::io::Result<Option<Vec<Duration>>> {
    let mut client = Client::connect(server.address("mx"))?;
    let greeting = client.reply()?;
    if greeting.code == 421 {
        return Ok(None);
    }
    client.command("EHLO client.test")?;
    let mut times = Vec::new();
    for _ in 0..10 {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let began = Instant::now();
        let reply = client.transaction("load@client.test", &[TO], &letter::plain("load"))?;
        if reply.code != 250 {
            return Err(std::io::Error::other(reply.to_string()));
        }
        times.push(began.elapsed());
    }
    client.command("QUIT")?;
    Ok(Some(times))
}

/// `GATEPOST_SLOW=10000` for the long form. The slow clients run on this machine, too, and what they cost it is not the
/// server's: so as many octets drip into a server that does nothing. The two take turns, a second or so each, because
/// whatever else the machine does must strike both.
#[test]
fn slow_clients_do_not_slow_the_others() {
    let Some(python) = Foreign::need("slow clients", "python3") else { return };
    let slow = usize::try_from(number("GATEPOST_SLOW", 300)).unwrap();
    let (files, turns) = (allow_files(), if slow > 1000 { 15 } else { 3 });
    let server = hole(&format!(
        "[limits]\nconnections = {most}\nconnections-per-address = {most}",
        most = slow + 100
    ));
    good(&server); // what is done once is done
    let alone = good(&server);
    let before = server.memory();
    let nobody = Nobody::start(&python.path);
    // What counts is how much drips: of these there may be fewer, if this process may not open so many files.
    let rate = slow.div_ceil(10);
    let fewer = slow.min(files.saturating_sub(slow + 1000)).max(1);
    let mut idle = Crowd::new(fewer, rate, || TcpStream::connect(nobody.address).unwrap());
    let mut crowd = Crowd::new(slow, rate, || {
        let mut stream = TcpStream::connect(server.address("mx")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(stream.read(&mut [0; 512]).unwrap() > 0, "a greeting");
        stream
    });
    assert!(server.open_files() > slow);
    let (mut null, mut ours, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..turns {
        let (one, other) = (idle.drip_while(|| good(&server)), crowd.drip_while(|| good(&server)));
        ratios.push(p99(&other).as_secs_f64() / p99(&one).as_secs_f64());
        null.extend(one);
        ours.extend(other);
    }
    let busy = server.processor_time();
    crowd.drip_while(|| std::thread::sleep(Duration::from_secs(5)));
    let cost = (server.processor_time() - busy) / 5;
    let memory = server.memory().saturating_sub(before) / u64::try_from(slow).unwrap();
    let (null, ours) = (sorted(null), sorted(ours));
    ratios.sort_by(f64::total_cmp);
    say("alone", &alone);
    say("beside as many octets that drip into a server that does nothing", &null);
    say(&format!("beside {slow} slow clients of ours"), &ours);
    println!(
        "p99 of all: {:.2} times; of each turn: {:.2} times (median of {turns}); {memory} octets each, {cost:?} of \
         processor time a second for all of them; load {}",
        p99(&ours).as_secs_f64() / p99(&null).as_secs_f64(),
        ratios[turns / 2],
        std::fs::read_to_string("/proc/loadavg").unwrap().trim()
    );
    assert_eq!(ours.len(), null.len(), "all were served");
    drop(crowd);
    eventually("an end of the slow sessions", || (server.open_files() < 100).then_some(()));
}

/// Lets this process and the server that it starts open as many files as they may; gives how many.
fn allow_files() -> usize {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    maximum.map_or(usize::MAX, |maximum| usize::try_from(maximum).unwrap())
}

fn say(what: &str, times: &[Duration]) {
    let (p50, p99, longest) = (p50(times), p99(times), times.last());
    println!("transactions {what}: p50 {p50:?}, p99 {p99:?}, longest {longest:?}");
}

/// A server that takes connections and does nothing with them, in a process of its own.
struct Nobody {
    process: std::process::Child,
    address: (&'static str, u16),
}

impl Nobody {
    fn start(python: &std::path::Path) -> Self {
        let program = "import resource, socket
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
listener = socket.socket()
listener.bind(('127.0.0.1', 0))
listener.listen(4096)
print(listener.getsockname()[1], flush=True)
held = []
while True:
    held.append(listener.accept()[0])
";
        let mut command = std::process::Command::new(python);
        command.args(["-c", program]).stdout(std::process::Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        let output = process.stdout.take().unwrap();
        std::io::BufReader::new(output).read_line(&mut line).unwrap();
        Self { process, address: ("127.0.0.1", line.trim().parse().unwrap()) }
    }
}

impl Drop for Nobody {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Clients that drip.
struct Crowd {
    streams: Vec<TcpStream>,
    /// Octets a second, of all together.
    rate: usize,
    /// Octets sent so far.
    sent: usize,
}

impl Crowd {
    fn new(count: usize, rate: usize, connect: impl Fn() -> TcpStream) -> Self {
        Self { streams: (0..count).map(|_| connect()).collect(), rate, sent: 0 }
    }

    /// They drip, one after another, while something else happens.
    fn drip_while<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let word = b"EHLO a-very-slow-client.example.test\r\n";
                let (began, before, count) = (Instant::now(), self.sent, self.streams.len());
                while !over.load(Ordering::Relaxed) {
                    let passed = usize::try_from(began.elapsed().as_millis()).unwrap();
                    while self.sent < before + passed * self.rate / 1000 {
                        let octet = word[self.sent / count % word.len()];
                        // One that the server gave up is gone.
                        let _ = self.streams[self.sent % count].write_all(&[octet]);
                        self.sent += 1;
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
            });
            let _end = Over(&over);
            work()
        })
    }
}

/// A thousand transactions over ten sessions; their times, sorted.
fn good(server: &Gatepost) -> Vec<Duration> {
    let times: Vec<Duration> = std::thread::scope(|scope| {
        let sessions: Vec<_> = (0..10)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = server.session();
                    let one = |_| {
                        let began = Instant::now();
                        give(&mut client, "good@client.test", 1);
                        began.elapsed()
                    };
                    (0..100).map(one).collect::<Vec<_>>()
                })
            })
            .collect();
        sessions.into_iter().flat_map(|session| session.join().unwrap()).collect()
    });
    sorted(times)
}

fn sorted(times: impl IntoIterator<Item = Duration>) -> Vec<Duration> {
    let mut times: Vec<Duration> = times.into_iter().collect();
    times.sort_unstable();
    times
}

fn p50(sorted: &[Duration]) -> Duration {
    percentile(sorted, 50)
}

fn p99(sorted: &[Duration]) -> Duration {
    percentile(sorted, 99)
}

fn percentile(sorted: &[Duration], share: usize) -> Duration {
    sorted.get(sorted.len().saturating_sub(1) * share / 100).copied().unwrap_or_default()
}

fn number(variable: &str, usually: u64) -> u64 {
    std::env::var(variable).map_or(usually, |text| text.parse().unwrap())
}
