//! Refuses, strips or holds messages with files that nobody should get.
//!
//! See `README.md` for what is configured. [`config`] holds that and its rules, [`archive`] lists what
//! lies in archives, [`file`] says what a file is, [`strip`] puts a note in the place of a part, and this
//! file says which rule decides.

mod archive;
mod config;
mod file;
mod strip;
#[cfg(test)]
mod tests;

use gatepost_plugin::{
    Content, DataVerdict, Decision, Error, Host, PartInfo, Plugin, Reply, Session, Transaction,
};

use crate::archive::Budget;
use crate::config::{Action, Config, Rule};
use crate::file::File;

/// The plugin.
pub struct Attachments {
    config: Config,
}

gatepost_plugin::export!(Attachments: data);

/// A part that a rule is about.
struct Finding<'a> {
    part: u32,
    /// `invoice.zip/invoice.exe`.
    name: String,
    why: String,
    rule: &'a Rule,
}

impl Plugin for Attachments {
    fn configure(host: &Host) -> Result<Self, Error> {
        Ok(Self { config: Config::read(host)? })
    }

    fn data(
        &self,
        _: &Host,
        session: &Session,
        transaction: &Transaction,
        content: &Content,
    ) -> Result<Decision<DataVerdict>, Error> {
        if let Some(why) = self.exempt(session, transaction) {
            return Ok(Decision::next().because(why).rule("exempt"));
        }
        let mut budget = Budget::new(self.config.unpack);
        let mut findings = Vec::new();
        for part in content.parts()? {
            findings.extend(self.examine(content, &part, &mut budget)?);
        }
        self.decide(findings, transaction, content)
    }
}

impl Attachments {
    /// Why nothing is looked at.
    fn exempt(&self, session: &Session, transaction: &Transaction) -> Option<&'static str> {
        let config = &self.config;
        let recipients = transaction.recipients();
        let is_exempt = |sender: &String| config.exempt_senders.matches(sender);
        if !config.origins.is_empty() && !config.origins.contains(&transaction.origin()) {
            Some("mail from this entrance is not looked at")
        } else if config.exempt_clients.contains(session.info().client_address()) {
            Some("an exempt client")
        } else if transaction.reverse_path().as_ref().is_some_and(is_exempt) {
            Some("an exempt sender")
        } else if !recipients.is_empty()
            && recipients.iter().all(|one| config.exempt_recipients.matches(&one.original))
        {
            Some("all recipients are exempt")
        } else {
            None
        }
    }

    /// What the rules say about one part and what lies in it: the severest.
    fn examine(
        &self,
        content: &Content,
        part: &PartInfo,
        budget: &mut Budget,
    ) -> Result<Option<Finding<'_>>, Error> {
        let files = file::of_part(content, part, self.config.archives, budget)?;
        let outer = files.first().map(|file| file.name.clone()).unwrap_or_default();
        let mut worst: Option<Finding<'_>> = None;
        for (index, file) in files.iter().enumerate() {
            let Some((rule, why)) = self.rule(file) else { continue };
            if worst.as_ref().is_none_or(|worst| worst.rule.action < rule.action) {
                let name = match index {
                    0 => file.name.clone(),
                    _ => [&outer, "/", &file.name].concat(),
                };
                worst = Some(Finding { part: part.index, name, why, rule });
            }
        }
        Ok(worst)
    }

    /// The first rule that fits decides about a file.
    fn rule(&self, file: &File) -> Option<(&Rule, String)> {
        self.config.rules.iter().find_map(|rule| Some((rule, rule.fits(file)?)))
    }

    fn decide(
        &self,
        findings: Vec<Finding<'_>>,
        transaction: &Transaction,
        content: &Content,
    ) -> Result<Decision<DataVerdict>, Error> {
        // The first of the severest: it is the one that is told.
        let worst = findings.iter().rev().max_by_key(|finding| finding.rule.action);
        let Some(worst) = worst else { return Ok(Decision::next()) };
        for tag in findings.iter().filter_map(|finding| finding.rule.tag.as_deref()) {
            transaction.add_tag(tag)?;
        }
        let decision = match worst.rule.action {
            Action::Pass | Action::Tag => Decision::next(),
            Action::Strip => {
                let stripped = findings.iter().filter(|found| found.rule.action == Action::Strip);
                let notes: Vec<_> = stripped.map(|found| (found.part, self.note(found))).collect();
                strip::strip(content, &notes)?;
                Decision::next()
            }
            Action::Quarantine => Decision::quarantine(worst.rule.quarantine.as_str()),
            Action::Reject => Decision::reject(worst.reply()),
        };
        let told: Vec<String> = findings
            .iter()
            .map(|found| [&found.name, " (", &found.why, "): ", found.rule.action.word()].concat())
            .collect();
        Ok(decision.because(told.join("; ")).rule(worst.rule.name.as_str()))
    }

    fn note(&self, finding: &Finding<'_>) -> String {
        self.config.note.replace("{name}", &finding.name).replace("{reason}", &finding.why)
    }
}

impl Finding<'_> {
    fn reply(&self) -> Option<Reply> {
        let name: String = self
            .name
            .chars()
            .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
            .collect();
        let reply = self.rule.reply.replace("{name}", name.get(..100).unwrap_or(&name));
        reply.replace("{reason}", &self.why).parse().ok()
    }
}
