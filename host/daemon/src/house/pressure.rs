//! Watches how much memory the process holds, and has mail refused before there is none left.
//!
//! At the mark no new message begins (452 4.3.1 at MAIL); a tenth above it no new session (421 4.3.2). Both are released a
//! tenth below the mark that they met. Deliveries go on.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use inbound::Pressure;
use metrics::gauge;
use queue::Queue;

/// Watches until it is dropped. `limit`: octets; `None`: three quarters of what the machine or its cgroup has.
pub(crate) async fn watch(limit: Option<u64>, queue: Queue, pressure: Arc<Pressure>) {
    let limit = limit.unwrap_or_else(|| available() / 4 * 3);
    let mut level = Level::Open;
    let mut pause = tokio::time::interval(PAUSE);
    loop {
        pause.tick().await;
        let Some(resident) = resident() else { continue };
        gauge!("gatepost_memory_resident_octets").set(resident as f64);
        let next = level.next(resident, limit);
        if next != level {
            tell(next, resident, limit);
            let why = || format!("memory: {resident} octets are held, {limit} may be");
            queue.shut((next != Level::Open).then(why));
            pressure.set_short(next != Level::Open);
            pressure.set_shedding(next == Level::NoSessions);
            level = next;
        }
    }
}

fn tell(level: Level, resident: u64, limit: u64) {
    match level {
        Level::Open => tracing::warn!(resident, limit, "memory is free again; mail is accepted"),
        Level::NoMail => {
            tracing::error!(resident, limit, "memory is short; mail is refused for now")
        }
        Level::NoSessions => {
            tracing::error!(resident, limit, "memory is short; sessions are refused for now");
        }
    }
}

/// What is still let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Open,
    NoMail,
    NoSessions,
}

impl Level {
    fn next(self, resident: u64, limit: u64) -> Self {
        let tenth = limit / 10;
        // What was met is released a tenth lower.
        let mark = |level: Self, mark: u64| if self >= level { mark - tenth } else { mark };
        if resident >= mark(Self::NoSessions, limit + tenth) {
            Self::NoSessions
        } else if resident >= mark(Self::NoMail, limit) {
            Self::NoMail
        } else {
            Self::Open
        }
    }
}

/// The resident set of this process, in octets.
fn resident() -> Option<u64> {
    field(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// What the machine has, or what the cgroup of this process may have, in octets.
fn available() -> u64 {
    let machine = std::fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| field(&text, "MemTotal:")).unwrap_or(u64::MAX);
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    // A limit may stand at any level above.
    let limits = Path::new(own).ancestors().filter_map(|group| {
        let file = Path::new("/sys/fs/cgroup").join(group).join("memory.max");
        std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok()
    });
    limits.fold(machine, u64::min)
}

/// A line of /proc in KiB.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib = line.split_whitespace().next()?.parse::<u64>().ok()?;
    kib.checked_mul(1024)
}

/// A session takes longer than this to fill anything that counts.
const PAUSE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_released_a_tenth_lower() {
        let mut level = Level::Open;
        let mut check = |resident, expected| {
            level = level.next(resident, 1000);
            assert_eq!(level, expected, "{resident}");
        };
        check(999, Level::Open);
        check(1000, Level::NoMail);
        check(901, Level::NoMail);
        check(899, Level::Open);
        check(1099, Level::NoMail);
        check(1100, Level::NoSessions);
        check(1001, Level::NoSessions);
        check(999, Level::NoMail);
        check(1200, Level::NoSessions);
        check(10, Level::Open);
    }

    #[test]
    fn this_process_holds_some_memory_and_the_machine_has_more() {
        let resident = resident().expect("Linux has /proc");
        assert!(resident > 1 << 20 && resident < available(), "{resident} {}", available());
        assert_eq!(field("VmRSS:\t   12 kB\n", "VmRSS:"), Some(12 << 10));
    }
}
