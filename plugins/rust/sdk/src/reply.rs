//! SMTP replies, made so that the host accepts them.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _};

use crate::{EnhancedStatus, Error, Reply};

impl Reply {
    /// A reply with a code, an enhanced status code (RFC 3463; "" for none) and a text. A line feed
    /// in the text begins a new line. What a reply cannot carry becomes `?`, and what is too long
    /// is cut: text from elsewhere, as from DNS, may be put in as it is.
    ///
    /// ```
    /// use gatepost_plugin::Reply;
    ///
    /// let reply = Reply::new(550, "5.7.1", "Not here\nGo away");
    /// assert_eq!(reply.to_string(), "550 5.7.1 Not here / Go away");
    /// ```
    ///
    /// # Panics
    /// If `enhanced` is no enhanced status code of the class of `code`: a fault of the plugin. For
    /// text of an administrator there is [`Reply::from_str`], which returns an error.
    pub fn new(code: u16, enhanced: &str, text: &str) -> Self {
        match Self::checked(code, enhanced, text) {
            Ok(reply) => reply,
            Err(error) => panic!("{error}"),
        }
    }

    fn checked(code: u16, enhanced: &str, text: &str) -> Result<Self, Error> {
        let enhanced = if enhanced.is_empty() { None } else { Some(status(code, enhanced)?) };
        let lines = text.split('\n').take(LINES).map(line).collect();
        Ok(Self { code, enhanced, lines })
    }
}

/// The form in a configuration: `550 5.7.1 Not here`, with or without the enhanced status code.
///
/// ```
/// use gatepost_plugin::Reply;
///
/// let reply: Reply = "451 4.7.1 Come back later".parse()?;
/// assert_eq!(reply, Reply::new(451, "4.7.1", "Come back later"));
/// assert!("450 5.7.1 Both?".parse::<Reply>().is_err());
/// # Ok::<(), gatepost_plugin::Error>(())
/// ```
impl FromStr for Reply {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (code, rest) = text.split_once(' ').unwrap_or((text, ""));
        // RFC 5321 §4.2: three digits. A verdict that needs a reply refuses or defers.
        let code = match code.parse() {
            Ok(code @ 400..=599) if text.starts_with(['4', '5']) => code,
            _ => {
                return Err(Error::new(format!(
                    "a reply begins with a code from 400 to 599, not with `{code}`"
                )));
            }
        };
        let first = rest.split(' ').next().unwrap_or("");
        let looks_enhanced =
            first.split('.').count() == 3 && first.starts_with(|c: char| c.is_ascii_digit());
        if looks_enhanced {
            let text = rest.get(first.len()..).unwrap_or("").trim_start();
            Self::checked(code, first, text)
        } else {
            Self::checked(code, "", rest)
        }
    }
}

impl<'de> Deserialize<'de> for Reply {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// For logs and tests: lines are parted by ` / `.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(EnhancedStatus { subject, detail }) = self.enhanced {
            write!(f, " {}.{subject}.{detail}", self.code / 100)?;
        }
        write!(f, " {}", self.lines.join(" / "))
    }
}

/// RFC 3463 §2: `class "." subject "." detail`, where the class is that of the reply code.
fn status(code: u16, text: &str) -> Result<EnhancedStatus, Error> {
    let number = |part: Option<&str>| {
        part.and_then(|part| part.parse::<u16>().ok()).filter(|number| *number < 1000)
    };
    let mut parts = text.splitn(3, '.');
    match (number(parts.next()), number(parts.next()), number(parts.next())) {
        (Some(class), Some(subject), Some(detail)) if class == code / 100 => {
            Ok(EnhancedStatus { subject, detail })
        }
        (Some(_), Some(_), Some(_)) => Err(Error::new(format!(
            "the enhanced status code {text} is not of the class of {code}"
        ))),
        _ => Err(Error::new(format!("`{text}` is no enhanced status code"))),
    }
}

/// One line of a reply: no control characters, no more octets than the host takes.
fn line(text: &str) -> String {
    let mut line: String =
        text.trim_end_matches('\r').chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    let mut end = line.len().min(LINE_OCTETS);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.truncate(end);
    line
}

/// `types.reply` in `wit/`: at most 16 lines of at most 400 octets.
const LINES: usize = 16;
const LINE_OCTETS: usize = 400;

#[cfg(test)]
mod tests {
    use crate::Reply;

    #[test]
    fn a_configured_reply_is_read_or_named_as_faulty() {
        check("550 5.7.1 Not here", Ok("550 5.7.1 Not here"));
        check("550 Not here", Ok("550 Not here"));
        check("451 4.7.1", Ok("451 4.7.1 "));
        check("550 1.5 percent of this", Ok("550 1.5 percent of this"));
        check("250 2.0.0 Ok", Err("a reply begins with a code from 400 to 599, not with `250`"));
        check("+550 Not here", Err("a reply begins with a code from 400 to 599, not with `+550`"));
        check("Not here", Err("a reply begins with a code from 400 to 599, not with `Not`"));
        check("", Err("a reply begins with a code from 400 to 599, not with ``"));
        check("450 5.7.1 Both", Err("the enhanced status code 5.7.1 is not of the class of 450"));
        check("550 5.7.1000 Far", Err("`5.7.1000` is no enhanced status code"));

        fn check(text: &str, expected: Result<&str, &str>) {
            let found = text
                .parse::<Reply>()
                .map(|reply| reply.to_string())
                .map_err(|error| error.to_string());
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{text}");
        }
    }

    #[test]
    fn text_from_elsewhere_cannot_break_a_reply() {
        let reply = Reply::new(
            550,
            "5.7.1",
            &format!("a\r\nb\0c\td\n{}\n{}", "ü".repeat(300), "x\n".repeat(40)),
        );
        assert_eq!(reply.lines.len(), 16);
        assert_eq!(reply.lines[..2], ["a", "b?c?d"]);
        assert_eq!(reply.lines[2], "ü".repeat(200));
    }
}
