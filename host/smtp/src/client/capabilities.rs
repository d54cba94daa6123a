//! What a host offers in its reply to EHLO, as far as a sender cares.

use crate::reply::Reply;

/// The extensions that a host offers. The default is a host that offers nothing, as after HELO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one keyword of EHLO")]
pub struct Capabilities {
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// SIZE (RFC 1870): `Some(None)` when offered without a limit.
    pub size: Option<Option<u64>>,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// BINARYMIME (RFC 3030).
    pub binary_mime: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// AUTH (RFC 4954): mechanisms in upper case.
    pub auth: Vec<String>,
    /// LIMITS RCPTMAX (RFC 9422 §4.2): recipients of a transaction.
    pub rcpt_max: Option<usize>,
    /// LIMITS MAILMAX (RFC 9422 §4.1): transactions of a session.
    pub mail_max: Option<u32>,
}

impl Capabilities {
    /// Most mechanisms that are remembered: no server has half as many.
    const MECHANISMS: usize = 32;

    /// Reads the reply to EHLO or LHLO. The first line is the greeting, each other one a keyword with parameters.
    ///
    /// ```abnf
    /// ehlo-line = ehlo-keyword *( SP ehlo-param )
    /// ```
    #[must_use]
    pub fn parse(reply: &Reply) -> Self {
        let mut offered = Self::default();
        for line in reply.lines().iter().skip(1) {
            offered.add(line);
        }
        offered
    }

    fn add(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        let Some(keyword) = words.next() else { return };
        // RFC 5321 §2.4: keywords are compared without case.
        match keyword.to_ascii_uppercase().as_str() {
            "PIPELINING" => self.pipelining = true,
            // RFC 1870 §4: no parameter or 0 means that no limit is declared.
            "SIZE" => {
                self.size = Some(
                    words
                        .next()
                        .and_then(|octets| octets.parse().ok())
                        .filter(|octets| *octets > 0),
                )
            }
            "8BITMIME" => self.eight_bit_mime = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "CHUNKING" => self.chunking = true,
            "BINARYMIME" => self.binary_mime = true,
            "DSN" => self.dsn = true,
            "STARTTLS" => self.starttls = true,
            "AUTH" => self.add_mechanisms(words),
            "LIMITS" => words.for_each(|limit| self.add_limit(limit)),
            other => {
                // Old hosts write "AUTH=LOGIN PLAIN", from a draft before RFC 2554.
                if let Some(first) = other.strip_prefix("AUTH=") {
                    let first = first.to_owned();
                    self.add_mechanisms(std::iter::once(first.as_str()).chain(words));
                }
            }
        }
    }

    fn add_mechanisms<'a>(&mut self, words: impl Iterator<Item = &'a str>) {
        for word in words {
            let mechanism = word.to_ascii_uppercase();
            if self.auth.len() < Self::MECHANISMS && !self.auth.contains(&mechanism) {
                self.auth.push(mechanism);
            }
        }
    }

    /// RFC 9422 §3: what cannot be understood is ignored; a limit of 0 does not exist.
    fn add_limit(&mut self, limit: &str) {
        let Some((name, value)) = limit.split_once('=') else { return };
        match name.to_ascii_uppercase().as_str() {
            "RCPTMAX" => self.rcpt_max = value.parse().ok().filter(|most| *most > 0),
            "MAILMAX" => self.mail_max = value.parse().ok().filter(|most| *most > 0),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &str, expected: Capabilities) {
        assert_eq!(Capabilities::parse(&Reply::new(250, lines)), expected, "{lines}");
    }

    #[test]
    fn keywords_are_read_without_case_and_unknown_ones_skipped() {
        check("mx.example.org", Capabilities::default());
        check("PIPELINING", Capabilities::default()); // the first line is a greeting
        check(
            "mx\npipelining\nSIZE 1000\nXUNKNOWN 1 2\nDSN",
            Capabilities {
                pipelining: true,
                size: Some(Some(1000)),
                dsn: true,
                ..Capabilities::default()
            },
        );
        check("mx\nSIZE", Capabilities { size: Some(None), ..Capabilities::default() });
        check("mx\nSIZE 0", Capabilities { size: Some(None), ..Capabilities::default() }); // RFC 1870 §4
        check("mx\nSIZE many", Capabilities { size: Some(None), ..Capabilities::default() });
        check(
            "mx\nAUTH plain LOGIN\nAUTH=LOGIN X",
            Capabilities {
                auth: vec!["PLAIN".into(), "LOGIN".into(), "X".into()],
                ..Capabilities::default()
            },
        );
        check(
            "mx\nLIMITS RCPTMAX=20 MAILMAX=5 RCPTDOMAINMAX=1 FOO",
            Capabilities { rcpt_max: Some(20), mail_max: Some(5), ..Capabilities::default() },
        );
        check("mx\nLIMITS RCPTMAX=0 MAILMAX=x", Capabilities::default());
    }
}
