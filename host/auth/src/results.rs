//! The Authentication-Results field (RFC 8601): written, read, and taken away where somebody forged ours.

mod parse;

use std::fmt::{self, Display};

use message::{Edit, Header};

use crate::outcome::{ArcResult, Authentication, Dkim, Dmarc, DmarcResult, Spf, SpfIdentity};

/// One field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Results {
    /// Who says so: `authserv-id`.
    pub authserv_id: String,
    /// What was found; none is "none".
    pub methods: Vec<Method>,
}

/// What one method came to: `resinfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Method {
    /// "spf", "dkim" …, in lower case.
    pub method: String,
    /// Its result, in lower case.
    pub result: String,
    /// A comment for people, without parentheses.
    pub comment: String,
    /// Why, for people.
    pub reason: Option<String>,
    /// What was looked at.
    pub properties: Vec<Property>,
}

/// `ptype.property=value`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// "smtp", "header", "body" or "policy", in lower case.
    pub ptype: String,
    /// Which one, in lower case.
    pub property: String,
    /// Its value, without quotes.
    pub value: String,
}

impl Results {
    /// Reads the value of a field. `None` if it is not one (RFC 8601 §2.2).
    pub fn parse(value: &str) -> Option<Self> {
        parse::results(value)
    }

    /// What we found about a message.
    pub fn new(authserv_id: &str, found: &Authentication) -> Self {
        let mut methods = vec![
            Method::new("iprev", found.iprev.result.as_str()).with(
                "policy",
                "iprev",
                &found.iprev.address.to_string(),
            ),
            spf(&found.mail_from),
        ];
        if found.helo.domain != found.mail_from.domain {
            methods.insert(1, spf(&found.helo));
        }
        if found.dkim.is_empty() {
            methods.push(Method::new("dkim", "none"));
        }
        methods.extend(found.dkim.iter().map(dkim));
        if found.arc.result != ArcResult::None {
            let result = if found.arc.result == ArcResult::Pass { "pass" } else { "fail" };
            let arc = Method::new("arc", result).because(found.arc.problem.as_deref());
            // RFC 8617 §10.2: the address from which the message came.
            methods.push(arc.with("smtp", "remote-ip", &found.iprev.address.to_string()));
        }
        methods.push(dmarc(&found.dmarc));
        Self { authserv_id: authserv_id.to_owned(), methods }
    }
}

/// The value of our field.
pub fn field(authserv_id: &str, found: &Authentication) -> String {
    Results::new(authserv_id, found).to_string()
}

/// The edits that take away the fields which say that we wrote them, and those that cannot be read. RFC 8601 §5: whoever
/// relies on the fields of an ADMD must be sure that nobody else writes them. Make them before ours is added.
pub fn forged(authserv_id: &str, header: &Header) -> Vec<Edit> {
    let mut edits = Vec::new();
    for (index, field) in header.get_all(NAME).enumerate() {
        let claims_ours = match parse::claimed(&String::from_utf8_lossy(field.raw_value())) {
            Some(claimed) => claimed.eq_ignore_ascii_case(authserv_id),
            None => true,
        };
        if claims_ours {
            edits.extend(Edit::remove(NAME, u32::try_from(index).ok()));
        }
    }
    // The last first: each removal moves those below it up.
    edits.reverse();
    edits
}

fn spf(spf: &Spf) -> Method {
    let property = match spf.identity {
        SpfIdentity::Helo => "helo",
        SpfIdentity::MailFrom => "mailfrom",
    };
    let method = Method::new("spf", spf.result.as_str()).because(spf.problem.as_deref());
    if spf.domain.is_empty() { method } else { method.with("smtp", property, &spf.domain) }
}

fn dkim(dkim: &Dkim) -> Method {
    let mut method = Method::new("dkim", dkim.result.as_str()).because(dkim.problem.as_deref());
    let identity = if dkim.identity.len() > 255 { "" } else { dkim.identity.as_str() };
    let properties = [
        ("d", dkim.domain.as_str()),
        ("i", identity),
        ("s", &dkim.selector),
        ("a", &dkim.algorithm),
        // RFC 6008: the start of the signature tells signatures of one domain apart.
        ("b", &dkim.signature),
    ];
    for (property, value) in properties.into_iter().filter(|(_, value)| !value.is_empty()) {
        method = method.with("header", property, value);
    }
    if dkim.partial {
        method.comment = "a part of the body is not signed".to_owned();
    }
    method
}

fn dmarc(dmarc: &Dmarc) -> Method {
    let mut method = Method::new("dmarc", dmarc.result.as_str()).because(dmarc.problem.as_deref());
    if dmarc.result != DmarcResult::None && dmarc.record.is_some() {
        method.comment = format!("p={}", dmarc.policy);
    }
    if dmarc.author_domain.is_empty() {
        return method;
    }
    method.with("header", "from", &dmarc.author_domain)
}

impl Method {
    fn new(method: &str, result: &str) -> Self {
        Self { method: method.to_owned(), result: result.to_owned(), ..Self::default() }
    }

    fn because(mut self, problem: Option<&str>) -> Self {
        self.reason = problem.map(str::to_owned);
        self
    }

    fn with(mut self, ptype: &str, property: &str, value: &str) -> Self {
        let (ptype, property, value) = (ptype.to_owned(), property.to_owned(), value.to_owned());
        self.properties.push(Property { ptype, property, value });
        self
    }

    /// The value of a property.
    pub fn property(&self, ptype: &str, property: &str) -> Option<&str> {
        self.properties
            .iter()
            .find(|one| one.ptype == ptype && one.property == property)
            .map(|one| one.value.as_str())
    }
}

/// The value of the field, on one line.
impl Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Value(&self.authserv_id))?;
        // RFC 8601 §2.2: no-result
        if self.methods.is_empty() {
            return f.write_str("; none");
        }
        self.methods.iter().try_for_each(|method| write!(f, "; {method}"))
    }
}

impl Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.method, self.result)?;
        if !self.comment.is_empty() {
            write!(f, " ({})", self.comment)?;
        }
        if let Some(reason) = &self.reason {
            write!(f, " reason={}", Quoted(reason))?;
        }
        self.properties
            .iter()
            .try_for_each(|one| write!(f, " {}.{}={}", one.ptype, one.property, Value(&one.value)))
    }
}

/// A value that may be a stranger's: as it is where it can stand for itself, quoted otherwise.
struct Value<'a>(&'a str);

impl Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.rsplit_once('@') {
            _ if parse::is_value(self.0) => f.write_str(self.0),
            // RFC 8601 §2.2 pvalue: [[local-part] "@"] domain-name
            Some((local, domain)) if parse::is_local_part(local) && parse::is_value(domain) => {
                f.write_str(self.0)
            }
            _ => write!(f, "{}", Quoted(self.0)),
        }
    }
}

struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                ' '..='~' => write!(f, "{c}")?,
                // What is not US-ASCII would need SMTPUTF8 on the rest of the way.
                _ => f.write_str("?")?,
            }
        }
        f.write_str("\"")
    }
}

/// The name of the field.
pub const NAME: &str = "Authentication-Results";

#[cfg(test)]
mod tests;
