//! Grants bound what a plugin brings about: an effect that was not granted makes the call fail, and the trace says so.

use policy::{EditGrant, PluginConfig, Session, Transaction, Verdict};

use crate::support::{
    World, addressed, addresses, content, plugin, recipient, session, transaction,
};

fn may(grants: &[EditGrant], acts: &[(&str, &str)]) -> PluginConfig {
    let mut config = plugin("guest", acts);
    config.grants.edit = grants.iter().copied().collect();
    config
}

/// The act at `data`: either it is done, or the client is put off, nothing is changed, and the trace names the effect.
async fn check(world: &World, grants: &[EditGrant], act: &str, expected: Result<&str, &str>) {
    let mut session: Session = world.session(may(grants, &[("data", act)])).await;
    let mut transaction: Transaction = addressed();
    let ruling = session.data(&mut transaction, content()).await;
    let entry = &transaction.trace[0];
    match expected {
        Ok(edit) => {
            assert_eq!(ruling.verdict, Verdict::Pass, "{act}: {entry:?}");
            assert!(entry.edits.iter().any(|line| line.contains(edit)), "{act}: {entry:?}");
        }
        Err(effect) => {
            assert!(
                matches!(&ruling.verdict, Verdict::Refuse(reply) if reply.code() == 451),
                "{act}: {ruling:?}"
            );
            let error = entry.error.as_deref().unwrap_or_default();
            assert_eq!(error, format!("not granted: {effect}"), "{act}");
            assert!(transaction.edits.is_empty() && entry.edits.is_empty(), "{act}");
            assert_eq!(addresses(&transaction), ["bob@example.org"], "{act}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_are_bounded_by_their_kind() {
    use EditGrant::{Body, Header, HeaderAdd, Recipients, ReversePath, TraceFields};
    let world = World::new();
    check(&world, &[], "edits-denied", Err(r#"edit "reverse-path""#)).await;
    check(&world, &[ReversePath], "edits-denied", Err(r#"edit "recipients""#)).await;
    check(&world, &[ReversePath, Recipients], "edits-denied", Err(r#"edit "route""#)).await;
    check(&world, &[HeaderAdd], "add-field", Ok("X-Added")).await;
    check(&world, &[HeaderAdd], "change-field", Err(r#"edit "header""#)).await;
    check(&world, &[HeaderAdd], "remove-field", Err(r#"edit "header""#)).await;
    check(&world, &[HeaderAdd], "add-recipient", Err(r#"edit "recipients""#)).await;
    check(&world, &[HeaderAdd], "drop-recipient", Err(r#"edit "recipients""#)).await;
    check(&world, &[HeaderAdd, Header], "change-field", Ok("Subject")).await;
    check(&world, &[Header], "remove-field", Ok("Subject")).await;
    check(&world, &[Body], "add-field", Err(r#"edit "header""#)).await;
    // The fields that say where a message came from and who vouches for it.
    for (act, field) in [
        ("touch-received", "Received"),
        ("touch-return-path", "return-path"),
        ("touch-signature", "DKIM-Signature"),
        ("touch-results", "Authentication-Results"),
    ] {
        let effect = format!("the field {field} belongs to the host");
        check(&world, &[Header], act, Err(&effect)).await;
        check(&world, &[HeaderAdd], act, Err(&effect)).await;
        check(&world, &[HeaderAdd, TraceFields], act, Ok(field)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn line_breaks_forge_no_field() {
    let world = World::new();
    let mut session = world.session(may(&[EditGrant::Header], &[("data", "forge-fields")])).await;
    let mut transaction = addressed();
    assert_eq!(session.data(&mut transaction, content()).await.verdict, Verdict::Pass);
    assert_eq!(transaction.trace[0].reason.as_deref(), Some("invalid; invalid; invalid; invalid"));
    assert!(transaction.edits.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_adds_fields_cannot_drop_a_recipient() {
    let world = World::new();
    let refused = async |grants: &[EditGrant], act: &'static str| {
        let mut session = world.session(may(grants, &[("rcpt", act)])).await;
        let mut transaction = transaction();
        let ruling = session.rcpt(&mut transaction, recipient("bob@example.org")).await;
        (ruling.verdict, transaction.trace[0].error.clone().unwrap_or_default())
    };
    for (act, effect) in [
        ("discard", r#"the verdict discard needs edit "discard""#),
        ("take-out", r#"edit "recipients""#),
        ("split", r#"edit "recipients""#),
    ] {
        let (verdict, error) = refused(&[EditGrant::HeaderAdd, EditGrant::Header], act).await;
        assert!(matches!(verdict, Verdict::Refuse(reply) if reply.code() == 451), "{act}");
        assert_eq!(error, format!("not granted: {effect}"));
    }
    assert_eq!(refused(&[EditGrant::Discard], "discard").await.0, Verdict::Discard);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_is_granted_or_it_is_none() {
    let world = World::new();
    let mut chain = session(world.chain(vec![may(&[], &[("data", "quarantine")])]).await, 1);
    let mut transaction = addressed();
    let ruling = chain.data(&mut transaction, content()).await;
    assert!(matches!(ruling.verdict, Verdict::Refuse(reply) if reply.code() == 451));
    assert_eq!(
        transaction.trace[0].error.as_deref(),
        Some(r#"not granted: the verdict quarantine needs edit "hold""#)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_that_were_not_granted_are_refused_by_name() {
    let world = World::new();
    let mut session = world.session(plugin("guest", &[("helo", "denied")])).await;
    session.helo("h", true).await;
    assert_eq!(
        session.trace()[0].reason.as_deref(),
        Some(r#"denied kv; denied kv; denied dns; denied dns; denied lookup "aliases""#)
    );
}
