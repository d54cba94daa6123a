//! Acts that call the rest of the host.

use super::{Asked, reason, text, to};
use crate::Said;
use crate::exports::gatepost::policy::on_data::{ForRecipient, RecipientVerdict};
use crate::gatepost::policy::http::{self, Request, Response};
use crate::gatepost::policy::message::Transaction;
use crate::gatepost::policy::rate_limit::{self, Rate};
use crate::gatepost::policy::submit::{self, Mail};
use crate::gatepost::policy::types::HostError;
use crate::gatepost::policy::{clock, config, dns, kv, lookup, metrics, random};

/// By the local part of each recipient: "reject", "defer", "discard", "quarantine", "accept"; others are not named.
pub fn each(transaction: &Transaction) -> Vec<ForRecipient> {
    let verdict = |address: &str| {
        Some(match address.split('@').next()? {
            "reject" => RecipientVerdict::Reject(None),
            "defer" => RecipientVerdict::Defer(None),
            "discard" => RecipientVerdict::Discard,
            "quarantine" => RecipientVerdict::Quarantine("suspects".into()),
            "accept" => RecipientVerdict::Accept,
            _ => return None,
        })
    };
    let recipients = transaction.recipients().into_iter();
    recipients
        .filter_map(|to| Some(ForRecipient { verdict: verdict(&to.address)?, address: to.address }))
        .collect()
}

pub fn act(name: &str, asked: &Asked) -> Option<Said> {
    Some(match name {
        "delay" => reason(text(asked.session?.delay_reply(300))),
        "delay-for-ever" => reason(text(asked.session?.delay_reply(u32::MAX))),
        "random" => reason(format!("{:?} {}", random::octets(4), random::number())),
        "time" => reason(format!("{} {}", clock::now().seconds, clock::monotonic())),
        "metrics" => reason(all(&[
            metrics::add("things", &[("kind".into(), "a".into())], 2),
            metrics::set("level", &[], 1.5),
            metrics::observe("size", &[], 7.0),
            metrics::add("Bad Name", &[], 1),
            metrics::add("things", &[("plugin".into(), "other".into())], 1),
        ])),
        "series" => {
            let many = (0..200).map(|n| metrics::add("many", &[("n".into(), n.to_string())], 1));
            reason(many.filter(Result::is_ok).count().to_string())
        }
        "take" => match rate_limit::take("key", 1, Rate { tokens: 2, seconds: 3600 }) {
            Ok(taken) => reason(format!("{} {}", taken.allowed, taken.remaining)),
            Err(error) => reason(text(Err(error))),
        },
        "keys" => {
            for key in ["a/1", "a/2", "b"] {
                kv::set(key, b"x", None).unwrap();
            }
            reason(format!("{:?} {:?}", kv::keys("a/", None), kv::keys("a/", Some("a/1"))))
        }
        "listed" => match dns::listed("192.0.2.99", &["list.example".into(), "other.example".into()]) {
            Ok(found) => reason(
                found
                    .iter()
                    .map(|one| format!("{} {} {:?}", one.zone, one.codes.join(","), one.text))
                    .collect::<Vec<_>>()
                    .join(";"),
            ),
            Err(error) => reason(text(Err(error))),
        },
        "names" => reason(format!("{:?}", dns::verified_names("192.0.2.7"))),
        "domain" => reason(format!("{:?}", lookup::match_domain("domains", "a.b.example.org"))),
        "http" => reason(answer(http::send(&request()))),
        "http-content" => reason(answer(http::send_content(&request(), asked.content?))),
        "submit" => {
            let mail = Mail {
                reverse_path: Some("robot@example.org".into()),
                recipients: vec![to("bob@example.org")],
                content: b"Subject: from a plugin\r\n\r\nhello\r\n".to_vec(),
            };
            let told: Vec<_> = (0..12).map(|_| submit::submit(&mail)).take(many()).collect();
            reason(all(&told))
        }
        "submit-then-panic" => {
            let mail = Mail {
                reverse_path: None,
                recipients: vec![to("bob@example.org")],
                content: b"Subject: never\r\n\r\n".to_vec(),
            };
            submit::submit(&mail).unwrap();
            panic!("before the verdict");
        }
        "authentication" => {
            // A reason has 500 octets: what comes last may be cut.
            let found = asked.content.and_then(|content| content.authentication());
            let found = found.map(|it| format!("{:?} {:?} {:?} ", it.dmarc, it.arc, it.dkim));
            reason(format!("{}{:?}", found.unwrap_or_default(), asked.transaction?.spf()))
        }
        "require-tls" | "verify-tls" => {
            let (demand, _) = name.split_once('-')?;
            reason(text(asked.transaction?.set_tls(&asked.recipient?.address, demand)))
        }
        "raw" => {
            let fields = asked.content?.raw_header("subject");
            reason(fields.iter().map(|field| format!("{:?}", String::from_utf8_lossy(field))).collect())
        }
        "schedule" => {
            let transaction = asked.transaction?;
            reason(format!(
                "{} {:?} {} {:?} {:?}",
                transaction.origin(),
                transaction.tags(),
                transaction.priority(),
                transaction.parameter("RET"),
                transaction.parameter("ENVID"),
            ))
        }
        "client-name" => reason(format!("{:?}", asked.session?.client_name())),
        "header-only" => reason(format!("{:?} {}", asked.content?.header("Subject"), asked.content?.size())),
        "note-session" => {
            asked.session?.set_note("met", Some(&format!("at {}", asked.session?.info().client.ip))).unwrap();
            Said::default()
        }
        "read-note" => reason(format!("{:?}", asked.transaction?.note("met"))),
        "bad-values" => {
            let transaction = asked.transaction?;
            reason(all(&[
                transaction.set_return(Some("ALL")),
                transaction.set_envelope_id(Some("a\r\nb")),
                transaction.set_priority(10),
                transaction.set_expiry(u64::MAX),
                transaction.add_tag("a b"),
                transaction.set_tls("bob@example.org", "maybe"),
            ]))
        }
        _ => return None,
    })
}

fn many() -> usize {
    config::get("submissions").and_then(|number| number.parse().ok()).unwrap_or(1)
}

fn request() -> Request {
    Request {
        method: config::get("method").unwrap_or_else(|| "POST".into()),
        url: config::get("url").unwrap_or_default(),
        headers: vec![("x-from".into(), "guest".into())],
        body: b"body;".to_vec(),
        timeout_milliseconds: None,
    }
}

fn answer(answer: Result<Response, HostError>) -> String {
    match answer {
        Ok(response) => format!("{} {}", response.status, String::from_utf8_lossy(&response.body)),
        Err(HostError::Denied(what)) => format!("denied {what}"),
        Err(error) => format!("{error:?}"),
    }
}

fn all(results: &[Result<(), HostError>]) -> String {
    results.iter().cloned().map(text).collect::<Vec<_>>().join("; ")
}
