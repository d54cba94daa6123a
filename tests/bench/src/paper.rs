//! Scale on paper: what more cores would do, from what one message costs here, and what would limit it.
//!
//! Work of a session (protocol, policy, content) runs on all cores. Two things are done by one thread each: the log is
//! written by one, and the queue has one owner. Their part of a message was counted by callgrind (instructions, see
//! `tests/instructions`), and stands below as a share of all.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use crate::peer::{Peer, Subject};
use crate::plot::{Line, draw};
use crate::report;
use crate::suite::{Cell, Runs};

/// A node as the table has it.
struct Node {
    cores: f64,
    /// Messages a second that the cores allow…
    cpu: f64,
    /// …the owner of the queue…
    owner: f64,
    /// …and the log.
    log: f64,
}

impl Node {
    /// `cost` is what a message costs of one core, in seconds.
    fn new(cores: f64, cost: f64, plain: f64) -> Self {
        // What plugins cost is all done by sessions.
        let (owner, log) = (plain * OWNER_SHARE, plain * LOG_SHARE);
        Self { cores, cpu: cores / cost, owner: 1.0 / owner, log: 1.0 / log }
    }

    fn rate(&self) -> f64 {
        self.cpu.min(self.owner).min(self.log)
    }

    fn limit(&self) -> &'static str {
        if self.rate() >= self.cpu {
            "cores"
        } else if self.owner <= self.log {
            "the owner of the queue"
        } else {
            "the thread that writes the log"
        }
    }
}

/// The part of the page, and its plot.
pub(crate) fn page(cells: &[Cell], runs: &Runs, out: &Path) -> Result<String, Box<dyn Error>> {
    let Some(cell) = cells.first() else { return Ok(String::new()) };
    let cost = |policies| {
        let runs = runs.get(&(*cell, Subject::new(Peer::Gatepost, policies)))?;
        Some(report::median(runs)?.cpu.as_secs_f64())
    };
    let Some(plain) = cost(0) else { return Ok(String::new()) };
    let mut page = format!(
        "\n## Scale on paper\n\n\
         Computed, not measured: a message costs {:.3} ms of a core here ({cell}), of which {:.0} % is work of the one \
         owner of the queue and {:.0} % work of the one thread that writes the log (instructions, by callgrind). All else is \
         done by sessions, which share nothing but counters. Memory, network and locks are taken to scale.\n\n\
         ![on paper](paper.svg)\n\n\
         | cores | policies | messages/s | limited by | disk, 1 KB messages |\n|---|---|---|---|---|\n",
        plain * 1e3,
        OWNER_SHARE * 100.0,
        LOG_SHARE * 100.0,
    );
    let mut lines = Vec::new();
    for policies in [0, 4] {
        let Some(cost) = cost(policies) else { continue };
        let nodes = || CORES.iter().map(|cores| Node::new(*cores, cost, plain));
        for node in nodes() {
            let octets = node.rate() * RECORD_OCTETS / 1e6;
            let _ = writeln!(
                page,
                "| {} | {policies} | {:.0} | {} | {octets:.0} MB/s |",
                node.cores,
                node.rate(),
                node.limit(),
            );
        }
        let points = nodes().map(|node| (node.cores, node.rate())).collect();
        lines.push(Line { name: format!("{policies} policies"), points });
    }
    page += LIMITS;
    draw(&out.join("paper.svg"), "Messages a second on paper", ("cores", "messages/s"), &lines)?;
    Ok(page)
}

const CORES: [f64; 5] = [1.0, 2.0, 4.0, 8.0, 16.0];
/// Of the instructions of a message, those of the owner of the queue.
const OWNER_SHARE: f64 = 0.06;
/// And those of the thread that writes the log.
const LOG_SHARE: f64 = 0.08;
/// A message of 1 KB in the log, with its line and its state.
const RECORD_OCTETS: f64 = 1_900.0;

const LIMITS: &str = "
Flushes are no limit on paper: one is for all that wait, so a disk with a thousand flushes a second gives each message
a wait of some milliseconds and no less throughput. The disk's bandwidth is the last column. Beyond the owner's limit a
node would need two logs with an owner each; the record has the room (the segment's number and salt), the schedule has not.
";
