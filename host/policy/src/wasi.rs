//! The few interfaces of WASI 0.2 that language runtimes import whether they use them or not, made inert: no files, no
//! sockets, no environment, no arguments. Output goes to the plugin's log, time and randomness are real, and what would
//! reach the machine traps by name.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{
    Component, ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType,
};
use wasmtime::{Result, StoreContextMut, bail};

use crate::chain::Core;
use crate::guest::Guest;

/// Defines what this component imports of WASI, under the very names it uses. Answers with the names of interfaces that
/// do not exist here.
pub(crate) fn link(linker: &mut Linker<Guest>, component: &Component) -> Result<Vec<String>> {
    let engine = linker.engine().clone();
    let mut unknown = Vec::new();
    for (name, item) in component.component_type().imports(&engine) {
        let Some(interface) = name.strip_prefix("wasi:") else { continue };
        let known = interface.split_once("@0.2.").map(|(interface, _)| interface);
        let (Some(interface), ComponentItem::ComponentInstance(instance)) = (known, &item.ty)
        else {
            unknown.push(name.to_owned());
            continue;
        };
        let package = interface.split('/').next().unwrap_or_default();
        if !PACKAGES.contains(&package) {
            unknown.push(name.to_owned());
            continue;
        }
        let mut defined = linker.instance(name)?;
        for (export, item) in instance.exports(&engine) {
            if let ComponentItem::Resource(_) = item.ty {
                defined.resource(export, resource(export), |_, _| Ok(()))?;
            } else if let ComponentItem::ComponentFunc(_) = item.ty {
                function(&mut defined, interface, export)?;
            }
        }
    }
    Ok(unknown)
}

/// Lines that a guest writes to stdout and stderr, on their way to the log.
#[derive(Default)]
pub(crate) struct Output {
    line: Vec<u8>,
}

impl Output {
    fn write(&mut self, core: &Core, octets: &[u8]) {
        for &octet in octets.iter().take(WRITE_OCTETS) {
            if octet == b'\n' || self.line.len() >= LINE_OCTETS {
                self.flush(core);
            }
            if octet != b'\n' {
                self.line.push(octet);
            }
        }
    }

    /// The line so far, if there is one, goes to the log.
    pub(crate) fn flush(&mut self, core: &Core) {
        if !self.line.is_empty() {
            core.log_output(&String::from_utf8_lossy(&self.line));
            self.line.clear();
        }
    }
}

enum Inert {}
enum IoError {}
enum InputStream {}
enum OutputStream {}
/// Its number is the millisecond, on the plugin's clock, at which it is ready.
enum Pollable {}

#[derive(ComponentType, Lower, Lift)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    Failed(Resource<IoError>),
    #[component(name = "closed")]
    Closed,
}

#[derive(ComponentType, Lower, Lift)]
#[component(record)]
struct Datetime {
    #[component(name = "seconds")]
    seconds: u64,
    #[component(name = "nanoseconds")]
    nanoseconds: u32,
}

fn resource(name: &str) -> ResourceType {
    match name {
        "error" => ResourceType::host::<IoError>(),
        "input-stream" => ResourceType::host::<InputStream>(),
        "output-stream" => ResourceType::host::<OutputStream>(),
        "pollable" => ResourceType::host::<Pollable>(),
        _ => ResourceType::host::<Inert>(),
    }
}

fn function(linker: &mut LinkerInstance<'_, Guest>, interface: &str, name: &str) -> Result<()> {
    match interface.split('/').next() {
        Some("cli") => cli(linker, interface, name),
        Some("io") => io(linker, interface, name),
        Some("clocks") => clocks(linker, interface, name),
        Some("random") => random(linker, interface, name),
        Some("filesystem") if name == "get-directories" => {
            // No directory is open, so no other function of the package can be called with one.
            linker.func_wrap(name, |mut store: StoreContextMut<'_, Guest>, (): ()| {
                store.data_mut().charge()?;
                Ok((Vec::<(Resource<Inert>, String)>::new(),))
            })
        }
        _ => absent(linker, interface, name),
    }
}

