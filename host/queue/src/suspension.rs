//! What operators stop for a while: a destination, a sender, a tag. Kept in the file `suspended` of the spool.

use std::io;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::admin::{domain_of, same_sender};
use crate::disk::Disk;
use crate::error::Error;
use crate::message::{Message, QueuedRecipient};
use crate::store::read_whole;

/// What is not to be tried until it is resumed. Messages still come in, and wait.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suspension {
    /// A domain of recipients ("example.org"), or a destination as [`crate::Destination::name`] has it ("mx:example.org",
    /// "lmtp:/run/lmtp").
    Destination(String),
    /// A reverse-path ("" is the null one, "@example.org" a whole domain), or the name of who had logged in.
    Sender(String),
    /// A tag of the message.
    Tag(String),
}

/// A suspension in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspended {
    /// Of what.
    pub what: Suspension,
    /// Since when.
    pub since: SystemTime,
    /// Why, for those who come after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Messages that were due and wait for its end.
    #[serde(default)]
    pub waiting: usize,
}

impl Suspension {
    /// Is this recipient not to be tried? `destination`: where it goes, if that is known.
    pub(crate) fn covers(
        &self,
        message: &Message,
        recipient: &QueuedRecipient,
        destination: Option<&str>,
    ) -> bool {
        match self {
            Self::Destination(text) => {
                let domain = || domain_of(&recipient.path.to_string()).eq_ignore_ascii_case(text);
                destination.is_some_and(|name| self.names(name)) || domain()
            }
            Self::Sender(text) => {
                let user =
                    message.user.as_ref().is_some_and(|user| user.eq_ignore_ascii_case(text));
                user || same_sender(text, &message.reverse_path)
            }
            Self::Tag(tag) => message.tags.contains(tag),
        }
    }

    /// Is it a suspension of this destination?
    pub(crate) fn names(&self, destination: &str) -> bool {
        let Self::Destination(text) = self else { return false };
        let domain = destination.strip_prefix("mx:").unwrap_or(destination);
        destination.eq_ignore_ascii_case(text) || domain.eq_ignore_ascii_case(text)
    }
}

impl std::fmt::Display for Suspension {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Destination(name) => write!(f, "destination {name}"),
            Self::Sender(name) => write!(f, "sender {name}"),
            Self::Tag(name) => write!(f, "tag {name}"),
        }
    }
}

/// Reads what was in force when the last server ended. Blocks.
pub(crate) fn load(disk: &dyn Disk) -> Result<Vec<Suspended>, Error> {
    let octets = match read_whole(disk, FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(Error::disk("read", disk.name(FILE)))?,
    };
    // Whoever suspended something would not want it to be forgotten.
    let damaged = |_| Error::Damaged { what: disk.name(FILE).display().to_string() };
    serde_json::from_slice(&octets).map_err(damaged)
}

/// Writes what is in force. Durable when it returns; blocks.
pub(crate) fn save(disk: &dyn Disk, suspended: &[Suspended]) -> io::Result<()> {
    let mut octets = serde_json::to_vec_pretty(suspended).map_err(io::Error::other)?;
    octets.push(b'\n');
    let file = disk.create(ASIDE)?;
    file.write_at(0, &[&octets])?;
    file.sync()?;
    disk.rename(ASIDE, FILE)?;
    disk.sync_dir("")
}

const FILE: &str = "suspended";
const ASIDE: &str = "suspended.tmp";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspension_covers_what_it_names() {
        let json = br#"{"id":"01HZZZZZZZ0000AB","reverse_path":"Ann@one.test","user":"ann","tags":["bulk"],
            "recipients":[{"path":"c@d.test","original":"c@d.test","state":"pending","due":0}],
            "received":0,"size":3,"content":{"head":1,"body":2,"crc":0}}"#;
        let message = crate::store::parse_message(json).expect("a message");
        let check = |what: Suspension, destination: Option<&str>, expected: bool| {
            let covers = what.covers(&message, &message.recipients[0], destination);
            assert_eq!(covers, expected, "{what} {destination:?}");
        };
        let destination = |text: &str| Suspension::Destination(text.to_owned());
        check(destination("D.test"), None, true);
        check(destination("other.test"), None, false);
        check(destination("mx:d.test"), None, false); // nobody knows yet where it goes
        check(destination("mx:d.test"), Some("mx:d.test"), true);
        check(destination("relay.test"), Some("mx:relay.test"), true);
        check(destination("smtp:relay.test:25"), Some("smtp:relay.test:25"), true);
        check(destination("smtp:relay.test:25"), Some("smtp:relay.test:587"), false);
        let sender = |text: &str| Suspension::Sender(text.to_owned());
        check(sender("ann@one.test"), None, true);
        check(sender("@ONE.test"), None, true);
        check(sender("ann"), None, true);
        check(sender("bob"), None, false);
        check(sender(""), None, false);
        check(Suspension::Tag("bulk".to_owned()), None, true);
        check(Suspension::Tag("list".to_owned()), None, false);
    }
}
