use gatepost_plugin::authentication::{
    Arc, ArcResult, Dkim, DkimResult, Dmarc, DmarcPolicy, DmarcResult, Results, Spf, SpfResult,
};
use gatepost_plugin::test::{Content, Session, Transaction, World};
use gatepost_plugin::verdict::{DataVerdict, MailVerdict, RcptVerdict};
use gatepost_plugin::{Decision, Plugin};
use serde_json::{Value, json};

use crate::HeaderRules;

const MESSAGE: &str = "From: \"Ada Boss\" <ada@example.net>\nSubject: Cheap WATCHES\nX-Spam-Score: 7.5 (of 15)\nX-Trace: a\nX-Trace: b\n\nbody";

fn dkim(outcome: DkimResult, domain: &str) -> Dkim {
    Dkim {
        outcome,
        domain: domain.to_owned(),
        selector: "s".to_owned(),
        identity: None,
        algorithm: "rsa-sha256".to_owned(),
        is_partial: false,
        reason: None,
    }
}

fn results() -> Results {
    Results {
        spf: Vec::new(),
        dkim: vec![
            dkim(DkimResult::Fail, "broken.example"),
            dkim(DkimResult::Pass, "mail.example.net"),
        ],
        dmarc: Some(Dmarc {
            outcome: DmarcResult::Fail,
            domain: "example.net".to_owned(),
            policy: Some(DmarcPolicy::Reject),
            is_spf_aligned: false,
            is_dkim_aligned: false,
        }),
        arc: Some(Arc {
            outcome: ArcResult::Pass,
            instances: 1,
            sealer: Some("list.example".to_owned()),
        }),
    }
}

fn spf() -> Spf {
    Spf {
        outcome: SpfResult::Softfail,
        identity: "mailfrom".to_owned(),
        domain: "example.net".to_owned(),
        explanation: None,
    }
}

fn session() -> Session {
    Session::from("198.51.100.7").helo("mail.example.net").named("mx1.example.net").encrypted()
}

fn transaction() -> Transaction {
    Transaction::from("carol@example.net")
        .to("bob@example.org")
        .to("eve@sub.example.com")
        .with_parameter("BODY", "8BITMIME")
        .with_spf(spf())
}

fn world(rules: Value) -> World {
    World::new()
        .config(json!({ "rules": rules }))
        .table("friends", &[("@example.net", "gold")])
        .table("nets", &[("198.51.100.0/24", "office")])
        .table("names", &[("mx1.example.net", ""), (".parent.example", "")])
}

fn data(world: &World, content: &Content, transaction: &Transaction) -> Decision<DataVerdict> {
    let plugin = HeaderRules::configure(&world.host()).unwrap();
    plugin.data(&world.host(), &session(), transaction, content).unwrap()
}

/// Whether the expression holds of the message above.
fn holds(expression: &str) -> bool {
    let world = world(json!([{ "if": expression, "reply": "550 5.7.1 no" }]));
    let content = Content::from(MESSAGE).with_results(results());
    let transaction = transaction();
    transaction.set_note("score", Some("12")).unwrap();
    matches!(data(&world, &content, &transaction).verdict(), DataVerdict::Reject(_))
}

#[test]
fn expressions_are_true_or_false_of_a_message() {
    check("header.subject", true);
    check("header.nothing", false);
    check("not header.nothing", true);
    check("not not header.subject", true);
    check("header.subject == 'cheap watches'", true);
    check("header.subject == \"Cheap\"", false);
    check("header.subject != 'Cheap'", true);
    check("header.subject ~ '*watch*'", true);
    check("header.subject ~ 'watch*'", false);
    check("header.subject !~ 'watch*'", true);
    check("header.subject ~ ['x', 'cheap*']", true);
    check("header.subject contains 'WATCH'", true);
    check("header.subject contains ['pills', 'watch']", true);
    check("header.subject contains 'pills'", false);
    check("header.x-trace == 'b'", true);
    check("header.x-trace != 'b'", false);
    check("header.x-trace not in ['c', 'd']", true);
    check("count(header.x-trace) == 2", true);
    check("count(recipients) >= 2 and count(recipients) < 3", true);
    check("count(header.nothing) == 0", true);
    check("number(header.x-spam-score) >= 7", true);
    check("number(header.x-spam-score) > 7", false);
    check("number(header.nothing) < 1", false);
    check("number(header.nothing) == 0", false);
    check("size > 10KiB", false);
    check("size < 10KiB and body.size == 4", true);
    check("headers == 'x-trace'", true);
    check("tags", false);
    check("id ~ '0123*'", true);
    check("'it''s' == \"it's\"", true);
}

