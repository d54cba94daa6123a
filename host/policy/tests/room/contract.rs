//! The rest of the contract: stages, edits and imports that need no server around them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use message::{Header, Id, Octets, compose};
use policy::authentication as auth;
use policy::{
    AuthVerdict, ContentView, DeliverVerdict, DnsGrant, Grants, Login, NewMail, Notice,
    NoticeVerdict, PluginConfig, Queued, RecipientVerdict, ReturnedPart, Submit, TableKind,
    TableSource, Tables, Verdict,
};
use smtp::{Reply, Ret, TlsDemand};

use crate::support::{
    MESSAGE, World, addressed, addresses, content, granted, id, plugin, recipient, transaction,
};

fn login(password: &str) -> Login {
    Login {
        mechanism: "PLAIN".into(),
        identity: "bob".into(),
        authorization: String::new(),
        password: Some(password.into()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_with_the_grant_says_who_may_log_in() {
    let world = World::new();
    let check = async |plugin: PluginConfig, password: &str, reason: &str| {
        let mut session = world.session(plugin).await;
        let ruling = session.auth(login(password)).await;
        assert_eq!(session.trace()[0].reason.as_deref(), Some(reason));
        ruling.verdict
    };
    let right = check(granted("g", &[("auth", "check")]), "open sesame", "Some(\"open sesame\")");
    assert_eq!(right.await, AuthVerdict::Success("bob".into()));
    let wrong = check(granted("g", &[("auth", "check")]), "x", "Some(\"x\")").await;
    assert!(matches!(wrong, AuthVerdict::Refuse(reply) if reply.code() == 535));
    let silent = check(granted("g", &[]), "x", "Some(\"x\")").await;
    assert_eq!(silent, AuthVerdict::Next);
    // Without it, neither the password nor the power.
    let blind = check(plugin("g", &[("auth", "success")]), "x", "None").await;
    assert!(matches!(blind, AuthVerdict::Refuse(reply) if reply.code() == 454));
    let counting = check(plugin("g", &[("auth", "reject")]), "x", "None").await;
    assert!(matches!(counting, AuthVerdict::Refuse(reply) if reply.code() == 535));
}

#[tokio::test(flavor = "multi_thread")]
async fn data_decides_for_single_recipients_and_later_plugins_for_the_others() {
    let world = World::new();
    let chain = world
        .chain(vec![
            granted("first", &[("data", "each")]),
            granted("second", &[("data", "discard")]),
        ])
        .await;
    let mut session = crate::support::session(chain, 1);
    let mut transaction = transaction();
    for name in ["reject", "defer", "discard", "quarantine", "accept", "other"] {
        transaction.recipients.push(recipient(&format!("{name}@example.org")).into());
    }
    let ruling = session.data(&mut transaction, content()).await;
    assert_eq!((ruling.verdict, ruling.plugin.as_deref()), (Verdict::Discard, Some("second")));
    let verdicts: Vec<_> =
        transaction.recipients.iter().map(|recipient| recipient.verdict.clone()).collect();
    assert!(matches!(&verdicts[0], Some(RecipientVerdict::Refuse(reply)) if reply.code() == 550));
    assert!(matches!(&verdicts[1], Some(RecipientVerdict::Refuse(reply)) if reply.code() == 451));
    assert_eq!(
        verdicts[2..],
        [
            Some(RecipientVerdict::Discard),
            Some(RecipientVerdict::Quarantine("suspects".into())),
            Some(RecipientVerdict::Accept),
            None
        ]
    );
    // When all are decided, nobody else is asked.
    transaction.recipients.pop();
    transaction.recipients.iter_mut().for_each(|recipient| recipient.verdict = None);
    transaction.trace.clear();
    let ruling = session.data(&mut transaction, content()).await;
    assert_eq!((ruling.verdict, transaction.trace.len()), (Verdict::Pass, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn envelope_and_schedule_are_edited_with_the_verdict() {
    let world = World::new();
    let mut session = world.session(granted("g", &[("data", "edit-all")])).await;
    let mut transaction = addressed();
    session.data(&mut transaction, content()).await;
    assert_eq!(transaction.trace[0].error, None);
    assert_eq!(transaction.parameters.ret, Some(Ret::Headers));
    assert_eq!(transaction.parameters.envid.as_deref(), Some("id 1"));
    assert_eq!(transaction.priority, -3);
    assert_eq!(transaction.tags.iter().collect::<Vec<_>>(), ["one"]);
    let seconds = |time: Option<std::time::SystemTime>| {
        time.unwrap().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_secs()
    };
    assert_eq!(seconds(transaction.not_before), 2_000_000_000);
    assert_eq!(seconds(transaction.expiry), 2_000_100_000);
    assert_eq!(transaction.recipients[1].tls, Some(TlsDemand::Verify));
    let composed = compose(&Header::parse(MESSAGE.as_bytes().to_vec()), &transaction.edits);
    let head = String::from_utf8(composed.head.to_vec()).unwrap();
    assert!(head.starts_with("X-Above: a\r\nX-Second: s\r\nReceived: from a by b;"), "{head}");
    // Nothing of it when the call fails in the end.
    for act in ["edit-all-then-panic", "submit-then-panic"] {
        let mut session = world.session(granted("g", &[("data", act)])).await;
        let mut untouched = addressed();
        session.data(&mut untouched, content()).await;
        assert!(untouched.trace[0].error.is_some());
        assert_eq!((untouched.priority, untouched.tags.len(), untouched.edits.len()), (0, 0, 0));
        assert_eq!((untouched.not_before, untouched.parameters.ret), (None, None));
        assert_eq!(addresses(&untouched), ["bob@example.org"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plugin_says_shows_in_the_trace() {
    let world = World::with(|config| {
        config.resolver = net::Resolver::zone(
            "99.2.0.192.list.example A 127.0.0.2\n99.2.0.192.list.example TXT \"go away\"\n\
             99.2.0.192.other.example A 192.0.2.1\n7.2.0.192.in-addr.arpa PTR mail.example\nmail.example A 192.0.2.7"
                .parse()
                .unwrap(),
        );
    });
    let check = async |plugin: PluginConfig, expected: &str| {
        let mut session = world.session(plugin).await;
        let mut transaction = addressed();
        transaction.parameters.ret = Some(Ret::Full);
        session.data(&mut transaction, content()).await;
        let entry = &transaction.trace[0];
        assert_eq!(entry.reason.as_deref(), Some(expected), "{:?}", entry.error);
    };
    let at_data = |act: &'static str| granted("g", &[("data", act)]);
    let bare = |act: &'static str| plugin("g", &[("data", act)]);
    check(at_data("metrics"), "ok; ok; ok; invalid; invalid").await;
    check(bare("metrics"), &["denied metrics"; 5].join("; ")).await;
    check(at_data("series"), "100").await;
    check(at_data("take"), "true 1").await;
    check(at_data("take"), "true 0").await;
    check(at_data("take"), "false 0").await;
    check(bare("take"), "denied rate-limit").await;
    check(at_data("keys"), r#"Ok(["a/1", "a/2"]) Ok(["a/2"])"#).await;
    check(at_data("listed"), r#"list.example 127.0.0.2 Some("go away")"#).await;
    check(bare("listed"), "denied dns").await;
    check(at_data("names"), r#"Ok(["mail.example"])"#).await;
    check(at_data("raw"), r#""Subject: hello\r\n""#).await;
    check(at_data("schedule"), r#"mx [] 0 Some("FULL") None"#).await;
    check(at_data("bad-values"), &["invalid"; 6].join("; ")).await;
    check(bare("http"), "denied http").await;
    check(bare("submit"), "denied submit").await;
    check(bare("delay"), "denied delay").await;
    let some = PluginConfig {
        grants: Grants {
            dns: DnsGrant::Below(vec!["list.example".into()]),
            http: vec!["https://scan.example".parse().unwrap()],
            ..Grants::default()
        },
        ..bare("listed")
    };
    check(some.clone(), r#"list.example 127.0.0.2 Some("go away")"#).await;
    let mut other = some.clone();
    other.config = serde_json::json!({"act": {"data": "http"}, "url": "https://other.example/"});
    check(other, r#"denied http "other.example""#).await;
    let mut resolving = some;
    resolving.config = serde_json::json!({"act": {"data": "names"}});
    check(resolving, r#"Err(HostError::Denied("dns"))"#).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_away_ends_the_call_by_name() {
    let world = World::new();
    for (act, grants, name) in [
        ("time", Grants { clock: false, ..Grants::default() }, "clock"),
        ("random", Grants { random: false, ..Grants::default() }, "random"),
        ("log-flood", Grants { log: false, ..Grants::default() }, "log"),
    ] {
        let config = PluginConfig { grants, ..plugin("g", &[("mail", act)]) };
        let mut session = world.session(config).await;
        let mut transaction = transaction();
        session.mail(&mut transaction).await;
        let error = transaction.trace[0].error.clone().unwrap_or_default();
        assert!(error.contains(&format!("does not grant {name}")), "{act}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_wait_as_long_as_plugins_want_up_to_the_cap() {
    let world = World::with(|config| config.longest_delay = Duration::from_secs(5));
    let delayed = |act: &'static str| granted("g", &[("helo", act), ("data", act), ("auth", act)]);
    let mut session = world.session(delayed("delay")).await;
    assert_eq!(session.helo("h", true).await.delay, Duration::from_millis(300));
    assert_eq!(session.auth(login("x")).await.delay, Duration::from_millis(300));
    assert_eq!(session.data(&mut addressed(), content()).await.delay, Duration::from_millis(300));
    let mut session = world.session(delayed("delay-for-ever")).await;
    assert_eq!(session.helo("h", true).await.delay, Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_of_the_session_goes_with_its_messages() {
    let world = World::new();
    let mut session =
        world.session(plugin("g", &[("connect", "note-session"), ("mail", "read-note")])).await;
    session.connect().await;
    let mut transaction = transaction();
    session.mail(&mut transaction).await;
    assert_eq!(transaction.trace[0].reason.as_deref(), Some(r#"Some("at 192.0.2.1")"#));
    let notes: Vec<_> = session.notes().collect();
    assert_eq!(notes, [(&"g/met".to_owned(), &"at 192.0.2.1".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn domains_are_looked_up_by_suffix() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("domains");
    std::fs::write(&path, ".example.org below\nexample.org itself\n").unwrap();
    let source = TableSource { name: "domains".into(), path, kind: TableKind::Domain };
    let world = World::with(|config| config.tables = Tables::load(vec![source]).unwrap());
    let mut looking = plugin("g", &[("mail", "domain")]);
    looking.grants.lookup = vec!["domains".into()];
    let mut session = world.session(looking).await;
    let mut transaction = transaction();
    session.mail(&mut transaction).await;
    assert_eq!(transaction.trace[0].reason.as_deref(), Some(r#"Ok(Some("below"))"#));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_is_filtered_before_the_copy_is_put_into_it() {
    let world = World::new();
    let check = async |act: &str| {
        let chain = world.chain(vec![granted("g", &[("deliver", act)])]).await;
        Queued::new(chain, addressed()).deliver(0, content()).await
    };
    assert_eq!(check("accept").await.0, DeliverVerdict::Next);
    let (verdict, _) = check("file-seen").await;
    let DeliverVerdict::File(place) = verdict else { panic!("{verdict:?}") };
    assert_eq!((place.folder.as_slice(), place.is_seen), (&["Junk".to_owned()][..], true));
    let (verdict, _) = check("file").await;
    assert!(matches!(verdict, DeliverVerdict::File(place) if place.folder == ["Lists", "wasm"]));
    let (verdict, trace) = check("file-badly").await;
    assert!(matches!(verdict, DeliverVerdict::Defer { .. }), "{verdict:?}");
    assert!(trace[0].error.as_ref().unwrap().contains("no name of a folder"));
    assert_eq!(
        check("redirect").await.0,
        DeliverVerdict::Redirect(vec!["carol@example.org".parse().unwrap()])
    );
    assert!(matches!(check("reject").await.0, DeliverVerdict::Fail(reply) if reply.code() == 550));
    assert!(matches!(check("defer").await.0, DeliverVerdict::Defer { .. }));
    assert_eq!(check("discard").await.0, DeliverVerdict::Discard);
    assert_eq!(check("hold").await.0, DeliverVerdict::Hold("suspects".into()));
    let (_, trace) = check("content").await;
    assert!(trace[0].reason.as_ref().unwrap().contains("text/plain:hello world"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_is_judged_before_it_is_made() {
    let world = World::new();
    let check = async |act: &str| {
        let chain = world.chain(vec![granted("g", &[("dsn", act)])]).await;
        let notice = Notice {
            kind: "failure",
            to: "alice@example.com".into(),
            recipients: vec![(0, "failed", Some(Reply::new(550, "5.1.1 No such user")))],
        };
        Queued::new(chain, addressed()).notice(notice).await
    };
    let (verdict, trace) = check("nothing").await;
    assert_eq!(verdict, NoticeVerdict::Next);
    assert_eq!(
        trace[0].reason.as_deref(),
        Some("failure to alice@example.com: bob@example.org failed 550")
    );
    assert_eq!(check("suppress").await.0, NoticeVerdict::Suppress);
    assert_eq!(check("panic").await.0, NoticeVerdict::Next, "a failed call changes nothing");
    assert_eq!(
        check("send").await.0,
        NoticeVerdict::Send {
            to: Some("postmaster@example.org".parse().unwrap()),
            returned: Some(ReturnedPart::Nothing),
            text: Some("Ask the help desk.".into()),
        }
    );
}

#[derive(Clone, Default)]
struct Letterbox(Arc<Mutex<Vec<NewMail>>>);

impl Submit for Letterbox {
    fn submit(&self, mail: NewMail) -> BoxFuture<'static, Result<Id, String>> {
        self.0.lock().unwrap().push(mail);
        Box::pin(async { Ok(id(1)) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn submitted_mail_goes_with_the_verdict_and_is_bounded() {
    let world = World::new();
    let letters = Letterbox::default();
    world.host.set_submit(letters.clone());
    let submit = async |config: PluginConfig, origin: &str| {
        let mut session = world.session(config).await;
        let mut transaction = addressed();
        transaction.origin = origin.into();
        session.data(&mut transaction, content()).await;
        transaction.trace[0].reason.clone()
    };
    let many = |number: u32| {
        let mut config = granted("g", &[]);
        config.config = serde_json::json!({"act": {"data": "submit"}, "submissions": number});
        config
    };
    let said = submit(many(12), "mx").await.unwrap();
    assert_eq!(said, [vec!["ok"; 10], vec!["quota"; 2]].concat().join("; "));
    submit(granted("g", &[("data", "submit-then-panic")]), "mx").await;
    for origin in ["plugin", "notice"] {
        let said = submit(many(1), origin).await.unwrap();
        assert!(said.starts_with("denied submit about mail of the origin"), "{said}");
    }
    // They are handed over beside the session; the eleventh is the one of another call.
    while letters.0.lock().unwrap().len() < 10 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mails = letters.0.lock().unwrap();
    assert_eq!(mails.len(), 10);
    assert_eq!(mails[0].plugin, "g");
    assert_eq!(mails[0].recipients[0].0.to_string(), "bob@example.org");
}

/// Content whose octets behind the header nobody may touch.
struct HeaderOnly(Vec<u8>);

impl Octets for HeaderOnly {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, _: u64, _: &mut [u8]) -> std::io::Result<usize> {
        panic!("somebody reads the content");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_does_not_ask_for_the_body_never_causes_a_read() {
    let world = World::new();
    let edits = granted("edits", &[("data", "tag")]);
    let chain = world.chain(vec![edits, plugin("g", &[("data", "header-only")])]).await;
    let mut session = crate::support::session(chain, 1);
    let header = Header::parse(MESSAGE.as_bytes().to_vec());
    let octets = HeaderOnly(MESSAGE.as_bytes().to_vec());
    let view = Arc::new(ContentView::new(header, Arc::new(octets)));
    let mut transaction = addressed();
    session.data(&mut transaction, view.clone()).await;
    assert_eq!(
        transaction.trace[1].reason,
        Some(format!("[\"hello\"] {}", MESSAGE.len())),
        "{:?}",
        transaction.trace
    );
    assert_eq!(Arc::strong_count(&view), 1, "nobody keeps it either");
}

#[tokio::test(flavor = "multi_thread")]
async fn results_of_sender_authentication_arrive_as_types() {
    let world = World::new();
    let mut session = world.session(plugin("g", &[("data", "authentication")])).await;
    let spf = auth::Spf {
        outcome: auth::SpfResult::SoftFail,
        identity: "mailfrom".into(),
        domain: "example.com".into(),
        explanation: None,
    };
    let results = auth::Results {
        spf: vec![spf.clone()],
        dkim: Vec::new(),
        dmarc: Some(auth::Dmarc {
            outcome: auth::DmarcResult::Fail,
            domain: "example.com".into(),
            policy: Some(auth::DmarcPolicy::Reject),
            is_spf_aligned: false,
            is_dkim_aligned: false,
        }),
        arc: None,
    };
    let octets = bytes::Bytes::from_static(MESSAGE.as_bytes());
    let view =
        ContentView::new(Header::parse(octets.clone()), Arc::new(octets)).with_results(results);
    let mut transaction = addressed();
    transaction.spf = vec![spf];
    session.data(&mut transaction, Arc::new(view)).await;
    let said = transaction.trace[0].reason.clone().unwrap();
    for word in ["SpfResult::Softfail", "example.com", "DmarcResult::Fail", "DmarcPolicy::Reject"] {
        assert!(said.contains(word), "{word} in {said}");
    }
}
