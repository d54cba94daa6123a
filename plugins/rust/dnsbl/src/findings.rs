//! What the lists said, and what follows from it.

use std::net::Ipv4Addr;

use gatepost_plugin::verdict::Refuse;
use gatepost_plugin::{Decision, Error, Host, Kind, Level, Reply, Session};

use crate::config::{Config, Subject, Zone, refuses_to_say};
use crate::question;

/// Whom to ask about.
pub(crate) struct Asked {
    subject: Subject,
    text: String,
}

/// One list that knows one subject.
struct Finding<'a> {
    zone: &'a Zone,
    asked: Asked,
    answer: Ipv4Addr,
    score: i32,
}

/// Everything that the lists said about an attempt.
pub(crate) struct Findings<'a>(Vec<Finding<'a>>);

/// A question under way: to which list, about whom, and its name in DNS.
struct Question<'c, 'q> {
    number: usize,
    zone: &'c Zone,
    about: &'q Asked,
    name: String,
}

impl Asked {
    pub(crate) fn about(subject: Subject, text: &str) -> Self {
        Self { subject, text: text.to_owned() }
    }

    fn name(&self, zone: &Zone) -> Option<String> {
        match self.subject {
            Subject::Client => {
                self.text.parse().ok().map(|address| question::of_address(address, &zone.name))
            }
            Subject::Helo | Subject::Sender => question::of_domain(&self.text, &zone.name),
            Subject::Uri => match self.text.parse() {
                Ok(address) => Some(question::of_address(address, &zone.name)),
                Err(_) => question::of_domain(&self.text, &zone.name),
            },
        }
    }

    /// The note that keeps the answers for the rest of the connection: what was asked about last,
    /// and what the lists said. None for what belongs to one message.
    fn note(&self) -> Option<&'static str> {
        match self.subject {
            Subject::Client => Some("client"),
            Subject::Helo => Some("helo"),
            Subject::Sender => Some("sender"),
            Subject::Uri => None,
        }
    }

    /// For a reply: `client [192.0.2.1]`, `name mail.example.net`.
    fn words(&self) -> String {
        match self.subject {
            Subject::Client => ["client [", &self.text, "]"].concat(),
            Subject::Helo => ["name ", &self.text].concat(),
            Subject::Sender => ["sender domain ", &self.text].concat(),
            Subject::Uri => ["link to ", &self.text].concat(),
        }
    }
}

impl<'a> Findings<'a> {
    /// Asks all lists about all at the same time, except what this connection knows already.
    pub(crate) fn gather(
        config: &'a Config,
        host: &Host,
        session: &Session,
        asked: Vec<Asked>,
    ) -> Result<Self, Error> {
        let mut findings = Vec::new();
        let mut unknown = Vec::new();
        for about in asked {
            let note = about.note().and_then(|key| session.note(key));
            match note.and_then(|note| recall(config, &about, &note)) {
                Some(known) => findings.extend(known),
                None => unknown.push(about),
            }
        }
        for (about, found) in unknown.iter().zip(ask(config, host, &unknown)) {
            let mut note = about.text.clone();
            for (number, answer) in found {
                note += &[" ", &number.to_string(), "=", &answer.to_string()].concat();
            }
            if let Some(key) = about.note() {
                session.set_note(key, Some(&note))?;
            }
            findings.extend(recall(config, about, &note).unwrap_or_default());
        }
        Ok(Self(once_for_links(findings)))
    }

    pub(crate) fn score(&self) -> i32 {
        self.0.iter().fold(0, |sum, finding| sum.saturating_add(finding.score))
    }

    pub(crate) fn decide<V: Refuse>(&self, config: &Config, host: &Host) -> Decision<V> {
        let score = self.score();
        let Some(worst) = self.0.iter().max_by_key(|finding| finding.score) else {
            return Decision::next();
        };
        let decision = if score >= config.reject {
            Decision::reject(worst.reply(config, host))
        } else if config.defer.is_some_and(|defer| score >= defer) {
            let text = [
                &worst.asked.words(),
                " is listed by ",
                &worst.zone.name,
                "; please try again later",
            ]
            .concat();
            Decision::defer(Reply::new(450, "4.7.1", &capitalised(&text)))
        } else {
            Decision::next()
        };
        decision.because(self.explain(score)).rule(worst.zone.name.as_str())
    }

    /// `score 4: zen.example 127.0.0.2 +5 (client [192.0.2.1]), allow.example 127.0.0.1 -1 (…)`
    fn explain(&self, score: i32) -> String {
        let mut text = ["score ", &score.to_string()].concat();
        for (index, finding) in self.0.iter().enumerate() {
            let Finding { zone, asked, answer, score } = finding;
            let sign = if *score < 0 { " " } else { " +" };
            let start = if index == 0 { ": " } else { ", " };
            text += &[
                start,
                &zone.name,
                " ",
                &answer.to_string(),
                sign,
                &score.to_string(),
                " (",
                &asked.words(),
                ")",
            ]
            .concat();
        }
        text
    }
}

