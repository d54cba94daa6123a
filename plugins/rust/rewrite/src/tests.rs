use gatepost_plugin::test::{Content, Session, Transaction, World};
use gatepost_plugin::{Decision, Plugin, RcptVerdict, RouteVerdict};
use serde_json::{Value, json};

use crate::Rewrite;

const CLIENT: &str = "198.51.100.7";

fn plugin(world: &World) -> Rewrite {
    Rewrite::configure(&world.host()).unwrap()
}

fn rcpt(world: &World, address: &str) -> (Decision<RcptVerdict>, Vec<String>) {
    let transaction = Transaction::from("carol@example.net").to(address);
    let recipient = &transaction.recipients()[0];
    let decision =
        plugin(world).rcpt(&world.host(), &Session::from(CLIENT), &transaction, recipient).unwrap();
    let addresses =
        transaction.recipients().into_iter().map(|recipient| recipient.address).collect();
    (decision, addresses)
}

#[test]
fn the_first_rule_that_fits_makes_the_recipients() {
    check("sales@example.org", "ann@example.org,bob@example.net");
    check("bob@old.example", "bob@example.org");
    check("boss@example.org", "boss@example.org,archive@example.org");
    check("team-red@example.org", "red@teams.example");
    check("bob@example.org", "bob@example.org");
    check("same@example.org", "same@example.org");

    fn check(address: &str, expected: &str) {
        let world = World::new().config(json!({ "recipients": [
            { "match": "sales@example.org", "to": ["ann@example.org", "bob@example.net", "ann@example.org"] },
            { "match": "@old.example", "to": ["@example.org"] },
            { "match": "boss@example.org", "to": ["archive@example.org"], "keep": true },
            { "match": "team-*@example.org", "to": ["$1@teams.example"] },
            { "match": "same@*", "to": ["same@$1"] },
        ] }));
        let (decision, addresses) = rcpt(&world, address);
        assert_eq!(addresses.join(","), expected, "{address}");
        assert_eq!(decision.verdict(), &RcptVerdict::Next);
        let reason = (expected != address)
            .then(|| format!("{address} becomes {}", expected.replace(',', ", ")));
        assert_eq!(decision.reason(), reason.as_deref());
    }
}

#[test]
fn a_rule_can_refuse_or_discard() {
    let world = World::new().config(json!({ "recipients": [
        { "match": "gone@example.org", "reply": "550 5.1.6 Moved to gone@example.net" },
        { "match": "later@example.org", "reply": "450 4.2.1 Not today" },
        { "match": "noreply@", "discard": true },
    ] }));
    check(&world, "gone@example.org", "Reject 550 5.1.6 Moved to gone@example.net");
    check(&world, "later@example.org", "Defer 450 4.2.1 Not today");
    check(&world, "noreply@example.org", "Discard");
    check(&world, "bob@example.org", "Next");
}

fn check(world: &World, address: &str, expected: &str) {
    let expected = match expected.split_once(' ') {
        Some(("Reject", reply)) => RcptVerdict::Reject(Some(reply.parse().unwrap())),
        Some((_, reply)) => RcptVerdict::Defer(Some(reply.parse().unwrap())),
        None if expected == "Discard" => RcptVerdict::Discard,
        None => RcptVerdict::Next,
    };
    assert_eq!(rcpt(world, address).0.verdict(), &expected, "{address}");
}

#[test]
fn nobody_gets_a_second_copy() {
    check(&["ann@example.org"], "Next ann@example.org,bob@example.org");
    check(
        &["ann@example.org", "bob@example.org"],
        "Discard ann@example.org,bob@example.org,all@example.org",
    );
    check(&["carol@example.org"], "Next carol@example.org,ann@example.org,bob@example.org");

    fn check(earlier: &[&str], expected: &str) {
        let rule =
            json!({ "match": "all@example.org", "to": ["ann@example.org", "bob@example.org"] });
        let world = World::new().config(json!({ "recipients": [rule] }));
        let transaction = earlier
            .iter()
            .fold(Transaction::from(""), |transaction, address| transaction.to(address));
        let transaction = transaction.to("all@example.org");
        let asked = transaction.recipients().pop().unwrap();
        let decision = plugin(&world)
            .rcpt(&world.host(), &Session::from(CLIENT), &transaction, &asked)
            .unwrap();
        let verdict = if decision.verdict() == &RcptVerdict::Discard { "Discard" } else { "Next" };
        let addresses: Vec<_> =
            transaction.recipients().into_iter().map(|recipient| recipient.address).collect();
        assert_eq!(format!("{verdict} {}", addresses.join(",")), expected);
    }
}

