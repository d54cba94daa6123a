//! Writes a notification.

use std::fmt::Write;

use bytes::Bytes;
use smtp::{BodyType, ForwardPath, OriginalRecipient};

use super::{Action, Report, ReportedRecipient, Returned};
use crate::date;
use crate::fold;
use crate::header::Header;

impl Report {
    /// The whole message. It goes out with a null reverse-path (RFC 3464 §2, RFC 5321 §4.5.5).
    pub fn write(&self) -> Vec<u8> {
        let text = self.text();
        let status = self.status();
        let (kind, returned) = self.returned();
        let boundary = self.boundary(&[text.as_bytes(), status.as_bytes(), &returned]);
        let eight_bit = !(text.is_ascii() && status.is_ascii() && returned.is_ascii());
        let mut out = self.head(&boundary, eight_bit).into_bytes();
        let status_kind = format!("message/{}", self.report_type());
        for (description, kind, content) in [
            ("Notification", "text/plain; charset=utf-8", text.as_bytes()),
            ("Delivery report", status_kind.as_str(), status.as_bytes()),
            (
                if kind.contains("header") { "Message headers" } else { "Message" },
                kind,
                &returned[..],
            ),
        ] {
            out.extend_from_slice(
                format!("--{boundary}\r\nContent-Description: {description}\r\n").as_bytes(),
            );
            out.extend_from_slice(
                format!("Content-Type: {kind}\r\n{}\r\n", encoding(content.is_ascii())).as_bytes(),
            );
            out.extend_from_slice(content);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        out
    }

    /// What the BODY parameter must say when [`Report::write`]'s content is sent.
    pub fn body_type(content: &[u8]) -> BodyType {
        if content.is_ascii() { BodyType::SevenBit } else { BodyType::EightBitMime }
    }

    fn head(&self, boundary: &str, eight_bit: bool) -> String {
        let mta = self.plain(&self.reporting_mta);
        // RFC 3461 §6.2: From names a person who answers for this server.
        let mut head = format!(
            "From: Mail Delivery System <postmaster@{mta}>\r\n\
             To: {}\r\nSubject: {}\r\nDate: {}\r\nMessage-ID: <{}@{mta}>\r\n",
            self.to,
            self.subject(),
            date::rfc5322(self.date),
            self.id,
        );
        // RFC 3834 §5: so that no vacation programme answers.
        head.push_str("Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n");
        let _ = write!(
            head,
            "Content-Type: multipart/report; report-type={};\r\n\tboundary=\"{boundary}\"\r\n{}\r\n",
            self.report_type(),
            encoding(!eight_bit),
        );
        head.push_str("This is a delivery status notification in MIME format.\r\n\r\n");
        head
    }

    /// RFC 6522 §3: `report-type` is the subtype of the second part.
    fn report_type(&self) -> &'static str {
        // RFC 6533 §6: the form whose fields are UTF-8.
        if self.smtputf8 { "global-delivery-status" } else { "delivery-status" }
    }

