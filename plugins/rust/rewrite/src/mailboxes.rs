//! Addresses in the value of a header field (RFC 5322 §3.4), replaced where they stand.

/// The value with other addresses; none if all of them stay. What stands in quotes or in a comment is none, and a
/// local part in quotes is left alone.
pub(crate) fn map_addresses(
    value: &str,
    mut other: impl FnMut(&str) -> Option<String>,
) -> Option<String> {
    let mut mapped = String::with_capacity(value.len() + 32);
    let mut is_changed = false;
    let mut rest = value;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => quoted(rest),
            '(' => comment(rest),
            letter if is_in_address(letter) => {
                let length = rest.find(|c| !is_in_address(c)).unwrap_or(rest.len());
                let word = rest.get(..length).unwrap_or("");
                let follows_quotes = mapped.ends_with('"') && word.starts_with('@');
                let address = Some(word).filter(|word| word.contains('@') && !follows_quotes);
                if let Some(new) = address.and_then(&mut other).filter(|new| new != word) {
                    mapped += &new;
                    is_changed = true;
                    rest = rest.get(length..).unwrap_or("");
                    continue;
                }
                length
            }
            other => other.len_utf8(),
        };
        mapped += rest.get(..length).unwrap_or("");
        rest = rest.get(length..).unwrap_or("");
    }
    is_changed.then_some(mapped)
}

fn is_in_address(letter: char) -> bool {
    !letter.is_whitespace() && !"<>()[],;:\"\\".contains(letter)
}

/// The length of a quoted text at the beginning.
fn quoted(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a comment at the beginning; comments nest.
fn comment(text: &str) -> usize {
    let (mut depth, mut is_escaped) = (0, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '(' => depth += 1,
            ')' if depth == 1 => return at + 1,
            ')' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::map_addresses;

    #[test]
    fn addresses_change_where_they_stand() {
        check("bob@old.example", Some("bob@new.example"));
        check("Bob <bob@old.example>", Some("Bob <bob@new.example>"));
        check("\"b@old.example\" <bob@old.example>", Some("\"b@old.example\" <bob@new.example>"));
        check("bob@old.example (b@old.example)", Some("bob@new.example (b@old.example)"));
        check(
            "=?utf-8?q?B=C3=B6b?= <bob@old.example>, eve@x.example,\tann@old.example",
            Some("=?utf-8?q?B=C3=B6b?= <bob@new.example>, eve@x.example,\tann@new.example"),
        );
        check(
            "Team: bob@old.example, ann@old.example;",
            Some("Team: bob@new.example, ann@new.example;"),
        );
        check("eve@x.example", None);
        check("\"quoted\"@old.example", None);
        check("\"open @old.example", None);
        check("(open a@old.example", None);
        check("", None);

        fn check(value: &str, expected: Option<&str>) {
            let other = |address: &str| {
                address.strip_suffix("@old.example").map(|local| [local, "@new.example"].concat())
            };
            assert_eq!(map_addresses(value, other).as_deref(), expected, "{value}");
        }
    }
}