#[test]
fn the_envelope_and_the_connection_can_be_asked_about() {
    check("client.ip in ['198.51.100.0/24', '2001:db8::/32']", true);
    check("client.ip == '198.51.100.7'", true);
    check("client.ip not in ['198.51.100.8']", true);
    check("client.ip in table('nets')", true);
    check("table('nets', client.ip) == 'office'", true);
    check("client.name in ['.example.net']", true);
    check("client.name in table('names')", true);
    check("helo == client.name", false);
    check("helo ~ '*.example.net'", true);
    check("sender in ['@example.net']", true);
    check("sender in ['carol@']", true);
    check("sender in table('friends')", true);
    check("table('friends', sender) == 'gold'", true);
    check("table('friends', recipients) == 'gold'", false);
    check("domain(sender) == 'example.net' and local(sender) == 'carol'", true);
    check("domain(recipients) in ['.example.com']", true);
    check("recipients in ['eve@']", true);
    check("tls and tls.version == 'TLSv1.3'", true);
    check("authenticated or user or ours", false);
    check("parameter.body == '8bitmime'", true);
    check("listener == 'mx' and origin == 'mx'", true);
    check("note('score') == '12' and number(note('score')) > 8", true);
    check("note('other')", false);
}

#[test]
fn authentication_results_can_be_asked_about() {
    check("spf == 'softfail'", true);
    check("spf.helo", false);
    check("dkim == 'pass' and dkim == 'fail'", true);
    check("count(dkim) == 2", true);
    check("dkim.domains == 'broken.example'", false);
    check("dkim.domains in ['.example.net']", true);
    check("dmarc == 'fail' and dmarc.policy == 'reject'", true);
    check("dmarc.domain == domain(address(header.from))", true);
    check("arc == 'pass' and arc.sealer in ['list.example']", true);
}

#[test]
fn operators_have_an_order() {
    check("tls or tls and authenticated", true);
    check("(tls or tls) and authenticated", false);
    check("not authenticated and tls", true);
    check("not (authenticated or tls)", false);
    check("AUTHENTICATED OR TLS", true);
}

fn check(expression: &str, expected: bool) {
    assert_eq!(holds(expression), expected, "{expression}");
}

#[test]
fn a_fault_in_an_expression_is_named_with_its_place() {
    check("heeder.from", "at character 1: there is no `heeder.from`; there are client.ip,");
    check(
        "dmarc == 'fail' and dmark",
        "at character 21 behind `== 'fail' and`: there is no `dmark`;",
    );
    check("tls and", "at character 8 behind `tls and`: something is missing at the end");
    check("tls tls", "at character 5 behind `tls`: `and` or `or` belongs here, or nothing");
    check("(tls", "at character 5 behind `(tls`: `)` belongs here");
    check("sender in ['a' 'b']", "at character 16 behind `sender in ['a'`: `]` belongs here");
    check("sender in [1]", "at character 12 behind `sender in [`: a text in quotes belongs here");
    check("sender in ['*']", "at character 11 behind `sender in`: `*` is none of user@domain,");
    check(
        "client.ip in ['x']",
        "at character 14 behind `client.ip in`: `x` is no address or network",
    );
    check("header.subject < 5", "at character 1: `<` and `>` compare numbers: number(…)");
    check("size == 'big'", "at character 9 behind `size ==`: a number is compared with a number");
    check("size ~ '1*'", "at character 1: this is a number, and");
    check("tls == 'yes'", "at character 1: this is true or false already");
    check("sender == tls", "at character 11 behind `sender ==`: a number is compared");
    check("first(sender)", "at character 1: there is no function `first`; there are address,");
    check("sender == 'a", "at character 11 behind `sender ==`: this text has no end");
    check("size > 5 apples", "at character 10 behind `size > 5`: `and` or `or`");
    check("size > 5apples", "at character 8 behind `size >`: this is no number");
    check("tls & tls", "at character 5 behind `tls`: `&` means nothing here");
    check(
        "sender not ['a@b']",
        "at character 12 behind `sender not`: `in` belongs behind this `not`",
    );
    check("", "at character 1: something is missing at the end");
    check(
        &"(".repeat(40),
        "at character 33 behind `((((((((((((((((((((((((((((((((`: there are too many",
    );
    check(&format!("{}sender", "domain(".repeat(40)), "at character");

    fn check(expression: &str, expected: &str) {
        fault(json!({ "if": expression, "tag": "x" }), &["`rules[0].if`: ", expected].concat());
    }
}

