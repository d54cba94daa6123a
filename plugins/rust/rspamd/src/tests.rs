use gatepost_plugin::test::{Content, Session, Transaction, World};
use gatepost_plugin::verdict::DataVerdict;
use gatepost_plugin::{Decision, Error, HostError, Plugin};
use serde_json::{Value, json};

use crate::Rspamd;

const URL: &str = "http://127.0.0.1:11333/checkv2";
const MESSAGE: &str = "Subject: Hello\nX-Spam: No\nX-Old: 1\nX-Old: 2\n\ntext";

fn answers(answer: &Value) -> World {
    World::new().responds(URL, 200, &answer.to_string())
}

struct Message {
    transaction: Transaction,
    content: Content,
}

impl Message {
    fn new() -> Self {
        let transaction = Transaction::from("carol@example.net").to("bob@example.org");
        Self { transaction, content: Content::from(MESSAGE) }
    }

    fn ask(&self, world: &World) -> Result<Decision<DataVerdict>, Error> {
        let session = Session::from("198.51.100.7").helo("mail.example.net");
        let plugin = Rspamd::configure(&world.host())?;
        plugin.data(&world.host(), &session, &self.transaction, &self.content)
    }

    /// Its fields, as `Name: value`, with `|` between them.
    fn fields(&self) -> String {
        let fields = self.content.headers().into_iter();
        fields.map(|field| [field.name, field.value].join(": ")).collect::<Vec<_>>().join(" | ")
    }
}

fn said(decision: &Decision<DataVerdict>) -> String {
    match decision.verdict() {
        DataVerdict::Next => "next".to_owned(),
        DataVerdict::Reject(Some(reply)) | DataVerdict::Defer(Some(reply)) => reply.to_string(),
        DataVerdict::Discard => "discard".to_owned(),
        DataVerdict::Quarantine(name) => format!("quarantine {name}"),
        other => format!("{other:?}"),
    }
}

const UNCHANGED: &str = "Subject: Hello | X-Spam: No | X-Old: 1 | X-Old: 2";

#[test]
fn each_action_has_a_meaning() {
    let untouched = |action: &str, expected: &str| check(action, expected, UNCHANGED);
    untouched("no action", "next");
    untouched("greylist", "next");
    untouched("soft reject", "451 4.7.1 Try again later");
    untouched("reject", "554 5.7.1 Spam message rejected");
    untouched("quarantine", "quarantine rspamd");
    untouched("discard", "discard");
    check("add header", "next", "Subject: Hello | X-Old: 1 | X-Old: 2 | X-Spam: Yes");
    check("rewrite subject", "next", "Subject: [SPAM] Hello | X-Spam: No | X-Old: 1 | X-Old: 2");

    fn check(action: &str, expected: &str, fields: &str) {
        let message = Message::new();
        let decision = message.ask(&answers(&json!({ "action": action, "score": 1 }))).unwrap();
        assert_eq!(said(&decision), expected, "{action}");
        assert_eq!(decision.rule_name(), Some(action));
        assert_eq!(message.fields(), fields, "{action}");
    }
}

#[test]
fn an_action_may_mean_another() {
    let config = json!({
        "actions": { "reject": "quarantine", "greylist": "defer", "my action": "header" },
        "tags": { "my action": "spam" },
        "quarantine": "spam",
    });
    check("reject", "quarantine spam");
    check("greylist", "451 4.7.1 Try again later");
    check("my action", "next");

    fn check(action: &str, expected: &str) {
        let config = json!({
            "actions": { "reject": "quarantine", "greylist": "defer", "my action": "header" },
            "tags": { "my action": "spam" },
            "quarantine": "spam",
        });
        let message = Message::new();
        let world = answers(&json!({ "action": action })).config(config);
        assert_eq!(said(&message.ask(&world).unwrap()), expected, "{action}");
        let tags: &[&str] = if action == "my action" { &["spam"] } else { &[] };
        assert_eq!(message.transaction.tags(), tags);
    }
    let error = Message::new().ask(&answers(&json!({ "action": "other" })).config(config));
    assert!(
        error.unwrap_err().to_string().starts_with("rspamd says `other`: `actions` has to say")
    );
}

#[test]
fn rspamd_chooses_its_words_and_subject() {
    let message = Message::new();
    let words = json!({ "action": "reject", "messages": { "smtp_message": "Gtube pattern" } });
    assert_eq!(said(&message.ask(&answers(&words)).unwrap()), "554 5.7.1 Gtube pattern");
    let answer = json!({ "action": "rewrite subject", "subject": "*** Hello ***" });
    assert_eq!(said(&message.ask(&answers(&answer)).unwrap()), "next");
    assert!(message.fields().starts_with("Subject: *** Hello *** |"));
}

