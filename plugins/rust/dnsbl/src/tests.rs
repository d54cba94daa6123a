use gatepost_plugin::test::{Content, Session, Transaction, World};
use gatepost_plugin::verdict::{
    ConnectVerdict, DataVerdict, HeloVerdict, MailVerdict, RcptVerdict,
};
use gatepost_plugin::{Decision, HostError, Kind, Plugin};
use serde_json::{Value, json};

use crate::Dnsbl;

const CLIENT: &str = "198.51.100.7";
const SENDER: &str = "carol@example.net";

/// Two lists of clients, one of them an allow list, and one of domains.
fn zones() -> Value {
    json!([
        { "name": "bl.example", "score": 3, "codes": [
            { "answer": "127.0.0.2", "score": 5 },
            { "answer": "127.0.0.10-11", "score": 2 },
        ] },
        { "name": "wl.example", "score": -4 },
        { "name": "dom.example", "of": ["helo", "sender"], "score": 3, "text": false },
    ])
}

fn config(extra: &Value) -> Value {
    let mut config = json!({ "zones": zones(), "reject": 5, "defer": 3 });
    let extra = extra.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(extra);
    config
}

fn listed(world: World, name: &str, answer: &str) -> World {
    world.answer(name, Kind::A, &[answer])
}

fn mail(world: &World, session: &Session, sender: &str) -> Decision<MailVerdict> {
    let plugin = Dnsbl::configure(&world.host()).unwrap();
    plugin.mail(&world.host(), session, &Transaction::from(sender)).unwrap()
}

fn reply(decision: &Decision<MailVerdict>) -> String {
    let reply = match decision.verdict() {
        MailVerdict::Reject(reply) | MailVerdict::Defer(reply) | MailVerdict::Disconnect(reply) => {
            reply.as_ref()
        }
        MailVerdict::Next | MailVerdict::Accept => None,
    };
    reply.map_or_else(|| "Next".to_owned(), ToString::to_string)
}

#[test]
fn a_listed_client_is_refused_with_the_text_of_the_list() {
    let world =
        listed(World::new().config(config(&json!({}))), "7.100.51.198.bl.example", "127.0.0.2");
    let world = world.answer(
        "7.100.51.198.bl.example",
        Kind::Txt,
        &["\"See https://bl.example/198.51.100.7\""],
    );
    let decision = mail(&world, &Session::from(CLIENT), SENDER);
    assert_eq!(
        reply(&decision),
        "550 5.7.1 Client [198.51.100.7] is listed by bl.example; See https://bl.example/198.51.100.7"
    );
    assert_eq!(decision.reason(), Some("score 5: bl.example 127.0.0.2 +5 (client [198.51.100.7])"));
    assert_eq!(decision.rule_name(), Some("bl.example"));
}

#[test]
fn scores_add_up_and_thresholds_decide() {
    // Answers about the client by bl and wl, and by dom about the HELO name and the sender.
    check(&[], "Next");
    check(&[("bl", "127.0.0.2")], "550 5.7.1 Client [198.51.100.7] is listed by bl.example");
    check(&[("bl", "127.0.0.10")], "Next");
    check(
        &[("bl", "127.0.0.10"), ("helo", "127.0.1.2")],
        "550 5.7.1 Name mail.example.net is listed by dom.example",
    );
    check(
        &[("helo", "127.0.1.2")],
        "450 4.7.1 Name mail.example.net is listed by dom.example; please try again later",
    );
    check(
        &[("sender", "127.0.1.2")],
        "450 4.7.1 Sender domain example.com is listed by dom.example; please try again later",
    );
    check(&[("bl", "127.0.0.2"), ("wl", "127.0.3.1")], "Next");
    check(
        &[("bl", "127.0.0.2"), ("wl", "127.0.3.1"), ("helo", "127.0.1.2")],
        "450 4.7.1 Client [198.51.100.7] is listed by bl.example; please try again later",
    );
    // Answers that say nothing: not in `codes`, outside of 127/8, and "you may not ask".
    check(&[("bl", "127.0.0.3")], "Next");
    check(&[("helo", "192.0.2.1"), ("sender", "192.0.2.1")], "Next");
    check(&[("helo", "127.255.255.254"), ("sender", "127.255.255.254")], "Next");

    check(
        &[("sender", "127.0.1.2"), ("helo", "127.0.1.2")],
        "550 5.7.1 Sender domain example.com is listed by dom.example",
    );

    fn check(answers: &[(&str, &str)], expected: &str) {
        let name = |who: &str| match who {
            "helo" => "mail.example.net.dom.example".to_owned(),
            "sender" => "example.com.dom.example".to_owned(),
            zone => format!("7.100.51.198.{zone}.example"),
        };
        let world = World::new().config(config(&json!({})));
        let world =
            answers.iter().fold(world, |world, (who, answer)| listed(world, &name(who), answer));
        let session = Session::from(CLIENT).helo("mail.example.net");
        assert_eq!(reply(&mail(&world, &session, "bob@example.com")), expected, "{answers:?}");
    }
}

