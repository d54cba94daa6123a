//! Every conversation of `tests/transcripts/`, held with the machine in pieces of every size, or
//! with another server: `SUBJECT=127.0.0.1:2525 cargo test --test transcripts`.
//! `SUBJECT_NAMES=mx.example.org=*,example.org=example.test` says what the server calls things.

use tests::postfix::Postfix;
use tests::transcript::machine::{self, Cut};
use tests::transcript::wire::{self, Subject};
use tests::transcript::{self, Setting};
use tests::{Foreign, Setup, free_port};

#[test]
fn conversations_are_held_whatever_the_pieces() {
    let transcripts = transcript::all();
    let (mut plays, mut faults) = (0, Vec::new());
    for transcript in &transcripts {
        match machine::play(transcript, Cut::Every(usize::MAX)) {
            Ok(played) => {
                for cut in cuts(played.octets) {
                    plays += 1;
                    if let Err(fault) = machine::play(transcript, cut) {
                        faults.push(fault);
                        break;
                    }
                }
            }
            Err(fault) => faults.push(fault),
        }
    }
    println!("{} conversations, {plays} plays", transcripts.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(transcripts.len() >= 40, "the conversations are there");
}

/// Every size of pieces and every place for a single cut; of a long conversation, about a thousand
/// of each.
fn cuts(octets: usize) -> impl Iterator<Item = Cut> {
    let step = octets.div_ceil(1000).max(1);
    let sizes = (1..=octets).step_by(step).map(Cut::Every);
    let places = (1..octets).step_by(step).map(Cut::Once);
    sizes.chain(places)
}

#[test]
fn conversations_are_held_with_the_subject() {
    let Ok(address) = std::env::var("SUBJECT") else {
        println!("skipped: SUBJECT names no server");
        return;
    };
    let subject = Subject { names: names(), codes_only: true };
    let outcome = wire::play_all(&address, &[], &subject);
    println!("skipped (policy or settings of ours): {}", outcome.skipped.join(", "));
    println!("{} held, {} not", outcome.held.len(), outcome.faults.len());
    assert!(outcome.faults.is_empty(), "{}", outcome.faults.join("\n"));
}

fn names() -> Vec<(String, String)> {
    let names = std::env::var("SUBJECT_NAMES").unwrap_or_else(|_| "mx.example.org=*".to_owned());
    names
        .split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(from, to)| (from.to_owned(), to.to_owned()))
        .collect()
}

#[test]
fn conversations_are_held_with_the_running_server() {
    let ours = "hostname = \"mx.example.org\"\n[[domain]]\nname = \"example.org\"\nusers = [\"alice\"]\n\
                catch-all = \"alice@example.org\"\ndeliver = \"maildir:var/mail/{domain}/{user}\"";
    let server = Setup::new().with(ours).start();
    let (host, port) = server.address("mx");
    let subject =
        Subject { names: vec![("mx.example.org".to_owned(), "*".to_owned())], codes_only: true };
    let outcome = wire::play_all(&format!("{host}:{port}"), &[Setting::StartTls], &subject);
    println!("the server holds {} conversations", outcome.held.len());
    assert!(outcome.faults.is_empty(), "{}", outcome.faults.join("\n"));
    assert!(outcome.held.len() >= 40, "held: {}", outcome.held.join(", "));
}

#[test]
fn conversations_are_held_with_postfix() {
    let name = "conversations_are_held_with_postfix";
    if Foreign::need_all(name, &["postfix"]).is_none() || !Foreign::need_root(name) {
        return;
    }
    let address = format!("127.0.0.1:{}", free_port());
    let postfix =
        Postfix::start(&address, "smtpd_soft_error_limit = 1000\nsmtpd_delay_reject = no\n", None);
    let subject = Subject {
        names: vec![("example.org".to_owned(), "target.test".to_owned())],
        codes_only: true,
    };
    let mut outcome = wire::play_all(postfix.address(), &[], &subject);
    outcome.faults.retain(|fault| !POSTFIX_DIFFERS.iter().any(|(file, _)| fault.starts_with(file)));
    println!("Postfix holds {} conversations", outcome.held.len());
    assert!(outcome.faults.is_empty(), "{}", outcome.faults.join("\n"));
}

/// What Postfix 3.7 does otherwise, as its authors chose.
const POSTFIX_DIFFERS: &[(&str, &str)] = &[
    ("rfc1870/6-size", "552 for a size of 21 digits"),
    ("rfc3030/2-bad-size", "521 for the size of a chunk that is none; it closes as well"),
    ("rfc3030/2-bare-lf-in-a-chunk", "takes bare LF"),
    ("rfc3030/2-three-chunks", "refuses BDAT 0"),
    ("rfc3030/3-binarymime", "has no BINARYMIME"),
    ("rfc3461/4.1-notify", "takes NOTIFY=SUCCESS,"),
    ("rfc3461/4.2-orcpt", "takes any ORCPT with a semicolon"),
    ("rfc3461/4.3-ret-and-envid", "takes RET twice"),
    ("rfc5321/2.3.8", "takes bare CR, bare LF and NUL unless it is told not to"),
    ("rfc5321/4.1.1.1-helo", "takes SIZE after HELO, and EHLO with two words"),
    ("rfc5321/4.1.1.11-unknown-parameters", "takes AUTH=<> without AUTH"),
    ("rfc5321/4.1.1.2-mail-syntax", "takes addresses without brackets"),
    ("rfc5321/4.1.1.3-rcpt-syntax", "takes recipients without a domain"),
    (
        "rfc5321/4.1.1.4-data-order",
        "554 for DATA without recipients, which RFC 5321 §3.3 allows too",
    ),
    ("rfc5321/4.1.1.6-vrfy-expn-help-noop", "500 for EXPN and HELP"),
    ("rfc5321/4.1.4-mail-before-ehlo", "takes MAIL before EHLO"),
    ("rfc5321/4.5.3.1-line", "cuts long lines"),
    ("rfc5321/7.8-http", "221 for a browser"),
    ("rfc6152/body", "555 for an unknown BODY"),
    ("rfc6531/3.4-smtputf8", "takes UTF-8 without SMTPUTF8"),
];