fn fault(rule: Value, expected: &str) {
    let error = HeaderRules::configure(&world(json!([rule])).host()).err().unwrap().to_string();
    assert!(error.starts_with(expected), "{error}\n{expected}");
}

#[test]
fn faults_of_rules_are_named() {
    fault(json!({ "if": "tls" }), "`rules[0]` (rule 1): nothing follows: it needs `reply`");
    fault(
        json!({ "name": "a", "accept": true, "discard": true }),
        "`rules[0]` (a): only one of `reply`",
    );
    fault(json!({ "reply": "250 Ok" }), "`rules[0].reply`: a reply begins with a code from 400");
    fault(json!({ "add": "X-A" }), "`rules[0].add`: `X-A` has no colon");
    fault(json!({ "add": "X A: b" }), "`rules[0].add`: `X A` is no name of a header field");
    fault(
        json!({ "add": "X-A: {nothing}" }),
        "`rules[0].add`: in `{nothing}` at character 1: there is no `nothing`",
    );
    fault(json!({ "add": "X-A: {sender" }), "`rules[0].add`: ` {sender`: a `{` has no `}`");
    fault(json!({ "remove": "X:" }), "`rules[0].remove`: `X:` is no name");
    fault(json!({ "tag": "two words" }), "`rules[0]` (rule 1): `quarantine` and `tag` have");
    fault(json!({ "stage": "rcpt", "add": "X-A: b" }), "`rules[0]` (rule 1): fields are edited");
    fault(
        json!({ "stage": "mail", "discard": true }),
        "`rules[0]` (rule 1): `discard` and `route` need",
    );
    fault(
        json!({ "stage": "rcpt", "if": "header.from", "tag": "x" }),
        "`rules[0]` (rule 1): `header.from` is known from `stage` = \"data\" on",
    );
    fault(
        json!({ "stage": "mail", "reply": "550 5.7.1 {recipients}" }),
        "`rules[0]` (rule 1): `recipients` is known from `stage` = \"rcpt\" on",
    );
    fault(
        json!({ "if": "sender in table('absent')", "tag": "x" }),
        "`rules[0]` (rule 1): the host finds this invalid: there is no table absent",
    );
    fault(
        json!({ "if": "client.ip in table('friends')", "tag": "x" }),
        "`rules[0]` (rule 1): the host finds this invalid: table friends is of another kind",
    );
    fault(json!({ "iff": "tls" }), "`rules[0].iff`: unknown field `iff`, expected one of `name`");
    let empty = World::new().config(json!({ "rules": [] }));
    let error = HeaderRules::configure(&empty.host()).err().unwrap().to_string();
    assert_eq!(error, "`rules` is empty: nothing would ever be done");
}

#[test]
fn fields_are_added_replaced_and_removed() {
    let world = world(json!([
        { "name": "one", "replace": ["Subject: [odd] {header.subject}", "X-Trace: {count(header.x-trace)}", "X-New: 1"] },
        { "name": "two", "if": "header.subject ~ '[odd]*'", "remove": "X-Spam-Score", "add": "X-Who: {sender} {{}" },
        { "name": "never", "if": "ours", "add": "X-Never: 1" },
        { "name": "three", "prepend": "X-Top: {recipients}" },
    ]));
    let (content, transaction) = (Content::from(MESSAGE), transaction());
    let decision = data(&world, &content, &transaction);
    assert_eq!(decision.verdict(), &DataVerdict::Next);
    assert_eq!((decision.reason(), decision.rule_name()), (Some("one, two, three"), Some("three")));
    let fields: Vec<String> = content
        .headers()
        .iter()
        .map(|field| [field.name.as_str(), field.value.as_str()].join(": "))
        .collect();
    assert_eq!(
        fields,
        [
            "X-Top: bob@example.org, eve@sub.example.com",
            "From: \"Ada Boss\" <ada@example.net>",
            "Subject: [odd] Cheap WATCHES",
            "X-Trace: 2",
            "X-New: 1",
            "X-Who: carol@example.net {}",
        ]
    );
}

