//! The servers that can be put through the same faults.

pub mod exim;
pub mod foreign;
pub mod gatepost;
pub mod haraka;
pub mod opensmtpd;
pub mod postfix;

use std::path::Path;

use super::ledger::Mix;

pub use foreign::OtherServer;
pub use gatepost::OurServer;

/// A server whose queue lies on a file system that is about to fail.
pub trait Subject {
    /// What it is called, with its version.
    fn name(&self) -> String;

    /// Where its messages go.
    fn mix(&self) -> Mix;

    /// The largest message it is sent.
    fn largest(&self) -> usize {
        usize::MAX
    }

    /// Where it takes mail.
    fn port(&self) -> u16;

    /// Starts it, and doesn't wait.
    fn begin(&mut self);

    /// Waits until it takes mail.
    fn wait_ready(&mut self);

    /// Kills it and all that belongs to it, and waits until it is gone.
    fn kill(&mut self);

    /// Asks it to try everything now, whatever its schedule says.
    fn hurry(&mut self);

    /// How many messages are in its queue.
    fn queued(&mut self) -> usize;

    /// Takes what it delivered into mailboxes.
    fn mailbox(&mut self) -> Vec<Vec<u8>>;
}

/// Takes all messages out of a Maildir, oldest name first, with their names.
pub fn empty_maildir(maildir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut messages = Vec::new();
    for entry in std::fs::read_dir(maildir.join("new")).into_iter().flatten().flatten() {
        let octets = std::fs::read(entry.path()).expect("nobody else takes anything out of it");
        std::fs::remove_file(entry.path()).expect("nobody else takes anything out of it");
        messages.push((entry.file_name().to_string_lossy().into_owned(), octets));
    }
    messages.sort();
    messages
}