fn cli(linker: &mut LinkerInstance<'_, Guest>, interface: &str, name: &str) -> Result<()> {
    match name {
        "get-environment" => {
            linker.func_wrap(name, |mut store: StoreContextMut<'_, Guest>, (): ()| {
                store.data_mut().charge()?;
                Ok((Vec::<(String, String)>::new(),))
            })
        }
        "get-arguments" => {
            linker.func_wrap(name, |mut store: StoreContextMut<'_, Guest>, (): ()| {
                store.data_mut().charge()?;
                Ok((Vec::<String>::new(),))
            })
        }
        "initial-cwd" => {
            linker.func_wrap(name, |_: StoreContextMut<'_, Guest>, (): ()| Ok((None::<String>,)))
        }
        "exit" => linker.func_wrap(
            name,
            |_: StoreContextMut<'_, Guest>, (_,): (Result<(), ()>,)| -> Result<()> {
                bail!("the plugin ended itself (exit)")
            },
        ),
        "get-stdin" => linker.func_wrap(name, |mut store: StoreContextMut<'_, Guest>, (): ()| {
            store.data_mut().charge()?;
            Ok((Resource::<InputStream>::new_own(0),))
        }),
        "get-stdout" | "get-stderr" => {
            linker.func_wrap(name, |mut store: StoreContextMut<'_, Guest>, (): ()| {
                store.data_mut().charge()?;
                Ok((Resource::<OutputStream>::new_own(1),))
            })
        }
        "get-terminal-stdin" | "get-terminal-stdout" | "get-terminal-stderr" => {
            linker.func_wrap(name, |mut store: StoreContextMut<'_, Guest>, (): ()| {
                store.data_mut().charge()?;
                Ok((None::<Resource<Inert>>,))
            })
        }
        _ => absent(linker, interface, name),
    }
}

type Done = std::result::Result<(), StreamError>;
type Octets = std::result::Result<Vec<u8>, StreamError>;
type Count = std::result::Result<u64, StreamError>;

fn io(linker: &mut LinkerInstance<'_, Guest>, interface: &str, name: &str) -> Result<()> {
    match name {
        "[method]error.to-debug-string" => linker.func_wrap(
            name,
            |mut store: StoreContextMut<'_, Guest>, (_,): (Resource<IoError>,)| {
                store.data_mut().charge()?;
                Ok((String::from("not available to plugins"),))
            },
        ),
        "[method]input-stream.read" | "[method]input-stream.blocking-read" => linker.func_wrap(
            name,
            |mut store: StoreContextMut<'_, Guest>, (_, _): (Resource<InputStream>, u64)| {
                store.data_mut().charge()?;
                Ok((Octets::Err(StreamError::Closed),))
            },
        ),
        "[method]output-stream.check-write" => linker.func_wrap(
            name,
            |mut store: StoreContextMut<'_, Guest>, (_,): (Resource<OutputStream>,)| {
                store.data_mut().charge()?;
                Ok((Count::Ok(WRITE_OCTETS as u64),))
            },
        ),
        "[method]output-stream.write" | "[method]output-stream.blocking-write-and-flush" => linker
            .func_wrap(
                name,
                |mut store: StoreContextMut<'_, Guest>,
                 (_, octets): (Resource<OutputStream>, Vec<u8>)| {
                    let guest = store.data_mut();
                    guest.charge()?;
                    guest.output.write(&guest.core, &octets);
                    Ok((Done::Ok(()),))
                },
            ),
        "[method]output-stream.flush" | "[method]output-stream.blocking-flush" => linker.func_wrap(
            name,
            |mut store: StoreContextMut<'_, Guest>, (_,): (Resource<OutputStream>,)| {
                store.data_mut().charge()?;
                Ok((Done::Ok(()),))
            },
        ),
        "[method]output-stream.subscribe" => linker.func_wrap(
            name,
            |mut store: StoreContextMut<'_, Guest>, (_,): (Resource<OutputStream>,)| {
                store.data_mut().charge()?;
                Ok((Resource::<Pollable>::new_own(0),))
            },
        ),
        "[method]input-stream.subscribe" => linker.func_wrap(
            name,
            |mut store: StoreContextMut<'_, Guest>, (_,): (Resource<InputStream>,)| {
                store.data_mut().charge()?;
                Ok((Resource::<Pollable>::new_own(0),))
            },
        ),
        _ if interface == "io/poll" => poll(linker, interface, name),
        _ => absent(linker, interface, name),
    }
}

fn poll(linker: &mut LinkerInstance<'_, Guest>, interface: &str, name: &str) -> Result<()> {
    match name {
        "[method]pollable.ready" => linker.func_wrap(
            name,
            |mut store: StoreContextMut<'_, Guest>, (pollable,): (Resource<Pollable>,)| {
                let guest = store.data_mut();
                guest.charge()?;
                Ok((left(guest, &pollable).is_zero(),))
            },
        ),
        "[method]pollable.block" => linker.func_wrap_async(
            name,
            |mut store: StoreContextMut<'_, Guest>, (pollable,): (Resource<Pollable>,)| {
                Box::new(async move {
                    let guest = store.data_mut();
                    guest.charge()?;
                    let left = left(guest, &pollable);
                    sleep(guest, left).await
                })
            },
        ),
        "poll" => linker.func_wrap_async(
            name,
            |mut store: StoreContextMut<'_, Guest>, (pollables,): (Vec<Resource<Pollable>>,)| {
                Box::new(async move {
                    let guest = store.data_mut();
                    guest.charge()?;
                    let first = pollables
                        .iter()
                        .map(|pollable| left(guest, pollable))
                        .min()
                        .unwrap_or_default();
                    sleep(guest, first).await?;
                    let ready = |at: &usize| left(guest, &pollables[*at]).is_zero();
                    let ready: Vec<u32> =
                        (0..pollables.len()).filter(ready).map(|at| at as u32).collect();
                    Ok((ready,))
                })
            },
        ),
        _ => absent(linker, interface, name),
    }
}

