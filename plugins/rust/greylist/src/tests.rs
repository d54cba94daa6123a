use std::time::Duration;

use gatepost_plugin::test::{Content, Session, Transaction, World};
use gatepost_plugin::{Decision, Plugin, Recipient, verdict};
use serde_json::{Value, json};

use crate::Greylist;

/// A server with the plugin, and a stranger who sends to bob.
struct Scene {
    world: World,
    plugin: Greylist,
}

impl Scene {
    fn new(config: Value) -> Self {
        Self::with(World::new().config(config))
    }

    fn with(world: World) -> Self {
        let world = world.at(1_700_000_000);
        let plugin = Greylist::configure(&world.host()).unwrap();
        Self { world, plugin }
    }

    fn rcpt(&self, client: &str, sender: &str, recipient: &str) -> String {
        self.rcpt_in(&Session::from(client), sender, recipient)
    }

    fn rcpt_in(&self, session: &Session, sender: &str, recipient: &str) -> String {
        let transaction = Transaction::from(sender).to(recipient);
        let recipient = &transaction.recipients()[0];
        let decision = self.plugin.rcpt(&self.world.host(), session, &transaction, recipient);
        say(&decision.unwrap())
    }

    fn data(&self, client: &str, sender: &str, recipients: &[&str]) -> String {
        let transaction = recipients
            .iter()
            .fold(Transaction::from(sender), |transaction, address| transaction.to(address));
        let content = Content::from("Subject: x\n\nx");
        let decision =
            self.plugin.data(&self.world.host(), &Session::from(client), &transaction, &content);
        say(&decision.unwrap())
    }

    fn pass(&self, seconds: u64) {
        self.world.advance(Duration::from_secs(seconds));
    }
}

/// The rule that decided, and the seconds to wait.
fn say<V: verdict::Verdict + std::fmt::Debug>(decision: &Decision<V>) -> String {
    let verdict = format!("{:?}", decision.verdict());
    let wait = verdict.split("try again in ").nth(1).and_then(|rest| rest.split(' ').next());
    let rule = decision.rule_name().unwrap_or("-");
    wait.map_or_else(|| rule.to_owned(), |wait| format!("{rule} {wait}"))
}

const CLIENT: &str = "198.51.100.7";
const SENDER: &str = "carol@example.net";
const BOB: &str = "bob@example.org";

#[test]
fn a_stranger_waits_and_is_known_when_back() {
    let scene = Scene::new(json!({}));
    assert_eq!(scene.rcpt(CLIENT, SENDER, BOB), "new 300");
    scene.pass(100);
    assert_eq!(scene.rcpt(CLIENT, SENDER, BOB), "early 200");
    scene.pass(199);
    assert_eq!(scene.rcpt(CLIENT, SENDER, BOB), "early 1");
    scene.pass(1);
    assert_eq!(scene.rcpt(CLIENT, SENDER, BOB), "returned");
    assert_eq!(scene.rcpt(CLIENT, SENDER, BOB), "known");
}

#[test]
fn each_of_the_three_counts() {
    let scene = Scene::new(json!({}));
    assert_eq!(scene.rcpt(CLIENT, SENDER, BOB), "new 300");
    scene.pass(300);
    assert_eq!(scene.rcpt("203.0.113.7", SENDER, BOB), "new 300");
    assert_eq!(scene.rcpt(CLIENT, "dave@example.net", BOB), "new 300");
    assert_eq!(scene.rcpt(CLIENT, SENDER, "alice@example.org"), "new 300");
    // The same network, another case, another VERP number.
    assert_eq!(scene.rcpt("198.51.100.200", "Carol@Example.NET", "BOB@example.org"), "returned");
}

