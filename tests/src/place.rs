//! Where things are on this machine: the project's folder, free ports, and patience.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a test waits for something that is bound to happen. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The project's root folder.
pub fn root() -> PathBuf {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("tests/ lies in the project").to_owned()
}

/// The lowest port that [`free_port`] gives out, and how many there are. They end below the range
/// from which Linux takes the ports of outgoing connections (32768), so nobody takes one by chance.
const FIRST_PORT: u16 = 12_000;
const PORTS: u16 = 20_000;

static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

/// A TCP port of the loopback addresses that nobody listens on. Each call gives another one, and
/// each process begins elsewhere.
pub fn free_port() -> u16 {
    static START: OnceLock<u16> = OnceLock::new();
    // Numbers of processes are not enough: each process namespace counts from 1.
    let start = *START.get_or_init(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mixed = since.subsec_nanos() / 1000 + std::process::id().wrapping_mul(97);
        u16::try_from(mixed % u32::from(PORTS)).expect("a remainder below 20,000 fits")
    });
    loop {
        let step = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST_PORT + (start + step % PORTS) % PORTS;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Asks again and again until there is an answer. Panics with `what` after [`PATIENCE`].
pub fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, probe)
}

/// [`eventually`] with a patience of its own.
pub fn within<T>(patience: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < patience, "waited {patience:?} in vain for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
