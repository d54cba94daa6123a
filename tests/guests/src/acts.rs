//! What a guest may be told to do.

use std::cell::RefCell;
use std::hint::black_box;

use crate::Said;
use crate::gatepost::policy::dns::{self, Query};
use crate::gatepost::policy::log::{self, Level};
use crate::gatepost::policy::message::{Content, Session, Transaction};
use crate::gatepost::policy::types::{HostError, NewRecipient, Recipient, Reply};
use crate::gatepost::policy::{clock, config, kv, lookup};
use crate::hostile::hostile;

mod more;

pub use more::each;

/// What a stage was asked with.
#[derive(Default)]
pub struct Asked<'a> {
    pub session: Option<&'a Session>,
    pub transaction: Option<&'a Transaction>,
    pub content: Option<&'a Content>,
    pub recipient: Option<&'a Recipient>,
}

thread_local! {
    /// What survives a call inside of one instance.
    static MEMORY: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Does what `act.STAGE` of the configuration says.
pub fn act(stage: &str, asked: &Asked) -> Said {
    let name = config::get(&format!("act.{stage}")).unwrap_or_default();
    verdict(&name)
        .or_else(|| wild(&name))
        .or_else(|| illegal(&name))
        .or_else(|| edit(&name, asked))
        .or_else(|| import(&name))
        .or_else(|| more::act(&name, asked))
        .or_else(|| look(&name, asked))
        .or_else(|| hostile(&name, asked))
        .unwrap_or_default()
}

fn verdict(name: &str) -> Option<Said> {
    let plain = [
        "accept", "reject", "defer", "disconnect", "discard", "drop", "quarantine", "quarantine-badly", "to",
        "to-nowhere", "hold", "fail", "retry", "suppress", "success", "check", "each", "file", "file-seen",
        "file-badly", "redirect", "send",
    ];
    plain.contains(&name).then(|| Said { verdict: name.into(), ..Said::default() })
}

/// Traps, and what never ends.
fn wild(name: &str) -> Option<Said> {
    match name {
        "spin" => loop {
            black_box(0);
        },
        "panic" => panic!("as told"),
        "exit" => std::process::exit(1),
        "sleep" => std::thread::sleep(std::time::Duration::from_secs(3600)),
        "recurse" => {
            black_box(recurse(1 << 40));
        }
        "memory-bomb" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(black_box(vec![1_u8; 1 << 20]));
            }
        }
        "flood" => loop {
            black_box(clock::now());
        },
        "work" => {
            // Some ten milliseconds: longer than a tick, shorter than the budget.
            let until = clock::monotonic() + 10_000_000;
            while clock::monotonic() < until {
                (0..1000).for_each(|n| {
                    black_box(n);
                });
            }
        }
        "log-flood" => (0..5000).for_each(|n| log::write(Level::Info, &format!("line {n}"), &[])),
        "giant-value" => return Some(told(kv::set("k", &vec![0; 8 << 20], None))),
        "giant-list" => {
            let fields = vec![(String::from("name"), "v".repeat(1000)); 8000];
            log::write(Level::Info, "giant", &fields);
        }
        "files" => {
            let read = std::fs::read_dir("/").map(|_| ()).map_err(|error| error.kind());
            let listen = std::net::TcpListener::bind("127.0.0.1:0").is_ok();
            let variables = std::env::vars().count() + std::env::args().count();
            return Some(reason(format!("{read:?} {listen} {variables}")));
        }
        _ => return None,
    }
    Some(Said::default())
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    if depth == 0 { 0 } else { black_box(recurse(depth - 1) + depth) }
}

/// Answers that the host must not take.
fn illegal(name: &str) -> Option<Said> {
    let (code, lines) = match name {
        "reply-crlf" => (550, vec!["no\r\n250 2.0.0 Ok".to_owned()]),
        "reply-nul" => (550, vec!["no\0".to_owned()]),
        "reply-positive" => (250, vec!["fine".to_owned()]),
        "reply-class" => (450, vec!["later".to_owned()]),
        "reply-long" => (550, vec!["x".repeat(100_000)]),
        "reply-lines" => (550, vec!["x".to_owned(); 1000]),
        "reply-fine" => (550, vec!["one".to_owned(), "two".to_owned()]),
        _ => return None,
    };
    Some(Said {
        verdict: "reject".into(),
        reply: Some(Reply { code, enhanced: None, lines }),
        reason: None,
    })
}

