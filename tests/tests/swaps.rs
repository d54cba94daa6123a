//! Every kind of change of the plugin set, in a running server, with sessions going on: it is live for the next session, and
//! nobody's session fails.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tests::plugins::stamps;
use tests::{Client, Gatepost, Setup, letter};

const FROM: &str = "sender@client.example";

/// A change, and what shows that it is live.
struct Change {
    what: &'static str,
    /// The sections of the plugins after it.
    plugins: Vec<String>,
    shown: Shown,
}

enum Shown {
    /// RCPT for probe@ is answered with this.
    Rcpt(&'static str),
    /// A message is answered with this.
    Data(u16),
}
use Shown::{Data, Rcpt};

/// The section of a stamp; `more` are lines of it.
fn stamp(name: &str, component: &Path, set: usize, more: &str) -> String {
    let grants = if more.contains("grants") { "" } else { "grants = { edit = [\"header\"] }" };
    format!(
        "[[plugin]]\nname = {name:?}\ncomponent = {component:?}\n{grants}\n{more}\n\
         [plugin.config]\nname = {name:?}\nset = {set}\n"
    )
}

/// The changes, each from what the one before it left.
fn changes(a: &Path, b: &Path) -> Vec<Change> {
    let one = || stamp("one", a, 1, "");
    let two = || stamp("two", b, 7, "");
    let little = || stamp("one", a, 2, "limits = { host-calls = 0 }");
    let change = |what, plugins, shown| Change { what, plugins, shown };
    vec![
        change("a first plugin", vec![one()], Rcpt("set 1a")),
        change("its configuration", vec![stamp("one", a, 2, "")], Rcpt("set 2a")),
        change("its grants: fewer", vec![stamp("one", a, 2, "grants = {}")], Data(451)),
        change("its grants: more", vec![one()], Data(250)),
        change("another before it, not seen before", vec![two(), one()], Rcpt("set 7b")),
        change("the order", vec![one(), two()], Rcpt("set 1a")),
        change(
            "a limit",
            vec![stamp("two", b, 8, "limits = { handles = 100 }"), one()],
            Rcpt("set 8b"),
        ),
        change("one taken out", vec![one()], Rcpt("set 1a")),
        change("on-error: pass", vec![stamp("one", a, 3, "on-error = \"pass\"")], Rcpt("set 3a")),
        change("the name", vec![stamp("three", a, 4, "")], Rcpt("set 4a")),
        change("a limit that is too small", vec![little()], Rcpt("no such set")),
        change("all taken out", vec![], Rcpt("250")),
    ]
}

/// Whether the change is seen by a session that begins now.
fn is_live(port: u16, shown: &Shown) -> bool {
    let mut client = Client::connect(("127.0.0.1", port)).unwrap();
    client.hello("client.example").unwrap();
    match shown {
        Rcpt(text) => {
            client.command(&format!("MAIL FROM:<{FROM}>")).unwrap();
            client.command("RCPT TO:<probe@example.test>").unwrap().to_string().contains(text)
        }
        Data(code) => {
            let reply = client.transaction(FROM, &["alice@example.test"], &letter::plain("probe"));
            reply.unwrap().code == *code
        }
    }
}

/// From the moment the administrator acts to the first session that is judged anew.
fn until_live(port: u16, shown: &Shown, act: impl FnOnce()) -> Duration {
    assert!(!is_live(port, shown), "this shows no change");
    let begun = Instant::now();
    act();
    while !is_live(port, shown) {
        assert!(begun.elapsed() < tests::place::PATIENCE, "the change does not come");
        std::thread::sleep(Duration::from_millis(2));
    }
    begun.elapsed()
}

#[test]
fn every_kind_of_change_is_live_for_the_next_session() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = stamps(folder.path());
    let base = Setup::new().user("probe");
    let mut server = base.clone().start();
    let port = server.port("mx");
    let (over, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| load(port, &over, &sent));
        }
        let _ends = Ends(&over);
        for Change { what, plugins, shown } in changes(&a, &b) {
            let refused = what == "a limit that is too small";
            let setup = plugins.iter().fold(base.clone(), |setup, plugin| setup.with(plugin));
            if refused {
                refuse(&mut server, setup);
                continue;
            }
            let took = until_live(port, &shown, || server.reconfigure(setup));
            eprintln!("{what:<36}{took:>10.1?}");
        }
        let setup = base.clone().with(&stamp("one", &a, 5, ""));
        until_live(port, &Rcpt("set 5a"), || server.reconfigure(setup));
        // Another component under the same path: nobody says anything to the server.
        let took = until_live(port, &Rcpt("set 5b"), || {
            let aside = a.with_extension("new");
            fs::copy(&b, &aside).unwrap();
            fs::rename(&aside, &a).unwrap();
        });
        eprintln!("{:<36}{took:>10.1?}", "the component's file");
    });
    eprintln!("{} messages meanwhile in 4 sessions at a time", sent.load(Ordering::SeqCst));
}

