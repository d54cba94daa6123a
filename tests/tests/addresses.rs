//! Address vectors of others against the parser of envelope addresses. Where we differ, the case
//! stands here by name, with the section that says so.

use std::collections::BTreeMap;

use serde_json::Value;
use smtp::{AddressError, Mailbox};
use tests::corpora::{json, report, suite};

/// A difference, and why it is right.
type Deviation = (&'static str, &'static str);

#[test]
fn isemail_agrees_or_is_answered() {
    let Some(suite) = suite("address-isemail") else { return };
    let mut outcome = Outcome::new(ISEMAIL);
    for case in json(&suite, "cases.json").as_array().expect("a list of cases") {
        let address = text(&case["address"]);
        match case["smtp_ok"].as_bool() {
            Some(expected) => outcome.compare(&address, expected),
            // Legal in a header field only: comments, folding white space, obsolete forms.
            None => outcome.refused_anyway += usize::from(Mailbox::parse(&address).is_err()),
        }
    }
    outcome.finish("address-isemail");
}

#[test]
fn email_validator_agrees_or_is_answered() {
    let Some(suite) = suite("address-eai") else { return };
    let mut outcome = Outcome::new(EAI);
    for case in json(&suite, "cases.json").as_array().expect("a list of cases") {
        let address = text(&case["input"]);
        match case["valid"].as_bool() {
            Some(true) => {
                outcome.compare(&address, true);
                if let Ok(mailbox) = Mailbox::parse(&address) {
                    compare_parts(&mailbox, case);
                }
            }
            // Display names, reserved domains and characters that look dangerous are for a form on a
            // web page.
            Some(false) if is_syntax(&case["kind"]) => outcome.compare(&address, false),
            Some(false) | None => outcome.skipped += 1,
        }
    }
    outcome.finish("address-eai");
}

fn is_syntax(kind: &Value) -> bool {
    kind == "test_email_invalid_syntax" || kind == "test_email_invalid_syntax_strict"
}

/// What a valid case says about the parts of the address.
fn compare_parts(mailbox: &Mailbox, case: &Value) {
    let address = text(&case["input"]);
    let domain = mailbox.domain().expect("a domain");
    assert_eq!(domain.to_ascii(), text(&case["ascii_domain"]), "{address}");
    assert_eq!(domain.as_str(), text(&case["domain"]), "{address}");
    if !NOT_NORMALISED.contains(&address.as_str()) {
        assert_eq!(mailbox.local_part().to_string(), text(&case["local_part"]), "{address}");
    }
    // RFC 6531 §3.3: their `smtputf8` thinks of the local part alone, as the domain has A-labels.
    assert_eq!(!mailbox.local_part().is_ascii(), case["smtputf8"] == true, "{address}");
}

struct Outcome {
    deviations: BTreeMap<&'static str, &'static str>,
    met: BTreeMap<&'static str, String>,
    agreed: usize,
    refused_anyway: usize,
    skipped: usize,
    faults: Vec<String>,
}

impl Outcome {
    fn new(deviations: &[Deviation]) -> Self {
        Self {
            deviations: deviations.iter().copied().collect(),
            met: BTreeMap::new(),
            agreed: 0,
            refused_anyway: 0,
            skipped: 0,
            faults: Vec::new(),
        }
    }

    fn compare(&mut self, address: &str, expected: bool) {
        let parsed: Result<Mailbox, AddressError> = Mailbox::parse(address);
        if parsed.is_ok() == expected {
            self.agreed += 1;
            if let Ok(mailbox) = parsed {
                assert_eq!(
                    Mailbox::parse(&mailbox.to_string()),
                    Ok(mailbox),
                    "{address}: read what is written"
                );
            }
            return;
        }
        match self.deviations.iter().find(|(name, _)| is_named(name, address)) {
            Some((&name, &section)) => {
                self.met.insert(name, section.to_owned());
            }
            None => self.faults.push(format!("{address:?}: expected {expected}, got {parsed:?}")),
        }
    }