fn clocks(linker: &mut LinkerInstance<'_, Guest>, interface: &str, name: &str) -> Result<()> {
    match (interface, name) {
        ("clocks/wall-clock", "now") => {
            linker.func_wrap(name, |mut store: StoreContextMut<'_, Guest>, (): ()| {
                let (seconds, nanoseconds) = store.data_mut().time()?;
                Ok((Datetime { seconds: u64::try_from(seconds).unwrap_or(0), nanoseconds },))
            })
        }
        ("clocks/wall-clock", "resolution") => {
            linker.func_wrap(name, |_: StoreContextMut<'_, Guest>, (): ()| {
                Ok((Datetime { seconds: 0, nanoseconds: 1000 },))
            })
        }
        ("clocks/monotonic-clock", "now") => {
            linker.func_wrap(name, |mut store: StoreContextMut<'_, Guest>, (): ()| {
                Ok((store.data_mut().monotonic_nanoseconds()?,))
            })
        }
        ("clocks/monotonic-clock", "resolution") => {
            linker.func_wrap(name, |_: StoreContextMut<'_, Guest>, (): ()| Ok((1000_u64,)))
        }
        ("clocks/monotonic-clock", "subscribe-duration") => linker.func_wrap(
            name,
            |mut store: StoreContextMut<'_, Guest>, (nanoseconds,): (u64,)| {
                let guest = store.data_mut();
                guest.charge()?;
                let at = guest
                    .core
                    .services
                    .clock
                    .monotonic()
                    .saturating_add(Duration::from_nanos(nanoseconds));
                Ok((ready_at(at),))
            },
        ),
        ("clocks/monotonic-clock", "subscribe-instant") => linker.func_wrap(
            name,
            |mut store: StoreContextMut<'_, Guest>, (nanoseconds,): (u64,)| {
                store.data_mut().charge()?;
                Ok((ready_at(Duration::from_nanos(nanoseconds)),))
            },
        ),
        _ => absent(linker, interface, name),
    }
}

fn random(linker: &mut LinkerInstance<'_, Guest>, interface: &str, name: &str) -> Result<()> {
    match name {
        "get-random-bytes" | "get-insecure-random-bytes" => {
            linker.func_wrap(name, |mut store: StoreContextMut<'_, Guest>, (count,): (u64,)| {
                Ok((store.data_mut().random_octets(count)?,))
            })
        }
        "get-random-u64" | "get-insecure-random-u64" => {
            linker.func_wrap(name, |mut store: StoreContextMut<'_, Guest>, (): ()| {
                Ok((store.data_mut().random_number()?,))
            })
        }
        "insecure-seed" => {
            linker.func_wrap(name, |mut store: StoreContextMut<'_, Guest>, (): ()| {
                let guest = store.data_mut();
                Ok(((guest.random_number()?, guest.random_number()?),))
            })
        }
        _ => absent(linker, interface, name),
    }
}

/// What would reach the machine. It links, so that a runtime that carries it along loads, and traps when it is called.
fn absent(linker: &mut LinkerInstance<'_, Guest>, interface: &str, name: &str) -> Result<()> {
    let text: Arc<str> = format!("wasi:{interface} {name} is not available to plugins").into();
    linker.func_new(name, move |_, _, _, _| bail!("{text}"))
}

fn ready_at(time: Duration) -> Resource<Pollable> {
    Resource::new_own(u32::try_from(time.as_millis()).unwrap_or(u32::MAX))
}

fn left(guest: &Guest, pollable: &Resource<Pollable>) -> Duration {
    Duration::from_millis(u64::from(pollable.rep()))
        .saturating_sub(guest.core.services.clock.monotonic())
}

async fn sleep(guest: &mut Guest, time: Duration) -> Result<()> {
    if time.is_zero() {
        return Ok(());
    }
    // The wall limit of the call ends it, however long it is.
    Guest::wait(&mut guest.meter, tokio::time::sleep(time)).await
}

/// Everything else of `wasi:` is unknown here, above all `wasi:http`.
const PACKAGES: [&str; 6] = ["cli", "clocks", "filesystem", "io", "random", "sockets"];
const LINE_OCTETS: usize = 2048;
/// Of one write the rest is thrown away: the log is no file.
const WRITE_OCTETS: usize = 16 << 10;