    fn subject(&self) -> &'static str {
        let all =
            |action: Action| self.recipients.iter().all(|recipient| recipient.action == action);
        if all(Action::Delayed) {
            "Delivery delayed, still trying"
        } else if self.recipients.iter().any(|recipient| recipient.action == Action::Failed) {
            "Undelivered mail returned to sender"
        } else {
            "Delivery report"
        }
    }

    /// The part for people.
    fn text(&self) -> String {
        let mut text =
            format!("This is the mail server {}.\r\n\r\n", self.plain(&self.reporting_mta));
        for line in self.explanation.lines() {
            for piece in wrapped(&self.plain(line)) {
                text.push_str(&piece);
                text.push_str("\r\n");
            }
        }
        for recipient in &self.recipients {
            let _ = write!(
                text,
                "\r\n<{}>: {}",
                self.plain(&recipient.final_recipient.to_string()),
                recipient.action
            );
            if let Some(until) =
                recipient.will_retry_until.filter(|_| recipient.action == Action::Delayed)
            {
                let _ = write!(text, ", will be tried until {}", date::rfc5322(until));
            }
            text.push_str("\r\n");
            if let Some(diagnostic) = &recipient.diagnostic {
                let who = recipient.remote_mta.as_deref().unwrap_or("the server");
                let said = format!("{} said: {}", self.plain(who), self.plain(&said(diagnostic)));
                for piece in wrapped(&said) {
                    let _ = write!(text, "    {piece}\r\n");
                }
            }
        }
        text
    }

    /// The part for programs: per-message fields, then a group for each recipient (RFC 3464 §2.1).
    fn status(&self) -> String {
        let mut status = String::new();
        if let Some(envid) = &self.envid {
            self.field(&mut status, "Original-Envelope-Id", envid);
        }
        self.field(&mut status, "Reporting-MTA", &format!("dns; {}", self.reporting_mta));
        self.field(&mut status, "Arrival-Date", &date::rfc5322(self.arrival));
        for recipient in &self.recipients {
            status.push_str("\r\n");
            self.group(&mut status, recipient);
        }
        status
    }

    fn group(&self, status: &mut String, recipient: &ReportedRecipient) {
        if let Some(original) = &recipient.original {
            self.field(status, "Original-Recipient", &self.address(original));
        }
        self.field(status, "Final-Recipient", &self.final_address(&recipient.final_recipient));
        self.field(status, "Action", recipient.action.as_str());
        self.field(status, "Status", &recipient.status.to_string());
        if let Some(remote) = &recipient.remote_mta {
            self.field(status, "Remote-MTA", &format!("dns; {remote}"));
        }
        if let Some(diagnostic) = &recipient.diagnostic {
            self.field(status, "Diagnostic-Code", &format!("smtp; {}", said(diagnostic)));
        }
        if let Some(time) = recipient.last_attempt {
            self.field(status, "Last-Attempt-Date", &date::rfc5322(time));
        }
        // RFC 3464 §2.3.9: for delayed recipients only.
        if let Some(time) =
            recipient.will_retry_until.filter(|_| recipient.action == Action::Delayed)
        {
            self.field(status, "Will-Retry-Until", &date::rfc5322(time));
        }
    }

    fn final_address(&self, path: &ForwardPath) -> String {
        let address = path.to_string();
        let address_type = if address.is_ascii() { "rfc822" } else { "utf-8" };
        self.address(&OriginalRecipient { address_type: address_type.to_owned(), address })
    }

    /// RFC 3464 §2.3.1, RFC 6533 §3: an address of the type utf-8 is UTF-8 in the global form, and encoded in the
    /// form that everyone can read.
    fn address(&self, recipient: &OriginalRecipient) -> String {
        let utf8 = recipient.address_type.eq_ignore_ascii_case("utf-8");
        let text = recipient.to_string();
        match text.split_once(';') {
            Some((address_type, encoded)) if utf8 && !self.smtputf8 => {
                format!("{address_type}; {encoded}")
            }
            _ => format!("{}; {}", recipient.address_type, recipient.address),
        }
    }

    /// One field, whatever is in its value.
    fn field(&self, out: &mut String, name: &str, value: &str) {
        // Words that no line can take are cut into such that fit.
        let value = wrapped(&self.plain(value)).join(" ");
        if let Some(field) = fold::field(name, &value) {
            out.push_str(&String::from_utf8_lossy(&field));
        }
    }

    /// Text of strangers without control characters, and without what this form of the report cannot carry.
    fn plain(&self, text: &str) -> String {
        let carried =
            |character: char| !character.is_control() && (self.smtputf8 || character.is_ascii());
        text.chars()
            .take(MOST_TEXT)
            .map(|character| if carried(character) { character } else { '?' })
            .collect()
    }

    /// The third part, with its type.
    fn returned(&self) -> (&'static str, Bytes) {
        let header_of = |content: &Bytes| tidy(Header::parse(content.clone()).raw());
        match (&self.returned, self.smtputf8) {
            // RFC 6533 §6: forms that may have UTF-8 in their header fields.
            (Returned::Full(content), true) if travels(content) => {
                ("message/global", content.clone())
            }
            (Returned::Full(content), false) if travels(content) => {
                ("message/rfc822", content.clone())
            }
            (Returned::Full(content) | Returned::Headers(content), true) => {
                ("message/global-headers", header_of(content))
            }
            (Returned::Full(content) | Returned::Headers(content), false) => {
                ("text/rfc822-headers", header_of(content))
            }
        }
    }

    /// A boundary that no part has in it.
    fn boundary(&self, parts: &[&[u8]]) -> String {
        let id = self.id;
        let mut boundary = format!("=_{id}");
        let mut count = 0;
        while parts.iter().any(|part| memchr::memmem::find(part, boundary.as_bytes()).is_some()) {
            count += 1;
            boundary = format!("=_{id}_{count}_");
        }
        boundary
    }
}

fn encoding(ascii: bool) -> &'static str {
    if ascii { "" } else { "Content-Transfer-Encoding: 8bit\r\n" }
}

/// The reply in one line: "550 5.1.1 No such user".
fn said(reply: &smtp::Reply) -> String {
    match reply.enhanced() {
        Some(status) => format!("{} {status} {}", reply.code(), reply.text()),
        None => format!("{} {}", reply.code(), reply.text()),
    }
}

/// Lines of readable length, broken at spaces where there are some.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut rest = word;
        loop {
            let (piece, after) = rest.split_at(rest.floor_char_boundary(LONGEST_WORD));
            let full = lines
                .last()
                .is_some_and(|line| !line.is_empty() && line.len() + piece.len() > LINE);
            match lines.last_mut() {
                Some(line) if !full => {
                    if !line.is_empty() {
                        line.push(' ');
                    }
                    line.push_str(piece);
                }
                _ => lines.push(piece.to_owned()),
            }
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
    }
    lines
}

/// Whether content can be part of a message of 8-bit lines: RFC 5321 §2.3.8 and RFC 5322 §2.1.1.
fn travels(content: &[u8]) -> bool {
    let mut lines = content.split(|octet| *octet == b'\n');
    // Behind the last line end there is nothing, or a line without one.
    let last = lines.next_back().unwrap_or_default();
    let fits =
        |line: &[u8]| line.len() <= LONGEST_LINE && memchr::memchr2(b'\r', b'\0', line).is_none();
    fits(last) && lines.all(|line| line.strip_suffix(b"\r").is_some_and(fits))
}

/// A header in lines that can travel.
fn tidy(header: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(header.len());
    for line in header.split(|octet| *octet == b'\n') {
        let line: Vec<u8> =
            line.iter().copied().filter(|octet| !matches!(octet, b'\r' | b'\0')).collect();
        if line.is_empty() {
            continue;
        }
        for (index, piece) in line.chunks(LONGEST_LINE - 1).enumerate() {
            out.extend_from_slice(if index == 0 { b"" } else { b" " });
            out.extend_from_slice(piece);
            out.extend_from_slice(b"\r\n");
        }
    }
    out.into()
}

/// RFC 5322 §2.1.1.
const LONGEST_LINE: usize = 998;

/// Where lines for people are broken.
const LINE: usize = 72;

/// Longer words are cut.
const LONGEST_WORD: usize = 400;

/// What is repeated of a text of strangers. A reply can have 400 KiB.
const MOST_TEXT: usize = 2000;
