//! Service extensions: the list that a server gives to EHLO (RFC 5321 §4.1.1.1), offered and read.

#[cfg(test)]
mod tests;

use std::fmt::Write;

use crate::reply::Reply;

/// What a server offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// `PIPELINING` (RFC 2920)
    pub pipelining: bool,
    /// `SIZE` (RFC 1870), with the largest message in octets, if there is a limit.
    pub size: Option<Option<u64>>,
    /// `8BITMIME` (RFC 6152)
    pub eight_bit_mime: bool,
    /// `ENHANCEDSTATUSCODES` (RFC 2034)
    pub enhanced_status_codes: bool,
    /// `SMTPUTF8` (RFC 6531)
    pub smtputf8: bool,
    /// `CHUNKING` (RFC 3030)
    pub chunking: bool,
    /// `BINARYMIME` (RFC 3030)
    pub binary_mime: bool,
    /// `DSN` (RFC 3461)
    pub dsn: bool,
    /// `LIMITS` (RFC 9422)
    pub limits: Option<OfferedLimits>,
    /// `STARTTLS` (RFC 3207)
    pub starttls: bool,
    /// `AUTH` (RFC 4954), with the names of the mechanisms in upper case; empty if it is not
    /// offered.
    pub auth: Vec<String>,
    /// `HELP` (RFC 5321 §4.1.1.8)
    pub help: bool,
}

/// `LIMITS` (RFC 9422 §4): what a session may do before the server refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OfferedLimits {
    /// `MAILMAX`: transactions in a session.
    pub transactions: Option<u64>,
    /// `RCPTMAX`: recipients in a transaction.
    pub recipients: Option<u64>,
    /// `RCPTDOMAINMAX`: domains of recipients in a transaction.
    pub domains: Option<u64>,
}

impl Extensions {
    /// Reads the reply to EHLO or LHLO. Unknown keywords are passed over.
    pub fn parse(reply: &Reply) -> Self {
        let mut extensions = Self::default();
        for line in reply.lines().iter().skip(1) {
            // Deviation from RFC 5321 §4.1.1.1: `AUTH=PLAIN` of old servers is read as `AUTH
            // PLAIN`.
            let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
            let Some(keyword) = words.next() else { continue };
            extensions.add(&keyword.to_ascii_uppercase(), words);
        }
        extensions
    }

    /// The lines of the reply to EHLO, after the first.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut offer = |offered: bool, keyword: &str| {
            if offered {
                lines.push(keyword.to_owned());
            }
        };
        offer(self.pipelining, "PIPELINING");
        offer(self.eight_bit_mime, "8BITMIME");
        offer(self.enhanced_status_codes, "ENHANCEDSTATUSCODES");
        offer(self.smtputf8, "SMTPUTF8");
        offer(self.chunking, "CHUNKING");
        offer(self.binary_mime, "BINARYMIME");
        offer(self.dsn, "DSN");
        offer(self.starttls, "STARTTLS");
        offer(self.help, "HELP");
        if let Some(limit) = self.size {
            lines.push(limit.map_or("SIZE".to_owned(), |limit| format!("SIZE {limit}")));
        }
        if !self.auth.is_empty() {
            lines.push(format!("AUTH {}", self.auth.join(" ")));
        }
        lines.extend(self.limits.map(|limits| limits.line()));
        lines
    }

    fn add<'a>(&mut self, keyword: &str, mut words: impl Iterator<Item = &'a str>) {
        match keyword {
            "PIPELINING" => self.pipelining = true,
            // RFC 1870 §4: zero is no limit.
            "SIZE" => {
                self.size = Some(
                    words.next().and_then(|word| word.parse().ok()).filter(|limit| *limit != 0),
                )
            }
            "8BITMIME" => self.eight_bit_mime = true,
            "ENHANCEDSTATUSCODES" => self.enhanced_status_codes = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "CHUNKING" => self.chunking = true,
            "BINARYMIME" => self.binary_mime = true,
            "DSN" => self.dsn = true,
            "STARTTLS" => self.starttls = true,
            "HELP" => self.help = true,
            "AUTH" => self.auth.extend(words.map(str::to_ascii_uppercase)),
            "LIMITS" => {
                let limits = self.limits.get_or_insert_default();
                words.for_each(|word| limits.add(word));
            }
            _ => {
                if let Some(mechanism) = keyword.strip_prefix("AUTH=") {
                    self.auth.push(mechanism.to_owned());
                    self.auth.extend(words.map(str::to_ascii_uppercase));
                }
            }
        }
    }
}

impl OfferedLimits {
    fn line(self) -> String {
        let mut line = "LIMITS".to_owned();
        for (name, limit) in [
            ("MAILMAX", self.transactions),
            ("RCPTMAX", self.recipients),
            ("RCPTDOMAINMAX", self.domains),
        ] {
            if let Some(limit) = limit {
                // (Writing to a string cannot fail.)
                let _ = write!(line, " {name}={limit}");
            }
        }
        line
    }

    // RFC 9422 §3: an unknown limit, or one whose value is none, is passed over.
    fn add(&mut self, word: &str) {
        let Some((name, value)) = word.split_once('=') else { return };
        let Some(value) = value.parse().ok().filter(|value| *value != 0) else { return };
        match () {
            () if name.eq_ignore_ascii_case("MAILMAX") => self.transactions = Some(value),
            () if name.eq_ignore_ascii_case("RCPTMAX") => self.recipients = Some(value),
            () if name.eq_ignore_ascii_case("RCPTDOMAINMAX") => self.domains = Some(value),
            () => {}
        }
    }
}
