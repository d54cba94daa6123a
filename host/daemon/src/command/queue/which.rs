//! Which messages a command is about.

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use ::queue::Filter;

/// Conditions, combined by «and».
#[derive(Args, Clone, Debug)]
pub(super) struct Which {
    /// Message ids
    ids: Vec<String>,
    /// A message id; may be repeated
    #[arg(long, value_name = "ID")]
    id: Vec<String>,
    /// All messages
    #[arg(long)]
    all: bool,
    /// Reverse-path ("" for the null path, "@example.org" for a domain)
    #[arg(long)]
    sender: Option<String>,
    /// Who had logged in
    #[arg(long)]
    user: Option<String>,
    /// A recipient
    #[arg(long)]
    to: Option<String>,
    /// Domain of a recipient
    #[arg(long)]
    domain: Option<String>,
    /// A destination, as `queue destinations` shows it
    #[arg(long)]
    destination: Option<String>,
    /// A tag
    #[arg(long)]
    tag: Option<String>,
    /// In the queue for longer than this: seconds, or a number with s, m, h or d
    #[arg(long, value_name = "TIME", value_parser = duration)]
    older: Option<Duration>,
    /// Only what is held
    #[arg(long)]
    held: bool,
    /// Only what is held by this name
    #[arg(long, value_name = "NAME", visible_alias = "hold")]
    quarantine: Option<String>,
    /// The last reply has this in it
    #[arg(long, value_name = "TEXT")]
    last: Option<String>,
    /// The oldest so many
    #[arg(long, value_name = "NUMBER")]
    limit: Option<usize>,
}

impl Which {
    /// `acts`: the command changes something, so «nothing was said» must not mean «all».
    pub(super) fn filter(self, acts: bool) -> Result<Filter> {
        let texts = [
            &self.sender,
            &self.user,
            &self.to,
            &self.domain,
            &self.destination,
            &self.tag,
            &self.quarantine,
            &self.last,
        ];
        let said = texts.iter().any(|text| text.is_some());
        let said = said || !self.ids.is_empty() || !self.id.is_empty() || self.held;
        anyhow::ensure!(
            !acts || self.all || said || self.older.is_some(),
            "say which: message ids, --sender, --user, --to, --domain, --destination, --tag, --older, --held, \
             --quarantine, --last, or --all"
        );
        let id =
            |text: &String| text.parse().with_context(|| format!("\"{text}\" is not a message id"));
        Ok(Filter {
            ids: self.ids.iter().chain(&self.id).map(id).collect::<Result<_>>()?,
            sender: self.sender,
            user: self.user,
            recipient: self.to,
            domain: self.domain,
            destination: self.destination,
            tag: self.tag,
            older: self.older,
            held: self.held.then_some(true),
            hold: self.quarantine,
            last: self.last,
            limit: self.limit,
        })
    }
}

/// A number of seconds, or a number with a unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err("write a number, and s, m, h or d behind it".to_owned()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    seconds.map(Duration::from_secs).ok_or_else(|| "write a number, as in 30m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_have_a_unit() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(duration(text).ok(), expected.map(Duration::from_secs), "{text}");
        };
        check("90", Some(90));
        check("90s", Some(90));
        check("2m", Some(120));
        check("5d", Some(432_000));
        check("1.5h", None);
        check("h", None);
        check("", None);
        check("99999999999999999999d", None);
    }
}