#[test]
fn everything_is_asked_at_once_and_once_for_a_connection() {
    let world = World::new().config(config(&json!({})));
    let session = Session::from(CLIENT).helo("mail.example.net");
    let _ = mail(&world, &session, SENDER);
    let asked = [
        "A 7.100.51.198.bl.example",
        "A 7.100.51.198.wl.example",
        "A mail.example.net.dom.example",
        "A example.net.dom.example",
    ];
    assert_eq!(world.asked(), asked);
    let _ = mail(&world, &session, SENDER);
    let _ = mail(&world, &session, "");
    assert_eq!(world.asked().len(), 4);
    let _ = mail(&world, &session, "bob@example.com");
    assert_eq!(world.asked()[4..], ["A example.com.dom.example"]);
}

#[test]
fn what_was_found_is_remembered_too() {
    let world =
        listed(World::new().config(config(&json!({}))), "7.100.51.198.bl.example", "127.0.0.2");
    let session = Session::from(CLIENT);
    let first = mail(&world, &session, SENDER);
    assert_eq!(mail(&world, &session, SENDER), first);
    assert_eq!(session.note("score").as_deref(), Some("5"));
}

#[test]
fn refusal_comes_at_the_chosen_stage() {
    let stages = |refuse_at: &str, answers: &[(&str, &str)]| {
        let world = World::new().config(config(&json!({ "refuse-at": refuse_at })));
        let world = answers.iter().fold(world, |world, (name, answer)| listed(world, name, answer));
        let (plugin, host) = (Dnsbl::configure(&world.host()).unwrap(), world.host());
        let session = Session::from(CLIENT);
        let connect = plugin.connect(&host, &session).unwrap();
        let helo = plugin.helo(&host, &session, "mail.example.net").unwrap();
        let transaction = Transaction::from(SENDER).to("bob@example.org");
        let mail = plugin.mail(&host, &session, &transaction).unwrap();
        let rcpt =
            plugin.rcpt(&host, &session, &transaction, &transaction.recipients()[0]).unwrap();
        [
            matches!(connect.verdict(), ConnectVerdict::Reject(_)),
            matches!(helo.verdict(), HeloVerdict::Reject(_)),
            matches!(mail.verdict(), MailVerdict::Reject(_)),
            matches!(rcpt.verdict(), RcptVerdict::Reject(_)),
        ]
    };
    let client = [("7.100.51.198.bl.example", "127.0.0.2")];
    assert_eq!(stages("connect", &client), [true, true, true, false]);
    assert_eq!(stages("helo", &client), [false, true, true, false]);
    assert_eq!(stages("mail", &client), [false, false, true, false]);
    assert_eq!(stages("rcpt", &client), [false, false, false, true]);
    let names =
        [("mail.example.net.dom.example", "127.0.1.2"), ("example.net.dom.example", "127.0.1.2")];
    assert_eq!(stages("connect", &names), [false, false, true, false]);
}

#[test]
fn lists_that_fail_have_nothing_against_anybody() {
    let world = World::new().config(config(&json!({})));
    let world = world.failure("7.100.51.198.bl.example", Kind::A, HostError::Timeout);
    assert_eq!(mail(&world, &Session::from(CLIENT), SENDER), Decision::next());
    assert_eq!(
        world.logged(),
        [
            "info a list gave no answer zone=bl.example error=the time for the call to the host is over"
        ]
    );
}