impl Finding<'_> {
    /// The configured reply, with what the list itself has to say (RFC 5782 §2.1: a TXT record).
    fn reply(&self, config: &Config, host: &Host) -> Option<Reply> {
        let text = if self.zone.text { self.text(host) } else { String::new() };
        let reply = config.reply.replace("{subject}", &capitalised(&self.asked.words()));
        let reply = reply.replace("{zone}", &self.zone.name).replace("{text}", &text);
        // A text that was left empty leaves no trailing punctuation.
        reply.trim_end_matches([' ', ';', ':', ',']).parse().ok()
    }

    fn text(&self, host: &Host) -> String {
        let answer = self.asked.name(self.zone).map(|name| host.dns().resolve(&name, Kind::Txt));
        let record = answer
            .and_then(Result::ok)
            .and_then(|answer| answer.records.into_iter().next())
            .unwrap_or_default();
        // RFC 5321 §4.2: the text of a reply is printable US-ASCII.
        record
            .trim_matches('"')
            .chars()
            .map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' })
            .take(TEXT)
            .collect()
    }
}

/// What the lists say about each: the number of the list and its answer.
fn ask(config: &Config, host: &Host, asked: &[Asked]) -> Vec<Vec<(usize, Ipv4Addr)>> {
    let questions: Vec<_> = asked.iter().flat_map(|about| questions(config, about)).collect();
    let names: Vec<_> =
        questions.iter().map(|question| (question.name.as_str(), Kind::A)).collect();
    let answers = names.chunks(MOST_NAMES).flat_map(|names| host.dns().resolve_many(names));
    let mut found: Vec<_> = asked.iter().map(|_| Vec::new()).collect();
    for (question, answer) in questions.iter().zip(answers) {
        let records = answer.map(|answer| answer.records).unwrap_or_else(|error| {
            // A list that does not answer has nothing against anybody.
            let error = Error::from(error).to_string();
            host.log(
                Level::Info,
                "a list gave no answer",
                &[("zone", &question.zone.name), ("error", &error)],
            );
            Vec::new()
        });
        if let Some(answer) = strongest(host, question.zone, &records) {
            let position = asked.iter().position(|about| std::ptr::eq(about, question.about));
            if let Some(found) = position.and_then(|position| found.get_mut(position)) {
                found.push((question.number, answer));
            }
        }
    }
    found
}

/// A message with many links counts once in each list, by the worst of them: a host and its domain are one link.
fn once_for_links(findings: Vec<Finding<'_>>) -> Vec<Finding<'_>> {
    let mut kept: Vec<Finding<'_>> = Vec::new();
    for finding in findings {
        let same = |other: &&mut Finding<'_>| {
            other.asked.subject == Subject::Uri && std::ptr::eq(other.zone, finding.zone)
        };
        match kept.iter_mut().find(same) {
            Some(other) if finding.asked.subject == Subject::Uri => {
                if finding.score.unsigned_abs() > other.score.unsigned_abs() {
                    *other = finding;
                }
            }
            _ => kept.push(finding),
        }
    }
    kept
}

fn questions<'c, 'q>(
    config: &'c Config,
    about: &'q Asked,
) -> impl Iterator<Item = Question<'c, 'q>> {
    let zones = config.zones.iter().enumerate().filter(|(_, zone)| zone.knows(about.subject));
    zones.filter_map(|(number, zone)| {
        about.name(zone).map(|name| Question { number, zone, about, name })
    })
}

/// Several answers of one list count once: the one that moves the score most.
fn strongest(host: &Host, zone: &Zone, records: &[String]) -> Option<Ipv4Addr> {
    let answers: Vec<Ipv4Addr> = records.iter().filter_map(|record| record.parse().ok()).collect();
    if answers.iter().any(|answer| refuses_to_say(*answer)) {
        let records = records.join(" ");
        host.log(
            Level::Warn,
            "a list refuses to answer our resolver",
            &[("zone", &zone.name), ("answer", &records)],
        );
    }
    let scored =
        answers.into_iter().filter_map(|answer| zone.score(answer).map(|score| (answer, score)));
    scored
        .filter(|(_, score)| *score != 0)
        .max_by_key(|(_, score)| score.unsigned_abs())
        .map(|(answer, _)| answer)
}

/// Reads a note: `mail.example.net 0=127.0.0.2 3=127.0.0.4`. `None` if it is about somebody else.
fn recall<'a>(config: &'a Config, about: &Asked, note: &str) -> Option<Vec<Finding<'a>>> {
    let rest = note
        .strip_prefix(about.text.as_str())
        .filter(|rest| rest.is_empty() || rest.starts_with(' '))?;
    let entry = |entry: &str| {
        let (number, answer) = entry.split_once('=')?;
        let zone = config.zones.get(number.parse::<usize>().ok()?)?;
        let answer = answer.parse().ok()?;
        Some(Finding {
            zone,
            asked: Asked::about(about.subject, &about.text),
            answer,
            score: zone.score(answer)?,
        })
    };
    Some(rest.split_whitespace().filter_map(entry).collect())
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

/// Names of one `resolve-many`.
const MOST_NAMES: usize = 256;
/// Characters of a list's own text that fit into a reply beside ours.
const TEXT: usize = 250;
