//! Reports to senders: who is told what (RFC 3461), and in which words (RFC 3464).

use queue::RecipientState;
use smtp::{MailParameters, Notify, OriginalRecipient, Ret};

use super::{
    CONTENT, Letter, World,
    fake::{FakeHost, Script},
    zone_of,
};

/// A host for `example.org` that refuses `no@`, and takes reports for `example.net` too.
async fn world(extensions: &'static [&'static str]) -> (FakeHost, World) {
    let host = FakeHost::new(Script {
        extensions,
        replies: &[("RCPT TO:<no@example.org>", "550 5.1.1 nobody here")],
        ..Script::default()
    })
    .await;
    let zone = zone_of("example.org", &[host.address]) + &zone_of("example.net", &[host.address]);
    let world = World::new(&zone, host.address.port(), |_| {}).await;
    (host, world)
}

/// The reports that the host got.
fn reports(host: &FakeHost) -> Vec<String> {
    host.contents().into_iter().filter(|content| content.contains("multipart/report")).collect()
}

fn has(report: &str, field: &str) {
    let report = report.to_ascii_lowercase();
    assert!(report.contains(&field.to_ascii_lowercase()), "no {field:?} in\n{report}");
}

#[tokio::test]
async fn a_refused_recipient_is_told_to_the_sender() {
    let (host, world) = world(&["PIPELINING"]).await;
    let mut letter = Letter::to(&["no@example.org", "yes@example.org"]);
    letter.parameters = MailParameters { envid: Some("E1".into()), ..MailParameters::default() };
    letter.recipients[0].parameters.orcpt = Some(OriginalRecipient {
        address_type: "rfc822".into(),
        address: "first@example.com".into(),
    });
    world.send(letter).await;
    world.empty().await;
    let reports = reports(&host);
    assert_eq!(reports.len(), 1);
    assert_eq!(host.count("MAIL FROM:<>"), 1);
    assert_eq!(host.count("RCPT TO:<a@example.net>"), 1);
    for field in [
        "report-type=delivery-status",
        "Reporting-MTA: dns; me.example",
        "Original-Envelope-Id: E1",
        "Original-Recipient: rfc822; first@example.com",
        "Final-Recipient: rfc822; no@example.org",
        "Action: failed",
        "Status: 5.1.1",
        "Remote-MTA: dns; mx0.example.org",
        "Diagnostic-Code: smtp; 550 5.1.1 nobody here",
        "text/rfc822-headers",
        "Subject: hi",
    ] {
        has(&reports[0], field);
    }
    assert!(!reports[0].contains("yes@example.org"));
    assert!(!reports[0].contains("\r\nend\r\n"), "content was returned without RET=FULL");
}

#[tokio::test]
async fn a_report_that_cannot_be_delivered_is_told_to_nobody() {
    let (host, world) = world(&[]).await;
    // The sender does not exist either, and the null reverse-path has nobody to be told.
    world.send(Letter { reverse_path: "no@example.org", ..Letter::to(&["no@example.org"]) }).await;
    world.send(Letter { reverse_path: "", ..Letter::to(&["no@example.org"]) }).await;
    world.empty().await;
    assert!(host.contents().is_empty());
    assert_eq!(host.count("RCPT TO:<no@example.org>"), 3);
}

#[tokio::test]
async fn the_whole_content_returns_only_if_asked_for_and_not_too_large() {
    let (host, world) = world(&[]).await;
    let full = || MailParameters { ret: Some(Ret::Full), ..MailParameters::default() };
    world.send(Letter { parameters: full(), ..Letter::to(&["no@example.org"]) }).await;
    world.empty().await;
    has(&reports(&host)[0], "message/rfc822");
    has(&reports(&host)[0], "\r\nend\r\n");
    let content = format!("{CONTENT}{}", "line\r\n".repeat(200_000));
    world.send(Letter { parameters: full(), content, ..Letter::to(&["no@example.org"]) }).await;
    world.empty().await;
    has(&reports(&host)[1], "text/rfc822-headers");
    assert!(reports(&host)[1].len() < 10_000);
}

#[tokio::test]
async fn notify_says_who_is_told_what() {
    let notify = |success, failure| Some(Notify { success, failure, delay: false });
    for (recipient, notify, extensions, expected) in [
        ("no@example.org", notify(false, false), &[][..], None),
        ("no@example.org", notify(true, false), &[], None),
        ("no@example.org", notify(false, true), &[], Some("Action: failed")),
        ("yes@example.org", None, &[], None),
        ("yes@example.org", notify(true, false), &[], Some("Action: relayed")),
        // RFC 3461 §5.2.2: a host that offers DSN tells it by itself.
        ("yes@example.org", notify(true, false), &["DSN"], None),
    ] {
        let (host, world) = world(extensions).await;
        let mut letter = Letter::to(&[recipient]);
        letter.recipients[0].parameters.notify = notify;
        world.send(letter).await;
        world.empty().await;
        let reports = reports(&host);
        assert_eq!(
            reports.len(),
            usize::from(expected.is_some()),
            "{recipient} {notify:?} {extensions:?}"
        );
        expected.iter().for_each(|field| has(&reports[0], field));
        if extensions == ["DSN"] {
            assert_eq!(host.count("RCPT TO:<yes@example.org> NOTIFY=SUCCESS"), 1);
        }
    }
}

#[tokio::test]
async fn a_domain_that_does_not_exist_is_told_in_our_own_words() {
    let (host, world) = world(&[]).await;
    world.send(Letter::to(&["b@none.example"])).await;
    world.empty().await;
    let report = &reports(&host)[0];
    has(report, "Status: 5.1.2");
    has(report, "There is no domain none.example");
    assert!(!report.contains("Remote-MTA"));
}

#[tokio::test]
async fn a_deferred_recipient_is_not_told_at_once() {
    let host =
        FakeHost::new(Script { replies: &[("RCPT", "451 4.7.1 greylisted")], ..Script::default() })
            .await;
    let zone = zone_of("example.org", &[host.address]);
    let world = World::new(&zone, host.address.port(), |_| {}).await;
    let id = world.send(Letter::to(&["b@example.org"])).await;
    world.becomes(id, &[(RecipientState::Pending, "451 4.7.1 greylisted")]).await;
    assert_eq!(world.queue.list(queue::Filter::default()).await.len(), 1);
}
