mod packer;

use gatepost_plugin::test::{Content, Session, Transaction, World};
use gatepost_plugin::verdict::DataVerdict;
use gatepost_plugin::{Decision, Plugin};
use serde_json::{Value, json};

use self::packer::{encrypted_zip, gzip, tar, zip};
use crate::Attachments;

const PROGRAM: &[u8] = &[
    b'M', b'Z', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0,
];

fn message() -> Content {
    Content::from("Subject: x\nContent-Type: multipart/mixed; boundary=part\n\n").part(
        "text/plain",
        None,
        b"Hello",
    )
}

fn with(name: &str, octets: &[u8]) -> Content {
    message().part("application/octet-stream", Some(name), octets)
}

fn ask(config: Value, content: &Content) -> Decision<DataVerdict> {
    let world = World::new().config(config);
    let plugin = Attachments::configure(&world.host()).unwrap();
    let transaction = Transaction::from("carol@example.net").to("bob@example.org");
    plugin.data(&world.host(), &Session::from("198.51.100.7"), &transaction, content).unwrap()
}

fn said(decision: &Decision<DataVerdict>) -> String {
    match decision.verdict() {
        DataVerdict::Next => "next".to_owned(),
        DataVerdict::Reject(Some(reply)) => reply.to_string(),
        DataVerdict::Quarantine(name) => format!("quarantine {name}"),
        other => format!("{other:?}"),
    }
}

/// What the default says about a file: why it is refused, or nothing.
fn refused(name: &str, octets: &[u8]) -> Option<String> {
    ask(json!({}), &with(name, octets)).reason().map(str::to_owned)
}

#[test]
fn programs_are_refused_without_any_configuration() {
    check("notes.txt", b"text", None);
    check("photo.jpg", b"\xff\xd8\xff", None);
    check("invoice.exe", b"x", Some("invoice.exe (its name is *.exe): refused"));
    check("INVOICE.PDF.Exe ", b"x", Some("INVOICE.PDF.Exe (its name is *.exe): refused"));
    check("a\\b\\run.js", b"x", Some("run.js (its name is *.js): refused"));
    check("invoice.pdf", PROGRAM, Some("invoice.pdf (it is a program): refused"));
    let decision = ask(json!({}), &with("r\u{e9}sum\u{e9}.exe", b"x"));
    assert_eq!(
        said(&decision),
        "550 5.7.1 This file is not taken here: r?sum?.exe (its name is *.exe)"
    );
    assert_eq!(decision.rule_name(), Some("programs"));

    fn check(name: &str, octets: &[u8], expected: Option<&str>) {
        assert_eq!(refused(name, octets).as_deref(), expected, "{name}");
    }
}

#[test]
fn archives_are_looked_into() {
    let name = Some("a.zip/invoice.exe (its name is *.exe): refused");
    check("a.zip", &zip(&[("readme.txt", b"x"), ("docs/invoice.exe", b"x")]), name);
    check("a.zip", &zip(&[("readme.txt", b"x"), ("docs/", b"")]), None);
    check("a.zip", &[&b"stub"[..], &zip(&[("invoice.exe", b"x")])].concat(), None);
    check("a.docx", &zip(&[("word/document.xml", b"x")]), None);
    // In an archive in the archive, but no deeper.
    let inner = zip(&[("invoice.exe", b"x")]);
    check("a.zip", &zip(&[("b.zip", &inner)]), name);
    let deeper = zip(&[("c.zip", &zip(&[("b.zip", &inner)]))]);
    check("a.zip", &deeper, None);
    check(
        "a.tar",
        &tar(&[("x.txt", b"x"), ("dir/invoice.exe", b"y")]),
        Some("a.tar/invoice.exe (its name is *.exe): refused"),
    );
    let long = ["long/".repeat(30).as_str(), "invoice.exe"].concat();
    check("a.tar", &tar(&[(&long, b"y")]), Some("a.tar/invoice.exe (its name is *.exe): refused"));
    check(
        "a.tar.gz",
        &gzip("", &tar(&[("invoice.exe", b"y")])),
        Some("a.tar.gz/invoice.exe (its name is *.exe): refused"),
    );
    check(
        "invoice.exe.gz",
        &gzip("", b"x"),
        Some("invoice.exe.gz/invoice.exe (its name is *.exe): refused"),
    );
    check(
        "a.gz",
        &gzip("invoice.exe", b"x"),
        Some("a.gz/invoice.exe (its name is *.exe): refused"),
    );
    check("a.gz", &gzip("", PROGRAM), Some("a.gz/a (it is a program): refused"));
    check("a.zip", &zip(&[("b.gz", &gzip("invoice.exe", b"x"))]), name);

    fn check(name: &str, octets: &[u8], expected: Option<&str>) {
        assert_eq!(refused(name, octets).as_deref(), expected, "{name}");
    }
}