#[test]
fn the_block_for_mail_servers_is_obeyed() {
    check(json!({ "add_headers": { "X-A": "1" } }), "S | P | O1 | O2 | X-A: 1");
    check(
        json!({ "add_headers": { "X-A": ["1", { "value": "2", "order": 0 }] } }),
        "X-A: 2 | S | P | O1 | O2 | X-A: 1",
    );
    check(
        json!({ "add_headers": { "X-A": { "value": "1", "order": 1 } } }),
        "S | X-A: 1 | P | O1 | O2",
    );
    check(
        json!({ "add_headers": { "X-A": { "value": "1", "order": -1 } } }),
        "S | P | O1 | O2 | X-A: 1",
    );
    check(
        json!({ "add_headers": { "X-A": { "value": "1", "order": -2 } } }),
        "S | P | O1 | X-A: 1 | O2",
    );
    check(
        json!({ "add_headers": { "X-A": { "value": "1", "order": -9 } } }),
        "X-A: 1 | S | P | O1 | O2",
    );
    check(json!({ "add_headers": { "X-A": "a\r\n\tb\n c" } }), "S | P | O1 | O2 | X-A: a b c");
    check(
        json!({ "add_headers": { "Authentication-Results": "x", "DKIM-Signature": "y" } }),
        "S | P | O1 | O2",
    );
    check(json!({ "remove_headers": { "X-Old": 0 } }), "S | P");
    check(json!({ "remove_headers": { "x-old": 1 } }), "S | P | O2");
    check(json!({ "remove_headers": { "X-Old": -1 } }), "S | P | O1");
    check(json!({ "remove_headers": { "X-Old": 3, "X-None": 0 } }), "S | P | O1 | O2");
    check(json!({ "remove_headers": { "X-Old": -3 } }), "S | P | O1 | O2");

    fn check(milter: Value, expected: &str) {
        let message = Message::new();
        let answer = json!({ "action": "no action", "milter": milter });
        let _ = message.ask(&answers(&answer)).unwrap();
        let fields = message.fields().replace("Subject: Hello", "S").replace("X-Spam: No", "P");
        let fields = fields.replace("X-Old: ", "O");
        assert_eq!(fields, expected, "{answer}");
        // Switched off, nothing of it is done.
        let message = Message::new();
        let _ = message.ask(&answers(&answer).config(json!({ "milter-headers": false }))).unwrap();
        assert_eq!(message.fields(), UNCHANGED);
    }
}

#[test]
fn rspamd_may_change_the_envelope() {
    let message = Message::new();
    let milter = json!({
        "change_from": "<bounce@example.org>",
        "add_rcpt": ["<copy@example.org>"],
        "del_rcpt": ["Bob@example.org", "nobody@example.org"],
    });
    let _ = message.ask(&answers(&json!({ "action": "no action", "milter": milter }))).unwrap();
    let edits = [
        "set-reverse-path bounce@example.org",
        "add-recipient copy@example.org",
        "remove-recipient bob@example.org",
    ];
    assert_eq!(message.transaction.edits(), edits);
}

#[test]
fn rspamd_may_soften_what_it_says() {
    check(json!({ "reject": "quarantine" }), "reject", "quarantine rspamd", UNCHANGED);
    check(json!({ "reject": "discard" }), "reject", "discard", UNCHANGED);
    check(json!({ "reject": "discard" }), "soft reject", "451 4.7.1 Try again later", UNCHANGED);
    check(json!({ "no_action": true }), "reject", "next", UNCHANGED);
    check(
        json!({ "spam_header": "Yes, 7.5" }),
        "add header",
        "next",
        "Subject: Hello | X-Old: 1 | X-Old: 2 | X-Spam: Yes, 7.5",
    );
    check(
        json!({ "spam_header": { "X-Old": "spam" } }),
        "add header",
        "next",
        "Subject: Hello | X-Spam: No | X-Old: spam",
    );

    fn check(milter: Value, action: &str, expected: &str, fields: &str) {
        let message = Message::new();
        let answer = json!({ "action": action, "milter": milter });
        assert_eq!(said(&message.ask(&answers(&answer)).unwrap()), expected, "{answer}");
        assert_eq!(message.fields(), fields, "{answer}");
    }
}

#[test]
fn what_counted_is_kept_with_the_message() {
    let message = Message::new();
    let decision = message
        .ask(&answers(&json!({
            "action": "no action",
            "score": 2.5,
            "required_score": 15.0,
            "symbols": { "A": { "score": 0.1 }, "B": { "score": -3 }, "C": { "score": 5.4 } },
        })))
        .unwrap();
    assert_eq!(decision.reason(), Some("score 2.50 of 15.00: C(5.40), B(-3.00), A(0.10)"));
    assert_eq!(message.transaction.note("score").as_deref(), Some("2.50"));
    assert_eq!(message.transaction.note("action").as_deref(), Some("no action"));
    assert_eq!(message.transaction.note("symbols").as_deref(), Some("C(5.40) B(-3.00) A(0.10)"));
}

