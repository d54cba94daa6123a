//! The inside of a sandbox: what one instance may still use up, and the call it works for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use wasmtime::component::Resource;
use wasmtime::{ResourceLimiter, UpdateDeadline};

use crate::bindings::{ContentHandle, HostError, SessionHandle, TransactionHandle};
use crate::chain::{Core, Stage};
use crate::config::EditGrant;
use crate::content::ContentView;
use crate::lanes::{self, Tick};
use crate::session::SessionState;
use crate::staged::Staged;
use crate::trace::Questions;
use crate::transaction::Transaction;
use crate::wasi::Output;

/// The data of a store: one for each plugin and session.
pub(crate) struct Guest {
    pub(crate) core: Arc<Core>,
    pub(crate) meter: Meter,
    pub(crate) memory: Memory,
    /// In a box, which goes from who asks to the guest and back; while nobody asks, an empty one.
    pub(crate) call: Box<Call>,
    /// What the guest writes to stdout and stderr.
    pub(crate) output: Output,
}

/// The call under way: what it was lent, and what it has staged.
pub(crate) struct Call {
    pub(crate) stage: Stage,
    pub(crate) session: Option<Box<SessionState>>,
    pub(crate) transaction: Option<Box<Transaction>>,
    pub(crate) content: Option<Arc<ContentView>>,
    /// Where in the transaction the recipient stands that is asked about.
    pub(crate) asked: usize,
    pub(crate) staged: Staged,
    /// What it asked the world so far.
    pub(crate) questions: Questions,
    /// How often it called the host: known when it has ended.
    pub(crate) host_calls: u32,
}

impl Call {
    pub(crate) fn none() -> Self {
        Self {
            stage: Stage::Configure,
            session: None,
            transaction: None,
            content: None,
            asked: 0,
            staged: Staged::default(),
            questions: Questions::default(),
            host_calls: 0,
        }
    }
}

/// What a call may still use up.
#[derive(Default)]
pub(crate) struct Meter {
    /// Execution time that is left.
    cpu: Duration,
    /// And how much of it was there at the beginning.
    cpu_of_call: Duration,
    host_calls: u32,
    waits: u32,
    /// The guest was told to go on at a tick.
    ticked: bool,
}

/// Which budget is used up. It ends the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Exhausted {
    #[error("execution time used up")]
    Cpu,
    #[error("host calls used up")]
    HostCalls,
    #[error("waits used up")]
    Waits,
}

impl Guest {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        let memory =
            Memory { octets: core.limits.memory, table_elements: core.limits.table_elements };
        Self {
            core,
            meter: Meter::default(),
            memory,
            call: Box::new(Call::none()),
            output: Output::default(),
        }
    }

    /// Takes a call in, and gives it out again: what is here and what is lent change places.
    pub(crate) fn swap(&mut self, call: &mut Box<Call>) {
        std::mem::swap(&mut self.call, call);
    }

    /// Begins to work for the call that is here: all budgets are full again.
    pub(crate) fn begin(&mut self) {
        let limits = &self.core.limits;
        let cpu = if self.call.stage == Stage::Data { limits.cpu_data } else { limits.cpu };
        self.meter.cpu = cpu;
        self.meter.cpu_of_call = cpu;
        self.meter.ticked = false;
        self.meter.host_calls = limits.host_calls;
        self.meter.waits = limits.waits;
        self.core.services.ticker.touch();
    }

    /// The call is over, well or not.
    pub(crate) fn end(&mut self) {
        self.call.host_calls = self.core.limits.host_calls - self.meter.host_calls;
    }

    /// The epoch's tick: the guest gives way, or has run long enough.
    pub(crate) fn tick(&mut self) -> wasmtime::Result<UpdateDeadline> {
        self.core.services.ticker.touch();
        let had = self.meter.cpu_of_call - self.meter.cpu;
        let spent = match lanes::tick(self.core.services.tick, had, self.meter.ticked) {
            Tick::GoOn => {
                self.meter.ticked = true;
                return Ok(UpdateDeadline::Continue(1));
            }
            Tick::Leave(spent) => {
                self.core.slow.store(CALLS_SLOW_AFTER_ONE, Ordering::Relaxed);
                spent
            }
            Tick::GiveWay(spent) => spent,
        };
        self.meter.cpu = self.meter.cpu.checked_sub(spent).ok_or(Exhausted::Cpu)?;
        Ok(UpdateDeadline::Yield(1))
    }

    /// Counts a call into the host. Every function that a guest may call begins with it.
    pub(crate) fn charge(&mut self) -> wasmtime::Result<()> {
        self.meter.host_calls = self.meter.host_calls.checked_sub(1).ok_or(Exhausted::HostCalls)?;
        Ok(())
    }

    /// Waits for the host's own work. Time spent here is not the guest's: what counts is the time of its thread.
    pub(crate) async fn wait<T>(
        meter: &mut Meter,
        work: impl Future<Output = T>,
    ) -> wasmtime::Result<T> {
        let mut work = std::pin::pin!(work);
        if let std::task::Poll::Ready(done) = futures_util::poll!(work.as_mut()) {
            return Ok(done);
        }
        meter.waits = meter.waits.checked_sub(1).ok_or(Exhausted::Waits)?;
        Ok(work.await)
    }

    /// Refuses an effect by name. The plugin hears of it, and the call fails.
    pub(crate) fn deny(&self, effect: String) -> HostError {
        // The first is enough for the trace.
        let _ = self.call.staged.denied.set(effect.clone());
        HostError::Denied(effect)
    }

    /// "May it?" for edits, asked before any work.
    pub(crate) fn may_edit(&self, grant: EditGrant) -> Result<(), HostError> {
        if !self.core.grants.edit.contains(&grant) {
            return Err(self.deny(format!("edit {:?}", grant.name())));
        }
        if !self.call.stage.edits() {
            return Err(HostError::Invalid(format!("the stage {} edits nothing", self.call.stage)));
        }
        Ok(())
    }
}

/// The handles that a call lends. They stand for the call's own session, transaction and content, whatever their number.
pub(crate) fn session() -> Resource<SessionHandle> {
    Resource::new_borrow(1)
}

pub(crate) fn transaction() -> Resource<TransactionHandle> {
    Resource::new_borrow(2)
}

pub(crate) fn content() -> Resource<ContentHandle> {
    Resource::new_borrow(3)
}

/// What is left of the memory of an instance, all its memories and tables together.
pub(crate) struct Memory {
    octets: usize,
    table_elements: usize,
}

impl Memory {
    /// How much of the limit is used.
    pub(crate) fn taken(&self, limit: usize) -> usize {
        limit.saturating_sub(self.octets)
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(take(&mut self.octets, desired.saturating_sub(current)))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(take(&mut self.table_elements, desired.saturating_sub(current)))
    }

    fn instances(&self) -> usize {
        256
    }

    fn tables(&self) -> usize {
        64
    }

    fn memories(&self) -> usize {
        4
    }
}

fn take(left: &mut usize, wanted: usize) -> bool {
    let enough = *left >= wanted;
    if enough {
        *left -= wanted;
    }
    enough
}

/// After one call that ran longer than a tick, so many begin in the quick lane.
const CALLS_SLOW_AFTER_ONE: u32 = 100;
