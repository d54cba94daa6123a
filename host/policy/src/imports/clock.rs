//! `clock`: the time, from the one clock of the host.

use std::time::SystemTime;

use crate::bindings::imports::clock::{Host, Timestamp};
use crate::guest::Guest;

impl Host for Guest {
    fn now(&mut self) -> wasmtime::Result<Timestamp> {
        self.charge()?;
        let now = self.core.services.clock.now();
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(Timestamp { seconds: since.as_secs().cast_signed(), nanoseconds: since.subsec_nanos() })
    }

    fn monotonic(&mut self) -> wasmtime::Result<u64> {
        self.charge()?;
        Ok(u64::try_from(self.core.services.clock.monotonic().as_nanos()).unwrap_or(u64::MAX))
    }
}
