//! xtext (RFC 3461 §4) and its sister for UTF-8 addresses (RFC 6533 §3).

use std::fmt::{self, Write};

/// Decodes xtext; what comes out is printable ASCII or space.
///
/// ```text
/// xtext   = *( xchar / hexchar )
/// xchar   = any ASCII CHAR between "!" (33) and "~" (126) inclusive, except for "+" and "="
/// hexchar = ASCII "+" immediately followed by two upper case hexadecimal digits
/// ```
pub(crate) fn decode(encoded: &str) -> Option<String> {
    let mut text = String::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(octet) = rest.next() {
        let decoded = match octet {
            // Digits in lower case are taken too: nothing else can be meant.
            b'+' => hexadecimal(rest.next()?)? << 4 | hexadecimal(rest.next()?)?,
            b'=' => return None,
            b'!'..=b'~' => octet,
            _ => return None,
        };
        // RFC 3461 §4.2 and §4.4: printable, so that no line break reaches a notification.
        if !matches!(decoded, b' '..=b'~') {
            return None;
        }
        text.push(char::from(decoded));
    }
    Some(text)
}

/// Writes printable ASCII in xtext; anything else becomes `?`.
pub(crate) fn write(f: &mut impl Write, text: &str) -> fmt::Result {
    for character in text.chars() {
        match character {
            '+' | '=' | ' ' => write!(f, "+{:02X}", u32::from(character))?,
            '!'..='~' => f.write_char(character)?,
            _ => f.write_char('?')?,
        }
    }
    Ok(())
}

/// Decodes an address of the type `utf-8`: plain UTF-8, `\x{HEX}`, and hexchars, in any mixture.
///
/// ```text
/// utf-8-addr-xtext  = 1*(xchar / EmbeddedUnicodeChar / hexchar)
/// EmbeddedUnicodeChar = %x5C.78 "{" HEXPOINT "}"
/// ```
pub(crate) fn decode_utf8_address(encoded: &str) -> Option<String> {
    let mut text = String::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some(character) = rest.chars().next() {
        let (decoded, after) = match character {
            '\\' => embedded(rest)?,
            '+' => {
                let digits = rest.get(1..3)?;
                (char::from(u8::from_str_radix(digits, 16).ok()?), &rest[3..])
            }
            '=' | ' ' => return None,
            _ => (character, &rest[character.len_utf8()..]),
        };
        if decoded.is_control() || matches!(decoded, '\u{2028}' | '\u{2029}') {
            return None;
        }
        text.push(decoded);
        rest = after;
    }
    Some(text)
}

/// Writes a UTF-8 address for a server without SMTPUTF8 (RFC 6533 §3: `utf-8-addr-xtext`).
pub(crate) fn write_utf8_address(f: &mut impl Write, address: &str) -> fmt::Result {
    for character in address.chars() {
        match character {
            '!'..='~' if !matches!(character, '+' | '=' | '\\') => f.write_char(character)?,
            _ => write!(f, "\\x{{{:02X}}}", u32::from(character))?,
        }
    }
    Ok(())
}

fn embedded(text: &str) -> Option<(char, &str)> {
    let (digits, after) = text.strip_prefix("\\x{")?.split_once('}')?;
    let is_hexpoint =
        (2..=6).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_hexdigit());
    let decoded = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)?;
    is_hexpoint.then_some((decoded, after))
}

fn hexadecimal(octet: u8) -> Option<u8> {
    char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
