//! How far long work is, for a person who waits.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

/// Tells on standard error how far long work is: on a terminal in one line that changes, elsewhere with a line now and
/// then. Work that is done at once is not told of.
pub(super) struct Progress {
    what: &'static str,
    terminal: bool,
    shown: bool,
    last: std::time::Instant,
}

impl Progress {
    pub(super) fn new(what: &'static str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { what, terminal, shown: false, last: now() }
    }

    pub(super) fn show(&mut self, done: impl Display, of: impl Display) {
        if self.last.elapsed() < OFTEN {
            return;
        }
        (self.last, self.shown) = (now(), true);
        let end = if self.terminal { "\r" } else { "\n" };
        let mut out = std::io::stderr().lock();
        // Who closed stderr does not want to know.
        let _ = write!(out, "{}: {done} of {of}{end}", self.what).and_then(|()| out.flush());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown && self.terminal {
            let _ = writeln!(std::io::stderr());
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a person waits is for that person alone")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

const OFTEN: Duration = Duration::from_secs(1);