#[test]
fn a_table_says_what_rules_do_not() {
    let world = World::new()
        .config(json!({
            "recipients": [{ "match": "first@example.org", "to": ["rule@example.org"] }],
            "recipient-table": "aliases",
            "extension-separator": "+",
        }))
        .table(
            "aliases",
            &[
                ("first@example.org", "table@example.org"),
                ("info@example.org", "ann@example.org, bob@example.net"),
                ("gone@example.org", "550 5.1.1 Gone"),
                ("null@example.org", "discard"),
                ("@old.example", "@example.org"),
                (".sub.example", "catch@example.org"),
            ],
        );
    let made = |address: &str| rcpt(&world, address).1.join(",");
    assert_eq!(made("first@example.org"), "rule@example.org");
    assert_eq!(made("info@example.org"), "ann@example.org,bob@example.net");
    assert_eq!(made("Info+list@example.org"), "ann@example.org,bob@example.net");
    assert_eq!(made("Zoe+x@old.example"), "Zoe+x@example.org");
    assert_eq!(made("any@deep.sub.example"), "catch@example.org");
    assert_eq!(made("bob@example.org"), "bob@example.org");
    check(&world, "gone@example.org", "Reject 550 5.1.1 Gone");
    check(&world, "null@example.org", "Discard");
}

#[test]
fn a_fault_in_a_table_is_an_error_that_names_it() {
    let world = World::new()
        .config(json!({ "recipient-table": "aliases" }))
        .table("aliases", &[("bob@example.org", "nobody")]);
    let transaction = Transaction::from("").to("bob@example.org");
    let recipient = &transaction.recipients()[0];
    let error = plugin(&world)
        .rcpt(&world.host(), &Session::from(CLIENT), &transaction, recipient)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("table aliases, value for bob@example.org: `nobody` is no address"),
        "{error}"
    );
}

#[test]
fn an_edit_that_is_not_granted_fails_the_call() {
    let world = World::new()
        .config(json!({ "recipients": [{ "match": "@a.example", "to": ["@b.example"] }] }));
    let transaction = Transaction::from("").to("bob@a.example").without_grants();
    let recipient = &transaction.recipients()[0];
    let error = plugin(&world)
        .rcpt(&world.host(), &Session::from(CLIENT), &transaction, recipient)
        .unwrap_err();
    assert_eq!(error.to_string(), "the host does not grant edit recipients");
}

#[test]
fn the_reverse_path_is_rewritten_when_the_message_is_complete() {
    check("bob@old.example", "bob@new.example");
    check("list-1@news.example", "bounce+list-1@example.org");
    check("info@table.example", "office@example.org");
    check("bob@example.net", "bob@example.net");
    check("", "");

    fn check(sender: &str, expected: &str) {
        let world = World::new()
            .config(json!({
                "reverse-path": [
                    { "match": "@old.example", "to": "@new.example" },
                    { "match": "*@news.example", "to": "bounce+$1@example.org" },
                ],
                "reverse-path-table": "senders",
            }))
            .table("senders", &[("@table.example", "office@example.org")]);
        let transaction = Transaction::from(sender).to("bob@example.org");
        let content = Content::from("Subject: x\n\nx");
        let decision = plugin(&world)
            .data(&world.host(), &Session::from(CLIENT), &transaction, &content)
            .unwrap();
        assert_eq!(transaction.reverse_path().unwrap_or_default(), expected);
        assert_eq!(decision.reason().is_some(), sender != expected);
    }
}

const UNCHANGED: &str = "S: Hello, Spam: yes, T: a, T: b, T: aa";
const MESSAGE: &str = "Subject: Hello\nX-Spam: yes\nX-Trace: a\nX-Trace: b\nX-Trace: aa\n\nx";