#[test]
fn a_list_that_refuses_us_is_reported() {
    let world = listed(
        World::new().config(config(&json!({}))),
        "7.100.51.198.bl.example",
        "127.255.255.254",
    );
    assert_eq!(mail(&world, &Session::from(CLIENT), SENDER), Decision::next());
    assert_eq!(
        world.logged(),
        ["warn a list refuses to answer our resolver zone=bl.example answer=127.255.255.254"]
    );
}

#[test]
fn friends_are_not_asked_about() {
    check(Session::from("203.0.113.9"), SENDER);
    check(Session::from("192.168.1.1"), SENDER);
    check(Session::from("::1"), SENDER);
    check(Session::from("2001:db8::1"), SENDER);
    check(Session::from(CLIENT), "bob@example.com");
    check(Session::from(CLIENT).authenticated("carol"), SENDER);
    check(Session::from(CLIENT).origin("submissions"), SENDER);

    fn check(session: Session, sender: &str) {
        let exempt = json!({
            "exempt-clients": ["203.0.113.0/24"],
            "exempt-senders": ["example.com"],
            "exempt-table": "friends",
        });
        let world =
            World::new().config(config(&exempt)).table("friends", &[("2001:db8::/32", "ok")]);
        assert_eq!(
            mail(&world, &session, sender).rule_name(),
            Some("exempt"),
            "{}",
            session.info().client.ip
        );
        assert!(world.asked().is_empty());
    }
}

#[test]
fn an_exempt_recipient_can_always_be_reached() {
    let extra = json!({ "refuse-at": "rcpt", "exempt-recipients": ["postmaster@", "abuse@"] });
    let world = listed(World::new().config(config(&extra)), "7.100.51.198.bl.example", "127.0.0.2");
    let plugin = Dnsbl::configure(&world.host()).unwrap();
    let rule = |recipient: &str| {
        let transaction = Transaction::from(SENDER).to(recipient);
        let recipient = &transaction.recipients()[0];
        let decision =
            plugin.rcpt(&world.host(), &Session::from(CLIENT), &transaction, recipient).unwrap();
        decision.rule_name().map(str::to_owned)
    };
    assert_eq!(rule("postmaster").as_deref(), Some("exempt"));
    assert_eq!(rule("abuse@example.org").as_deref(), Some("exempt"));
    assert_eq!(rule("bob@example.org").as_deref(), Some("bl.example"));
}

/// What is said at the end of DATA about a message with this text.
fn data(world: &World, text: &str, recipient: &str) -> Decision<DataVerdict> {
    let (plugin, session) = (Dnsbl::configure(&world.host()).unwrap(), Session::from(CLIENT));
    let content = Content::from(["Subject: x\n\n", text].concat().as_str());
    let transaction = Transaction::from(SENDER).to(recipient);
    plugin.data(&world.host(), &session, &transaction, &content).unwrap()
}

fn of_uris(extra: &Value) -> Value {
    let mut zones = zones();
    let zone = json!({ "name": "uri.example", "of": ["uri"], "score": 4, "text": false });
    zones.as_array_mut().unwrap().push(zone);
    let mut config = config(extra);
    config["zones"] = zones;
    config
}

#[test]
fn hosts_in_the_body_are_asked_about() {
    let listed = |names: &[&str], text: &str| {
        let config = of_uris(&json!({ "exempt-uris": [".ours.example"] }));
        let world = names
            .iter()
            .fold(World::new().config(config), |world, name| listed(world, name, "127.0.0.2"));
        let decision = data(&world, text, "bob@example.org");
        let reply = match decision.verdict() {
            DataVerdict::Reject(reply) | DataVerdict::Defer(reply) => reply.clone(),
            _ => None,
        };
        (reply.map_or_else(|| "Next".to_owned(), |reply| reply.to_string()), decision)
    };
    let deferred =
        "450 4.7.1 Link to evil.example is listed by uri.example; please try again later";
    let text = "Click http://go.evil.example/x or http://a.ours.example";
    assert_eq!(listed(&[], text).0, "Next");
    assert_eq!(listed(&["evil.example.uri.example"], text).0, deferred);
    // A host and its domain count once.
    let both = ["evil.example.uri.example", "go.evil.example.uri.example"];
    let (said, decision) = listed(&both, text);
    assert!(said.starts_with("450 4.7.1 Link to go.evil.example"), "{said}");
    assert_eq!(
        decision.reason(),
        Some("score 4: uri.example 127.0.0.2 +4 (link to go.evil.example)")
    );
    // What the client has counts, too.
    let names = ["evil.example.uri.example", "7.100.51.198.bl.example"];
    assert!(listed(&names, text).0.starts_with("550 5.7.1 Client [198.51.100.7]"));
    assert_eq!(listed(&["ours.example.uri.example"], text).0, "Next");
    assert_eq!(listed(&["7.2.0.192.uri.example"], "http://192.0.2.7/").0.get(..3), Some("450"));
}