#[test]
fn networks_are_as_wide_as_configured() {
    let scene = Scene::new(json!({ "ipv4-prefix": 32, "ipv6-prefix": 48 }));
    assert_eq!(scene.rcpt("2001:db8::1", SENDER, BOB), "new 300");
    assert_eq!(scene.rcpt(CLIENT, SENDER, BOB), "new 300");
    scene.pass(300);
    assert_eq!(scene.rcpt("198.51.100.8", SENDER, BOB), "new 300");
    assert_eq!(scene.rcpt("2001:db8:0:ffff::1", SENDER, BOB), "returned");
}

#[test]
fn who_comes_back_too_late_begins_anew() {
    let scene = Scene::new(json!({ "retry-window": "4h" }));
    assert_eq!(scene.rcpt(CLIENT, SENDER, BOB), "new 300");
    scene.pass(4 * 3_600);
    assert_eq!(scene.rcpt(CLIENT, SENDER, BOB), "new 300");
}

#[test]
fn what_is_in_use_is_remembered_and_the_rest_forgotten() {
    let scene = Scene::new(json!({ "lifetime": "10d", "trust-after": 0 }));
    scene.rcpt(CLIENT, SENDER, BOB);
    scene.pass(300);
    assert_eq!(scene.rcpt(CLIENT, SENDER, BOB), "returned");
    for _ in 0..3 {
        scene.pass(9 * 86_400);
        assert_eq!(scene.rcpt(CLIENT, SENDER, BOB), "known");
    }
    scene.pass(10 * 86_400);
    assert_eq!(scene.rcpt(CLIENT, SENDER, BOB), "new 300");
}

#[test]
fn a_client_that_came_back_often_enough_is_trusted() {
    let scene = Scene::new(json!({ "trust-after": 2 }));
    for sender in ["a@example.net", "b@example.net"] {
        assert_eq!(scene.rcpt(CLIENT, sender, BOB), "new 300");
        scene.pass(3_600);
        assert_eq!(scene.rcpt(CLIENT, sender, BOB), "returned");
    }
    assert_eq!(scene.rcpt(CLIENT, "stranger@example.com", "alice@example.org"), "trusted");
    assert_eq!(scene.rcpt("203.0.113.7", "stranger@example.com", "alice@example.org"), "new 300");
}

#[test]
fn one_message_for_many_recipients_is_one_credit() {
    let scene = Scene::new(json!({ "trust-after": 2 }));
    let recipients = ["a@example.org", "b@example.org", "c@example.org"];
    recipients.iter().for_each(|recipient| drop(scene.rcpt(CLIENT, SENDER, recipient)));
    scene.pass(300);
    recipients
        .iter()
        .for_each(|recipient| assert_eq!(scene.rcpt(CLIENT, SENDER, recipient), "returned"));
    assert_eq!(scene.rcpt(CLIENT, "stranger@example.com", BOB), "new 300");
}

#[test]
fn a_null_reverse_path_waits_at_data_only() {
    let scene = Scene::new(json!({}));
    assert_eq!(scene.rcpt(CLIENT, "", BOB), "-");
    assert_eq!(scene.data(CLIENT, "", &[BOB]), "new 300");
    assert_eq!(scene.data(CLIENT, SENDER, &[BOB]), "-");
    scene.pass(300);
    assert_eq!(scene.data(CLIENT, "", &[BOB, "alice@example.org"]), "new 300");
    assert_eq!(scene.data(CLIENT, "", &[BOB]), "known");
}

