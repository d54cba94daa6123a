//! Patterns with stars, and what they find: for configurations.

use serde::de::{Deserialize, Deserializer};

/// A text where each `*` stands for any text, the shortest that fits. The case of ASCII letters does not matter.
///
/// ```
/// use gatepost_plugin::config::Glob;
///
/// let found = Glob::from("*-*@example.org");
/// let captures = found.captures("list-bounce-7@Example.org").ok_or("no match")?;
/// assert_eq!((captures.get('0').as_deref(), captures.get('2').as_deref()), (Some("list-bounce-7@Example.org"), Some("bounce-7")));
/// # Ok::<(), &str>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    /// What stands between the stars, in lower case.
    pieces: Vec<String>,
}

/// What a [`Glob`] found: `$0` the whole, `$1` to `$9` the stars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captures<'a> {
    /// The whole text.
    pub whole: &'a str,
    stars: Vec<&'a str>,
}

impl Glob {
    /// How many stars it has.
    pub fn stars(&self) -> usize {
        self.pieces.len() - 1
    }

    /// True if the whole text fits.
    pub fn matches(&self, text: &str) -> bool {
        self.captures(text).is_some()
    }

    /// What the stars found. Each piece is found as early as possible, so that the time is linear for all practical
    /// texts and bounded by the product of the lengths for all others.
    pub fn captures<'a>(&self, text: &'a str) -> Option<Captures<'a>> {
        let lower = text.to_ascii_lowercase();
        let (first, rest) = self.pieces.split_first()?;
        let Some((last, middle)) = rest.split_last() else {
            return (lower == *first).then(|| Captures { whole: text, stars: Vec::new() });
        };
        let mut stars = Vec::with_capacity(rest.len());
        let mut at = lower.starts_with(first.as_str()).then_some(first.len())?;
        for piece in middle {
            let found = at + lower.get(at..)?.find(piece.as_str())?;
            stars.push(text.get(at..found)?);
            at = found + piece.len();
        }
        let end = lower
            .len()
            .checked_sub(last.len())
            .filter(|end| *end >= at && lower.ends_with(last.as_str()))?;
        stars.push(text.get(at..end)?);
        Some(Captures { whole: text, stars })
    }
}

impl From<&str> for Glob {
    fn from(text: &str) -> Self {
        Self { pieces: text.split('*').map(str::to_ascii_lowercase).collect() }
    }
}

impl<'a> Captures<'a> {
    /// The whole, without stars.
    pub fn of(whole: &'a str) -> Self {
        Self { whole, stars: Vec::new() }
    }

    /// The value of `$0` to `$9`.
    pub fn get(&self, key: char) -> Option<String> {
        let number = key.to_digit(10)? as usize;
        let value = if number == 0 { Some(&self.whole) } else { self.stars.get(number - 1) };
        value.map(|value| (*value).to_owned())
    }
}

impl<'de> Deserialize<'de> for Glob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(String::deserialize(deserializer)?.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;

    #[test]
    fn stars_take_the_shortest_that_fits() {
        check("abc", "ABC", Some(&[]));
        check("abc", "abcd", None);
        check("*", "", Some(&[""]));
        check("*", "any", Some(&["any"]));
        check("a*", "Abc", Some(&["bc"]));
        check("*c", "abC", Some(&["ab"]));
        check("*-*@*", "a-b-c@d", Some(&["a", "b-c", "d"]));
        check("a*a", "a", None);
        check("a*a", "aa", Some(&[""]));
        check("*ab*ab", "ab-ab", Some(&["", "-"]));
        check("*ü*", "grün", Some(&["gr", "n"]));
        check("**", "x", Some(&["", "x"]));

        fn check(glob: &str, text: &str, expected: Option<&[&str]>) {
            let found = Glob::from(glob).captures(text).map(|captures| captures.stars);
            assert_eq!(found.as_deref(), expected, "{glob} {text}");
        }
    }
}
