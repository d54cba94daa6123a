//! Puts strangers off for a few minutes: servers come back, most senders of bulk do not.
//!
//! See `README.md` for what is configured. [`config`] holds that, [`triplet`] says what counts as
//! the same mail, [`memory`] what is remembered of it, and this file who is exempt and what is said.

mod config;
mod memory;
#[cfg(test)]
mod tests;
mod triplet;

use std::time::Duration;

use gatepost_plugin::{
    Content, DataVerdict, Decision, Error, Host, Level, Plugin, RcptVerdict, Recipient, Reply,
    Session, SessionInfo, Transaction, verdict,
};

use crate::config::Config;
use crate::memory::{Memory, Standing};
use crate::triplet::Triplet;

/// The plugin.
pub struct Greylist {
    config: Config,
}

gatepost_plugin::export!(Greylist: rcpt, data);

impl Plugin for Greylist {
    fn configure(host: &Host) -> Result<Self, Error> {
        let config = Config::read(host)?;
        host.kv().require()?;
        if let Some(table) = &config.exempt_table {
            host.lookup(table).require_networks()?;
        }
        Ok(Self { config })
    }

    fn rcpt(
        &self,
        host: &Host,
        session: &Session,
        transaction: &Transaction,
        recipient: &Recipient,
    ) -> Result<Decision<RcptVerdict>, Error> {
        // A null reverse-path at RCPT may be another server that only asks whether an address
        // exists, and takes a 4yz for "no". Notifications are put off at `data` instead.
        let Some(sender) = transaction.reverse_path() else {
            return Ok(Decision::next());
        };
        let session = session.info();
        Ok(match self.exempt(host, &session, &sender) {
            Some(why) => Decision::next().because(why).rule("exempt"),
            None => decide(self.standing(host, &session, &sender, recipient)),
        })
    }

    fn data(
        &self,
        host: &Host,
        session: &Session,
        transaction: &Transaction,
        _: &Content,
    ) -> Result<Decision<DataVerdict>, Error> {
        if transaction.reverse_path().is_some() {
            return Ok(Decision::next());
        }
        let session = session.info();
        if let Some(why) = self.exempt(host, &session, "") {
            return Ok(Decision::next().because(why).rule("exempt"));
        }
        // One reply for all: the message waits for the recipient that has to wait longest.
        let standings = transaction.recipients();
        let standings =
            standings.iter().map(|recipient| self.standing(host, &session, "", recipient));
        Ok(standings.max().map_or_else(Decision::next, decide))
    }
}

impl Greylist {
    /// Why this mail is none of our business.
    fn exempt(&self, host: &Host, session: &SessionInfo, sender: &str) -> Option<&'static str> {
        let client = session.client_address();
        if session.is_ours() {
            Some("not from a stranger")
        } else if self.config.exempts_client(client) {
            Some("an exempt client")
        } else if self.config.exempt_senders.matches(sender) {
            Some("an exempt sender")
        } else if let Some(table) = &self.config.exempt_table {
            let found = host.lookup(table).match_ip(client);
            found
                .inspect_err(|error| warn(host, error))
                .ok()
                .flatten()
                .map(|_| "a client in the table")
        } else {
            None
        }
    }

    fn standing(
        &self,
        host: &Host,
        session: &SessionInfo,
        sender: &str,
        recipient: &Recipient,
    ) -> Standing {
        if self.config.exempt_recipients.matches(&recipient.original) {
            return Standing::Exempt;
        }
        let triplet =
            Triplet::new(&self.config, session.client_address(), sender, &recipient.original);
        // Mail is worth more than a delay: without the store everybody passes.
        let memory = Memory { kv: host.kv(), now: host.unix_time(), config: &self.config };
        memory.judge(&triplet).inspect_err(|error| warn(host, error)).unwrap_or(Standing::Unknown)
    }
}

fn decide<V: verdict::Refuse>(standing: Standing) -> Decision<V> {
    match standing {
        Standing::Exempt => Decision::next().because("an exempt recipient").rule("exempt"),
        Standing::Unknown => Decision::next().because("the store gave no answer").rule("no-store"),
        Standing::Trusted => {
            Decision::next().because("the client came back often enough").rule("trusted")
        }
        Standing::Known => Decision::next().because("came back before").rule("known"),
        Standing::Returned => Decision::next().because("came back").rule("returned"),
        Standing::Early { wait } => Decision::defer(reply(wait))
            .because(["came back too early, by ", &text(wait)].concat())
            .rule("early"),
        Standing::New { wait } => {
            Decision::defer(reply(wait)).because("never seen before").rule("new")
        }
    }
}

/// RFC 6647 §2.5 and §5: a 4yz, with what a human needs to know who reads it in a log.
fn reply(wait: Duration) -> Reply {
    Reply::new(
        451,
        "4.7.1",
        &["Greylisted: not refused, please try again in ", &text(wait)].concat(),
    )
}

fn text(wait: Duration) -> String {
    let seconds = wait.as_secs().max(1);
    [seconds.to_string().as_str(), if seconds == 1 { " second" } else { " seconds" }].concat()
}

fn warn(host: &Host, error: &gatepost_plugin::HostError) {
    host.log(
        Level::Warn,
        "greylisting is off for this recipient",
        &[("error", &Error::from(error.clone()).to_string())],
    );
}
