//! The message that carries a report (RFC 9990 §3.5.2).

use std::io::Write as _;
use std::time::SystemTime;

use flate2::Compression;
use flate2::write::GzEncoder;
use mail_builder::MessageBuilder;
use mail_builder::headers::raw::Raw;

use super::Report;
use crate::dkim::seconds;

/// Who sends reports.
#[derive(Clone, Debug)]
pub struct Carrier<'a> {
    /// The address in From: one of a domain whose mail we sign, for a report must pass DMARC itself.
    pub from: &'a str,
    /// Our name.
    pub submitter: &'a str,
    /// The time.
    pub now: SystemTime,
}

impl Report {
    /// The file's name: the same whenever the report is made again.
    pub fn file_name(&self, submitter: &str) -> String {
        let id: String = self.id.chars().filter(char::is_ascii_alphanumeric).collect();
        format!("{submitter}!{}!{}!{}!{id}.xml.gz", self.published.domain, self.begin, self.end)
    }

    /// The message for these addresses.
    ///
    /// # Errors
    /// Never in practice: it is written to memory.
    pub fn mail(&self, carrier: &Carrier<'_>, to: &[&str]) -> std::io::Result<Vec<u8>> {
        let Carrier { from, submitter, now } = carrier;
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(&self.to_xml())?;
        let domain = &self.published.domain;
        let messages: u64 = self.rows.iter().map(|(_, count)| count).sum();
        let words = format!(
            "This is a report about {messages} messages whose author is of {domain},\r\n\
             as its DMARC record asks for (RFC 9990). It was made by {submitter}.\r\n"
        );
        let subject = format!(
            "Report Domain: {domain} Submitter: {submitter} Report-ID: <{}@{submitter}>",
            self.id
        );
        MessageBuilder::new()
            .from(*from)
            .to(to.to_vec())
            // Not as words that may be encoded: RFC 9990 §3.5.2 has a grammar for it.
            .header("Subject", Raw::new(subject))
            .date(i64::try_from(seconds(*now)).unwrap_or_default())
            .message_id(format!("{}@{submitter}", self.id))
            // RFC 3834 §5: nobody on holiday is to answer.
            .header("Auto-Submitted", Raw::new("auto-generated"))
            .text_body(words)
            .attachment("application/gzip", self.file_name(submitter), packed.finish()?)
            .write_to_vec()
    }
}
