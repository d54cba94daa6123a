//! Reading Authentication-Results (RFC 8601 §2.2).

use super::{Method, Property, Results};

/// ```text
/// authres-payload = [CFWS] authserv-id [ CFWS authres-version ] ( no-result / 1*resinfo ) [CFWS]
/// no-result       = [CFWS] ";" [CFWS] "none"
/// resinfo         = [CFWS] ";" methodspec [ CFWS reasonspec ] *( CFWS propspec )
/// ```
pub(super) fn results(value: &str) -> Option<Results> {
    let mut cursor = Cursor { rest: value };
    cursor.space()?;
    let authserv_id = cursor.value()?;
    cursor.space()?;
    cursor.take_while(|c| c.is_ascii_digit());
    cursor.space()?;
    let mut methods = Vec::new();
    while !cursor.rest.is_empty() {
        cursor.expect(';')?;
        cursor.space()?;
        if cursor.rest.trim_end().eq_ignore_ascii_case("none") && methods.is_empty() {
            return Some(Results { authserv_id, methods });
        }
        methods.push(cursor.method()?);
        if methods.len() > MOST_METHODS {
            return None;
        }
    }
    (!methods.is_empty()).then_some(Results { authserv_id, methods })
}

/// The authserv-id that a field claims, as far as anybody could make one out.
pub(super) fn claimed(value: &str) -> Option<String> {
    let mut cursor = Cursor { rest: value };
    cursor.space()?;
    cursor.rest = cursor.rest.strip_prefix('"').unwrap_or(cursor.rest);
    let id = cursor.take_while(|c| c.is_ascii_alphanumeric() || "-._".contains(c) || !c.is_ascii());
    (!id.is_empty()).then(|| id.trim_end_matches('.').to_owned())
}

struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    /// White space and comments. `None`: a comment does not end.
    fn space(&mut self) -> Option<String> {
        let mut comments = String::new();
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
            if !self.rest.starts_with('(') {
                return Some(comments);
            }
            let end = comment_end(self.rest)?;
            comments.push_str(&self.rest[1..end - 1]);
            self.rest = &self.rest[end..];
        }
    }

    fn expect(&mut self, wanted: char) -> Option<()> {
        self.rest = self.rest.strip_prefix(wanted)?;
        Some(())
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// `Keyword` of RFC 5321 §4.1.2, with the period and underscore that properties have.
    fn keyword(&mut self) -> Option<String> {
        let word = self.take_while(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        (!word.is_empty()).then(|| word.to_ascii_lowercase())
    }

    /// `methodspec = [CFWS] method [CFWS] "=" [CFWS] result`, and what belongs to it.
    fn method(&mut self) -> Option<Method> {
        let mut found = Method { method: self.keyword()?, ..Method::default() };
        self.space()?;
        if self.expect('/').is_some() {
            self.space()?;
            self.take_while(|c| c.is_ascii_digit());
            self.space()?;
        }
        self.expect('=')?;
        self.space()?;
        found.result = self.keyword()?;
        found.comment = self.space()?;
        while !self.rest.is_empty() && !self.rest.starts_with(';') {
            self.property(&mut found)?;
            self.space()?;
        }
        Some(found)
    }

    /// `reasonspec` or `propspec`; a word without a type is somebody's extension, and passed over.
    fn property(&mut self, found: &mut Method) -> Option<()> {
        let ptype = self.keyword()?;
        self.space()?;
        let property = match self.expect('.') {
            Some(()) => {
                self.space()?;
                let property = self.keyword()?;
                self.space()?;
                Some(property)
            }
            None => None,
        };
        self.expect('=')?;
        self.space()?;
        let value = self.value()?;
        match property {
            Some(property) => found.properties.push(Property { ptype, property, value }),
            None if ptype == "reason" => found.reason = Some(value),
            None => {}
        }
        Some(())
    }

    /// `value` of RFC 2045 §5.1, or `[[local-part] "@"] domain-name`.
    fn value(&mut self) -> Option<String> {
        let mut value = if self.rest.starts_with('"') {
            let (text, rest) = quoted(self.rest)?;
            self.rest = rest;
            if text.is_empty() {
                return Some(text);
            }
            text
        } else {
            self.take_while(is_value_char).to_owned()
        };
        if self.expect('@').is_some() {
            value.push('@');
            value.push_str(self.take_while(is_value_char));
        }
        (!value.is_empty()).then_some(value)
    }
}

/// The text of the quoted string at the start, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut found = String::new();
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if std::mem::take(&mut escaped) => found.push(c),
            '\\' => escaped = true,
            '"' => return Some((found, &text[at + 1..])),
            _ => found.push(c),
        }
    }
    None
}

fn comment_end(text: &str) -> Option<usize> {
    let (mut escaped, mut depth) = (false, 0_usize);
    for (at, c) in text.char_indices() {
        match c {
            _ if std::mem::take(&mut escaped) => {}
            '\\' => escaped = true,
            '(' => depth += 1,
            ')' if depth == 1 => return Some(at + 1),
            ')' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// `token` of RFC 2045 §5.1, and the slash and equals sign of Base64, which RFC 6008 has without quotes.
fn is_value_char(c: char) -> bool {
    c.is_ascii_graphic() && !"()<>@,;:\\\"[]?".contains(c)
}

/// Whether it can stand without quotes: stricter than what is read.
pub(super) fn is_value(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| is_value_char(c) && !"=/".contains(c))
}

/// `dot-atom` of RFC 5322 §3.2.3, or nothing at all.
pub(super) fn is_local_part(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&*+-^_`{|}~.".contains(c))
}

/// Ten signatures and a handful of other methods.
const MOST_METHODS: usize = 100;
