//! Who a message says it is from: the domains of its From field.
//!
//! The field is read strictly (RFC 5322 §3.4). What cannot be read that way may be read differently by whoever shows the
//! message, so then each domain that anybody could find in it counts as an author.

use message::Header;
use smtp::Mailbox;

use crate::name;

/// The one author of a message, where it has exactly one and nobody could read another: who asks for a signature.
pub fn sole_author(header: &Header) -> Option<Mailbox> {
    let mut fields = header.get_all("From");
    let (field, other) = (fields.next()?, fields.next());
    let value = std::str::from_utf8(field.raw_value()).ok()?.replace(['\r', '\n'], "");
    match mailboxes(&value)?.as_slice() {
        [one] if other.is_none() => Mailbox::parse(one).ok(),
        _ => None,
    }
}

/// The authors' domains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Authors {
    /// Canonical, each once.
    pub(crate) domains: Vec<String>,
    /// Why they cannot be told for sure.
    pub(crate) doubt: Option<&'static str>,
}

impl Authors {
    /// Reads them off a header.
    pub(crate) fn of(header: &Header) -> Self {
        let mut authors = Self::default();
        let fields: Vec<_> = header.get_all("From").collect();
        match fields.as_slice() {
            [] => authors.doubt = Some("there is no From field"),
            [_] => {}
            // RFC 5322 §3.6: one From field, no more.
            _ => authors.doubt = Some("there are several From fields"),
        }
        for field in fields {
            let value = String::from_utf8_lossy(field.raw_value()).replace(['\r', '\n'], "");
            match mailboxes(&value) {
                Some(mailboxes) => mailboxes
                    .iter()
                    .filter_map(|mailbox| mailbox.rsplit_once('@'))
                    .for_each(|(_, domain)| authors.add(domain)),
                None => {
                    authors.doubt =
                        authors.doubt.or(Some("the From field is no list of mailboxes"));
                    candidates(&value).for_each(|domain| authors.add(domain));
                    candidates(&field.value()).for_each(|domain| authors.add(domain));
                }
            }
        }
        if authors.domains.is_empty() {
            authors.doubt = authors.doubt.or(Some("the From field has no domain"));
        }
        authors
    }

    fn add(&mut self, domain: &str) {
        match name::canonical(domain) {
            Some(domain) if self.domains.contains(&domain) => {}
            Some(domain) => self.domains.push(domain),
            None => self.doubt = self.doubt.or(Some("the From field has a domain that is none")),
        }
    }
}

/// What stands behind any `@`, up to what cannot be in a name.
fn candidates(text: &str) -> impl Iterator<Item = &str> {
    text.split('@').skip(1).filter_map(|rest| {
        let rest = rest.trim_start();
        let end =
            rest.find(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && !"-._".contains(c));
        Some(rest[..end.unwrap_or(rest.len())].trim_end_matches('.'))
            .filter(|name| !name.is_empty())
    })
}

/// The addresses of a list of mailboxes, without comments and space, or `None` if it is not one:
///
/// ```text
/// mailbox-list = mailbox *("," mailbox)
/// mailbox      = [display-name] "<" addr-spec ">" / addr-spec
/// group        = display-name ":" [mailbox-list] ";"
/// ```
///
/// Source routes and empty list elements (RFC 5322 §4.4) are not taken: readers differ on them.
fn mailboxes(value: &str) -> Option<Vec<String>> {
    let tokens = tokens(value)?;
    let mut found = Vec::new();
    let mut rest = tokens.as_slice();
    loop {
        let (address, after) = mailbox(rest)?;
        found.push(address);
        match after.split_first() {
            None => return Some(found),
            Some((Token::Special(','), after)) => rest = after,
            Some(_) => return None,
        }
    }
}

#[derive(Debug, PartialEq)]
enum Token<'a> {
    Atom(&'a str),
    /// With its quotes.
    Quoted(&'a str),
    Special(char),
}

/// One mailbox at the start of the tokens: its address, and what follows it.
fn mailbox<'a, 'b>(tokens: &'a [Token<'b>]) -> Option<(String, &'a [Token<'b>])> {
    let words = tokens
        .iter()
        // RFC 5322 §4.1 obs-phrase: a period stands in display names, as in "John Q. Public".
        .take_while(|token| !matches!(token, Token::Special(c) if *c != '.'))
        .count();
    match tokens.get(words) {
        Some(Token::Special('<')) => {
            let (address, after) = addr_spec(&tokens[words + 1..])?;
            match after.split_first() {
                Some((Token::Special('>'), after)) => Some((address, after)),
                _ => None,
            }
        }
        _ => addr_spec(tokens),
    }
}

/// `addr-spec = local-part "@" domain`, both of words with periods between them.
fn addr_spec<'a, 'b>(tokens: &'a [Token<'b>]) -> Option<(String, &'a [Token<'b>])> {
    let at = tokens.iter().position(|token| *token == Token::Special('@'))?;
    let (local_part, rest) = (&tokens[..at], &tokens[at + 1..]);
    dotted(local_part)?;
    let length = rest
        .iter()
        .take_while(|token| matches!(token, Token::Atom(_) | Token::Special('.')))
        .count();
    let (domain, after) = rest.split_at(length);
    dotted(domain)?;
    let text = |tokens: &[Token<'b>]| -> String {
        let words = tokens.iter().map(|token| match token {
            Token::Atom(word) | Token::Quoted(word) => word,
            Token::Special(_) => ".",
        });
        words.collect()
    };
    Some((format!("{}@{}", text(local_part), text(domain)), after))
}

