//! The words of an expression.

use crate::parse::Fault;

/// One word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// `header.subject`, `and`, `count`: letters, digits and `. - _`, in lower case.
    Word(String),
    /// `"..."` or `'...'`, where nothing has to be escaped but what ends it, by doubling it.
    Text(String),
    /// With its unit: octets or seconds.
    Number(i64),
    /// `== != < <= > >= ~ !~ ( ) [ ] ,`
    Sign(&'static str),
    End,
}

/// All words of a text with their positions, counted in characters from 1; the last is the end.
pub(crate) fn tokens(text: &str) -> Result<Vec<(Token, usize)>, Fault> {
    let letters: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&letter) = letters.get(at) {
        let start = at;
        let rest = letters.get(at..).unwrap_or_default();
        if letter.is_whitespace() {
            at += 1;
            continue;
        }
        let (token, length) = if letter == '"' || letter == '\'' {
            quoted(rest, letter).ok_or_else(|| Fault::at(start + 1, "this text has no end"))?
        } else if letter.is_ascii_digit() || letter == '-' {
            number(rest).ok_or_else(|| {
                Fault::at(start + 1, "this is no number: write 10, 1.5 is not one, 10KiB or 5m")
            })?
        } else if letter.is_ascii_alphabetic() {
            let word: String = rest.iter().take_while(|c| is_in_word(**c)).collect();
            let length = word.chars().count();
            (Token::Word(word.to_ascii_lowercase()), length)
        } else {
            let sign = SIGNS.iter().find(|sign| {
                sign.chars().count() <= rest.len() && sign.chars().zip(rest).all(|(a, b)| a == *b)
            });
            let sign = sign.ok_or_else(|| {
                Fault::at(start + 1, &["`", &letter.to_string(), "` means nothing here"].concat())
            })?;
            (Token::Sign(sign), sign.len())
        };
        at += length;
        tokens.push((token, start + 1));
    }
    tokens.push((Token::End, letters.len() + 1));
    Ok(tokens)
}

fn quoted(rest: &[char], quote: char) -> Option<(Token, usize)> {
    let mut text = String::new();
    let mut at = 1;
    loop {
        match (*rest.get(at)?, rest.get(at + 1)) {
            (letter, Some(next)) if letter == quote && *next == quote => {
                text.push(quote);
                at += 2;
            }
            (letter, _) if letter == quote => return Some((Token::Text(text), at + 1)),
            (letter, _) => {
                text.push(letter);
                at += 1;
            }
        }
    }
}

/// A whole number, with a unit of octets or of time, or none.
fn number(rest: &[char]) -> Option<(Token, usize)> {
    let sign = usize::from(rest.first() == Some(&'-'));
    let word: String = rest.iter().skip(sign).take_while(|c| c.is_ascii_alphanumeric()).collect();
    let amount = gatepost_plugin::config::parse_size(&word).or_else(|| {
        gatepost_plugin::config::parse_duration(&word).map(|duration| duration.as_secs())
    })?;
    let amount = i64::try_from(amount).ok()?;
    Some((Token::Number(if sign == 1 { -amount } else { amount }), sign + word.len()))
}

fn is_in_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || ".-_".contains(letter)
}

/// The longer ones first.
const SIGNS: [&str; 13] = ["==", "!=", "<=", ">=", "!~", "<", ">", "~", "(", ")", "[", "]", ","];
