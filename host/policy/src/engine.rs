//! The WebAssembly engine: one for all plugins, set up so that a component can hurt nobody but itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wasmtime::{
    Config, Enabled, Engine, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig,
};

use crate::error::Error;

/// Makes the engine. Instances come from a pool of `slots`; where so much address space cannot be reserved, they are
/// made on demand, which costs four times as much.
pub(crate) fn engine(slots: u32) -> Result<Engine, Error> {
    let mut pooled = config();
    pooled.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(slots)));
    match Engine::new(&pooled) {
        Ok(engine) => Ok(engine),
        Err(error) => {
            tracing::warn!(%error, "no pool for plugin instances on this machine; they are made on demand");
            Engine::new(&config()).map_err(|error| Error::Engine(format!("{error:#}")))
        }
    }
}

/// The engine of a process that compiles and runs nothing: the same settings, so that the code is the same, and no pool.
pub(crate) fn compiling() -> Result<Engine, Error> {
    Engine::new(&config()).map_err(|error| Error::Engine(format!("{error:#}")))
}

fn config() -> Config {
    let mut config = Config::new();
    // Only what stable tools emit and our hosts need. Each proposal that is off is code that no component can reach.
    config
        .wasm_component_model(true)
        .wasm_threads(false)
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .wasm_memory64(false)
        .wasm_tail_call(false)
        .wasm_stack_switching(false);
    config
        .epoch_interruption(true)
        // One call per instance at a time: a call costs a quarter of what it does with the machinery for more.
        .concurrency_support(false)
        .memory_init_cow(true)
        .async_stack_size(ASYNC_STACK_OCTETS)
        .max_wasm_stack(WASM_STACK_OCTETS)
        .generate_address_map(false)
        .native_unwind_info(false)
        .wasm_backtrace_max_frames(None);
    config
}

fn pool(slots: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_memories(slots.saturating_mul(2))
        .total_tables(slots.saturating_mul(8))
        .total_stacks(slots)
        .total_core_instances(slots.saturating_mul(16))
        // A Rust component has two to four core instances, one made by componentize-py up to a hundred.
        .max_core_instances_per_component(128)
        .max_component_instance_size(2 << 20)
        .max_core_instance_size(1 << 20)
        .max_memories_per_component(2)
        .max_memory_size(MAX_MEMORY_OCTETS)
        .table_elements(MAX_TABLE_ELEMENTS)
        .max_tables_per_component(16)
        .max_tables_per_module(4)
        // Pages of a returned instance that are wiped in place and not given back to the kernel: what a small plugin
        // touches. Times the warm slots it is memory that stays with us.
        .linear_memory_keep_resident(512 << 10)
        .table_keep_resident(64 << 10)
        .max_unused_warm_slots(64)
        // The kernel (6.7 and later) tells which pages were written: a fresh instance at half the cost.
        .pagemap_scan(Enabled::Auto);
    pool
}

/// The thread that lets the engine's epoch go on. When no plugin has run for a while, it sleeps.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: std::thread::Thread,
}

struct Shared {
    /// A call began, or a running one saw a tick, since the last tick.
    busy: AtomicBool,
    parked: AtomicBool,
}

impl Ticker {
    pub(crate) fn start(engine: &Engine, tick: Duration) -> Result<Arc<Self>, Error> {
        let shared =
            Arc::new(Shared { busy: AtomicBool::new(true), parked: AtomicBool::new(false) });
        let (engine, state) = (engine.weak(), Arc::downgrade(&shared));
        let thread = std::thread::Builder::new()
            .name("policy-ticker".into())
            .spawn(move || {
                let mut idle = 0;
                while let Some(shared) = state.upgrade() {
                    if !advance(&engine, &shared, &mut idle, tick) {
                        return;
                    }
                }
            })
            .map_err(Error::Thread)?;
        Ok(Arc::new(Self { shared, thread: thread.thread().clone() }))
    }

    /// A guest runs. Called before each call and at each tick that a running call sees.
    pub(crate) fn touch(&self) {
        // SeqCst on both sides: either the ticker sees `busy` before it parks, or we see `parked`.
        if !self.shared.busy.load(Ordering::SeqCst) {
            self.shared.busy.store(true, Ordering::SeqCst);
        }
        if self.shared.parked.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.thread.unpark();
    }
}

/// One tick, or one sleep; false when the engine is gone.
fn advance(engine: &EngineWeak, shared: &Shared, idle: &mut u32, tick: Duration) -> bool {
    *idle = if shared.busy.swap(false, Ordering::SeqCst) { 0 } else { *idle + 1 };
    if *idle > TICKS_BEFORE_SLEEP {
        shared.parked.store(true, Ordering::SeqCst);
        if !shared.busy.load(Ordering::SeqCst) {
            std::thread::park_timeout(Duration::from_secs(1));
        }
        shared.parked.store(false, Ordering::SeqCst);
    } else {
        std::thread::sleep(tick);
    }
    let Some(engine) = engine.upgrade() else { return false };
    engine.increment_epoch();
    true
}

/// More than any language runtime that we know starts with. The configuration's limit lies below.
pub(crate) const MAX_MEMORY_OCTETS: usize = 1 << 30;
/// Elements of one table; the configuration's limit lies below.
pub(crate) const MAX_TABLE_ELEMENTS: usize = 100_000;
/// WebAssembly frames plus those of the host functions it calls.
const ASYNC_STACK_OCTETS: usize = 2 << 20;
const WASM_STACK_OCTETS: usize = 512 << 10;
/// At 2 ms this is a second.
const TICKS_BEFORE_SLEEP: u32 = 500;
