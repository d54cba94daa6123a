//! Header values as people read them: unfolded, encoded words decoded (RFC 2047), octets made text.

use std::borrow::Cow;

use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::charsets::map::charset_decoder;

/// The value without folding, without white space at its ends, with its encoded words decoded. What is not UTF-8
/// is replaced.
pub(crate) fn value(raw: &[u8]) -> String {
    let unfolded = unfold(raw);
    decode_words(String::from_utf8_lossy(&unfolded).trim())
}

/// RFC 5322 §2.2.3: unfolding takes each CRLF away that stands before white space. In a header field there is no
/// other, so all of them go.
pub(crate) fn unfold(raw: &[u8]) -> Cow<'_, [u8]> {
    if raw.iter().any(|octet| matches!(octet, b'\r' | b'\n')) {
        raw.iter()
            .copied()
            .filter(|octet| !matches!(octet, b'\r' | b'\n'))
            .collect::<Vec<_>>()
            .into()
    } else {
        raw.into()
    }
}

/// Octets as text: by the charset if it is known, else as UTF-8.
pub(crate) fn to_text(octets: Vec<u8>, charset: Option<&str>) -> String {
    let known = charset.filter(|name| !name.eq_ignore_ascii_case("utf-8"));
    match known.and_then(|name| charset_decoder(name.as_bytes())) {
        Some(decode) => decode(&octets),
        None => match String::from_utf8(octets) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        },
    }
}

fn decode_words(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    // White space that separates two encoded words is not part of the text (RFC 2047 §6.2).
    let mut after_word = false;
    while let Some(start) = rest.find("=?") {
        let (before, candidate) = rest.split_at(start);
        let Some((word, length)) = encoded_word(candidate) else {
            decoded.push_str(before);
            decoded.push_str("=?");
            rest = &candidate[2..];
            after_word = false;
            continue;
        };
        if !(after_word && before.bytes().all(|octet| matches!(octet, b' ' | b'\t'))) {
            decoded.push_str(before);
        }
        decoded.push_str(&word);
        rest = &candidate[length..];
        after_word = true;
    }
    decoded.push_str(rest);
    decoded
}

/// `encoded-word = "=?" charset "?" encoding "?" encoded-text "?="` at the start of the text, and its length.
fn encoded_word(text: &str) -> Option<(String, usize)> {
    // What is looked at is bounded, so that many beginnings of a word do not make this quadratic.
    let window = text.as_bytes().get(2..).map(|rest| &rest[..rest.len().min(LONGEST_WORD)])?;
    let mut parts = window.splitn(3, |octet| *octet == b'?');
    let (charset, encoding, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let end = memchr::memmem::find(rest, b"?=")?;
    let encoded = &rest[..end];
    let octets = match encoding {
        b"B" | b"b" => base64_decode(encoded)?,
        b"Q" | b"q" => decode_q(encoded),
        _ => return None,
    };
    // RFC 2231 §5: a language may follow the charset.
    let charset = std::str::from_utf8(charset.split(|octet| *octet == b'*').next()?).ok()?;
    if charset.is_empty() || charset.contains(char::is_whitespace) {
        return None;
    }
    let length = 2 + charset_length(window)? + 1 + encoding.len() + 1 + end + 2;
    let plain = to_text(octets, Some(charset));
    // A decoded word must not end the line it stands in (RFC 2047 §5 knows no control characters in it).
    Some((plain.replace(['\r', '\n', '\0'], " "), length))
}

fn charset_length(window: &[u8]) -> Option<usize> {
    window.iter().position(|octet| *octet == b'?')
}

/// RFC 2047 §4.2: the encoding Q. A faulty `=` stands for itself.
fn decode_q(encoded: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let [first, tail @ ..] = rest {
        let hex =
            |octet: &u8| char::from(*octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        rest = tail;
        match (first, tail) {
            (b'_', _) => octets.push(b' '),
            (b'=', [high, low, after @ ..]) => match (hex(high), hex(low)) {
                (Some(high), Some(low)) => {
                    octets.push(high << 4 | low);
                    rest = after;
                }
                _ => octets.push(b'='),
            },
            _ => octets.push(*first),
        }
    }
    octets
}

/// RFC 2047 §2 allows 75 octets. Real mail has more, now and then.
const LONGEST_WORD: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded() {
        let check =
            |raw: &str, expected: &str| assert_eq!(value(raw.as_bytes()), expected, "{raw}");
        check(" plain\r\n", "plain");
        check(" one\r\n\ttwo  three \r\n", "one\ttwo  three");
        check("=?utf-8?q?a_b=C3=BC?=", "a bü");
        check("=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"); // RFC 2047 §8
        check("=?ISO-8859-1?Q?a?=  \r\n  =?ISO-8859-1?Q?b?=", "ab");
        check("=?ISO-8859-1?Q?a?= b", "a b");
        check("(=?ISO-8859-1?Q?a?=)", "(a)");
        check("=?ISO-8859-1*en?B?SWYgeW91IGNhbiByZWFk?=", "If you can read");
        check("=?shift_jis?B?g26DjYFbgUWDj4Fbg4uDaA==?=", "ハロー・ワールド");
        check("=?x?y", "=?x?y");
        check("=?utf-8?x?abc?=", "=?utf-8?x?abc?=");
        check("=?utf-8?q?=zz_=4?=", "=zz =4");
        check("=?utf-8?q?a=0D=0ABcc:_x?=", "a  Bcc: x"); // no line can be smuggled in
        check("=?=?=?utf-8?q?x?=", "=?=?x");
        check("=?unknown-charset?q?x?=", "x");
        check("a =?utf-8?b?4p?= ü", "a \u{fffd} ü");
        assert_eq!(value(b"a\xff"), "a\u{fffd}");
    }

    #[test]
    fn long_rows_of_beginnings_are_linear_work() {
        for pattern in ["=?", "=?a?q?", "=?aa?b?AAAA", "=?a", "=?a?q?x?= "] {
            // Quadratic work would take minutes here.
            value(pattern.repeat(256 * 1024 / pattern.len()).as_bytes());
        }
    }
}
