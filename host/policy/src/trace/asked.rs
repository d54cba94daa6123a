//! What a call asked the world, in a few words for the trace: about what, and what it heard. Values of the key-value
//! store and bodies are counted, not told: a trace is read by more people than they are meant for.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::imports::log::clean;
use crate::seam::{Answer, Fault, Match, Question};

/// A question to the world, of a plugin in one call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The interface and function of the contract: `dns`, `kv.get`, `http`, …; "…" for all beyond the 32nd.
    pub what: Cow<'static, str>,
    /// The name, key, or address of the web without its query.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// What was heard, or why nothing was; absent if the call ended before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// How often, where one entry stands for several: of clocks and random numbers, and beyond the 32nd.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub times: u32,
    /// Microseconds from question to answer, all of them together.
    pub micros: u64,
}

fn once() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over the field as it is")]
fn is_once(times: &u32) -> bool {
    *times == 1
}

impl fmt::Display for Asked {
    /// `dns A 2.0.0.127.list.example: nxdomain  812 µs`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if !self.about.is_empty() {
            write!(f, " {}", self.about)?;
        }
        if self.times > 1 {
            write!(f, " {} times", self.times)?;
        }
        if let Some(answer) = &self.answer {
            write!(f, ": {answer}")?;
        }
        write!(f, "  {} µs", self.micros)
    }
}

/// The questions of one call, in their order.
#[derive(Debug, Default)]
pub(crate) struct Questions(Vec<Asked>);

/// Where among them a question stands that was not answered yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place(usize);

impl Questions {
    /// Notes a question before it is asked: a call that ends while it waits shows what it waited for.
    pub(crate) fn begin(&mut self, question: &Question) -> Place {
        let mut what = function(question);
        if !has_subject(question)
            && let Some(place) = self.again(what)
        {
            return place;
        }
        if self.0.len() >= MOST {
            if let Some(place) = self.again(REST) {
                return place;
            }
            what = REST;
        }
        let told = if what == REST { String::new() } else { subject(question) };
        let about = clean(&told, SUBJECT_OCTETS);
        self.0.push(Asked { what: Cow::Borrowed(what), about, answer: None, times: 1, micros: 0 });
        Place(self.0.len() - 1)
    }

    /// Where this was asked before; it is counted there.
    fn again(&mut self, what: &str) -> Option<Place> {
        let at = self.0.iter().position(|asked| asked.what == what)?;
        self.0[at].times += 1;
        Some(Place(at))
    }

    /// Notes what was heard, and how long that took.
    pub(crate) fn end(&mut self, Place(at): Place, answer: &Result<Answer, Fault>, took: Duration) {
        let asked = &mut self.0[at];
        asked.micros += u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if asked.what == REST {
            return;
        }
        let told = match answer {
            Ok(answer) => heard(answer),
            Err(fault) => Some(told(fault)),
        };
        asked.answer = told.map(|text| clean(&text, ANSWER_OCTETS));
    }

    /// All of them, for the trace.
    pub(crate) fn into_entries(self) -> Vec<Asked> {
        self.0
    }
}

/// The words of the contract.
fn function(question: &Question) -> &'static str {
    match question {
        Question::Now => "clock.now",
        Question::Monotonic => "clock.monotonic",
        Question::Random { .. } => "random",
        Question::Lookup { by: Match::Exact, .. } => "lookup.get",
        Question::Lookup { by: Match::Ip, .. } => "lookup.match-ip",
        Question::Lookup { by: Match::Address, .. } => "lookup.match-address",
        Question::Lookup { by: Match::Domain, .. } => "lookup.match-domain",
        Question::Take { .. } => "rate-limit.take",
        Question::KvGet { .. } => "kv.get",
        Question::KvKeys { .. } => "kv.keys",
        Question::KvSet { .. } => "kv.set",
        Question::KvDelete { .. } => "kv.delete",
        Question::KvIncrement { .. } => "kv.increment",
        Question::KvCompareAndSet { .. } => "kv.compare-and-set",
        Question::Dns { .. } => "dns",
        Question::Names { .. } => "dns.verified-names",
        Question::Http { .. } => "http",
    }
}

/// Whether two questions of this kind can differ in what they are about.
fn has_subject(question: &Question) -> bool {
    !matches!(question, Question::Now | Question::Monotonic | Question::Random { .. })
}

fn subject(question: &Question) -> String {
    match question {
        Question::Now | Question::Monotonic | Question::Random { .. } => String::new(),
        Question::Lookup { table, key, .. } => format!("{table} {key}"),
        Question::Take { key, .. }
        | Question::KvGet { key }
        | Question::KvSet { key, .. }
        | Question::KvDelete { key }
        | Question::KvIncrement { key, .. }
        | Question::KvCompareAndSet { key, .. } => key.clone(),
        Question::KvKeys { prefix, .. } => prefix.clone(),
        Question::Dns { name, kind } => format!("{kind} {name}"),
        Question::Names { address } => address.clone(),
        Question::Http { method, url, .. } => format!("{method} {}", without_secrets(url)),
    }
}

/// An address without what often holds a key or a password: its query, and who asks (RFC 3986 §3.2.1, §3.4).
fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority = rest.find('/').unwrap_or(rest.len());
    let host = rest[..authority].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[host..])
}

