//! Writes into each message which set of plugins saw it at which stage: a test swaps sets under load and
//! reads in the mailbox that no message was judged by two.
//!
//! `set` in its configuration is the number of the set; the build adds a letter of its own.

use gatepost_plugin::{
    Content, DataVerdict, Decision, Error, HeloVerdict, Host, MailVerdict, Plugin, RcptVerdict,
    Recipient, Reply, Session, Transaction,
};

/// Which build this is.
const BUILD: &str = if cfg!(feature = "second") { "b" } else { "a" };

/// The plugin.
pub struct Stamp {
    name: String,
    set: String,
}

gatepost_plugin::export!(Stamp: helo, mail, rcpt, data);

impl Plugin for Stamp {
    fn configure(host: &Host) -> Result<Self, Error> {
        let value = |key: &str| host.config_value(key).ok_or(format!("`{key}` is missing"));
        // A fault that shows only in the running component: a set that must never go live.
        if host.config_value("broken").is_some() {
            return Err("`broken` is set".into());
        }
        Ok(Self { name: value("name")?, set: value("set")? + BUILD })
    }

    fn helo(&self, _: &Host, session: &Session, _: &str) -> Result<Decision<HeloVerdict>, Error> {
        session.set_note("helo", Some(&self.set))?;
        Ok(Decision::next())
    }

    fn mail(
        &self,
        _: &Host,
        _: &Session,
        transaction: &Transaction,
    ) -> Result<Decision<MailVerdict>, Error> {
        transaction.set_note("mail", Some(&self.set))?;
        Ok(Decision::next())
    }

    fn rcpt(
        &self,
        _: &Host,
        _: &Session,
        transaction: &Transaction,
        recipient: &Recipient,
    ) -> Result<Decision<RcptVerdict>, Error> {
        // How a test asks which set is in force.
        if recipient.address.starts_with("probe@") {
            let reply = Reply::new(550, "5.7.1", &format!("set {} ", self.set));
            return Ok(Decision::reject(reply));
        }
        transaction.set_note("rcpt", Some(&self.set))?;
        Ok(Decision::next())
    }

    fn data(
        &self,
        _: &Host,
        session: &Session,
        transaction: &Transaction,
        content: &Content,
    ) -> Result<Decision<DataVerdict>, Error> {
        let absent = || "-".to_owned();
        let helo = session.note("helo").unwrap_or_else(absent);
        let mail = transaction.note("mail").unwrap_or_else(absent);
        let rcpt = transaction.note("rcpt").unwrap_or_else(absent);
        let stages = format!("{} {helo} {mail} {rcpt} {}", self.name, self.set);
        content.add_header("X-Stamp", &stages)?;
        Ok(Decision::next())
    }
}