#[test]
fn rspamd_is_told_who_sends_what_to_whom() {
    let world = answers(&json!({ "action": "no action" }))
        .config(json!({ "password": "secret", "settings-id": "strict" }));
    let session = Session::from("2001:db8::1")
        .helo("mail.example.net")
        .named("mail.example.net")
        .authenticated("carol")
        .encrypted();
    let transaction = Transaction::from("carol@example.net").to("bob@example.org").to("eve\r\n@x");
    let plugin = Rspamd::configure(&world.host()).unwrap();
    let content = Content::from(MESSAGE);
    let _ = plugin.data(&world.host(), &session, &transaction, &content).unwrap();
    let requests = world.requests();
    let request = &requests[0];
    let headers: Vec<String> =
        request.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let expected = [
        "Milter: Yes",
        "Queue-Id: 0123456789ABCDEF",
        "From: carol@example.net",
        "Rcpt: bob@example.org",
        "Rcpt: eve@x",
        "IP: 2001:db8::1",
        "Helo: mail.example.net",
        "Hostname: mail.example.net",
        "MTA-Tag: mx",
        "User: carol",
        "TLS-Cipher: TLS13_AES_256_GCM_SHA384",
        "TLS-Version: TLSv1.3",
        "Password: secret",
        "Settings-Id: strict",
    ];
    assert_eq!(headers, expected);
    assert_eq!(request.timeout_milliseconds, Some(8_000));
    assert!(
        request.body.starts_with(b"Subject: Hello\r\n") && request.body.ends_with(b"\r\n\r\ntext")
    );
}

#[test]
fn the_second_server_answers_for_the_first() {
    let config = json!({ "url": ["http://a.example:11333/", "http://127.0.0.1:11333"] });
    let world = answers(&json!({ "action": "no action" }))
        .config(config)
        .fails("http://a.example:11333/checkv2", HostError::Timeout);
    assert_eq!(said(&Message::new().ask(&world).unwrap()), "next");
    assert_eq!(world.requests().len(), 2);
    assert_eq!(
        world.logged(),
        ["warn rspamd at http://a.example:11333: the time for the call to the host is over"]
    );
}

#[test]
fn without_an_answer_the_call_fails() {
    check(World::new(), "the host does not grant http \"");
    check(World::new().fails(URL, HostError::Timeout), "the time for the call");
    check(World::new().responds(URL, 502, "<html>"), "HTTP status 502");
    check(World::new().responds(URL, 403, r#"{"error":"Unauthorized"}"#), "it says: Unauthorized");
    check(World::new().responds(URL, 200, "hello"), "its answer is no JSON");
    check(World::new().responds(URL, 200, "{}"), "its answer has no `action`");
    check(World::new().responds(URL, 200, "[1]"), "its answer is no JSON");

    fn check(world: World, expected: &str) {
        let error = Message::new().ask(&world).unwrap_err().to_string();
        let rest = error.strip_prefix("rspamd at http://127.0.0.1:11333: ").unwrap();
        assert!(rest.starts_with(expected), "{error}");
    }
}

#[test]
fn some_mail_is_not_asked_about() {
    check(json!({ "scan-users": false }), Session::from("192.0.2.1").authenticated("carol"), "mx");
    check(json!({ "exempt-clients": ["192.0.2.0/24"] }), Session::from("192.0.2.1"), "mx");
    check(json!({ "max-size": "10 B" }), Session::from("192.0.2.1"), "mx");
    check(json!({}), Session::from("192.0.2.1"), "notice");
    check(json!({ "origins": ["submission"] }), Session::from("192.0.2.1"), "mx");

    fn check(config: Value, session: Session, origin: &str) {
        let world = World::new().config(config.clone());
        let plugin = Rspamd::configure(&world.host()).unwrap();
        let transaction = Transaction::from("carol@example.net").from_origin(origin);
        let decision =
            plugin.data(&world.host(), &session, &transaction, &Content::from(MESSAGE)).unwrap();
        assert_eq!(decision.rule_name(), Some("exempt"), "{config}");
        assert!(world.requests().is_empty());
    }
}

#[test]
fn faults_of_the_configuration_are_named() {
    check(json!({ "url": [] }), "`url` is empty");
    check(json!({ "url": "127.0.0.1:11333" }), "`url`: `127.0.0.1:11333` has to be like");
    check(json!({ "url": "http://a/checkv2" }), "`url`: `http://a/checkv2` has to be like");
    check(json!({ "timeout": "soon" }), "`timeout`: invalid value: string \"soon\"");
    check(json!({ "timeout": 0 }), "`timeout` is 0");
    check(
        json!({ "actions": { "reject": "bounce" } }),
        "`actions.reject`: unknown variant `bounce`",
    );
    check(json!({ "subject": "spam" }), "`subject` has to be one line with `{subject}`");
    check(json!({ "quarantine": "a b" }), "`quarantine` has 1 to 64");
    check(json!({ "tags": { "reject": "a b" } }), "`tags.reject` has 1 to 64");
    check(json!({ "max-size": "big" }), "`max-size`: invalid value: string \"big\"");
    check(json!({ "action": {} }), "`action`: unknown field `action`, expected one of `url`");

    fn check(config: Value, expected: &str) {
        let error =
            Rspamd::configure(&World::new().config(config).host()).err().unwrap().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn the_examples_of_the_readme_are_accepted() {
    gatepost_plugin::test::readme_examples::<Rspamd>(include_str!("../README.md"));
}