#[test]
fn a_message_without_links_asks_nobody() {
    let world = World::new().config(of_uris(&json!({})));
    assert_eq!(data(&world, "nothing", "bob@example.org"), Decision::next());
    assert!(world.asked().is_empty());
    let world = World::new().config(config(&json!({})));
    assert_eq!(data(&world, "http://evil.example", "bob@example.org"), Decision::next());
    assert!(world.asked().is_empty(), "no list knows URIs");
}

#[test]
fn an_exempt_recipient_gets_links_too() {
    let extra = json!({ "refuse-at": "rcpt", "exempt-recipients": ["abuse@"] });
    let world = World::new().config(of_uris(&extra));
    let world = listed(world, "evil.example.uri.example", "127.0.0.2");
    let rule = |to| data(&world, "http://evil.example", to).rule_name().map(str::to_owned);
    assert_eq!(rule("abuse@example.org").as_deref(), Some("exempt"));
    assert_eq!(rule("bob@example.org").as_deref(), Some("uri.example"));
}

#[test]
fn many_links_are_bounded() {
    let text: String = (0..100).map(|n| format!("http://h{n}.example/ ")).collect();
    let world = World::new().config(of_uris(&json!({ "most-uris": 50 })));
    let _ = data(&world, &text, "bob@example.org");
    let asked = world.asked().iter().filter(|name| name.ends_with(".uri.example")).count();
    assert_eq!(asked, 50);
}

#[test]
fn faults_of_the_configuration_are_named() {
    check(json!({}), "missing field `zones`");
    check(json!({ "zones": [] }), "`zones` is empty");
    check(
        json!({ "zones": [{ "name": "bl.example" }, { "name": "bl example" }] }),
        "`zones[1].name`: `bl example` is no domain name",
    );
    check(
        json!({ "zones": [{ "name": "bl.example", "of": ["body"] }] }),
        "`zones[0].of[0]`: unknown variant `body`, expected one of `client`, `helo`, `sender`, `uri`",
    );
    check(
        json!({ "zones": [{ "name": "bl.example", "codes": [{ "answer": "127.0.0.7-4", "score": 1 }] }] }),
        "`zones[0].codes[0].answer`: `127.0.0.7-4` is no answer of a list",
    );
    check(config(&json!({ "reject": 0 })), "`reject` and `defer` are scores of at least 1");
    check(config(&json!({ "defer": 5 })), "`defer` has to be below `reject`");
    check(config(&json!({ "reply": "450 later" })), "`reply` needs a code from 500 to 599");
    check(config(&json!({ "reply": "No" })), "`reply`: a reply begins with a code");
    check(config(&json!({ "refuse-at": "data" })), "`refuse-at`: unknown variant `data`");
    check(config(&json!({ "most-uris": 0 })), "`most-uris` is from 1 to 50");
    check(
        config(&json!({ "refuse-at": "helo", "exempt-senders": ["a@b.example"] })),
        "`exempt-senders` needs `refuse-at`",
    );
    check(
        config(&json!({ "exempt-recipients": ["a@b.example"] })),
        "`exempt-recipients` needs `refuse-at`",
    );

    fn check(config: Value, expected: &str) {
        let error =
            Dnsbl::configure(&World::new().config(config).host()).err().unwrap().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let world = World::new().config(config(&json!({}))).deny("dns");
    assert_eq!(
        Dnsbl::configure(&world.host()).err().unwrap().to_string(),
        "the host does not grant dns"
    );
}

#[test]
fn the_examples_of_the_readme_are_accepted() {
    gatepost_plugin::test::readme_examples::<Dnsbl>(include_str!("../README.md"));
}
