//! Reports of others, as they are: with old tags, wrong cases, octets that are no UTF-8 and ends that are missing.

use quick_xml::Reader;
use quick_xml::XmlVersion;
use quick_xml::events::Event;

use super::{Disposition, Published, Reason, Report, Row, Signature};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is no XML, or breaks off where nothing can be made of it.
    #[error("it is no XML: {0}")]
    Xml(#[from] quick_xml::Error),
    /// XML of something else.
    #[error("it is no report of DMARC: {0} is missing")]
    Missing(&'static str),
    /// It names something that is none.
    #[error("{0:?} is no {1}")]
    Value(String, &'static str),
    /// It is too large, or becomes too large.
    #[error("it has more than {0} octets")]
    TooLarge(u64),
    /// An archive that cannot be unpacked.
    #[error("it cannot be unpacked: {0}")]
    Packed(String),
    /// A message without any report.
    #[error("there is no report in it")]
    None,
}

impl Report {
    /// Reads the XML of a report: RFC 9990, RFC 7489 and the drafts before. What is unknown is passed over.
    ///
    /// # Errors
    /// When it is no report, or names no source, no count or no disposition where it must.
    pub fn from_xml(octets: &[u8]) -> Result<Self, ReadError> {
        let text = String::from_utf8_lossy(octets);
        let mut reader = Reader::from_str(&text);
        let config = reader.config_mut();
        config.check_end_names = false;
        config.allow_unmatched_ends = true;
        let mut parse = Parse::default();
        loop {
            match reader.read_event() {
                Ok(Event::Start(tag)) => parse.start(tag.local_name().as_ref())?,
                Ok(Event::Text(text)) => {
                    parse.text.push_str(&text.xml_content(XmlVersion::Implicit1_0));
                }
                Ok(Event::CData(text)) => {
                    parse.text.push_str(&text.xml_content(XmlVersion::Implicit1_0));
                }
                Ok(Event::GeneralRef(name)) => parse.text.push_str(&reference(&name)),
                Ok(Event::End(tag)) => parse.end(tag.local_name().as_ref())?,
                Ok(Event::Eof) => break,
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
        }
        parse.finish()
    }
}

/// The character that a reference stands for. There are no other entities: a report has no DTD of its own.
fn reference(name: &quick_xml::events::BytesRef<'_>) -> String {
    let text = name.xml_content(XmlVersion::Implicit1_0);
    let found = match text.as_ref() {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "apos" => Some('\''),
        "quot" => Some('"'),
        _ => name.resolve_char_ref().ok().flatten(),
    };
    found.map(String::from).unwrap_or_default()
}

#[derive(Default)]
struct Parse {
    /// The elements that are open.
    path: Vec<String>,
    /// Elements before the root.
    strange: usize,
    /// Text since the last tag.
    text: String,
    report: Report,
    record: Record,
}

/// A record that is not complete.
#[derive(Default)]
struct Record {
    source: Option<std::net::IpAddr>,
    count: u64,
    disposition: Option<Disposition>,
    dkim_aligned: bool,
    spf_aligned: bool,
    reasons: Vec<Reason>,
    header_from: String,
    envelope_from: Option<String>,
    envelope_to: Option<String>,
    dkim: Vec<Signature>,
    spf: Option<(String, String)>,
}

impl Parse {
    fn start(&mut self, name: &str) -> Result<(), ReadError> {
        // Some wrap it into an element of a schema.
        if self.path.is_empty() && name != "feedback" {
            self.strange += 1;
            return if self.strange < DEEPEST {
                Ok(())
            } else {
                Err(ReadError::Missing("feedback"))
            };
        }
        if self.path.len() >= DEEPEST {
            return Err(ReadError::Value(name.chars().take(40).collect(), "element of a report"));
        }
        self.path.push(name.to_owned());
        self.text.clear();
        let path: Vec<&str> = self.path.iter().skip(1).map(String::as_str).collect();
        match path.as_slice() {
            ["record"] => self.record = Record::default(),
            ["record", "row", "policy_evaluated", "reason"] => {
                self.record.reasons.push(Reason { kind: String::new(), comment: String::new() });
            }
            ["record", "auth_results", "dkim"] if self.record.dkim.len() < 100 => {
                let empty = String::new;
                let unread = Signature { domain: empty(), selector: empty(), result: empty() };
                self.record.dkim.push(unread);
            }
            ["record", "auth_results", "spf"] => {
                self.record.spf.get_or_insert_default();
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, name: &str) -> Result<(), ReadError> {
        // A terminal obeys control characters, and this is a stranger's text.
        let text = std::mem::take(&mut self.text);
        let text: String = text.trim().chars().filter(|c| !c.is_control()).take(LONGEST).collect();
        if self.path.last().is_some_and(|last| last == name) {
            self.value(&text)?;
        }
        // An end that nothing began is nothing; one that comes early ends what is inside, too.
        let Some(place) = self.path.iter().rposition(|open| open == name) else { return Ok(()) };
        let ends_record = place == 1 && name == "record";
        self.path.truncate(place);
        if ends_record {
            self.end_record()?;
        }
        Ok(())
    }

    /// What stands between the tags that were just closed.
    fn value(&mut self, text: &str) -> Result<(), ReadError> {
        let path: Vec<&str> = self.path.iter().skip(1).map(String::as_str).collect();
        match path.as_slice() {
            ["report_metadata", rest @ ..] => metadata(&mut self.report, rest, text),
            ["policy_published", name] => published(&mut self.report.published, name, text),
            ["record", rest @ ..] => self.record.value(rest, text)?,
            _ => {}
        }
        Ok(())
    }

    fn end_record(&mut self) -> Result<(), ReadError> {
        let record = std::mem::take(&mut self.record);
        if self.report.rows.len() >= MOST_RECORDS {
            return Err(ReadError::TooLarge(MOST_RECORDS as u64));
        }
        let row = Row {
            source: record.source.ok_or(ReadError::Missing("source_ip"))?,
            disposition: record.disposition.unwrap_or(Disposition::None),
            dkim_aligned: record.dkim_aligned,
            spf_aligned: record.spf_aligned,
            reasons: record.reasons.into_iter().filter(|one| !one.kind.is_empty()).collect(),
            header_from: record.header_from,
            envelope_from: record.envelope_from,
            envelope_to: record.envelope_to,
            dkim: record.dkim,
            spf: record.spf.filter(|(domain, _)| !domain.is_empty()),
        };
        self.report.rows.push((row, record.count));
        Ok(())
    }

    fn finish(mut self) -> Result<Report, ReadError> {
        if self.report.published.domain.is_empty() {
            return Err(ReadError::Missing("policy_published"));
        }
        // What breaks off within a record has that record still, if it got as far as its source.
        if self.path.get(1).is_some_and(|name| name == "record") && self.record.source.is_some() {
            self.end_record()?;
        }
        Ok(self.report)
    }
}

fn metadata(report: &mut Report, path: &[&str], text: &str) {
    // A span that cannot be read makes no report useless.
    let seconds = || number(text, "time").unwrap_or_default();
    match path {
        ["org_name"] => report.reporter = text.to_owned(),
        ["email"] => report.email = text.to_owned(),
        ["report_id"] => report.id = text.to_owned(),
        ["date_range", "begin"] => report.begin = seconds(),
        ["date_range", "end"] => report.end = seconds(),
        ["error"] if report.errors.len() < 100 => report.errors.push(text.to_owned()),
        _ => {}
    }
}

fn published(published: &mut Published, name: &str, text: &str) {
    let said = || Some(text.to_ascii_lowercase()).filter(|text| !text.is_empty());
    match name {
        "domain" => published.domain = text.to_ascii_lowercase(),
        "p" => published.policy = text.to_ascii_lowercase(),
        "sp" => published.subdomain_policy = said(),
        "np" => published.nonexistent_policy = said(),
        "adkim" => published.adkim = said(),
        "aspf" => published.aspf = said(),
        "fo" => published.failure_options = said(),
        "testing" => published.testing = said().map(|said| said.starts_with('y')),
        "discovery_method" => published.discovery = said(),
        _ => {}
    }
}

impl Record {
    fn value(&mut self, path: &[&str], text: &str) -> Result<(), ReadError> {
        let lower = || text.to_ascii_lowercase();
        let wrong = |what| ReadError::Value(text.to_owned(), what);
        match path {
            ["row", "source_ip"] => {
                self.source = Some(text.parse().map_err(|_| wrong("address"))?);
            }
            ["row", "count"] => self.count = number(text, "count")?,
            ["row", "policy_evaluated", "disposition"] => {
                self.disposition = Some(disposition(text));
            }
            ["row", "policy_evaluated", "dkim"] => self.dkim_aligned = lower() == "pass",
            ["row", "policy_evaluated", "spf"] => self.spf_aligned = lower() == "pass",
            ["row", "policy_evaluated", "reason", name] => {
                let Some(reason) = self.reasons.last_mut() else { return Ok(()) };
                match *name {
                    "type" => reason.kind = lower(),
                    "comment" => reason.comment = text.to_owned(),
                    _ => {}
                }
            }
            // Drafts had "identities".
            ["identifiers" | "identities", "header_from"] => self.header_from = lower(),
            ["identifiers", "envelope_from"] => self.envelope_from = Some(lower()),
            ["identifiers", "envelope_to"] => self.envelope_to = Some(lower()),
            ["auth_results", "dkim", name] => {
                let Some(signature) = self.dkim.last_mut() else { return Ok(()) };
                match *name {
                    "domain" => signature.domain = lower(),
                    "selector" => signature.selector = text.to_owned(),
                    "result" => signature.result = lower(),
                    _ => {}
                }
            }
            ["auth_results", "spf", "domain"] => self.spf.get_or_insert_default().0 = lower(),
            ["auth_results", "spf", "result"] => self.spf.get_or_insert_default().1 = lower(),
            _ => {}
        }
        Ok(())
    }
}

fn number(text: &str, what: &'static str) -> Result<u64, ReadError> {
    // Some write seconds with a fraction.
    let whole = text.split('.').next().unwrap_or_default();
    whole.parse().map_err(|_| ReadError::Value(text.to_owned(), what))
}

fn disposition(text: &str) -> Disposition {
    match text.to_ascii_lowercase().as_str() {
        "pass" => Disposition::Pass,
        "quarantine" => Disposition::Quarantine,
        "reject" => Disposition::Reject,
        _ => Disposition::None,
    }
}

/// Elements within elements: reports have six.
const DEEPEST: usize = 32;

/// Characters of one value. No name and no comment that says something is longer.
const LONGEST: usize = 1000;

/// As many records are read of one report.
const MOST_RECORDS: usize = 100_000;