fn edit(name: &str, asked: &Asked) -> Option<Said> {
    let transaction = asked.transaction;
    match name {
        "edit-all" | "edit-all-then-panic" | "edit-all-then-spin" => {
            edit_all(asked);
            match name {
                "edit-all-then-panic" => panic!("in the middle of edits"),
                "edit-all-then-spin" => loop {
                    black_box(0);
                },
                _ => Some(Said::default()),
            }
        }
        "edits-denied" => {
            let transaction = transaction?;
            let mut told = vec![
                transaction.set_reverse_path(None),
                transaction.add_recipient(&to("x@example.org")),
                transaction.set_route("bob@example.org", "mx:example.org"),
            ];
            if let Some(content) = asked.content {
                told.push(content.add_header("X-Test", "1"));
                told.push(content.set_body(b"x"));
            }
            Some(reason(told.into_iter().map(text).collect::<Vec<_>>().join("; ")))
        }
        "split" => Some(told(transaction?.replace_recipient(
            &asked.recipient?.address,
            &[to("one@example.org"), to("two@example.org")],
        ))),
        "take-out" => Some(told(transaction?.remove_recipient(&asked.recipient?.address))),
        "tag" => Some(told(asked.content?.prepend_header("X-Tag", &config::get("tag").unwrap_or_default()))),
        _ => None,
    }
}

fn edit_all(asked: &Asked) {
    if let Some(session) = asked.session {
        session.set_note("seen", Some("yes")).unwrap();
    }
    let Some(transaction) = asked.transaction else { return };
    transaction.set_note("seen", Some("yes")).unwrap();
    transaction.set_reverse_path(Some("other@example.org")).unwrap();
    transaction.add_recipient(&to("added@example.org")).unwrap();
    transaction.set_route("added@example.org", "mx:example.net").unwrap();
    transaction.set_tls("added@example.org", "verify").unwrap();
    transaction.set_return(Some("HDRS")).unwrap();
    transaction.set_envelope_id(Some("id 1")).unwrap();
    transaction.set_not_before(2_000_000_000).unwrap();
    transaction.set_expiry(2_000_100_000).unwrap();
    transaction.set_priority(-3).unwrap();
    transaction.add_tag("one").unwrap();
    transaction.add_tag("two").unwrap();
    transaction.remove_tag("two").unwrap();
    if let Some(content) = asked.content {
        content.add_header("X-Below", "b").unwrap();
        content.prepend_header("X-Above", "a").unwrap();
        content.insert_header(1, "X-Second", "s").unwrap();
        content.replace_header("Subject", 0, "changed").unwrap();
        content.set_body(b"new ").unwrap();
        content.append_body(b"body\r\n").unwrap();
    }
}

pub(crate) fn to(address: &str) -> NewRecipient {
    NewRecipient { address: address.into(), notify: None, original_recipient: None }
}