fn heard(answer: &Answer) -> Option<String> {
    Some(match answer {
        Answer::Time { .. } | Answer::Nanoseconds(_) | Answer::Octets(_) => return None,
        Answer::Text(Some(text)) => text.clone(),
        Answer::Text(None) | Answer::Value(None) => "nothing".to_owned(),
        Answer::Taken { allowed: true, remaining, .. } => format!("allowed, {remaining} left"),
        Answer::Taken { wait, .. } => format!("not before {wait} ms"),
        Answer::Value(Some(value)) => format!("{} octets", value.len()),
        Answer::Names(names) if names.is_empty() => "nothing".to_owned(),
        Answer::Names(names) => names.join(", "),
        Answer::Flag(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Answer::Sum(sum) => sum.to_string(),
        Answer::Records { nxdomain: true, .. } => "nxdomain".to_owned(),
        Answer::Records { records, .. } if records.is_empty() => "no record".to_owned(),
        Answer::Records { records, .. } => records.join(", "),
        Answer::Response { status, body, .. } => format!("{status}, {} octets", body.len()),
    })
}

fn told(fault: &Fault) -> String {
    let (kind, text) = match fault {
        Fault::Denied(text) => ("denied", text.as_str()),
        Fault::Quota(text) => ("quota", text.as_str()),
        Fault::Invalid(text) => ("invalid", text.as_str()),
        Fault::Unavailable(text) => ("unavailable", text.as_str()),
        Fault::Timeout => return "timeout".to_owned(),
        Fault::Other(text) => ("error", text.as_str()),
    };
    format!("{kind}: {text}")
}

/// Of the rest nobody reads each.
const MOST: usize = 32;
/// All that did not find a place of its own.
const REST: &str = "…";
const SUBJECT_OCTETS: usize = 160;
const ANSWER_OCTETS: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(questions: impl IntoIterator<Item = (Question, Result<Answer, Fault>)>) -> Vec<Asked> {
        let mut notes = Questions::default();
        for (question, answer) in questions {
            let place = notes.begin(&question);
            notes.end(place, &answer, Duration::from_micros(3));
        }
        notes.into_entries()
    }

    #[track_caller]
    fn check(question: Question, answer: Result<Answer, Fault>, expected: &str) {
        let notes = noted([(question, answer)]);
        let [Asked { what, about, answer, .. }] = &notes[..] else { panic!("{notes:?}") };
        assert_eq!(format!("{what} {about}: {}", answer.as_deref().unwrap_or("-")), expected);
    }

    fn http(url: &str) -> Question {
        Question::Http {
            method: "POST".into(),
            url: url.into(),
            headers: vec![("authorization".into(), "secret".into())],
            body: b"secret".to_vec(),
            content: None,
            timeout_milliseconds: None,
        }
    }

    #[test]
    fn questions_and_answers_are_told_in_a_few_words() {
        let name = |name: &str| Question::Dns { name: name.into(), kind: "A".into() };
        let records = |records: &[&str], nxdomain| {
            let records = records.iter().map(|&record| record.to_owned()).collect();
            Ok(Answer::Records { records, nxdomain, ttl: 60 })
        };
        check(Question::Now, Ok(Answer::Nanoseconds(1)), "clock.now : -");
        check(
            name("a.example"),
            records(&["192.0.2.1", "192.0.2.2"], false),
            "dns A a.example: 192.0.2.1, 192.0.2.2",
        );
        check(name("b.example"), records(&[], true), "dns A b.example: nxdomain");
        check(name("c.example"), Err(Fault::Timeout), "dns A c.example: timeout");
        let lookup = Question::Lookup { table: "vip".into(), by: Match::Ip, key: "::1".into() };
        check(lookup, Ok(Answer::Text(None)), "lookup.match-ip vip ::1: nothing");
        let take = Question::Take { key: "k".into(), tokens: 1, capacity: 2, seconds: 3 };
        check(
            take,
            Ok(Answer::Taken { allowed: false, remaining: 0, wait: 90 }),
            "rate-limit.take k: not before 90 ms",
        );
        let full = Err(Fault::Quota("100 keys".into()));
        let set = Question::KvSet { key: "k\r\nx".into(), value: b"secret".to_vec(), ttl: None };
        check(set, full, "kv.set k  x: quota: 100 keys");
    }

    #[test]
    fn secrets_stay_out() {
        let get = Question::KvGet { key: "session".into() };
        check(get, Ok(Answer::Value(Some(b"secret".to_vec()))), "kv.get session: 6 octets");
        let ok =
            || Ok(Answer::Response { status: 200, headers: Vec::new(), body: b"secret".to_vec() });
        check(
            http("https://me:secret@a.example/x@y?key=secret#z"),
            ok(),
            "http POST https://a.example/x@y: 200, 6 octets",
        );
        check(http("a.example?secret"), ok(), "http POST a.example: 200, 6 octets");
    }

    #[test]
    fn a_long_talk_is_told_short() {
        let get = |n: u32| Question::KvGet { key: n.to_string() };
        let notes = noted((0..100).flat_map(|n| {
            [(get(n), Ok(Answer::Value(None))), (Question::Now, Ok(Answer::Nanoseconds(0)))]
        }));
        assert_eq!(notes.len(), MOST + 1);
        assert_eq!((notes[1].times, &*notes[1].what), (100, "clock.now"));
        assert_eq!((notes[MOST].times, &*notes[MOST].what, &notes[MOST].answer), (69, REST, &None));
        let micros: u64 = notes.iter().map(|asked| asked.micros).sum();
        assert_eq!(micros, 600);
        let text = serde_json::to_string(&notes[0]).unwrap();
        assert_eq!(text, r#"{"what":"kv.get","about":"0","answer":"nothing","micros":3}"#);
        assert_eq!(serde_json::from_str::<Asked>(&text).unwrap(), notes[0]);
    }
}