#[test]
fn what_an_archive_is_can_be_ruled_about() {
    let docm = zip(&[("word/vbaProject.bin", b"x")]);
    check("macros", &docm, true);
    check("macros", &zip(&[("word/document.xml", b"x")]), false);
    check("archive", &zip(&[("a.txt", b"x")]), true);
    check("archive", b"text", false);
    check("encrypted", &encrypted_zip("a.txt"), true);
    check("encrypted", &zip(&[("a.txt", b"x")]), false);
    check("encrypted", &zip(&[("b.zip", &encrypted_zip("a.txt"))]), true);
    check("unreadable", &zip(&[("a.txt", b"x")]), false);
    check("unreadable", b"PK\x03\x04 and nothing", true);
    check("unreadable", b"Rar!\x1a\x07\x01\x00", true);
    check("unreadable", b"7z\xbc\xaf\x27\x1c", true);
    let mut broken = zip(&[("a.txt", b"x"), ("b.txt", b"x")]);
    let directory = broken.windows(4).rposition(|four| four == b"PK\x01\x02").unwrap();
    broken[directory] = b'X';
    check("unreadable", &broken, true);
    let deep = zip(&[("c.zip", &zip(&[("b.zip", &zip(&[("a.txt", b"x")]))]))]);
    check("unreadable", &deep, true);
    let cut = tar(&[("a.txt", &[0; 2_000])]);
    check("unreadable", &cut[..700], false);
    check("unreadable", &gzip("", b"x")[..6], true);

    fn check(kind: &str, octets: &[u8], expected: bool) {
        let rules = json!({ "rules": [{ "contains": kind, "action": "quarantine" }] });
        let decision = ask(rules, &with("a.zip", octets));
        assert_eq!(said(&decision) == "quarantine attachments", expected, "{kind}: {decision:?}");
    }
}

#[test]
fn a_bomb_costs_no_more_than_was_allowed() {
    let bomb = gzip("", &vec![0; 64 << 20]);
    assert!(bomb.len() < 100_000);
    let rules =
        json!({ "unpack": "1 MiB", "rules": [{ "contains": "unreadable", "action": "reject" }] });
    let decision = ask(rules, &with("a.gz", &bomb));
    assert_eq!(decision.reason(), Some("a.gz (it cannot be looked into): refused"));
    // The room is one for the whole message, not for each part of it.
    let zipped = zip(&[("1.gz", &bomb), ("2.gz", &bomb), ("3.gz", &bomb)]);
    let rules =
        json!({ "unpack": "200 KiB", "rules": [{ "contains": "unreadable", "action": "reject" }] });
    assert_eq!(ask(rules, &with("a.zip", &zipped)).rule_name(), Some("unreadable"));
}

#[test]
fn any_octets_can_be_looked_into() {
    // Each octet of each kind of archive, changed: an answer, and no panic.
    let inner = zip(&[("b.txt", b"text"), ("c.gz", &gzip("x", b"y"))]);
    let archives = [
        zip(&[("a.txt", b"x"), ("b.zip", &inner)]),
        tar(&[("a.txt", b"x"), ("b.txt", &[1; 600])]),
        gzip("name", &tar(&[("a.txt", b"x")])),
    ];
    for archive in archives {
        for place in 0..archive.len() {
            for change in [0x00, 0xff] {
                let mut changed = archive.clone();
                changed[place] = change;
                let _ = refused("a.zip", &changed);
            }
            let _ = refused("a.zip", &archive[..place]);
        }
    }
}

#[test]
fn the_first_rule_that_fits_decides_about_a_file_and_the_severest_about_the_message() {
    let config = json!({ "rules": [
        { "names": "ours-*.exe", "action": "pass" },
        { "names": ["*.exe", "*.js"], "action": "quarantine", "quarantine": "programs", "tag": "program" },
        { "types": "image/*", "larger-than": "1 KiB", "action": "strip" },
        { "names": "*.bat", "action": "reject", "reply": "554 5.7.0 {name}: no" },
    ] });
    let check = |content: Content, expected: &str, reason: Option<&str>| {
        let decision = ask(config.clone(), &content);
        assert_eq!((said(&decision).as_str(), decision.reason()), (expected, reason));
    };
    check(with("ours-1.exe", PROGRAM), "next", Some("ours-1.exe (its name is ours-*.exe): passed"));
    check(with("a.js", b"x"), "quarantine programs", Some("a.js (its name is *.js): held"));
    check(with("a.bat", b"x"), "554 5.7.0 a.bat: no", Some("a.bat (its name is *.bat): refused"));
    check(
        with("a.js", b"x").part("application/x", Some("b.bat"), b"x"),
        "554 5.7.0 b.bat: no",
        Some("a.js (its name is *.js): held; b.bat (its name is *.bat): refused"),
    );
    check(with("big.bin", &[0; 2_000]), "next", Some("big.bin (it is too large): stripped"));
}

#[test]
fn a_stripped_part_leaves_all_other_octets_as_they_were() {
    let content = with("run.exe", b"AAAA\r\nBBBB").part("image/png", Some("b.png"), b"\x89PNG");
    let before = content.edited_body();
    let config = json!({ "rules": [{ "names": "*.exe", "action": "strip" }] });
    let decision = ask(config, &content);
    assert_eq!(said(&decision), "next");
    let after = content.edited_body();
    let start = position(&before, b"Content-Type: application/octet-stream");
    let end = position(&before, b"BBBB") + 4;
    assert_eq!(after[..start], before[..start]);
    assert!(after.ends_with(&before[end..]));
    let note = &after[start..after.len() - (before.len() - end)];
    assert_eq!(
        std::str::from_utf8(note).unwrap(),
        "Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: inline\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\r\n\
         The file \"run.exe\" was removed from this message on its way to you: its =\r\nname is *.exe."
    );
}