fn import(name: &str) -> Option<Said> {
    Some(match name {
        "denied" => {
            let query = Query { name: "example.org".into(), kind: "A".into() };
            let told = [
                kv::get("k").map(|_| ()),
                kv::set("k", b"v", None),
                dns::resolve(&query).map(|_| ()),
                dns::resolve_many(&[query])[0].clone().map(|_| ()),
                lookup::get("aliases", "k").map(|_| ()),
            ];
            reason(told.into_iter().map(text).collect::<Vec<_>>().join("; "))
        }
        "count" => match kv::increment("calls", 1, Some(3600)) {
            Ok(sum) => reason(sum.to_string()),
            Err(error) => reason(format!("{error:?}")),
        },
        "resolve" => {
            let query = |name: &str, kind: &str| Query { name: name.into(), kind: kind.into() };
            let queries =
                [query("a.example", "A"), query("mx.example", "MX"), query("none.example", "A"), query("x", "ZZ")];
            let answers: Vec<String> = dns::resolve_many(&queries)
                .into_iter()
                .map(|answer| match answer {
                    Ok(answer) => format!("{}{}", answer.records.join(","), if answer.nxdomain { "nx" } else { "" }),
                    Err(HostError::Invalid(_)) => "invalid".into(),
                    Err(error) => format!("{error:?}"),
                })
                .collect();
            reason(answers.join("|"))
        }
        "look-up" => reason(format!(
            "{:?} {:?} {}",
            lookup::match_address("aliases", "bob@example.org").ok().flatten(),
            lookup::get("aliases", "@example.net").ok().flatten(),
            text(lookup::match_ip("aliases", "192.0.2.1").map(|_| ())),
        )),
        _ => return None,
    })
}

fn look(name: &str, asked: &Asked) -> Option<Said> {
    Some(match name {
        "remember" => {
            // The address of the client is this session's secret.
            let secret = format!("secret of {}", asked.session?.info().client.port);
            let seen = MEMORY.with_borrow_mut(|memory| {
                memory.push(secret);
                memory.join(",")
            });
            reason(seen)
        }
        "info" => {
            let info = asked.session?.info();
            reason(format!(
                "{} {} {} {:?} {} tls={} auth={:?}",
                info.origin,
                info.client.ip,
                info.client.port,
                info.helo,
                info.extended,
                info.tls.is_some(),
                info.auth.map(|auth| auth.identity),
            ))
        }
        "envelope" => {
            let transaction = asked.transaction?;
            let recipients: Vec<String> = transaction.recipients().into_iter().map(|to| to.address).collect();
            reason(format!(
                "{:?} {} asked={:?} original={:?} SIZE={:?} SMTPUTF8={:?}",
                transaction.reverse_path(),
                recipients.join(","),
                asked.recipient.map(|to| &to.address),
                asked.recipient.map(|to| &to.original),
                transaction.parameter("size"),
                transaction.parameter("SMTPUTF8"),
            ))
        }
        "notes" => reason(format!(
            "{:?} {:?}",
            asked.session?.note("other/seen"),
            asked.transaction.map(|transaction| transaction.note("other/seen")),
        )),
        "content" => {
            let content = asked.content?;
            let parts: Vec<String> = content
                .parts()
                .map(|parts| {
                    parts
                        .iter()
                        .map(|part| {
                            let octets = content.read_part(part.index, 0, 100).unwrap_or_default();
                            format!("{}:{}", part.content_type, String::from_utf8_lossy(&octets).trim())
                        })
                        .collect()
                })
                .unwrap_or_default();
            reason(format!(
                "{} {:?} {:?} {} {:?} [{}]",
                content.size(),
                content.header("subject"),
                content.header("X-Tag"),
                content.body_size(),
                String::from_utf8_lossy(&content.read_body(0, 5).unwrap_or_default()),
                parts.join(";"),
            ))
        }
        "five-headers" => {
            let content = asked.content?;
            let names = ["From", "To", "Subject", "Date", "Message-ID"];
            let known = names.iter().filter(|name| !content.header(name).is_empty()).count();
            reason(known.to_string())
        }
        "headers" => {
            let fields = asked.content?.headers();
            reason(fields.iter().map(|field| field.name.as_str()).collect::<Vec<_>>().join(","))
        }
        _ => return None,
    })
}

pub fn told(result: Result<(), HostError>) -> Said {
    reason(text(result))
}

pub fn text(result: Result<(), HostError>) -> String {
    match result {
        Ok(()) => "ok".into(),
        Err(HostError::Denied(what)) => format!("denied {what}"),
        Err(HostError::Invalid(_)) => "invalid".into(),
        Err(HostError::Quota(_)) => "quota".into(),
        Err(error) => format!("{error:?}"),
    }
}

pub fn reason(text: String) -> Said {
    Said { reason: Some(text), ..Said::default() }
}