/// The component again, with a note (a custom section) that makes it one that nobody has seen.
fn unseen(component: &Path, note: usize) -> Vec<u8> {
    let note = format!("\x04note{note}");
    let size = u8::try_from(note.len()).unwrap();
    [fs::read(component).unwrap().as_slice(), &[0, size], note.as_bytes()].concat()
}

/// What swaps took: for the administrator, and by the server's own word.
#[derive(Default)]
struct Took {
    outside: Vec<Duration>,
    inside: Vec<u64>,
}

impl Took {
    /// Swaps to this component, as the set of this number, and waits until a session is judged by it.
    fn swap(
        &mut self,
        server: &mut Gatepost,
        base: &Setup,
        component: &Path,
        shown: (usize, char),
    ) {
        let setup = base.clone().with(&stamp("one", component, shown.0, ""));
        let text = format!("set {}{} ", shown.0, shown.1).leak();
        let (port, seen) = (server.port("mx"), server.log().len());
        self.outside.push(until_live(port, &Rcpt(text), || server.reconfigure(setup)));
        let log = tests::eventually("the swap in the log", || {
            let log = server.log()[seen..].to_owned();
            log.contains("a new plugin set is live").then_some(log)
        });
        // The watch on the file may have found the same change once more: that was quick.
        let lines = log.lines().filter(|line| line.contains("a new plugin set is live"));
        let millis = lines.filter_map(|line| {
            let number = line.split_once("millis=")?.1.split_whitespace().next()?;
            number.parse::<u64>().ok()
        });
        self.inside.push(millis.max().expect("the log says how long it took"));
    }

    fn print(mut self, what: &str) {
        self.outside.sort();
        self.inside.sort_unstable();
        let (middle, last) = (self.outside.len() / 2, self.outside.len() - 1);
        eprintln!(
            "{what:<10}{:>4} swaps: by the log {} ms (median), {} ms (longest); until a session was judged anew {:.1?}, {:.1?}",
            self.outside.len(),
            self.inside[middle],
            self.inside[last],
            self.outside[middle],
            self.outside[last]
        );
    }
}

/// How long a swap takes of a component whose code the cache has, and of one that was never seen. GATEPOST=path measures a
/// release build, GATEPOST_SWAPS=20 more often.
#[test]
fn a_swap_is_live_while_sessions_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = stamps(folder.path());
    let base = Setup::new().user("probe");
    let mut server = base.clone().with(&stamp("one", &b, 0, "")).start();
    let port = server.port("mx");
    let rounds = std::env::var("GATEPOST_SWAPS").ok().and_then(|text| text.parse().ok());
    let (over, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (mut cached, mut uncached) = (Took::default(), Took::default());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| load(port, &over, &sent));
        }
        let _ends = Ends(&over);
        for round in 0..rounds.unwrap_or(3) {
            let fresh = folder.path().join(format!("fresh-{round}.wasm"));
            fs::write(&fresh, unseen(&a, round)).unwrap();
            uncached.swap(&mut server, &base, &fresh, (2 * round + 1, 'a'));
            cached.swap(&mut server, &base, &b, (2 * round + 2, 'b'));
        }
    });
    let size = fs::metadata(&a).unwrap().len() / 1000;
    eprintln!("a component of {size} KB, {} messages meanwhile", sent.load(Ordering::SeqCst));
    uncached.print("uncached");
    cached.print("cached");
    assert!(sent.into_inner() > 0, "sessions went on");
}

/// A set that does not configure changes nothing, and the log says why.
fn refuse(server: &mut Gatepost, setup: Setup) {
    let before = server.log().matches("the one in use stays").count();
    server.reconfigure(setup);
    server.wait_log("the one in use stays", before);
}

/// Sessions without a pause. A message is taken, or put off by a plugin that lacks a grant; nothing else.
fn load(port: u16, over: &AtomicBool, sent: &AtomicUsize) {
    while !over.load(Ordering::SeqCst) {
        let mut client = Client::connect(("127.0.0.1", port)).expect("a connection");
        assert_eq!(client.hello("client.example").expect("a greeting").code, 250);
        for _ in 0..3 {
            let reply = client.transaction(FROM, &["alice@example.test"], &letter::plain("load"));
            let code = reply.expect("a reply").code;
            assert!(code == 250 || code == 451, "{code}");
            sent.fetch_add(1, Ordering::SeqCst);
        }
        assert_eq!(client.command("QUIT").expect("a reply").code, 221);
    }
}

/// Ends the load also when a change does not come, so that the test ends.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
