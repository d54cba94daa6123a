use std::time::Duration;

use gatepost_plugin::test::{Session, Transaction, World};
use gatepost_plugin::verdict::{MailVerdict, RcptVerdict};
use gatepost_plugin::{Decision, HostError, Plugin};
use serde_json::{Value, json};

use crate::RateLimit;

const CLIENT: &str = "198.51.100.7";

fn limited(limits: Value) -> World {
    World::new().at(1_000).config(json!({ "limits": limits }))
}

fn mail(world: &World, session: &Session, sender: &str) -> Decision<MailVerdict> {
    let plugin = RateLimit::configure(&world.host()).unwrap();
    plugin.mail(&world.host(), session, &Transaction::from(sender)).unwrap()
}

fn rcpt(world: &World, session: &Session, sender: &str, to: &str) -> Decision<RcptVerdict> {
    let plugin = RateLimit::configure(&world.host()).unwrap();
    let transaction = Transaction::from(sender).to(to);
    plugin.rcpt(&world.host(), session, &transaction, &transaction.recipients()[0]).unwrap()
}

/// How many of these are let through before one is not.
fn passes(mut attempt: impl FnMut() -> bool) -> usize {
    (0..100).position(|_| !attempt()).unwrap_or(100)
}

fn passed(world: &World, session: &Session, sender: &str) -> bool {
    mail(world, session, sender).verdict() == &MailVerdict::Next
}

#[test]
fn who_is_over_the_limit_is_told_when_to_come_back() {
    let world = limited(json!([{ "per": "client", "messages": "2/1m" }]));
    let session = Session::from(CLIENT);
    assert_eq!(passes(|| passed(&world, &session, "a@example.net")), 2);
    let decision = mail(&world, &session, "a@example.net");
    let MailVerdict::Defer(Some(reply)) = decision.verdict() else { panic!("{decision:?}") };
    assert_eq!(
        reply.to_string(),
        "450 4.7.1 Too much mail from 198.51.100.7; try again in 30 seconds"
    );
    assert_eq!(decision.reason(), Some("198.51.100.7 is over 2 messages in 1 minute"));
    assert_eq!(decision.rule_name(), Some("client"));
    world.advance(Duration::from_secs(30));
    assert_eq!(passes(|| passed(&world, &session, "a@example.net")), 1);
}

#[test]
fn each_subject_has_its_own_count() {
    // Two attempts with a limit of one: does the second pass?
    check("client", (CLIENT, "a@x.example"), (CLIENT, "b@y.example"), false);
    check("client", (CLIENT, "a@x.example"), ("198.51.100.8", "a@x.example"), true);
    check("network", (CLIENT, "a@x.example"), ("198.51.100.8", "b@y.example"), false);
    check("network", ("2001:db8::1", "a@x.example"), ("2001:db8::ffff", "a@x.example"), false);
    check("network", (CLIENT, "a@x.example"), ("198.51.101.8", "a@x.example"), true);
    check("sender", (CLIENT, "a@x.example"), ("203.0.113.1", "A@X.example"), false);
    check("sender", (CLIENT, "a@x.example"), (CLIENT, "b@x.example"), true);
    check("sender-domain", (CLIENT, "a@x.example"), (CLIENT, "b@x.example"), false);
    // The null path is nobody's, and nobody has logged in.
    check("sender", (CLIENT, ""), (CLIENT, ""), true);
    check("user", (CLIENT, "a@x.example"), (CLIENT, "a@x.example"), true);
    // Messages per recipient are counted at RCPT.
    check("recipient", (CLIENT, "a@x.example"), (CLIENT, "a@x.example"), true);

    fn check(per: &str, first: (&str, &str), second: (&str, &str), passes: bool) {
        let world = limited(json!([{ "per": per, "messages": "1/1h" }]));
        assert!(passed(&world, &Session::from(first.0), first.1), "{per}");
        assert_eq!(passed(&world, &Session::from(second.0), second.1), passes, "{per} {second:?}");
    }
}

