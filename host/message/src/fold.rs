//! Lines of a header field: broken where white space is, never elsewhere (RFC 5322 §2.2.3).

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

/// The field with its line ends. `None` if a word is too long for any line.
pub(crate) fn field(name: &str, value: &str) -> Option<Vec<u8>> {
    let mut out = format!("{name}:").into_bytes();
    let mut line_start = 0;
    for piece in pieces(value) {
        let space = if out.len() == name.len() + 1 { " " } else { "" };
        let length = out.len() - line_start + space.len() + piece.len();
        // A line that is only white space would be taken for the end of the header by some: the name always keeps
        // its first word, and each piece has a word.
        if length > PREFERRED && piece.starts_with([' ', '\t']) && out.len() > line_start + 1 {
            out.extend_from_slice(b"\r\n");
            line_start = out.len();
        }
        out.extend_from_slice(space.as_bytes());
        out.extend_from_slice(piece.as_bytes());
        if out.len() - line_start > LONGEST {
            return None;
        }
    }
    out.extend_from_slice(b"\r\n");
    Some(out)
}

/// The value in pieces: white space with the word that follows it.
fn pieces(value: &str) -> impl Iterator<Item = &str> {
    let mut rest = value.trim_matches([' ', '\t']);
    std::iter::from_fn(move || {
        let word = rest.find(|character| !matches!(character, ' ' | '\t'))?;
        let end = rest[word..].find([' ', '\t']).map_or(rest.len(), |length| word + length);
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}

/// The value with the words that are not ASCII as encoded words (RFC 2047).
pub(crate) fn encode_words(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len() * 2);
    let mut run = String::new();
    for piece in pieces(value) {
        if piece.is_ascii() {
            encode_run(&mut run, &mut encoded);
            encoded.push_str(piece);
        } else {
            // White space between encoded words is not text (RFC 2047 §6.2), so neighbours are encoded as one.
            run.push_str(piece);
        }
    }
    encode_run(&mut run, &mut encoded);
    encoded
}

/// Encodes a run of words, its leading white space aside, in pieces of whole characters (RFC 2047 §5).
fn encode_run(run: &mut String, encoded: &mut String) {
    let words = run.trim_start_matches([' ', '\t']);
    encoded.push_str(&run[..run.len() - words.len()]);
    let mut rest = words;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(WORD_OCTETS));
        if rest.len() < words.len() {
            encoded.push(' ');
        }
        encoded.push_str("=?utf-8?B?");
        BASE64.encode_string(piece, encoded);
        encoded.push_str("?=");
        rest = after;
    }
    run.clear();
}

/// RFC 2047 §2 allows a line with encoded words 76 characters: 12 of them frame one, 52 are these in base64, and
/// the rest is for the name of the field.
const WORD_OCTETS: usize = 39;

/// RFC 5322 §2.1.1: a line should have no more, without its CRLF,
const PREFERRED: usize = 78;
/// and must have no more.
const LONGEST: usize = 998;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_folded_where_white_space_is() {
        let check = |value: &str, expected: &str| {
            let folded = String::from_utf8(field("Subject", value).unwrap()).unwrap();
            assert_eq!(folded, expected);
            let unfolded = folded.replace("\r\n", "");
            assert_eq!(unfolded.strip_prefix("Subject: ").unwrap_or_default(), value.trim());
        };
        let word = "x".repeat(60);
        check("short", "Subject: short\r\n");
        check("  a  b  ", "Subject: a  b\r\n");
        check("", "Subject:\r\n");
        check(&format!("{word} {word}"), &format!("Subject: {word}\r\n {word}\r\n"));
        check(&format!("a \t {word} {word}"), &format!("Subject: a \t {word}\r\n {word}\r\n"));
        let long = "x".repeat(900);
        check(&format!("a {long}"), &format!("Subject: a\r\n {long}\r\n"));
        check(&long, &format!("Subject: {long}\r\n"));
    }

    #[test]
    fn a_word_too_long_for_a_line_is_refused() {
        assert_eq!(field("X", &"x".repeat(995)).map(|field| field.len()), Some(1000));
        assert_eq!(field("X", &"x".repeat(996)), None);
        assert_eq!(field("X", &format!("a {}", "x".repeat(998))), None);
    }
}