    fn finish(self, suite: &str) {
        report(&format!(
            "{suite}: {} agree, {} deviate with reason, {} header forms refused, {} not about syntax",
            self.agreed,
            self.met.len(),
            self.refused_anyway,
            self.skipped
        ));
        assert!(self.faults.is_empty(), "{suite}:\n{}", self.faults.join("\n"));
        for name in self.deviations.keys() {
            assert!(self.met.contains_key(name), "{suite}: {name:?} is no deviation any more");
        }
    }
}

fn is_named(name: &str, address: &str) -> bool {
    match name.split_once('…') {
        Some((start, end)) => address.starts_with(start) && address.ends_with(end),
        None => name == address,
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// RFC 5321 §2.3.11: the local part is read by the host of the domain alone, so it stays as it came
/// and is not brought into NFC.
const NOT_NORMALISED: &[&str] = &[
    "\u{f96e}\u{58eb}\u{8c6a}@\u{81fa}\u{7db2}\u{4e2d}\u{5fc3}.tw",
    "\u{f96e}\u{58eb}\u{8c6a}@\u{81fa}\u{7db2}\u{4e2d}\u{5fc3}.\u{53f0}\u{7063}",
    "jeff\u{f96e}@\u{81fa}\u{7db2}\u{4e2d}\u{5fc3}.tw",
    "\u{1fef}@example.com",
];

const ISEMAIL: &[Deviation] = &[(
    "test@xn--example.com",
    "RFC 5890 §2.3.2.1: what begins with xn-- and is no A-label is no name of IDNA",
)];
// `…` stands for the middle of a long address.
const EAI: &[Deviation] = &[
    ("MyName <me@example.org>", HEADER),
    ("My Name <me@example.org>", HEADER),
    ("\"My.\\\"Na\\\\me\\\".Is\" <\"me \\\" \\\\ me\"@example.org>", HEADER),
    ("\"s\u{323}\u{307}\" <s\u{323}\u{307}@nfc.tld>", HEADER),
    ("my@localhost", SINGLE),
    ("me.\u{37e}@example.com", KEPT),
    ("meme@111111111122222…3334444444444555555555.com", LONG),
    ("my.long.address@1111…222222333333333344444.info", LONG),
    ("my.long.address@\u{3bb}111…222222233333333334444.info", LONG),
    ("my.long.address@\u{fb2c}111…222222233333333334444.info", LONG),
    ("my.\u{3bb}ong.address@1111…222222223333333333444.info", LONG),
    ("my.\u{3bb}ong.address@1111…222222233333333334444.info", LONG),
    ("my.s\u{323}\u{307}.address@11111…222222233333333334444.info", LONG),
    ("my.\u{fb2c}.address@1111111…222222333333333344444.info", LONG),
    ("my.\u{fb2c}.address@1111111…222222222333333333344.info", LONG),
    ("my.long.address@\u{3bb}111…111112222222222333333.info", LONG),
    ("my.\u{3bb}ong.address@\u{3bb}111…111112222222222333333.info", LONG),
    ("me@bad-tld-1", SINGLE),
    ("me@bad.tld-2", DIGIT),
    ("me@yy--0.tld", RESERVED),
    ("me@yy\u{ff0d}\u{ff0d}0.tld", RESERVED),
    ("me@[127.0.0.1]", LITERAL),
    ("me@[IPv6:::1]", LITERAL),
    ("me@[tag:text]", LITERAL),
    ("11111111112222222222…66666666677777@example.com", LOCAL),
    ("11111111112222222222…66666666777777@example.com", LOCAL),
    ("\u{fb2c}1111111222222222233…66666666777777@example.com", LOCAL),
];

const HEADER: &str = "RFC 5321 §4.1.2: a display name belongs to a header field";
const SINGLE: &str = "RFC 5321 §2.3.5: a domain may be a single label";
const DIGIT: &str = "RFC 5321 §4.1.2: a label may end with a digit, the last one too";
const RESERVED: &str = "RFC 5890 §2.3.1: reserved, and yet a name that DNS can hold";
const LITERAL: &str = "RFC 5321 §4.1.3: an address literal is a host";
const LONG: &str = "RFC 5321 §4.5.3.1: a path of 256 octets must be taken, longer ones may be";
const LOCAL: &str = "RFC 5321 §4.5.3.1.1: 64 octets must be taken, longer ones may be";
const KEPT: &str = "RFC 5321 §2.3.11: the local part is not ours to normalise";
