//! Rules of an administrator: expressions over envelope, header fields and authentication results, and
//! what follows from them.
//!
//! See `README.md` for the language. [`lex`] and [`parse`] read it, [`expression`] holds and evaluates it,
//! [`variable`] says what can be asked about, [`config`] what a rule is, and this file does what it says.

mod address;
mod config;
mod expression;
mod lex;
mod parse;
#[cfg(test)]
mod tests;
mod variable;

use gatepost_plugin::verdict::{Accept, Discard, Refuse, Verdict};
use gatepost_plugin::{
    Content, DataVerdict, Decision, Error, Host, MailVerdict, Plugin, RcptVerdict, Recipient,
    Session, Transaction,
};

use crate::config::{Config, Rule, Stage};
use crate::variable::Scene;

/// The plugin.
pub struct HeaderRules {
    config: Config,
}

gatepost_plugin::export!(HeaderRules: mail, rcpt, data);

/// What the rules came to.
struct Outcome<'a> {
    /// The rule that ends the stage, if one does.
    verdict: Option<&'a Rule>,
    /// The names of all that held.
    held: Vec<&'a str>,
}

impl Plugin for HeaderRules {
    fn configure(host: &Host) -> Result<Self, Error> {
        Ok(Self { config: Config::read(host)? })
    }

    fn mail(
        &self,
        host: &Host,
        session: &Session,
        transaction: &Transaction,
    ) -> Result<Decision<MailVerdict>, Error> {
        let info = session.info();
        let scene = Scene { host, session, info, transaction, recipient: None, content: None };
        let outcome = self.apply(&scene, Stage::Mail)?;
        let decision = match outcome.verdict {
            Some(rule) => refused_or_accepted(rule, &scene)?,
            None => Decision::next(),
        };
        Ok(outcome.tell(decision))
    }

    fn rcpt(
        &self,
        host: &Host,
        session: &Session,
        transaction: &Transaction,
        recipient: &Recipient,
    ) -> Result<Decision<RcptVerdict>, Error> {
        let (info, recipient) = (session.info(), Some(recipient));
        let scene = Scene { host, session, info, transaction, recipient, content: None };
        let outcome = self.apply(&scene, Stage::Rcpt)?;
        let decision = match outcome.verdict {
            Some(rule) => discarded(rule).map_or_else(|| refused_or_accepted(rule, &scene), Ok)?,
            None => Decision::next(),
        };
        Ok(outcome.tell(decision))
    }

    fn data(
        &self,
        host: &Host,
        session: &Session,
        transaction: &Transaction,
        content: &Content,
    ) -> Result<Decision<DataVerdict>, Error> {
        let (info, content) = (session.info(), Some(content));
        let scene = Scene { host, session, info, transaction, recipient: None, content };
        let outcome = self.apply(&scene, Stage::Data)?;
        let decision = match outcome.verdict {
            Some(Rule { quarantine: Some(name), .. }) => Decision::quarantine(name.as_str()),
            Some(rule) => discarded(rule).map_or_else(|| refused_or_accepted(rule, &scene), Ok)?,
            None => Decision::next(),
        };
        Ok(outcome.tell(decision))
    }
}

impl HeaderRules {
    /// Does what the rules of this stage say, in order, up to the first with a verdict.
    fn apply(&self, scene: &Scene<'_>, stage: Stage) -> Result<Outcome<'_>, Error> {
        let mut outcome = Outcome { verdict: None, held: Vec::new() };
        for rule in self.config.rules.iter().filter(|rule| rule.stage == stage) {
            if !rule.holds(scene)? {
                continue;
            }
            outcome.held.push(&rule.name);
            act(rule, scene)?;
            if rule.reply.is_some() || rule.accept || rule.discard || rule.quarantine.is_some() {
                outcome.verdict = Some(rule);
                break;
            }
            if rule.last {
                break;
            }
        }
        Ok(outcome)
    }
}

impl Outcome<'_> {
    fn tell<V: Verdict>(&self, decision: Decision<V>) -> Decision<V> {
        match self.held.last() {
            Some(last) => decision.because(self.held.join(", ")).rule(*last),
            None => decision,
        }
    }
}

/// Everything but the verdict.
fn act(rule: &Rule, scene: &Scene<'_>) -> Result<(), Error> {
    if let Some(content) = scene.content {
        edit_fields(rule, scene, content)?;
    }
    let transaction = scene.transaction;
    for tag in &rule.tag {
        transaction.add_tag(tag)?;
    }
    for note in &rule.note {
        transaction.set_note(&note.name, Some(&note.value.fill(scene)?))?;
    }
    if let Some(route) = &rule.route {
        let route = route.fill(scene)?;
        for recipient in scene.recipients() {
            transaction.set_route(&recipient, &route)?;
        }
    }
    if let Some(priority) = rule.priority {
        transaction.set_priority(priority)?;
    }
    if let Some(delay) = &rule.delay {
        let milliseconds = u32::try_from(delay.0.as_millis()).unwrap_or(u32::MAX);
        scene.session.delay_reply(milliseconds)?;
    }
    Ok(())
}

fn edit_fields(rule: &Rule, scene: &Scene<'_>, content: &Content) -> Result<(), Error> {
    for name in &rule.remove {
        content.remove_header(&name.0, None)?;
    }
    for field in &rule.replace.0 {
        let value = field.value.fill(scene)?;
        // The first gets the value, and others of the name go: one field is left that says one thing.
        let count = content.header(&field.name).len();
        for index in (1..count).rev() {
            content.remove_header(&field.name, u32::try_from(index).ok())?;
        }
        if count == 0 {
            content.add_header(&field.name, &value)?;
        } else {
            content.replace_header(&field.name, 0, &value)?;
        }
    }
    for field in &rule.add.0 {
        content.add_header(&field.name, &field.value.fill(scene)?)?;
    }
    for field in &rule.prepend.0 {
        content.prepend_header(&field.name, &field.value.fill(scene)?)?;
    }
    Ok(())
}

fn refused_or_accepted<V: Refuse + Accept>(
    rule: &Rule,
    scene: &Scene<'_>,
) -> Result<Decision<V>, Error> {
    Ok(match &rule.reply {
        Some(reply) if reply.is_final => Decision::reject(reply.fill(scene)?),
        Some(reply) => Decision::defer(reply.fill(scene)?),
        None => Decision::accept(),
    })
}

fn discarded<V: Discard>(rule: &Rule) -> Option<Decision<V>> {
    rule.discard.then(Decision::discard)
}
