//! Paths: an address in angle brackets, perhaps with a source route before it (RFC 5321 §4.1.2).

use super::CommandError;
use crate::address::{Domain, ForwardPath, Mailbox, ReversePath};

/// ```text
/// Reverse-path = Path / "<>"
/// ```
pub(super) fn reverse_path(text: &[u8]) -> Result<(ReversePath, &[u8]), CommandError> {
    let (inner, rest) = brackets(text).ok_or(CommandError::ReversePath)?;
    if inner.is_empty() {
        return Ok((ReversePath::Null, rest));
    }
    let mailbox = without_route(inner)
        .and_then(|text| Mailbox::parse(text).ok())
        .ok_or(CommandError::ReversePath)?;
    Ok((ReversePath::Mailbox(mailbox), rest))
}

/// ```text
/// Forward-path = Path / "<Postmaster>"
/// ```
pub(super) fn forward_path(text: &[u8]) -> Result<(ForwardPath, &[u8]), CommandError> {
    let (inner, rest) = brackets(text).ok_or(CommandError::ForwardPath)?;
    let path =
        without_route(inner).and_then(|text| text.parse().ok()).ok_or(CommandError::ForwardPath)?;
    Ok((path, rest))
}

/// Splits `<inner> rest`. A `>` inside a quoted string does not end the path.
///
/// ```text
/// Path = "<" [ A-d-l ":" ] Mailbox ">"
/// ```
fn brackets(text: &[u8]) -> Option<(&str, &[u8])> {
    let inner = text.strip_prefix(b"<")?;
    let (mut quoted, mut escaped) = (false, false);
    let end = inner.iter().position(|octet| {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' => return !quoted,
            _ => {}
        }
        false
    })?;
    let rest = &inner[end + 1..];
    // RFC 6531 §3.3: what is not ASCII is UTF-8.
    let inner = str::from_utf8(&inner[..end]).ok()?;
    (rest.is_empty() || rest.starts_with(b" ")).then_some((inner, rest))
}

/// RFC 5321 §4.1.1.3 and appendix C: a source route is recognised and passed over.
///
/// ```text
/// A-d-l     = At-domain *( "," At-domain )
/// At-domain = "@" Domain
/// ```
fn without_route(inner: &str) -> Option<&str> {
    if !inner.starts_with('@') {
        return Some(inner);
    }
    let (route, mailbox) = inner.split_once(':')?;
    let is_route = route
        .split(',')
        .all(|hop| hop.strip_prefix('@').is_some_and(|domain| domain.parse::<Domain>().is_ok()));
    is_route.then_some(mailbox)
}