#[test]
fn header_rules_add_replace_and_remove() {
    check(
        json!({ "add": "X-Id", "value": "$i from $c" }),
        "S: Hello, Spam: yes, T: a, T: b, T: aa, X-Id: 0123456789ABCDEF from 198.51.100.7",
    );
    check(
        json!({ "prepend": "X-Top", "value": "$h $$" }),
        "X-Top: mail.example.net $, S: Hello, Spam: yes, T: a, T: b, T: aa",
    );
    check(json!({ "add": "X-Spam", "value": "no", "unless-present": true }), UNCHANGED);
    check(
        json!({ "replace": "subject", "value": "[ext] $0" }),
        "S: [ext] Hello, Spam: yes, T: a, T: b, T: aa",
    );
    check(
        json!({ "replace": "Subject", "value": "[$1] $s", "value-is": "h*o" }),
        "S: [ell] carol@example.net, Spam: yes, T: a, T: b, T: aa",
    );
    check(json!({ "replace": "Subject", "value": "x", "value-is": "bye" }), UNCHANGED);
    check(json!({ "remove": "x-trace" }), "S: Hello, Spam: yes");
    check(json!({ "remove": "X-Trace", "value-is": "a*" }), "S: Hello, Spam: yes, T: b");
    // Conditions.
    check(json!({ "remove": "X-Trace", "origins": ["submission"] }), UNCHANGED);
    check(
        json!({ "remove": "X-Trace", "origins": ["mx"], "sender": "@example.net" }),
        "S: Hello, Spam: yes",
    );
    check(json!({ "remove": "X-Trace", "sender": "@example.org" }), UNCHANGED);
    check(json!({ "remove": "X-Trace", "recipient": "bob@" }), "S: Hello, Spam: yes");
    check(json!({ "remove": "X-Trace", "recipient": "ann@" }), UNCHANGED);

    fn check(rule: Value, expected: &str) {
        let world = World::new().config(json!({ "headers": [&rule] }));
        let transaction = Transaction::from("carol@example.net").to("bob@example.org");
        let content = Content::from(MESSAGE);
        let session = Session::from(CLIENT).helo("mail.example.net");
        let decision =
            plugin(&world).data(&world.host(), &session, &transaction, &content).unwrap();
        let fields: Vec<_> = content
            .headers()
            .iter()
            .map(|field| format!("{}: {}", field.name, field.value))
            .collect();
        let fields = fields
            .join(", ")
            .replace("Subject:", "S:")
            .replace("X-Spam:", "Spam:")
            .replace("X-Trace:", "T:");
        assert_eq!(fields, expected, "{rule}");
        assert_eq!(decision.reason().is_some(), expected != UNCHANGED);
    }
}

#[test]
fn addresses_in_fields_are_mapped() {
    check(
        json!({ "map": "From", "match": "@inside.example", "to": "@example.org" }),
        "Ann <ann@example.org>",
    );
    check(json!({ "map": "from", "table": "canonical" }), "Ann <ann.lee@example.org>");
    check(
        json!({ "map": "From", "table": "canonical", "origins": ["submission"] }),
        "Ann <ann@inside.example>",
    );
    check(
        json!({ "map": "From", "match": "bob@", "to": "@example.org" }),
        "Ann <ann@inside.example>",
    );

    fn check(rule: Value, expected: &str) {
        let world = World::new()
            .config(json!({ "headers": [&rule] }))
            .table("canonical", &[("ann@inside.example", "ann.lee@example.org")]);
        let content = Content::from("From: Ann <ann@inside.example>\n\nx");
        let transaction = Transaction::from("");
        let _ = plugin(&world)
            .data(&world.host(), &Session::from(CLIENT), &transaction, &content)
            .unwrap();
        assert_eq!(content.header("From"), [expected], "{rule}");
    }
}