/// Words with one period between each two.
fn dotted(tokens: &[Token<'_>]) -> Option<()> {
    let in_turn = tokens.iter().enumerate().all(|(index, token)| match token {
        Token::Special(c) => *c == '.' && index % 2 == 1,
        Token::Atom(_) | Token::Quoted(_) => index % 2 == 0,
    });
    (in_turn && tokens.len() % 2 == 1).then_some(())
}

/// Atoms, quoted strings and specials; comments and white space are passed over (RFC 5322 §3.2).
fn tokens(value: &str) -> Option<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let mut rest = value;
    while let Some(first) = rest.chars().next() {
        rest = match first {
            ' ' | '\t' => &rest[1..],
            '(' => after_comment(rest)?,
            '"' => {
                let after = after_quoted(rest)?;
                tokens.push(Token::Quoted(&rest[..rest.len() - after.len()]));
                after
            }
            '<' | '>' | '@' | ',' | ';' | ':' | '.' => {
                tokens.push(Token::Special(first));
                &rest[1..]
            }
            c if is_atext(c) => {
                let end = rest.find(|c| !is_atext(c)).unwrap_or(rest.len());
                let (atom, after) = rest.split_at(end);
                tokens.push(Token::Atom(atom));
                after
            }
            _ => return None,
        };
        if tokens.len() > MOST_TOKENS {
            return None;
        }
    }
    Some(tokens)
}

/// RFC 5322 §3.2.3 with RFC 6532 §3.2.
fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || "!#$%&'*+-/=?^_`{|}~".contains(c)
        || (!c.is_ascii() && c != '\u{fffd}')
}

fn after_quoted(text: &str) -> Option<&str> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(&text[at + 1..]),
            c if c.is_control() && c != '\t' => return None,
            _ => {}
        }
    }
    None
}

fn after_comment(text: &str) -> Option<&str> {
    let (mut escaped, mut depth) = (false, 0_usize);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' => depth += 1,
            ')' if depth == 1 => return Some(&text[at + 1..]),
            ')' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Far more than any From field has.
const MOST_TOKENS: usize = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fields: &str, domains: &[&str], doubt: bool) {
        let header = Header::parse(fields.as_bytes().to_vec());
        let authors = Authors::of(&header);
        assert_eq!(
            (authors.domains, authors.doubt.is_some()),
            (domains.iter().map(|d| (*d).to_owned()).collect(), doubt),
            "{fields:?}"
        );
    }

    #[test]
    fn a_plain_author_is_told() {
        let one = ["example.org"];
        check("From: a@example.org\r\n", &one, false);
        check("From: <a@Example.ORG>\r\n", &one, false);
        check("From: \"b@other.example\" <a@example.org>\r\n", &one, false);
        check("From: John Q. Public <a.b@example.org> (c@other.example)\r\n", &one, false);
        check("From: =?utf-8?q?J=C3=BCrgen?=\r\n <a@example.org>\r\n", &one, false);
        check("From: \"a b\"@example.org\r\n", &one, false);
        check("From: (hi (there)) a @ example . org\r\n", &one, false);
        check("From: Jürgen <jürgen@bücher.example>\r\n", &["xn--bcher-kva.example"], false);
        check("From: a@example.org, b@example.org\r\n", &one, false);
        check("From: a@example.org, b@example.net\r\n", &["example.org", "example.net"], false);
    }

    #[test]
    fn a_sole_author_is_exactly_one_mailbox() {
        let check = |fields: &str, expected: Option<&str>| {
            let found = sole_author(&Header::parse(fields.as_bytes().to_vec()));
            assert_eq!(found.map(|found| found.to_string()).as_deref(), expected, "{fields:?}");
        };
        check("From: A <a.b@example.org>\r\n", Some("a.b@example.org"));
        check("From: \"a b\" @ example.org (c)\r\n", Some("\"a b\"@example.org"));
        check("From: a@example.org, b@example.org\r\n", None);
        check("From: a@example.org\r\nFrom: a@example.org\r\n", None);
        check("From: <a@example.org>b@example.org\r\n", None);
        check("To: a@example.org\r\n", None);
    }

    #[test]
    fn what_readers_read_differently_names_everybody() {
        let both = ["attack.example", "victim.example"];
        check("From: a@attack.example\r\nFrom: b@victim.example\r\n", &both, true);
        check("From: a@attack.example\r\nfrom : b@victim.example\r\n", &both, true);
        check("From: <a@attack.example>b@victim.example\r\n", &both, true);
        check("From: <a@attack.example>\\,<b@victim.example>\r\n", &both, true);
        check("From: <@attack.example:b@victim.example>\r\n", &both, true);
        check("From: a@attack.example@victim.example\r\n", &both, true);
        check(
            "From: =?utf-8?B?PGFAYXR0YWNrLmV4YW1wbGU+?=,<b@victim.example>\r\n",
            &["victim.example", "attack.example"],
            true,
        );
        check("From: group: a@attack.example;\r\n", &["attack.example"], true);
        check("From: \"a@attack.example\r\n", &["attack.example"], true);
        check("From: a@attack.example,\r\n", &["attack.example"], true);
        check("From: a@[192.0.2.1]\r\n", &[], true);
        check("From: undisclosed\r\n", &[], true);
        check("From:\r\n", &[], true);
        check("To: a@example.org\r\n", &[], true);
    }
}
