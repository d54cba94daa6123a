//! Replies that plugins give, checked before they go over the wire.

use smtp::Reply;

use crate::bindings::types;
use crate::imports::log::clean;

/// The reply before the connection is closed.
pub(super) fn parting(reply: Option<types::Reply>) -> Result<Reply, String> {
    let class = if reply.as_ref().is_some_and(|reply| reply.code >= 500) { 5 } else { 4 };
    checked(reply, class, "421 4.7.0 Closing connection")
}

/// A reply that may go over the wire, or why not.
pub(super) fn checked(
    reply: Option<types::Reply>,
    class: u16,
    default: &str,
) -> Result<Reply, String> {
    let Some(reply) = reply else { return Ok(parse(default)) };
    // RFC 5321 §4.2: the second digit is 0 to 5.
    if reply.code / 100 != class || reply.code / 10 % 10 > 5 {
        return Err(format!("reply code {} where {class}yz is due", reply.code));
    }
    if reply.lines.len() > MAX_LINES {
        return Err(format!(
            "a reply of {} lines, at most {MAX_LINES} are sent",
            reply.lines.len()
        ));
    }
    for line in &reply.lines {
        if line.len() > MAX_LINE_OCTETS {
            return Err(format!(
                "a reply line of {} octets, at most {MAX_LINE_OCTETS} are sent",
                line.len()
            ));
        }
        // RFC 5321 §4.2: textstring. CR, LF and NUL above all: they would forge replies.
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(format!("a control character in the reply {:?}", clean(line, 100)));
        }
    }
    let (subject, detail) = match &reply.enhanced {
        Some(enhanced) => (enhanced.subject, enhanced.detail),
        None => (7, 1),
    };
    // RFC 3463 §2: up to three digits each.
    if subject > 999 || detail > 999 {
        return Err(format!("enhanced status code {class}.{subject}.{detail}"));
    }
    let text = if reply.lines.is_empty() {
        default_text(default).to_owned()
    } else {
        reply.lines.join("\n")
    };
    Ok(Reply::new(reply.code, format!("{class}.{subject}.{detail} {text}").as_str()))
}

fn parse(default: &str) -> Reply {
    let (code, text) = default.split_at(3);
    Reply::new(code.parse().expect("a default begins with its code"), text.trim_start())
}

fn default_text(default: &str) -> &str {
    default.splitn(3, ' ').nth(2).unwrap_or_default()
}

const MAX_LINES: usize = 16;
/// RFC 5321 §4.5.3.1.5: a reply line has at most 512 octets, with code and CRLF; the enhanced code takes some.
const MAX_LINE_OCTETS: usize = 400;
