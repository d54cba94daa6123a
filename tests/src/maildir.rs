//! Reads Maildirs as a mail reader would, and takes off what a server put on the way.

use std::path::Path;

/// The messages in `new` and `cur`, oldest name first.
pub fn messages(maildir: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = ["new", "cur"]
        .iter()
        .flat_map(|name| std::fs::read_dir(maildir.join(name)).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    // One that a reader moved meanwhile is not counted twice.
    paths.iter().filter_map(|path| std::fs::read(path).ok()).collect()
}

/// The message without the trace fields at its top (RFC 5321 §4.4): what the client sent.
pub fn without_trace(message: &[u8]) -> &[u8] {
    let mut rest = message;
    while TRACE.iter().any(|name| starts_with_field(rest, name)) {
        rest = &rest[field_length(rest)..];
    }
    rest
}

/// The octets of the trace fields at the top.
pub fn trace(message: &[u8]) -> String {
    let length = message.len() - without_trace(message).len();
    String::from_utf8_lossy(&message[..length]).into_owned()
}

/// The queue's name of the message: the id in the topmost Received field (RFC 5321 §4.4).
pub fn id(message: &[u8]) -> Option<String> {
    let received = header(message, "Received");
    let mut words = received.first()?.split_whitespace().skip_while(|word| *word != "id").skip(1);
    words.next().map(|word| word.trim_end_matches(';').to_owned())
}

/// The values of all header fields of a name, unfolded.
pub fn header(message: &[u8], name: &str) -> Vec<String> {
    let mut values = Vec::new();
    let mut rest = message;
    while !rest.is_empty() && !rest.starts_with(b"\r\n") && !rest.starts_with(b"\n") {
        let length = field_length(rest);
        if starts_with_field(rest, name) {
            let text = String::from_utf8_lossy(&rest[name.len() + 1..length]).into_owned();
            values.push(text.replace(['\r', '\n'], "").trim().to_owned());
        }
        rest = &rest[length..];
    }
    values
}

/// The same text with CRLF at the end of each line, however lines ended before.
pub fn with_crlf(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 40);
    for (index, &octet) in text.iter().enumerate() {
        if octet == b'\n' && (index == 0 || text[index - 1] != b'\r') {
            out.push(b'\r');
        }
        out.push(octet);
    }
    out
}

/// True if `text` holds `needle`.
pub fn contains(text: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || text.windows(needle.len()).any(|window| window == needle)
}

fn starts_with_field(text: &[u8], name: &str) -> bool {
    text.len() > name.len()
        && text[..name.len()].eq_ignore_ascii_case(name.as_bytes())
        && text[name.len()] == b':'
}

/// The octets of the field that `text` begins with, its folded lines and last line end included.
fn field_length(text: &[u8]) -> usize {
    let mut end = 0;
    loop {
        let Some(line) = text[end..].iter().position(|&octet| octet == b'\n') else {
            return text.len();
        };
        end += line + 1;
        // RFC 5322 §2.2.3: a line that begins with white space goes on with the field.
        if !matches!(text.get(end), Some(b' ' | b'\t')) {
            return end;
        }
    }
}

/// What servers put above a message; the last two are Postfix's and Dovecot's.
const TRACE: [&str; 4] = ["Return-Path", "Received", "Delivered-To", "X-Original-To"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_fields_come_off_and_nothing_else_does() {
        fn check(stored: &str, sent: &str) {
            assert_eq!(without_trace(stored.as_bytes()), sent.as_bytes());
        }
        check("Subject: a\r\n\r\nb", "Subject: a\r\n\r\nb");
        check(
            "Return-Path: <>\r\nReceived: from a\r\n\tby b\r\nSubject: a\r\n\r\n",
            "Subject: a\r\n\r\n",
        );
        check("received: x\nReceivedx: y\n\n", "Receivedx: y\n\n");
        check("Received: x", "");
        check("", "");
    }

    #[test]
    fn the_id_is_found_in_the_topmost_received_field() {
        let stored =
            b"Received: from a (b [192.0.2.1])\r\n\tby c with ESMTP id 0ABC;\r\n\tFri\r\n\r\n";
        assert_eq!(id(stored).as_deref(), Some("0ABC"));
        assert_eq!(id(b"Subject: id x\r\n\r\n"), None);
    }

    #[test]
    fn header_values_are_unfolded() {
        let message = b"A: 1\r\nB: x\r\n y\r\na: 2\r\n\r\nA: 3\r\n";
        assert_eq!(header(message, "A"), ["1", "2"]);
        assert_eq!(header(message, "B"), ["x y"]);
    }
}