#[test]
fn recipients_and_messages_of_recipients_are_counted_at_rcpt() {
    let next = &RcptVerdict::Next;
    let world = limited(json!([{ "per": "client", "recipients": "3/1h" }]));
    let session = Session::from(CLIENT);
    assert_eq!(passes(|| rcpt(&world, &session, "", "bob@example.org").verdict() == next), 3);
    assert_eq!(
        rcpt(&world, &session, "", "eve@example.org").reason(),
        Some("198.51.100.7 is over 3 recipients in 1 hour")
    );

    let world = limited(json!([{ "per": ["network", "recipient"], "messages": "2/1h" }]));
    assert!(passed(&world, &session, "a@example.net"), "MAIL counts nothing for a recipient");
    assert_eq!(passes(|| rcpt(&world, &session, "", "Bob@example.org").verdict() == next), 2);
    assert_eq!(passes(|| rcpt(&world, &session, "", "eve@example.org").verdict() == next), 2);
    assert_eq!(
        rcpt(&world, &session, "", "bob@example.org").rule_name(),
        Some("network+recipient")
    );

    let world = limited(json!([{ "per": "recipient-domain", "messages": "1/1h" }]));
    assert_eq!(rcpt(&world, &session, "", "bob@example.org").verdict(), next);
    assert_ne!(rcpt(&world, &session, "", "eve@Example.org").verdict(), next);
}

#[test]
fn a_limit_is_of_users_or_of_strangers_or_of_a_listener() {
    check(json!({ "of": "users" }), Session::from(CLIENT), true);
    check(json!({ "of": "users" }), Session::from(CLIENT).authenticated("alice"), false);
    check(json!({ "of": "strangers" }), Session::from(CLIENT), false);
    check(json!({ "of": "strangers" }), Session::from(CLIENT).authenticated("alice"), true);
    check(json!({ "of": "strangers" }), Session::from(CLIENT).origin("submission"), true);
    check(json!({ "listeners": ["submission"] }), Session::from(CLIENT), true);
    check(json!({ "listeners": ["mx"] }), Session::from(CLIENT), false);

    fn check(extra: Value, session: Session, passes: bool) {
        let mut limit = json!({ "per": "client", "messages": "1/1h" });
        limit.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let world = limited(json!([limit]));
        assert!(passed(&world, &session, "a@example.net"));
        assert_eq!(passed(&world, &session, "a@example.net"), passes, "{extra}");
    }
}

#[test]
fn without_limits_there_are_some() {
    let world = World::new().config(json!({}));
    let user = Session::from("192.168.1.2").origin("submission").authenticated("alice");
    assert_eq!(mail(&world, &user, "alice@example.org"), Decision::next());
    let host = world.host();
    let rate = gatepost_plugin::Rate { tokens: 200, seconds: 3_600 };
    let taken = host.rate_limit().take("user messages alice", 199, rate).unwrap();
    assert_eq!((taken.allowed, taken.remaining), (true, 0));
    assert_eq!(
        mail(&world, &user, "alice@example.org").reason(),
        Some("alice is over 200 messages in 1 hour")
    );
}

#[test]
fn a_durable_limit_is_a_window_in_the_store() {
    let world = limited(json!([{ "per": "user", "messages": "2/1d", "durable": true }]));
    let session = Session::from(CLIENT).authenticated("alice");
    assert_eq!(passes(|| passed(&world, &session, "a@example.net")), 2);
    world.advance(Duration::from_secs(86_399));
    assert!(!passed(&world, &session, "a@example.net"));
    world.advance(Duration::from_secs(2));
    assert_eq!(passes(|| passed(&world, &session, "a@example.net")), 2);
    assert_eq!(world.keys(), ["user messages alice"]);
}

#[test]
fn too_much_mail_meets_the_configured_action() {
    check(json!({ "action": "reject" }), "550 5.7.1 Too much mail from 198.51.100.7");
    check(
        json!({ "action": "disconnect" }),
        "421 4.7.0 Too much mail from 198.51.100.7; try again in 1 hour",
    );
    check(json!({ "reply": "452 4.5.3 {subject}: enough" }), "452 4.5.3 198.51.100.7: enough");
    check(json!({ "action": "log" }), "next");
    check(json!({ "action": "delay" }), "next");

    fn check(extra: Value, expected: &str) {
        let mut limit = json!({ "per": "client", "messages": "1/1h" });
        limit.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let world = limited(json!([limit]));
        let session = Session::from(CLIENT);
        let _ = mail(&world, &session, "a@example.net");
        let decision = mail(&world, &session, "a@example.net");
        let said = match decision.verdict() {
            MailVerdict::Reject(Some(reply))
            | MailVerdict::Defer(Some(reply))
            | MailVerdict::Disconnect(Some(reply)) => reply.to_string(),
            _ => "next".to_owned(),
        };
        assert_eq!(said, expected);
        assert_eq!(decision.reason(), Some("198.51.100.7 is over 1 messages in 1 hour"));
        let delayed = if limit["action"] == "delay" { 5_000 } else { 0 };
        assert_eq!(session.delayed(), delayed);
    }
}

