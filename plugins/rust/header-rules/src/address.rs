//! Addresses in the value of a header field (RFC 5322 §3.4).

/// The addresses of a list of mailboxes, as they are written. A name that looks like an address is none: what
/// stands in quotes or in a comment does not count, and an address in angle brackets is the one.
pub(crate) fn addresses(value: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut bare = String::new();
    let mut angle: Option<String> = None;
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                let quoted = skip_quoted(&mut letters);
                // A quoted local part belongs to what follows.
                bare.push_str(&quoted);
            }
            '(' => skip_comment(&mut letters),
            '<' => angle = Some(letters.by_ref().take_while(|c| *c != '>').collect()),
            ',' | ';' => finish(&mut found, &mut bare, &mut angle),
            // A group: what stands before it is its name.
            ':' => bare.clear(),
            _ => bare.push(letter),
        }
    }
    finish(&mut found, &mut bare, &mut angle);
    found
}

fn finish(found: &mut Vec<String>, bare: &mut String, angle: &mut Option<String>) {
    let address = angle.take().unwrap_or_else(|| bare.trim().to_owned());
    let address = address.trim();
    if address.contains('@') && !address.contains(char::is_whitespace) {
        found.push(address.to_owned());
    }
    bare.clear();
}

/// With its quotes.
fn skip_quoted(letters: &mut std::str::Chars<'_>) -> String {
    let mut quoted = String::from("\"");
    while let Some(letter) = letters.next() {
        quoted.push(letter);
        match letter {
            '\\' => quoted.extend(letters.next()),
            '"' => break,
            _ => {}
        }
    }
    quoted
}

/// Comments nest.
fn skip_comment(letters: &mut std::str::Chars<'_>) {
    let mut depth = 1;
    while depth > 0 {
        match letters.next() {
            Some('\\') => drop(letters.next()),
            Some('(') => depth += 1,
            Some(')') => depth -= 1,
            Some(_) => {}
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::addresses;

    #[test]
    fn addresses_are_found_in_fields() {
        check("bob@example.org", &["bob@example.org"]);
        check("Bob <bob@example.org>", &["bob@example.org"]);
        check("\"Bob, ceo@bank.example\" <bob@example.org>", &["bob@example.org"]);
        check("ceo@bank.example <bob@example.org>", &["bob@example.org"]);
        check("bob@example.org (eve@example.net (x) \\) y)", &["bob@example.org"]);
        check("a@b.example, C <c@d.example>", &["a@b.example", "c@d.example"]);
        check("Friends: a@b.example, c@d.example;", &["a@b.example", "c@d.example"]);
        check("\"a b\"@example.org", &[]);
        check("\"a.b\"@example.org", &["\"a.b\"@example.org"]);
        check("undisclosed-recipients:;", &[]);
        check("<>", &[]);
        check("\"unfinished", &[]);
        check("(unfinished", &[]);
        check("", &[]);

        fn check(value: &str, expected: &[&str]) {
            assert_eq!(addresses(value), expected, "{value}");
        }
    }
}
