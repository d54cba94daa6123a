//! Asks rspamd about each message, over its HTTP protocol, and does what it says.
//!
//! See `README.md` for what is configured. [`config`] holds that, [`question`] tells rspamd what it
//! has to know, [`answer`] reads what it says, [`milter`] makes the edits that it wants, and this file
//! says when it is asked and what becomes of the message.

mod answer;
mod config;
mod milter;
mod question;
#[cfg(test)]
mod tests;

use gatepost_plugin::{
    Content, DataVerdict, Decision, Error, Host, Level, Plugin, Reply, Session, Transaction,
};

use crate::answer::{Answer, OnReject};
use crate::config::{Config, Treatment};

/// The plugin.
pub struct Rspamd {
    config: Config,
}

gatepost_plugin::export!(Rspamd: data);

impl Plugin for Rspamd {
    fn configure(host: &Host) -> Result<Self, Error> {
        Ok(Self { config: Config::read(host)? })
    }

    fn data(
        &self,
        host: &Host,
        session: &Session,
        transaction: &Transaction,
        content: &Content,
    ) -> Result<Decision<DataVerdict>, Error> {
        if let Some(why) = self.exempt(session, transaction, content) {
            return Ok(Decision::next().because(why).rule("exempt"));
        }
        let answer = self.ask(host, session, transaction, content)?;
        answer.note(transaction)?;
        let treatment = self.treatment(&answer)?;
        let decision = self.treat(treatment, &answer, transaction, content)?;
        Ok(decision.because(answer.reason()).rule(answer.action))
    }
}

impl Rspamd {
    /// Why rspamd is not asked.
    fn exempt(
        &self,
        session: &Session,
        transaction: &Transaction,
        content: &Content,
    ) -> Option<&'static str> {
        let origin = transaction.origin();
        if !self.config.origins.contains(&origin) {
            Some("mail from this entrance is not asked about")
        } else if !self.config.scan_users && session.info().auth.is_some() {
            Some("from a user who has logged in")
        } else if self.config.exempt_clients.contains(session.info().client_address()) {
            Some("an exempt client")
        } else if content.size() > self.config.max_size {
            Some("larger than max-size")
        } else {
            None
        }
    }

    /// The first of the configured servers that answers.
    fn ask(
        &self,
        host: &Host,
        session: &Session,
        transaction: &Transaction,
        content: &Content,
    ) -> Result<Answer, Error> {
        let headers = question::headers(&self.config, session, transaction);
        let mut last = Error::from("no server of rspamd is configured");
        for url in &self.config.url {
            let request = question::request(&self.config, url, headers.clone());
            let response = host.http().send_content(&request, content).map_err(Error::from);
            match response.and_then(|response| Answer::read(&response)) {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    last = Error::new(["rspamd at ", url, ": ", &error.to_string()].concat());
                    host.log(Level::Warn, &last.to_string(), &[]);
                }
            }
        }
        // Now `on-error` decides.
        Err(last)
    }

    /// What the action of rspamd means here.
    fn treatment(&self, answer: &Answer) -> Result<Treatment, Error> {
        let configured = self.config.actions.get(answer.action.as_str()).copied();
        let treatment = configured.or_else(|| Treatment::of_action(&answer.action));
        let treatment = treatment.ok_or_else(|| {
            let action = &answer.action;
            Error::new(
                ["rspamd says `", action, "`: `actions` has to say what that means"].concat(),
            )
        })?;
        // The reply may soften a refusal, or forbid any action.
        Ok(match (answer.milter.no_action, treatment, answer.milter.on_reject) {
            (true, ..) => Treatment::Pass,
            (_, Treatment::Reject, Some(OnReject::Discard)) => Treatment::Discard,
            (_, Treatment::Reject, Some(OnReject::Quarantine)) => Treatment::Quarantine,
            (_, treatment, _) => treatment,
        })
    }

    fn treat(
        &self,
        treatment: Treatment,
        answer: &Answer,
        transaction: &Transaction,
        content: &Content,
    ) -> Result<Decision<DataVerdict>, Error> {
        // What is refused or forgotten needs no edits.
        match treatment {
            Treatment::Reject => return Ok(Decision::reject(self.reply(answer, 554, "5.7.1"))),
            Treatment::Defer => return Ok(Decision::defer(self.reply(answer, 451, "4.7.1"))),
            Treatment::Discard => return Ok(Decision::discard()),
            Treatment::Pass | Treatment::Header | Treatment::Subject | Treatment::Quarantine => {}
        }
        if self.config.milter_headers {
            milter::edit(&answer.milter, transaction, content)?;
        }
        match treatment {
            Treatment::Header => milter::spam_header(&self.config, &answer.milter, content)?,
            Treatment::Subject => milter::subject(&self.config, answer, content)?,
            _ => {}
        }
        if let Some(tag) = self.config.tags.get(&answer.action) {
            transaction.add_tag(tag)?;
        }
        Ok(match treatment {
            Treatment::Quarantine => Decision::quarantine(self.config.quarantine.as_str()),
            _ => Decision::next(),
        })
    }

    /// The words of rspamd, if it has any: they are those of its administrator.
    fn reply(&self, answer: &Answer, code: u16, enhanced: &str) -> Reply {
        let own = if code >= 500 { &self.config.reject_text } else { &self.config.defer_text };
        Reply::new(code, enhanced, answer.message.as_deref().unwrap_or(own))
    }
}