#[test]
fn friends_and_exempt_parties_never_wait() {
    let config = json!({
        "exempt-clients": ["203.0.113.0/24"],
        "exempt-senders": ["example.com", "boss@example.net"],
        "exempt-recipients": ["abuse@", "postmaster@"],
    });
    let scene = Scene::new(config);
    assert_eq!(scene.rcpt("203.0.113.9", SENDER, BOB), "exempt");
    assert_eq!(scene.rcpt("127.0.0.1", SENDER, BOB), "exempt");
    assert_eq!(scene.rcpt("fd00::1", SENDER, BOB), "exempt");
    assert_eq!(scene.rcpt(CLIENT, "x@example.com", BOB), "exempt");
    assert_eq!(scene.rcpt(CLIENT, "boss@example.net", BOB), "exempt");
    assert_eq!(scene.rcpt(CLIENT, SENDER, "abuse@example.org"), "exempt");
    // RFC 5321 §4.5.1: the one address that needs no domain.
    assert_eq!(scene.rcpt(CLIENT, SENDER, "postmaster"), "exempt");
    assert_eq!(scene.rcpt_in(&Session::from(CLIENT).authenticated("carol"), SENDER, BOB), "exempt");
    assert_eq!(scene.rcpt_in(&Session::from(CLIENT).origin("submission"), SENDER, BOB), "exempt");
    assert_eq!(scene.rcpt(CLIENT, SENDER, BOB), "new 300");

    let strict = Scene::new(json!({ "exempt-private": false }));
    assert_eq!(strict.rcpt("127.0.0.1", SENDER, BOB), "new 300");
}

#[test]
fn a_table_exempts_clients() {
    let world = World::new()
        .config(json!({ "exempt-table": "friends" }))
        .table("friends", &[("203.0.113.0/24", "yes")]);
    let scene = Scene::with(world);
    assert_eq!(scene.rcpt("203.0.113.9", SENDER, BOB), "exempt");
    assert_eq!(scene.rcpt(CLIENT, SENDER, BOB), "new 300");
}

#[test]
fn without_the_store_mail_passes_and_the_log_says_so() {
    let scene = Scene::new(json!({}));
    let world = scene.world.clone().deny("kv");
    assert_eq!(scene.rcpt(CLIENT, SENDER, BOB), "no-store");
    assert_eq!(
        world.logged(),
        ["warn greylisting is off for this recipient error=the host does not grant kv"]
    );
}

#[test]
fn the_reply_says_when_to_come_back() {
    let scene = Scene::new(json!({ "delay": "1m" }));
    let transaction = Transaction::from(SENDER).to(BOB);
    let recipient: Recipient = transaction.recipients().remove(0);
    let decision = scene
        .plugin
        .rcpt(&scene.world.host(), &Session::from(CLIENT), &transaction, &recipient)
        .unwrap();
    let verdict::RcptVerdict::Defer(Some(reply)) = decision.verdict() else {
        panic!("{decision:?}")
    };
    assert_eq!(
        reply.to_string(),
        "451 4.7.1 Greylisted: not refused, please try again in 60 seconds"
    );
}

#[test]
fn faults_of_the_configuration_are_named() {
    check(json!({ "delya": "5m" }), "`delya`: unknown field `delya`");
    check(
        json!({ "delay": "soon" }),
        "`delay`: invalid value: string \"soon\", expected a duration",
    );
    check(
        json!({ "delay": "5m", "retry-window": "30m" }),
        "`retry-window` has to be more than an hour longer",
    );
    check(json!({ "lifetime": "1d" }), "`lifetime` is shorter than `retry-window`");
    check(json!({ "ipv4-prefix": 33 }), "`ipv4-prefix` is 33, but has to be from 8 to 32");
    check(
        json!({ "exempt-clients": ["example.org"] }),
        "`exempt-clients`: `example.org` is neither an address nor a network",
    );
    check(
        json!({ "exempt-table": "absent" }),
        "the host finds this invalid: there is no table absent",
    );

    fn check(config: Value, expected: &str) {
        let error =
            Greylist::configure(&World::new().config(config).host()).err().unwrap().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let world = World::new()
        .config(json!({ "exempt-table": "aliases" }))
        .table("aliases", &[("a@b.example", "c@d.example")]);
    let error = Greylist::configure(&world.host()).err().unwrap().to_string();
    assert_eq!(error, "the host finds this invalid: table aliases is of another kind");
    let error = Greylist::configure(&World::new().deny("kv").host()).err().unwrap().to_string();
    assert_eq!(error, "the host does not grant kv");
}

#[test]
fn the_examples_of_the_readme_are_accepted() {
    gatepost_plugin::test::readme_examples::<Greylist>(include_str!("../README.md"));
}
