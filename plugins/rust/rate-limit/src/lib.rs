//! Limits how many messages and recipients a client, a network, a sender, a user or a recipient may
//! have in a time.
//!
//! See `README.md` for what is configured. [`config`] holds that, [`subject`] says who is counted,
//! [`count`] counts, and this file says when, and what is said to whoever has too much.

mod config;
mod count;
mod subject;
#[cfg(test)]
mod tests;

use gatepost_plugin::verdict::{Disconnect, Refuse};
use gatepost_plugin::{
    Decision, Error, Host, Level, MailVerdict, Plugin, RcptVerdict, Recipient, Reply, Session,
    Transaction,
};

use crate::config::{Action, Config, Limit, Of};
use crate::count::{Measure, Taken, take};
use crate::subject::Facts;

/// The plugin.
pub struct RateLimit {
    config: Config,
}

gatepost_plugin::export!(RateLimit: mail, rcpt);

/// What an exhausted limit means for this question.
struct Excess<'a> {
    limit: &'a Limit,
    taken: Taken,
}

impl Plugin for RateLimit {
    fn configure(host: &Host) -> Result<Self, Error> {
        Ok(Self { config: Config::read(host)? })
    }

    fn mail(
        &self,
        host: &Host,
        session: &Session,
        transaction: &Transaction,
    ) -> Result<Decision<MailVerdict>, Error> {
        let facts = Facts::new(session.info(), transaction.reverse_path(), None);
        self.judge(host, session, &facts, &[Measure::Messages])
    }

    fn rcpt(
        &self,
        host: &Host,
        session: &Session,
        transaction: &Transaction,
        recipient: &Recipient,
    ) -> Result<Decision<RcptVerdict>, Error> {
        if self.config.exempt_recipients.matches(&recipient.original) {
            return Ok(Decision::next().because("an exempt recipient").rule("exempt"));
        }
        let recipient = Some(recipient.original.clone());
        let facts = Facts::new(session.info(), transaction.reverse_path(), recipient);
        self.judge(host, session, &facts, &[Measure::Messages, Measure::Recipients])
    }
}

impl RateLimit {
    fn judge<V: Refuse + Disconnect>(
        &self,
        host: &Host,
        session: &Session,
        facts: &Facts,
        measures: &[Measure],
    ) -> Result<Decision<V>, Error> {
        if let Some(why) = self.exempt(host, facts) {
            return Ok(Decision::next().because(why).rule("exempt"));
        }
        let mut noticed = None;
        for limit in self.config.limits.iter().filter(|limit| applies(limit, facts)) {
            for measure in measures {
                let Some(taken) = self.taken(host, limit, *measure, facts) else { continue };
                let excess = Excess { limit, taken };
                match limit.action {
                    Action::Log => noticed = noticed.or(Some(excess)),
                    Action::Delay => {
                        session.delay_reply(excess.delay())?;
                        noticed = noticed.or(Some(excess));
                    }
                    Action::Defer | Action::Reject | Action::Disconnect => {
                        return Ok(excess.refuse());
                    }
                }
            }
        }
        Ok(noticed.map_or_else(Decision::next, |excess| excess.note(Decision::next())))
    }

    /// What is missing, if this limit is exhausted.
    fn taken(&self, host: &Host, limit: &Limit, measure: Measure, facts: &Facts) -> Option<Taken> {
        match take(host, &self.config, limit, measure, facts) {
            Ok(taken) => taken.filter(|taken| !taken.allowed),
            Err(error) => {
                // Mail is worth more than a count: without the counter everybody passes.
                let error = Error::from(error).to_string();
                host.log(
                    Level::Warn,
                    "a limit is off for this question",
                    &[("limit", &limit.name), ("error", &error)],
                );
                None
            }
        }
    }

    /// Why nothing is counted.
    fn exempt(&self, host: &Host, facts: &Facts) -> Option<&'static str> {
        let client = facts.session.client_address();
        let config = &self.config;
        if config.exempts_client(client, facts.session.is_ours()) {
            Some("an exempt client")
        } else if facts.user().is_some_and(|user| config.exempts_user(user)) {
            Some("an exempt user")
        } else if facts.sender.as_ref().is_some_and(|sender| config.exempt_senders.matches(sender))
        {
            Some("an exempt sender")
        } else if let Some(table) = &config.exempt_table {
            // Without an answer of the table nobody is exempt: the limits decide.
            host.lookup(table).match_ip(client).ok().flatten().map(|_| "a client in the table")
        } else {
            None
        }
    }
}

fn applies(limit: &Limit, facts: &Facts) -> bool {
    let session = &facts.session;
    let fits = match limit.of {
        Of::All => true,
        Of::Strangers => !session.is_ours(),
        Of::Users => session.auth.is_some(),
    };
    fits && (limit.listeners.is_empty() || limit.listeners.contains(&session.listener))
}

impl Excess<'_> {
    fn refuse<V: Refuse + Disconnect>(&self) -> Decision<V> {
        let reply = self.reply();
        self.note(match self.limit.action {
            Action::Reject => Decision::reject(reply),
            Action::Disconnect => Decision::disconnect(reply),
            Action::Defer | Action::Delay | Action::Log => Decision::defer(reply),
        })
    }

    fn note<V: gatepost_plugin::verdict::Verdict>(&self, decision: Decision<V>) -> Decision<V> {
        let Taken { subject, measure, rate, .. } = &self.taken;
        let reason = [
            subject.as_str(),
            " is over ",
            &rate.tokens.to_string(),
            measure.word(),
            " in ",
            &seconds(rate.seconds.into()),
        ];
        decision.because(reason.concat()).rule(self.limit.name.as_str())
    }

    /// RFC 5321 §4.5.4.1: a client that is put off comes back later; so it is told when.
    fn reply(&self) -> Reply {
        let text = self.limit.reply.replace("{subject}", &self.taken.subject);
        let text = text.replace("{wait}", &seconds(self.taken.wait.div_ceil(1000)));
        text.parse().unwrap_or_else(|_| Reply::new(450, "4.7.1", "Too much mail"))
    }

    /// Until the bucket would have let it through, but no longer than the administrator said.
    fn delay(&self) -> u32 {
        let most = self.limit.longest_delay.as_millis();
        u32::try_from(u128::from(self.taken.wait).min(most)).unwrap_or(u32::MAX)
    }
}

fn seconds(seconds: u64) -> String {
    let (number, unit) = match seconds {
        0 | 1 => return "1 second".to_owned(),
        86_400.. if seconds.is_multiple_of(86_400) => (seconds / 86_400, " day"),
        3_600.. if seconds.is_multiple_of(3_600) => (seconds / 3_600, " hour"),
        60.. if seconds.is_multiple_of(60) => (seconds / 60, " minute"),
        _ => (seconds, " second"),
    };
    [number.to_string().as_str(), unit, if number == 1 { "" } else { "s" }].concat()
}
