//! Acts of a guest that means harm, or that was written by somebody who never read the contract. The host's table of them,
//! with what each must come to, is `host/policy/tests/room/hostile.rs`.

use std::hint::black_box;

use crate::Said;
use crate::acts::{Asked, reason, text, to, told};
use crate::gatepost::policy::dns::{self, Query};
use crate::gatepost::policy::log::{self, Level};
use crate::gatepost::policy::message::{Content, Session, Transaction};
use crate::gatepost::policy::{clock, config, kv, lookup};

pub fn hostile(name: &str, asked: &Asked) -> Option<Said> {
    floods(name, asked)
        .or_else(|| handles(name, asked))
        .or_else(|| sizes(name, asked))
        .or_else(|| words(name, asked))
        .or_else(|| secrets(name))
        .or_else(|| effects(name, asked))
}

/// What only a count stops.
fn floods(name: &str, asked: &Asked) -> Option<Said> {
    match name {
        "fill" => {
            // One bulk instruction after another, each over all the memory there is.
            let mut block = vec![0_u8; 12 << 20];
            for octet in 0.. {
                black_box(&mut block).fill(octet as u8);
            }
        }
        "spin-with-calls" => loop {
            black_box(clock::now());
            (0..100_000).for_each(|n| {
                black_box(n);
            });
        },
        "flood-log" => loop {
            log::write(Level::Info, "again", &[]);
        },
        "flood-config" => loop {
            black_box(config::get("tag"));
        },
        "flood-kv" => (0..).for_each(|n: u64| {
            let _ = kv::set(&n.to_string(), &[0; 1000], None);
        }),
        "flood-dns" => (0..).for_each(|n: u64| {
            let _ = dns::resolve(&Query { name: format!("{n}.example"), kind: "A".into() });
        }),
        "flood-notes" => (0..).for_each(|n: u64| {
            let _ = asked
                .transaction
                .map(|transaction| transaction.set_note(&n.to_string(), Some("x")));
        }),
        "flood-recipients" => (0..).for_each(|n: u64| {
            let _ = asked
                .transaction
                .map(|transaction| transaction.add_recipient(&to(&format!("u{n}@example.org"))));
        }),
        "flood-fields" => (0..).for_each(|n: u64| {
            let _ = asked.content.map(|content| content.add_header(&format!("X-{n}"), &"x".repeat(998)));
        }),
        "flood-body" => {
            let _ = asked.content.map(|content| content.set_body(b"x"));
            loop {
                let _ = asked.content.map(|content| content.append_body(&[b'x'; 1000]));
            }
        }
        "flood-print" => loop {
            println!("{}", "x".repeat(1000));
        },
        "table-of-boxes" => {
            let mut all: Vec<Box<[u64; 512]>> = Vec::new();
            loop {
                all.push(black_box(Box::new([1; 512])));
            }
        }
        _ => return None,
    }
    #[allow(unreachable_code)]
    Some(Said::default())
}

/// Fills memory with a word that cannot be there by chance, or looks for it in all there is.
fn secrets(name: &str) -> Option<Said> {
    const WORD: u64 = 0x5ec2_e7f0_0d15_a5e5;
    match name {
        "paint" => {
            let mut hoard: Vec<Vec<u64>> = (0..12).map(|_| vec![WORD; 1 << 14]).collect();
            black_box(&mut hoard);
            std::mem::forget(hoard);
            Some(reason("painted".into()))
        }
        "search" => {
            // Memory that is fresh from the host, and what the allocator has.
            let mut found = 0;
            for _ in 0..12 {
                let mut block: Vec<u64> = Vec::with_capacity(1 << 14);
                // SAFETY: any octets are a number, and what was never written is what is looked for.
                unsafe { block.set_len(1 << 14) };
                found += black_box(&block).iter().filter(|word| **word == WORD).count();
                std::mem::forget(block);
            }
            Some(reason(format!("{found} of it")))
        }
        _ => None,
    }
}

/// One effect each, to be granted or not.
fn effects(name: &str, asked: &Asked) -> Option<Said> {
    if name == "panic-if-bad" {
        assert_ne!(asked.session?.info().helo.as_deref(), Some("bad"));
        return Some(Said::default());
    }
    let (content, transaction) = (asked.content?, asked.transaction?);
    Some(match name {
        "add-field" => told(content.add_header("X-Added", "1")),
        "change-field" => told(content.replace_header("Subject", 0, "changed")),
        "remove-field" => told(content.remove_header("Subject", None).map(|_| ())),
        "add-recipient" => told(transaction.add_recipient(&to("more@example.org"))),
        "drop-recipient" => told(transaction.remove_recipient("bob@example.org")),
        "touch-received" => told(content.prepend_header("Received", "from nowhere")),
        "touch-return-path" => told(content.add_header("return-path", "<x@example.org>")),
        "touch-signature" => told(content.add_header("DKIM-Signature", "v=1")),
        "touch-results" => told(content.prepend_header("Authentication-Results", "mx; spf=pass")),
        "forge-fields" => {
            let told = [
                content.add_header("X-Forged\r\nReceived", "x"),
                content.add_header("X-Forged", "x\r\nReceived: y"),
                content.add_header("X-Forged", "x\0"),
                content.prepend_header("X Forged:", "x"),
            ];
            reason(told.into_iter().map(text).collect::<Vec<_>>().join("; "))
        }
        _ => return None,
    })
}

