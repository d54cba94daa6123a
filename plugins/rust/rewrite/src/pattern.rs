//! Patterns that find text, and templates that make new text of what was found.

use std::fmt;
use std::str::FromStr;

use gatepost_plugin::Error;
use gatepost_plugin::config::{Captures, Glob, split};
use serde::de::{Deserialize, Deserializer, Error as _};

/// A pattern for addresses: `bob@example.org`, `@example.org` for all its users, `bob@` for a user
/// of any domain, `bob-*@*.example.org`, `postmaster`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    glob: Glob,
    text: String,
}

/// An address to make: `bob@example.org`, `@example.org` to keep the local part, `$1@example.org`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target(String);

impl Pattern {
    pub(crate) fn captures<'a>(&self, address: &'a str) -> Option<Captures<'a>> {
        self.glob.captures(address)
    }

    pub(crate) fn stars(&self) -> usize {
        self.glob.stars()
    }

    /// As written, to name the rule in logs.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let full = match (text.strip_prefix('@'), text.strip_suffix('@')) {
            (Some(domain), None) if !domain.is_empty() => ["*@", domain].concat(),
            (None, Some(user)) if !user.is_empty() => [user, "@*"].concat(),
            (None, None)
                if text.contains('@') || text.eq_ignore_ascii_case("postmaster") || text == "*" =>
            {
                text.to_owned()
            }
            _ => {
                let hint = "write user@domain, @domain or user@, with * for any text";
                return Err(Error::new(
                    ["`", text, "` is no pattern for addresses: ", hint].concat(),
                ));
            }
        };
        Ok(Self { glob: Glob::from(full.as_str()), text: text.to_owned() })
    }
}

impl Target {
    /// The address. A target that begins with `@` keeps the local part.
    pub(crate) fn fill(&self, captures: &Captures<'_>) -> String {
        let filled = fill(&self.0, |key| captures.get(key));
        if filled.starts_with('@') { split(captures.whole).0.to_owned() + &filled } else { filled }
    }

    /// An error if it asks for a star that the pattern does not have.
    pub(crate) fn fits(&self, stars: usize) -> Result<(), Error> {
        check_references(&self.0, stars)
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (_, domain) = split(text);
        if domain.is_empty() || text.chars().any(|c| c.is_control() || c == '*' || c == ',') {
            let hint = "write user@domain or @domain, with $1 for what the first * found";
            return Err(Error::new(["`", text, "` is no address: ", hint].concat()));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Puts values in the place of `$` and a character; `$$` is a dollar, and unknown ones stay.
pub(crate) fn fill(template: &str, value: impl Fn(char) -> Option<String>) -> String {
    let mut filled = String::with_capacity(template.len() + 32);
    let mut letters = template.chars();
    while let Some(letter) = letters.next() {
        if letter != '$' {
            filled.push(letter);
            continue;
        }
        match letters.next() {
            Some('$') | None => filled.push('$'),
            Some(key) => match value(key) {
                Some(value) => filled.push_str(&value),
                None => filled.extend(['$', key]),
            },
        }
    }
    filled
}

/// An error if a template asks for a star that its pattern does not have.
pub(crate) fn check_references(template: &str, stars: usize) -> Result<(), Error> {
    let mut letters = template.chars();
    while let Some(letter) = letters.next() {
        if letter != '$' {
            continue;
        }
        let key = letters.next();
        if let Some(number) = key.and_then(|key| key.to_digit(10))
            && number as usize > stars
        {
            return Err(Error::new(format!(
                "`{template}` asks for ${number}, but the pattern has {stars} times `*`"
            )));
        }
    }
    Ok(())
}

macro_rules! from_text {
    ($($name:ty),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    )*};
}

from_text!(Pattern, Target);

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::{Pattern, Target, check_references, fill};

    #[test]
    fn a_pattern_finds_an_address_and_a_target_makes_one() {
        check("bob@example.org", "Bob@EXAMPLE.org", "carol@example.net", Some("carol@example.net"));
        check("bob@example.org", "rob@example.org", "carol@example.net", None);
        check("@old.example", "Bob@old.example", "@new.example", Some("Bob@new.example"));
        check("@old.example", "bob@very.old.example", "@new.example", None);
        check(
            "*@*.old.example",
            "bob@a.old.example",
            "$1@$2.new.example",
            Some("bob@a.new.example"),
        );
        check("abuse@", "abuse@example.net", "abuse@example.org", Some("abuse@example.org"));
        check(
            "team-*@example.org",
            "team-Red@example.org",
            "red+$1@example.org",
            Some("red+Red@example.org"),
        );
        check("postmaster", "postmaster", "admin@example.org", Some("admin@example.org"));
        check("@example.org", "\"a@b\"@example.org", "@example.net", Some("\"a@b\"@example.net"));
        check(
            "*",
            "bob@example.org",
            "bob+$1@example.net",
            Some("bob+bob@example.org@example.net"),
        );

        fn check(pattern: &str, address: &str, target: &str, expected: Option<&str>) {
            let (pattern, target): (Pattern, Target) =
                (pattern.parse().unwrap(), target.parse().unwrap());
            target.fits(pattern.stars()).unwrap();
            let made = pattern.captures(address).map(|captures| target.fill(&captures));
            assert_eq!(made.as_deref(), expected, "{pattern} {address}");
        }
    }

    #[test]
    fn what_is_no_pattern_or_target_is_refused() {
        for text in ["example.org", "", "@", "bob"] {
            assert!(text.parse::<Pattern>().is_err(), "{text}");
        }
        for text in ["bob", "", "bob@", "a@b, c@d", "*@example.org", "a\n@b"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn templates_know_their_references() {
        let value = |key| (key == '1').then(|| "one".to_owned());
        assert_eq!(fill("<$1> $2 $$1 $", value), "<one> $2 $1 $");
        assert!(check_references("$1 $2", 2).is_ok());
        assert!(check_references("$$3", 2).is_ok());
        assert_eq!(
            check_references("a$3", 2).unwrap_err().to_string(),
            "`a$3` asks for $3, but the pattern has 2 times `*`"
        );
    }
}
