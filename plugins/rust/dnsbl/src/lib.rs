//! Asks lists in DNS (RFC 5782) about the client, the name it greets with, the domain of the
//! reverse-path and the hosts of URIs in the body, adds up what they say, and refuses whoever has too
//! much.
//!
//! See `README.md` for what is configured. [`config`] holds that, [`question`] makes the names to
//! ask for, [`uri`] finds hosts in a text, [`findings`] keeps what the lists said, and this file says
//! who is asked about and when.

mod config;
mod findings;
mod question;
#[cfg(test)]
mod tests;
mod uri;

use gatepost_plugin::{
    ConnectVerdict, Content, DataVerdict, Decision, Error, HeloVerdict, Host, MailVerdict, Plugin,
    RcptVerdict, Recipient, Session, SessionInfo, Transaction, config::split, verdict::Refuse,
};

use crate::config::{Config, Stage, Subject};
use crate::findings::{Asked, Findings};

/// The plugin.
pub struct Dnsbl {
    config: Config,
}

gatepost_plugin::export!(Dnsbl: connect, helo, mail, rcpt, data);

impl Plugin for Dnsbl {
    fn configure(host: &Host) -> Result<Self, Error> {
        let config = Config::read(host)?;
        host.dns().require()?;
        if let Some(table) = &config.exempt_table {
            host.lookup(table).require_networks()?;
        }
        Ok(Self { config })
    }

    fn connect(&self, host: &Host, session: &Session) -> Result<Decision<ConnectVerdict>, Error> {
        self.judge(host, session, None, Stage::Connect, &[])
    }

    fn helo(
        &self,
        host: &Host,
        session: &Session,
        name: &str,
    ) -> Result<Decision<HeloVerdict>, Error> {
        // The name is new, whatever an earlier EHLO of this connection was.
        session.set_note("helo-name", Some(name))?;
        self.judge(host, session, None, Stage::Helo, &[])
    }

    fn mail(
        &self,
        host: &Host,
        session: &Session,
        transaction: &Transaction,
    ) -> Result<Decision<MailVerdict>, Error> {
        self.judge(host, session, Some(transaction), Stage::Mail, &[])
    }

    fn rcpt(
        &self,
        host: &Host,
        session: &Session,
        transaction: &Transaction,
        recipient: &Recipient,
    ) -> Result<Decision<RcptVerdict>, Error> {
        // At the earlier stages everything was said that has not to do with the recipient.
        if self.config.refuse_at != Stage::Rcpt {
            return Ok(Decision::next());
        }
        if self.config.exempt_recipients.matches(&recipient.original) {
            return Ok(Decision::next().because("an exempt recipient").rule("exempt"));
        }
        self.judge(host, session, Some(transaction), Stage::Rcpt, &[])
    }

    fn data(
        &self,
        host: &Host,
        session: &Session,
        transaction: &Transaction,
        content: &Content,
    ) -> Result<Decision<DataVerdict>, Error> {
        if !self.config.zones.iter().any(|zone| zone.knows(Subject::Uri)) {
            return Ok(Decision::next());
        }
        // Whoever is listed and wrote to these was let through for them.
        let recipients = transaction.recipients();
        if recipients.iter().all(|one| self.config.exempt_recipients.matches(&one.original)) {
            return Ok(Decision::next().because("exempt recipients only").rule("exempt"));
        }
        let hosts = uri::of_content(content, &self.config)?;
        if hosts.is_empty() {
            return Ok(Decision::next());
        }
        self.judge(host, session, Some(transaction), Stage::Data, &hosts)
    }
}

impl Dnsbl {
    fn judge<V: Refuse>(
        &self,
        host: &Host,
        session: &Session,
        transaction: Option<&Transaction>,
        stage: Stage,
        hosts: &[String],
    ) -> Result<Decision<V>, Error> {
        if stage < self.config.refuse_at {
            return Ok(Decision::next());
        }
        let info = session.info();
        let sender = transaction.and_then(Transaction::reverse_path);
        if let Some(why) = self.exempt(host, &info, sender.as_deref()) {
            return Ok(Decision::next().because(why).rule("exempt"));
        }
        let mut asked = vec![Asked::about(Subject::Client, &info.client.ip)];
        if let Some(name) = info.helo.or_else(|| session.note("helo-name")) {
            asked.push(Asked::about(Subject::Helo, &name));
        }
        if let Some(sender) = &sender {
            asked.push(Asked::about(Subject::Sender, split(sender).1));
        }
        asked.extend(hosts.iter().map(|host| Asked::about(Subject::Uri, host)));
        let findings = Findings::gather(&self.config, host, session, asked)?;
        session.set_note("score", Some(&findings.score().to_string()))?;
        Ok(findings.decide(&self.config, host))
    }

    /// Why nobody is asked about this client.
    fn exempt(
        &self,
        host: &Host,
        session: &SessionInfo,
        sender: Option<&str>,
    ) -> Option<&'static str> {
        let client = session.client_address();
        if session.is_ours() {
            Some("not from a stranger")
        } else if self.config.exempts_client(client) {
            Some("an exempt client")
        } else if sender.is_some_and(|sender| self.config.exempt_senders.matches(sender)) {
            Some("an exempt sender")
        } else if let Some(table) = &self.config.exempt_table {
            // Without an answer of the table nobody is exempt: the lists decide.
            host.lookup(table).match_ip(client).ok().flatten().map(|_| "a client in the table")
        } else {
            None
        }
    }
}
