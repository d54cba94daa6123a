//! Plugins that behave: what they see, what they decide, and what becomes of it.

use crate::support::{
    World, addressed, addresses, content, granted, plugin, recipient, session, transaction,
};
use message::{Header, compose};
use policy::{
    AttemptResult, OutcomeVerdict, PluginConfig, Queued, RouteVerdict, TableKind, TableSource,
    Tables, Verdict,
};
use smtp::Reply;

fn reason(transaction: &policy::Transaction, at: usize) -> &str {
    transaction.trace[at].reason.as_deref().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_are_asked_in_order_until_one_decides() {
    let world = World::new();
    let plugins = |second: &str| {
        vec![
            plugin("first", &[]),
            plugin("second", &[("helo", second)]),
            plugin("third", &[("helo", "reject")]),
        ]
    };
    let mut deciding = session(world.chain(plugins("defer")).await, 1);
    let ruling = deciding.helo("h", true).await;
    assert_eq!(ruling.plugin.as_deref(), Some("second"));
    assert!(
        matches!(ruling.verdict, Verdict::Refuse(reply) if reply.to_string() == "451 4.7.1 Try again later")
    );
    let names: Vec<&str> = deciding.trace().iter().map(|entry| &*entry.plugin).collect();
    assert_eq!(names, ["first", "second"]);
    let mut accepting = session(world.chain(plugins("accept")).await, 1);
    let ruling = accepting.helo("h", true).await;
    assert_eq!((ruling.verdict, ruling.plugin.as_deref()), (Verdict::Pass, Some("second")));
    assert_eq!(accepting.trace()[1].verdict, "accept");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_verdict_of_each_stage_arrives() {
    let world = World::new();
    let at = |stage: &'static str, act: &'static str| granted("guest", &[(stage, act)]);
    let drop = world.session(at("connect", "drop")).await.connect().await;
    assert_eq!(drop.verdict, Verdict::Drop);
    let close = world.session(at("helo", "disconnect")).await.helo("h", true).await;
    assert!(matches!(close.verdict, Verdict::Disconnect(reply) if reply.code() == 421));
    let mut transaction = transaction();
    let no = world.session(at("mail", "reject")).await.mail(&mut transaction).await;
    assert!(matches!(no.verdict, Verdict::Refuse(reply) if reply.code() == 550));
    let forget = world
        .session(at("rcpt", "discard"))
        .await
        .rcpt(&mut transaction, recipient("bob@example.org"))
        .await;
    assert_eq!(forget.verdict, Verdict::Discard);
    assert!(transaction.recipients.is_empty());
    let hold =
        world.session(at("data", "quarantine")).await.data(&mut addressed(), content()).await;
    assert_eq!(hold.verdict, Verdict::Quarantine("suspects".into()));
    let bad =
        world.session(at("data", "quarantine-badly")).await.data(&mut addressed(), content()).await;
    assert!(matches!(bad.verdict, Verdict::Refuse(reply) if reply.code() == 451));
    let two = world.session(at("data", "reply-fine")).await.data(&mut addressed(), content()).await;
    assert!(matches!(two.verdict, Verdict::Refuse(reply) if reply.lines() == ["one", "two"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_sees_the_session_as_it_is_now() {
    let world = World::new();
    let mut session =
        world.session(plugin("guest", &[("helo", "info"), ("rcpt", "envelope")])).await;
    session.helo("h.example", true).await;
    assert_eq!(
        session.trace()[0].reason.as_deref(),
        Some(r#"mx 192.0.2.1 1 Some("h.example") true tls=false auth=None"#)
    );
    session.reset_for_starttls();
    session.set_tls(policy::TlsInfo {
        version: "TLSv1.3".into(),
        cipher: "x".into(),
        server_name: None,
    });
    session.set_auth(policy::AuthInfo { mechanism: "PLAIN".into(), identity: "bob".into() });
    session.helo("again", false).await;
    let told = session.trace()[1].reason.as_deref();
    assert_eq!(told, Some(r#"mx 192.0.2.1 1 Some("again") false tls=true auth=Some("bob")"#));
    let mut transaction = transaction();
    session.rcpt(&mut transaction, recipient("bob@example.org")).await;
    session.rcpt(&mut transaction, recipient("eve@example.org")).await;
    assert_eq!(
        reason(&transaction, 1),
        r#"Some("alice@example.com") bob@example.org,eve@example.org asked=Some("eve@example.org") original=Some("eve@example.org") SIZE=Some("1000") SMTPUTF8=None"#
    );
    assert_eq!(transaction.trace[1].recipient.as_deref(), Some("eve@example.org"));
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_take_effect_with_the_answer_and_later_plugins_see_them() {
    let world = World::new();
    let plugins =
        vec![granted("other", &[("data", "edit-all")]), plugin("after", &[("data", "content")])];
    let mut session = session(world.chain(plugins).await, 1);
    let mut transaction = addressed();
    assert_eq!(session.data(&mut transaction, content()).await.verdict, Verdict::Pass);
    assert_eq!(transaction.reverse_path.to_string(), "other@example.org");
    assert_eq!(addresses(&transaction), ["bob@example.org", "added@example.org"]);
    assert_eq!(
        transaction.recipients[1].route.as_ref().map(ToString::to_string).as_deref(),
        Some("mx:example.net")
    );
    assert_eq!(transaction.notes.get("other/seen").map(String::as_str), Some("yes"));
    assert!(reason(&transaction, 1).contains(r#"["changed"]"#), "{}", reason(&transaction, 1));
    assert_eq!(transaction.trace[0].edits.len(), 17, "{:?}", transaction.trace[0].edits);
    let composed = compose(&content().header, &transaction.edits);
    let header = Header::parse(composed.head);
    let names: Vec<&str> = header.fields().map(|field| field.name()).collect();
    assert_eq!((names[0], *names.last().unwrap()), ("X-Above", "X-Below"));
    assert!(matches!(composed.body, message::Body::Replaced(body) if body == "new body\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_are_kept_and_read_by_all() {
    let world = World::new();
    let plugins = vec![
        granted("other", &[("mail", "edit-all")]),
        plugin("reader", &[("mail", "notes"), ("rcpt", "notes")]),
    ];
    let mut session = session(world.chain(plugins).await, 1);
    let mut transaction = transaction();
    session.mail(&mut transaction).await;
    assert_eq!(reason(&transaction, 1), r#"Some("yes") Some(Some("yes"))"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_content_is_read_in_pieces_and_parts() {
    let world = World::new();
    let mut session = world.session(plugin("guest", &[("data", "content")])).await;
    let mut transaction = addressed();
    session.data(&mut transaction, content()).await;
    let told = reason(&transaction, 0);
    assert!(told.contains(r#"["hello"] []"#), "{told}");
    assert!(told.ends_with(r#"18 "aGVsb" [text/plain:hello world]"#), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_becomes_several_or_none() {
    let world = World::new();
    let mut session = world.session(granted("guest", &[("rcpt", "split")])).await;
    let mut transaction = transaction();
    assert_eq!(
        session.rcpt(&mut transaction, recipient("bob@example.org")).await.verdict,
        Verdict::Pass
    );
    assert_eq!(addresses(&transaction), ["one@example.org", "two@example.org"]);
    assert_eq!(transaction.recipients[0].original.to_string(), "bob@example.org");
    let mut session = world.session(granted("guest", &[("rcpt", "take-out")])).await;
    let mut transaction = addressed();
    assert_eq!(
        session.rcpt(&mut transaction, recipient("eve@example.org")).await.verdict,
        Verdict::Discard
    );
    assert_eq!(addresses(&transaction), ["bob@example.org"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_answer_when_they_are_granted() {
    let world = World::new();
    let mut session =
        world.session(granted("guest", &[("helo", "count"), ("mail", "resolve")])).await;
    session.helo("h", true).await;
    session.release();
    session.helo("h", true).await;
    assert_eq!(session.trace()[1].reason.as_deref(), Some("2"), "the store outlives the instance");
    let mut transaction = transaction();
    session.mail(&mut transaction).await;
    assert_eq!(reason(&transaction, 0), "192.0.2.7|10 mail.example|nx|invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_looked_up_and_reloaded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("aliases");
    std::fs::write(&path, "bob@example.org first\n@example.net domain\n").unwrap();
    let source =
        TableSource { name: "aliases".into(), path: path.clone(), kind: TableKind::Address };
    let tables = Tables::load(vec![source]).unwrap();
    let world = World::with(|config| config.tables = tables);
    let mut config: PluginConfig = plugin("guest", &[("helo", "look-up")]);
    config.grants.lookup = vec!["aliases".into()];
    let mut session = world.session(config).await;
    session.helo("h", true).await;
    assert_eq!(
        session.trace()[0].reason.as_deref(),
        Some(r#"Some("first") Some("domain") invalid"#)
    );
    std::fs::write(&path, "nonsense\n").unwrap();
    assert_eq!(world.host.reload_tables().unwrap_err()[0].line, Some(1));
    std::fs::write(&path, "bob@example.org second\n").unwrap();
    world.host.reload_tables().unwrap();
    session.helo("h", true).await;
    assert_eq!(session.trace()[1].reason.as_deref(), Some(r#"Some("second") None invalid"#));
}

#[tokio::test(flavor = "multi_thread")]
async fn queued_messages_are_routed_and_judged() {
    let world = World::new();
    let acts = |route, outcome| granted("guest", &[("route", route), ("outcome", outcome)]);
    let ask = async |route: &'static str, outcome: &'static str| {
        let mut queued = Queued::new(world.chain(vec![acts(route, outcome)]).await, addressed());
        let (verdict, trace) = queued.route(0).await;
        assert_eq!(trace[0].recipient.as_deref(), Some("bob@example.org"));
        let along = "mx:example.org".parse().unwrap();
        let failed = AttemptResult::Failed(Reply::new(550, "5.1.1 unknown"));
        (verdict, queued.outcome(0, &along, failed).await.0)
    };
    let (to, retry) = ask("to", "retry").await;
    assert_eq!(to, RouteVerdict::To("smtp:[192.0.2.1]:25".parse().unwrap()));
    assert_eq!(retry, OutcomeVerdict::RetryIn(std::time::Duration::from_secs(30)));
    let (hold, fail) = ask("hold", "fail").await;
    assert_eq!(hold, RouteVerdict::Hold("suspects".into()));
    assert!(matches!(fail, OutcomeVerdict::Fail(reply) if reply.code() == 550));
    let (defer, suppress) = ask("defer", "suppress").await;
    assert!(matches!(defer, RouteVerdict::Defer { wait, .. } if wait.as_secs() == 60));
    assert_eq!(suppress, OutcomeVerdict::SuppressNotice);
    let (nowhere, crash) = ask("to-nowhere", "panic").await;
    assert!(
        matches!(nowhere, RouteVerdict::Defer { reply, .. } if reply.code() == 451),
        "an illegal answer"
    );
    assert_eq!(crash, OutcomeVerdict::Next);
    assert_eq!(ask("", "").await, (RouteVerdict::Next, OutcomeVerdict::Next));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_delivered_cannot_be_judged_any_more() {
    let world = World::new();
    let chain = world.chain(vec![plugin("guest", &[("outcome", "fail")])]).await;
    let delivered = AttemptResult::Delivered(Reply::new(250, "2.0.0 ok"));
    let route = "mx:example.org".parse().unwrap();
    let (verdict, trace) = policy::outcome(chain, &addressed(), 0, &route, delivered).await;
    assert_eq!((verdict, trace.len()), (OutcomeVerdict::Next, 1));
}