#[test]
fn several_parts_are_stripped_at_once() {
    let content = with("1.exe", b"AAAA").part("x/y", Some("2.exe"), b"BBBB").part(
        "x/y",
        Some("3.txt"),
        b"CCCC",
    );
    let _ = ask(
        json!({ "note": "gone: {name} \u{e9}=", "rules": [{ "names": "*.exe", "action": "strip" }] }),
        &content,
    );
    let after = String::from_utf8(content.edited_body()).unwrap();
    assert_eq!(after.matches("gone: ").count(), 2);
    assert!(after.contains("gone: 1.exe =C3=A9=3D\r\n--part\r\n"), "{after}");
    assert!(
        after.contains("CCCC") && !after.contains("AAAA") && !after.contains("BBBB"),
        "{after}"
    );
}

#[test]
fn a_message_that_is_one_file_becomes_a_note() {
    let content = Content::from(
        "Content-Type: application/x-msdownload\nContent-Transfer-Encoding: base64\n\nTVqQ",
    );
    let rules =
        json!({ "note": "gone", "rules": [{ "types": "application/x-ms*", "action": "strip" }] });
    let _ = ask(rules, &content);
    assert_eq!(content.header("Content-Type"), ["text/plain; charset=utf-8"]);
    assert_eq!(content.header("Content-Transfer-Encoding"), ["quoted-printable"]);
    assert_eq!(content.edited_body(), b"gone");
}

#[test]
fn rules_may_leave_archives_alone() {
    let archive = zip(&[("run.exe", b"x")]);
    let rule = |within: bool| json!({ "rules": [{ "names": "*.exe", "action": "reject", "within-archives": within }] });
    assert_eq!(ask(rule(true), &with("a.zip", &archive)).rule_name(), Some("*.exe"));
    assert_eq!(ask(rule(false), &with("a.zip", &archive)), Decision::next());
    let shut = json!({ "archives": false });
    assert_eq!(ask(shut, &with("a.zip", &archive)), Decision::next());
}

#[test]
fn some_mail_is_not_looked_at() {
    check(json!({ "exempt-clients": ["198.51.100.0/24"] }), true);
    check(json!({ "exempt-senders": ["example.net"] }), true);
    check(json!({ "exempt-recipients": ["abuse@"] }), false);
    check(json!({ "exempt-recipients": ["bob@"] }), true);
    check(json!({ "origins": ["submission"] }), true);
    check(json!({ "origins": ["mx"] }), false);

    fn check(config: Value, exempt: bool) {
        let decision = ask(config.clone(), &with("run.exe", b"x"));
        assert_eq!(decision.rule_name() == Some("exempt"), exempt, "{config}");
    }
}

#[test]
fn faults_of_the_configuration_are_named() {
    check(json!({ "rules": [] }), "`rules` is empty: leave it out");
    check(json!({ "unpack": "1 GiB" }), "`unpack` is at most \"8 MiB\"");
    check(json!({ "rules": [{ "names": "*.exe" }] }), "`rules[0]`: missing field `action`");
    check(json!({ "rules": [{ "action": "reject" }] }), "`rules[0]`: a rule needs `names`,");
    check(
        json!({ "rules": [{ "names": "*.a", "action": "delete" }] }),
        "`rules[0].action`: unknown variant `delete`",
    );
    check(
        json!({ "rules": [{ "contains": "virus", "action": "strip" }] }),
        "`rules[0].contains`: unknown variant `virus`",
    );
    check(
        json!({ "rules": [{ "names": "*.a", "action": "tag" }] }),
        "`rules[0]`: the rule `*.a`: `action` = \"tag\" needs",
    );
    check(
        json!({ "rules": [{ "names": "*.a", "action": "reject", "reply": "450 no" }] }),
        "`rules[0]`: the rule `*.a`: `reply` needs",
    );
    check(
        json!({ "rules": [{ "names": "*.a", "action": "quarantine", "quarantine": "a b" }] }),
        "`rules[0]`: the rule `*.a`: `quarantine` and",
    );
    check(
        json!({ "rules": [{ "larger-than": "big", "action": "strip" }] }),
        "`rules[0].larger-than`: invalid value",
    );
    check(json!({ "rule": [] }), "`rule`: unknown field `rule`, expected one of `rules`");

    fn check(config: Value, expected: &str) {
        let error = Attachments::configure(&World::new().config(config).host()).err().unwrap();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}

#[test]
fn the_examples_of_the_readme_are_accepted() {
    gatepost_plugin::test::readme_examples::<Attachments>(include_str!("../README.md"));
}

fn position(text: &[u8], piece: &[u8]) -> usize {
    text.windows(piece.len()).position(|window| window == piece).unwrap()
}