/// Handles that were never given, or are given no more.
fn handles(name: &str, asked: &Asked) -> Option<Said> {
    let transaction = asked.transaction;
    // SAFETY: none at all; that is the point. The host has to see it.
    unsafe {
        match name {
            "forge-transaction" => drop(black_box(Transaction::from_handle(77).id())),
            "forge-session" => drop(black_box(Session::from_handle(u32::MAX - 1).info())),
            "forge-content" => {
                black_box(Content::from_handle(1).size());
            }
            "confuse-handles" => {
                drop(black_box(Session::from_handle(transaction?.handle()).info()))
            }
            "drop-twice" => drop(Transaction::from_handle(transaction?.handle())),
            "use-after-drop" => {
                drop(Transaction::from_handle(transaction?.handle()));
                black_box(transaction?.id());
            }
            _ => return None,
        }
    }
    Some(Said::default())
}

/// Values that are larger than anybody needs.
fn sizes(name: &str, asked: &Asked) -> Option<Said> {
    match name {
        "many-empties" => {
            log::write(Level::Info, "empties", &vec![(String::new(), String::new()); 290_000])
        }
        "giant-name" => drop(config::get(&"x".repeat(8 << 20))),
        "giant-query" => {
            let query = Query { name: "x".repeat(1 << 20), kind: "A".into() };
            drop(dns::resolve_many(&vec![query; 6]));
        }
        "giant-body" => drop(asked.content?.set_body(&vec![b'x'; 8 << 20])),
        "giant-note" => {
            return Some(reason(format!(
                "{:?}",
                asked.transaction?.set_note("n", Some(&"x".repeat(3 << 20))).is_err()
            )));
        }
        "giant-reason" => return Some(reason("r".repeat(6 << 20))),
        _ => return None,
    }
    Some(Said::default())
}

/// Text that wants to be something else, and arguments at every edge.
fn words(name: &str, asked: &Asked) -> Option<Said> {
    match name {
        "forge-reason" => {
            Some(reason("fine\r\n2026-01-01 ERROR forged \u{1b}[31mred\0\u{85}".into()))
        }
        "forge-log" => {
            log::write(
                Level::Error,
                "one\r\n2026-01-01 two \u{1b}[2J\0",
                &[("a\nb".into(), "c\rd".into())],
            );
            Some(Said::default())
        }
        "forge-panic" => panic!("one\r\n2026-01-01 ERROR two \u{1b}[2J\0"),
        "odd-arguments" => Some(reason(odd(asked).to_string())),
        _ => None,
    }
}

/// Calls everything with what nobody expects; gives the number of errors.
fn odd(asked: &Asked) -> usize {
    let long = "l".repeat(70_000);
    let names = [
        "",
        "\0",
        "a\r\nb",
        "\u{202e}x",
        "..",
        "@",
        "a@",
        "<>",
        "\"\"@[::1]",
        "../../x",
        "%00",
        long.as_str(),
    ];
    let mut errors = 0;
    let mut count = |failed: bool| errors += usize::from(failed);
    for name in names {
        count(config::get(name).is_none());
        count(kv::get(name).is_err());
        count(kv::set(name, name.as_bytes(), Some(u32::MAX)).is_err());
        count(kv::increment(name, i64::MIN, Some(0)).is_err());
        count(kv::increment(name, i64::MIN, None).is_err());
        count(dns::resolve(&Query { name: name.into(), kind: name.into() }).is_err());
        count(lookup::get(name, name).is_err());
        count(lookup::match_ip(name, name).is_err());
        count(lookup::match_address(name, name).is_err());
        log::write(Level::Trace, name, &[(name.into(), name.into())]);
        if let Some(session) = asked.session {
            count(session.note(name).is_none());
            count(session.set_note(name, Some(name)).is_err());
        }
        if let Some(transaction) = asked.transaction {
            count(transaction.parameter(name).is_none());
            count(transaction.set_reverse_path(Some(name)).is_err());
            count(transaction.add_recipient(&to(name)).is_err());
            count(transaction.remove_recipient(name).is_err());
            count(transaction.replace_recipient(name, &[to(name), to(name)]).is_err());
            count(transaction.set_route(name, name).is_err());
        }
        if let Some(content) = asked.content {
            count(content.header(name).is_empty());
            count(content.add_header(name, name).is_err());
            count(content.prepend_header("X-Odd", name).is_err());
            count(content.replace_header(name, u32::MAX, name).is_err());
            count(content.remove_header(name, Some(u32::MAX)).is_err());
            count(content.remove_header(name, None).is_err());
        }
    }
    if let Some(content) = asked.content {
        for (offset, length) in [(0, u32::MAX), (u64::MAX, 1), (u64::MAX, u32::MAX), (1 << 40, 0)] {
            count(content.read_body(offset, length).is_err());
            count(content.read_part(0, offset, length).is_err());
            count(content.read_part(u32::MAX, offset, length).is_err());
        }
    }
    errors
}