#[test]
fn the_first_verdict_ends_the_stage() {
    check(
        json!({ "reply": "550 5.7.1 {sender} at {client.ip}" }),
        "550 5.7.1 carol@example.net at 198.51.100.7",
    );
    check(json!({ "reply": "450 4.7.1 later" }), "450 4.7.1 later");
    check(json!({ "accept": true }), "Verdict::Accept");
    check(json!({ "discard": true }), "Verdict::Discard");
    check(json!({ "quarantine": "odd" }), "Verdict::Quarantine(\"odd\")");
    check(json!({ "last": true }), "Verdict::Next");

    fn check(rule: Value, expected: &str) {
        let world = world(json!([rule, { "tag": "later" }]));
        let transaction = transaction();
        let decision = data(&world, &Content::from(MESSAGE), &transaction);
        let said = match decision.verdict() {
            DataVerdict::Reject(Some(reply)) | DataVerdict::Defer(Some(reply)) => reply.to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(said, expected);
        assert!(transaction.tags().is_empty(), "the later rule was asked");
    }
}

#[test]
fn a_rule_may_tag_route_note_and_delay() {
    let world = world(json!([{
        "tag": ["odd", "old"],
        "note": ["why: {header.subject}"],
        "route": "smtp:[192.0.2.1]:25",
        "priority": -2,
        "delay": "3s",
    }]));
    let (transaction, session) = (transaction(), session());
    let plugin = HeaderRules::configure(&world.host()).unwrap();
    let _ = plugin.data(&world.host(), &session, &transaction, &Content::from(MESSAGE)).unwrap();
    assert_eq!(transaction.tags(), ["odd", "old"]);
    assert_eq!(transaction.note("why").as_deref(), Some("Cheap WATCHES"));
    let routes = [
        "set-route bob@example.org smtp:[192.0.2.1]:25",
        "set-route eve@sub.example.com smtp:[192.0.2.1]:25",
    ];
    assert_eq!(transaction.edits()[2..4], routes);
    assert_eq!((transaction.priority(), session.delayed()), (-2, 3_000));
}

#[test]
fn rules_have_stages() {
    let world = world(json!([
        { "name": "m", "stage": "mail", "if": "sender in ['@bad.example']", "reply": "550 5.7.1 no" },
        { "name": "r", "stage": "rcpt", "if": "recipients in ['eve@']", "discard": true },
        { "name": "s", "stage": "rcpt", "if": "recipients in ['bob@']", "route": "lmtp:/run/lmtp" },
    ]));
    let (plugin, host, session) =
        (HeaderRules::configure(&world.host()).unwrap(), world.host(), session());
    let mail = |sender: &str| {
        plugin.mail(&host, &session, &Transaction::from(sender)).unwrap().verdict().clone()
    };
    assert_eq!(mail("a@good.example"), MailVerdict::Next);
    assert!(matches!(mail("a@bad.example"), MailVerdict::Reject(_)));
    let transaction = transaction();
    let [bob, eve] = transaction.recipients().try_into().unwrap();
    let decision = plugin.rcpt(&host, &session, &transaction, &eve).unwrap();
    assert_eq!((decision.verdict(), decision.rule_name()), (&RcptVerdict::Discard, Some("r")));
    let decision = plugin.rcpt(&host, &session, &transaction, &bob).unwrap();
    assert_eq!((decision.verdict(), decision.rule_name()), (&RcptVerdict::Next, Some("s")));
    assert_eq!(transaction.edits(), ["set-route bob@example.org lmtp:/run/lmtp"]);
    assert_eq!(data(&world, &Content::from(MESSAGE), &transaction), Decision::next());
}

#[test]
fn the_examples_of_the_readme_are_accepted() {
    gatepost_plugin::test::readme_examples::<HeaderRules>(include_str!("../README.md"));
}
