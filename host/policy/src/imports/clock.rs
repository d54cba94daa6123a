//! `clock`: the time, through the seam. Grant: clock, given unless taken away.

use crate::bindings::imports::clock::{Host, Timestamp};
use crate::guest::Guest;
use crate::seam::{Answer, Question, unfit};

impl Host for Guest {
    fn now(&mut self) -> wasmtime::Result<Timestamp> {
        let (seconds, nanoseconds) = self.time()?;
        Ok(Timestamp { seconds, nanoseconds })
    }

    fn monotonic(&mut self) -> wasmtime::Result<u64> {
        self.monotonic_nanoseconds()
    }
}

impl Guest {
    /// Seconds since 1970, and nanoseconds.
    pub(crate) fn time(&mut self) -> wasmtime::Result<(i64, u32)> {
        self.charge()?;
        self.inevitable(self.core.grants.clock, "clock")?;
        match self.ask(Question::Now) {
            Ok(Answer::Time { seconds, nanoseconds }) => Ok((seconds, nanoseconds)),
            Ok(_) => Err(unfit().into()),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn monotonic_nanoseconds(&mut self) -> wasmtime::Result<u64> {
        self.charge()?;
        self.inevitable(self.core.grants.clock, "clock")?;
        match self.ask(Question::Monotonic) {
            Ok(Answer::Nanoseconds(nanoseconds)) => Ok(nanoseconds),
            Ok(_) => Err(unfit().into()),
            Err(error) => Err(error.into()),
        }
    }

    /// A function that has no error to answer with: without its grant the call ends.
    pub(crate) fn inevitable(&self, granted: bool, grant: &str) -> wasmtime::Result<()> {
        if granted { Ok(()) } else { wasmtime::bail!("the configuration does not grant {grant}") }
    }
}