#[test]
fn a_table_has_other_rates_for_some() {
    let world = limited(
        json!([{ "per": "sender", "messages": "1/1h", "recipients": "1/1h", "table": "quotas" }]),
    );
    let world = world
        .table("quotas", &[("@vip.example", "messages=3/1h"), ("list@example.net", "unlimited")]);
    let session = Session::from(CLIENT);
    assert_eq!(passes(|| passed(&world, &session, "a@example.net")), 1);
    assert_eq!(passes(|| passed(&world, &session, "a@vip.example")), 3);
    assert_eq!(passes(|| passed(&world, &session, "list@example.net")), 100);
    let next = &RcptVerdict::Next;
    assert_eq!(
        passes(|| rcpt(&world, &session, "a@vip.example", "b@c.example").verdict() == next),
        1
    );
}

#[test]
fn friends_are_not_counted() {
    check(Session::from("203.0.113.9"), "a@example.net");
    check(Session::from("192.168.1.1"), "a@example.net");
    check(Session::from("2001:db8::1"), "a@example.net");
    check(Session::from(CLIENT), "a@example.com");
    check(Session::from(CLIENT).authenticated("Robot"), "a@example.net");

    fn check(session: Session, sender: &str) {
        let world = World::new().table("friends", &[("2001:db8::/32", "")]).config(json!({
            "limits": [{ "per": "client", "messages": "1/1h" }],
            "exempt-clients": ["203.0.113.0/24"],
            "exempt-table": "friends",
            "exempt-senders": ["example.com"],
            "exempt-users": ["robot"],
        }));
        assert_eq!(
            passes(|| passed(&world, &session, sender)),
            100,
            "{}",
            session.info().client.ip
        );
        assert_eq!(mail(&world, &session, sender).rule_name(), Some("exempt"));
    }
}

#[test]
fn without_a_counter_everybody_passes_and_the_log_says_it() {
    let world = limited(json!([{ "per": "client", "messages": "1/1h" }]));
    let plugin = RateLimit::configure(&world.host()).unwrap();
    let world = world.deny("rate-limit");
    let decision =
        plugin.mail(&world.host(), &Session::from(CLIENT), &Transaction::from("a@b.example"));
    assert_eq!(decision.unwrap(), Decision::next());
    let denied = gatepost_plugin::Error::from(HostError::Denied("rate-limit".into()));
    assert_eq!(
        world.logged(),
        [format!("warn a limit is off for this question limit=client error={denied}")]
    );
}

#[test]
fn faults_of_the_configuration_are_named() {
    let limit = |limit: Value| json!({ "limits": [limit] });
    check(json!({ "limits": [] }), "`limits` is empty");
    check(json!({ "ipv4-prefix": 4 }), "`ipv4-prefix` is 4, but has to be from 8 to 32");
    check(json!({ "limit": [] }), "`limit`: unknown field `limit`, expected one of `limits`");
    check(limit(json!({ "messages": "1/1h" })), "`limits[0]`: missing field `per`");
    check(
        limit(json!({ "per": "client" })),
        "`limits[0]`: the limit `client`: it needs `messages`",
    );
    check(
        limit(json!({ "per": "host", "messages": "1/1h" })),
        "`limits[0].per`: unknown variant `host`, expected one of `client`",
    );
    check(
        limit(json!({ "per": [], "messages": "1/1h" })),
        "`limits[0]`: the limit ``: `per` is empty",
    );
    check(
        limit(json!({ "per": "client", "messages": "10 an hour" })),
        "`limits[0].messages`: `10 an hour` is no rate: write",
    );
    check(
        limit(
            json!({ "per": "client", "messages": "1/1h", "action": "reject", "reply": "450 no" }),
        ),
        "`limits[0]`: the limit `client`: `reply` needs a code from 500",
    );
    check(
        limit(json!({ "per": ["client", "user"], "messages": "1/1h", "table": "x" })),
        "`limits[0]`: the limit `client+user`: `table` has values for one",
    );
    check(
        limit(json!({ "per": "user", "messages": "1/1h", "table": "x" })),
        "limit `user`: the host finds this invalid: there is no table x",
    );
    check(
        json!({ "limits": [{ "per": "user", "messages": "1/1h" }, { "per": "user", "recipients": "1/1h" }] }),
        "`limits`: two are called `user`",
    );

    fn check(config: Value, expected: &str) {
        let error =
            RateLimit::configure(&World::new().config(config).host()).err().unwrap().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let world = limited(json!([{ "per": "user", "messages": "1/1h", "durable": true }])).deny("kv");
    assert_eq!(
        RateLimit::configure(&world.host()).err().unwrap().to_string(),
        "limit `user`: the host does not grant kv"
    );
}

#[test]
fn the_examples_of_the_readme_are_accepted() {
    gatepost_plugin::test::readme_examples::<RateLimit>(include_str!("../README.md"));
}
