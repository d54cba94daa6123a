//! How our cost grows: with sessions, with recipients, with plugins, with what is in the queue already.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::extra::LOAD;
use crate::load::{Load, Window};
use crate::peer::{Peer, Subject};
use crate::suite::{Pace, Run, Suite, measure};

/// One size, and what it cost.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// How many there were of what grows.
    pub(crate) size: usize,
    /// What was measured.
    pub(crate) run: Run,
    /// Octets of memory of the server at the end.
    pub(crate) memory: u64,
}

/// What grows, and its steps.
#[derive(Clone, Debug)]
pub(crate) struct Growth {
    /// For the table.
    pub(crate) name: &'static str,
    /// From small to large.
    pub(crate) steps: Vec<Step>,
}

/// Everything that grows. A step that fails says so and ends its row.
pub(crate) fn all(suite: &mut Suite<'_>, quick: bool) -> Vec<Growth> {
    let sessions: &[usize] =
        if quick { &[10, 100, 1_000, 5_000] } else { &[10, 100, 1_000, 10_000] };
    let of_sessions = growth("sessions, no policy", sessions, |sessions| {
        // They must be open before the window, and come some thousands a second.
        let warm_up = suite.pace.warm_up + Duration::from_micros(300) * sessions as u32;
        let pace = Pace { warm_up, ..suite.pace };
        step(suite, pace, &Subject::new(Peer::Gatepost, 0), sessions, &Load { sessions, ..LOAD })
    });
    let of_recipients = growth("recipients, pipelined", &[1, 10, 100, 1_000], |recipients| {
        let load = Load { recipients, pipelining: true, ..LOAD };
        step(suite, suite.pace, &Subject::new(Peer::Gatepost, 0), recipients, &load)
    });
    let plugins: &[usize] = if quick { &[0, 1, 4, 32] } else { &[0, 1, 2, 4, 8, 16, 32] };
    let of_plugins = growth("plugins", plugins, |plugins| {
        step(suite, suite.pace, &Subject::new(Peer::Gatepost, plugins), plugins, &LOAD)
    });
    let queued: &[usize] =
        if quick { &[1_000, 10_000, 50_000] } else { &[1_000, 10_000, 100_000, 1_000_000] };
    let of_queue = queue(suite, queued);
    vec![of_sessions, of_recipients, of_plugins, of_queue]
}

fn growth(
    name: &'static str,
    sizes: &[usize],
    mut step: impl FnMut(usize) -> Result<Step>,
) -> Growth {
    let mut steps = Vec::new();
    for size in sizes {
        match step(*size) {
            Ok(one) => {
                eprintln!(
                    "{size} {name}: {:.0}/s, {} µs CPU",
                    one.run.rate,
                    one.run.cpu.as_micros()
                );
                steps.push(one);
            }
            Err(error) => {
                eprintln!("{size} {name}: {error:#}");
                break;
            }
        }
    }
    Growth { name, steps }
}

fn step(
    suite: &mut Suite<'_>,
    pace: Pace,
    subject: &Subject,
    size: usize,
    load: &Load,
) -> Result<Step> {
    let folder = suite.fresh(subject);
    let server = subject.start(suite.workshop, &folder)?;
    let load = Load { server: server.address, ..load.clone() };
    let (met, cpu) = measure(&load, pace, || server.group.cpu())?;
    let memory = server.group.memory();
    server.stop();
    Ok(Step { size, run: Run::new(&met, cpu, pace.window), memory })
}

/// One server whose queue is filled to each size; then it is measured.
fn queue(suite: &mut Suite<'_>, sizes: &[usize]) -> Growth {
    let subject = Subject::new(Peer::Gatepost, 0);
    let folder = suite.fresh(&subject);
    let server = match subject.start(suite.workshop, &folder) {
        Ok(server) => server,
        Err(error) => {
            eprintln!("queue: {error:#}");
            return Growth { name: "messages in the queue", steps: Vec::new() };
        }
    };
    let load = Load { server: server.address, ..LOAD };
    let mut queued = 0;
    let steps = growth("messages in the queue", sizes, |size| {
        while queued < size {
            queued += fill(&load, size - queued)?;
        }
        let (met, cpu) = measure(&load, suite.pace, || server.group.cpu())?;
        let run = Run::new(&met, cpu, suite.pace.window);
        // The warm-up came in, too.
        let share = suite.pace.warm_up.as_secs_f64() / suite.pace.window.as_secs_f64();
        queued += met.accepted as usize + (met.accepted as f64 * share) as usize;
        Ok(Step { size, run, memory: server.group.memory() })
    });
    server.stop();
    steps
}

/// Sends about so many messages, for ten seconds at most, and gives how many there were.
fn fill(load: &Load, wanted: usize) -> Result<usize> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // As many as can be sent in half the time that the last thousands took, at least a moment.
    let seconds = (wanted as f64 / EXPECTED).clamp(0.05, 10.0);
    let from = Instant::now();
    let met =
        runtime.block_on(load.run(Window { from, until: from + Duration::from_secs_f64(seconds) }));
    anyhow::ensure!(met.accepted > 0, "nothing is accepted any more: {} failed", met.failed);
    Ok(usize::try_from(met.accepted)?)
}

/// Messages a second that come in while the queue is filled, or more.
const EXPECTED: f64 = 12_000.0;