#[test]
fn a_route_comes_from_a_rule_or_a_table() {
    check("bob@example.org", Some("lmtp:/run/dovecot/lmtp"));
    check("bob@a.example", Some("smtp:[192.0.2.1]:25"));
    check("bob@b.example", Some("mx:relay.example"));
    check("bob@c.example", None);

    fn check(address: &str, expected: Option<&str>) {
        let world = World::new()
            .config(json!({
                "routes": [
                    { "match": "@example.org", "to": "lmtp:/run/dovecot/lmtp" },
                    { "match": "@a.example", "to": "smtp:[192.0.2.1]:25" },
                ],
                "route-table": "routes",
            }))
            .table(
                "routes",
                &[("@b.example", " mx:relay.example "), ("@a.example", "mx:never.example")],
            );
        let transaction = Transaction::from("").to(address);
        let decision = plugin(&world)
            .route(&world.host(), &transaction, &transaction.recipients()[0])
            .unwrap();
        assert_eq!(
            decision.verdict(),
            &expected.map_or(RouteVerdict::Next, |route| RouteVerdict::To(route.to_owned()))
        );
    }
}

#[test]
fn faults_of_rules_and_tables_are_named() {
    check(json!({}), "there is no rule and no table");
    check(json!({ "recipient": [] }), "`recipient`: unknown field `recipient`, expected one of");
    check(
        json!({ "route-table": "absent" }),
        "the host finds this invalid: there is no table absent",
    );
    check(
        json!({ "route-table": "x", "extension-separator": "" }),
        "`extension-separator` is what stands",
    );
    rule(json!({ "match": "example.org" }), ".match`: `example.org` is no pattern");
    rule(json!({ "match": "@a.example", "to": ["bob"] }), ".to[0]`: `bob` is no address");
    rule(json!({ "match": "@a.example" }), "`: the rule for `@a.example` needs one of");
    rule(
        json!({ "match": "a@b.example", "to": ["$1@c.example"] }),
        "`: `$1@c.example` asks for $1",
    );
    rule(
        json!({ "match": "@a.example", "discard": true, "keep": true }),
        "`: the rule for `@a.example`: `keep`",
    );
    rule(
        json!({ "match": "@a.example", "reply": "250 Ok" }),
        ".reply`: a reply begins with a code from 400",
    );

    fn rule(rule: Value, expected: &str) {
        check(json!({ "recipients": [rule] }), &["`recipients[0]", expected].concat());
    }
    let route = json!({ "match": "@a.example", "to": "relay.example" });
    check(json!({ "routes": [route] }), "`routes[0]`: `relay.example` is no route");

    fn check(config: Value, expected: &str) {
        let error = fault(config);
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn faults_of_header_rules_are_named() {
    check(json!({ "add": "X", "remove": "Y" }), "a header rule needs one of");
    check(json!({ "add": "Received", "value": "x" }), "Received is made by the host");
    check(json!({ "add": "X:", "value": "x" }), "`X:` is no name of a header field");
    check(json!({ "add": "X" }), "the rule for X needs a `value`");
    check(json!({ "remove": "X", "value": "x" }), "`remove` has no `value`");
    check(
        json!({ "replace": "X", "value": "$1" }),
        "`$1` asks for $1, but the pattern has 0 times",
    );
    check(json!({ "add": "X", "value": "x", "value-is": "y" }), "`value-is` belongs to");
    check(json!({ "remove": "X", "unless-present": true }), "`unless-present` belongs to");
    check(json!({ "add": "X", "value": "a\nb" }), "`value` is one line");
    check(json!({ "map": "From" }), "`map` needs `match` and `to`, or `table`");
    check(json!({ "map": "From", "match": "a@", "table": "x" }), "`map` needs `match` and `to`");
    check(
        json!({ "add": "X", "value": "x", "table": "x" }),
        "`match`, `to` and `table` belong to `map`",
    );
    check(json!({ "map": "From", "table": "x", "value": "x" }), "`map` has neither `value`");
    check(
        json!({ "map": "From", "match": "a@b.example", "to": "$1@c.example" }),
        "`$1@c.example` asks for $1",
    );

    fn check(rule: Value, expected: &str) {
        let error = fault(json!({ "headers": [rule] }));
        assert!(error.starts_with(&["`headers[0]`: ", expected].concat()), "{error}");
    }
}

fn fault(config: Value) -> String {
    Rewrite::configure(&World::new().config(config).host()).err().unwrap().to_string()
}

#[test]
fn the_examples_of_the_readme_are_accepted() {
    gatepost_plugin::test::readme_examples::<Rewrite>(include_str!("../README.md"));
}
