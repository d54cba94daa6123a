//! Faults made on purpose, on the running server: power cuts, torn disks, kills, calls that fail, full disks, flipped
//! bits, clocks that jump. Each kind is a subcommand of the program `faults`, and a short form of it a test.
//!
//! All of them keep the same books: a [`Ledger`] knows what was acknowledged and what arrived, octet for octet.

pub mod arguments;
pub mod bits;
pub mod blocks;
pub mod calls;
pub mod clock;
pub mod cuts;
pub mod full;
pub mod image;
pub mod kills;
pub mod ledger;
pub mod load;
pub mod random;
pub mod states;
pub mod strace;
pub mod subject;

use std::io::Write as _;

pub use arguments::Arguments;
pub use ledger::{Ledger, Place, Tally};
pub use random::Random;

/// A line of what came out, on standard output.
pub fn say(line: &str) {
    // Whoever closed the stream doesn't want it.
    let _ = writeln!(std::io::stdout(), "{line}");
}
