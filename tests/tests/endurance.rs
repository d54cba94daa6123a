//! Large messages and many recipients.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;

use tests::maildir::{with_crlf, without_trace};
use tests::sink::{Behaviour, Sink};
use tests::{Gatepost, Setup, eventually, letter};

const FROM: &str = "sender@client.example";
const MIB: u64 = 1 << 20;

fn through(sink: &Sink) -> Setup {
    Setup::new()
        .with("[relay]\nfrom = [\"127.0.0.0/8\"]")
        .with(&format!("[[route]]\nto = \"*\"\nvia = \"smtp:[127.0.0.1]:{}\"", sink.port()))
}

#[test]
fn thirty_megabytes_pass_in_constant_memory() {
    let sink = Sink::start(Behaviour::default());
    let server = through(&sink).start();
    let warm = letter::large("warm", 100_000);
    for to in ["alice@example.test", "someone@target.test"] {
        assert_eq!(server.session().transaction(FROM, &[to], &warm).unwrap().code, 250);
    }
    server.wait_mailbox("alice", 1);
    sink.wait(1);
    server.forget_peak_memory();
    let before = server.peak_memory();

    let message = letter::large("large", 30_000_000);
    for to in ["alice@example.test", "someone@target.test"] {
        assert_eq!(server.session().transaction(FROM, &[to], &message).unwrap().code, 250);
    }
    let by_bdat = bdat(&server, "alice@example.test", &message);
    assert_eq!(by_bdat, 250);
    let stored = server.wait_mailbox("alice", 3);
    assert_eq!(stored.iter().filter(|one| with_crlf(without_trace(one)) == message).count(), 2);
    assert!(without_trace(&sink.wait(2)[1].content) == message, "the relayed octets are the sent");
    let peak = server.peak_memory();
    eprintln!(
        "three messages of {} MB: peak {} MiB, {} MiB before",
        message.len() / 1_000_000,
        peak / MIB,
        before / MIB
    );
    // Half of one message: whoever keeps one in memory is found out.
    assert!(peak - before < 15 * MIB, "{} MiB more", (peak - before) / MIB);
}

/// Sends by BDAT (RFC 3030) in chunks of 1 MiB; gives the last reply's code.
fn bdat(server: &Gatepost, to: &str, message: &[u8]) -> u16 {
    let mut client = server.session();
    assert_eq!(client.command(&format!("MAIL FROM:<{FROM}>")).unwrap().code, 250);
    assert_eq!(client.command(&format!("RCPT TO:<{to}>")).unwrap().code, 250);
    for chunk in message.chunks(1 << 20) {
        client.send(format!("BDAT {}\r\n", chunk.len()).as_bytes()).unwrap();
        client.send(chunk).unwrap();
        assert_eq!(client.reply().unwrap().code, 250);
    }
    client.command("BDAT 0 LAST").unwrap().code
}

#[test]
fn a_thousand_recipients_pass_in_constant_memory() {
    let sink = Sink::start(Behaviour::default());
    let mut setup = through(&sink);
    for number in 0..1000 {
        setup = setup.user(&format!("u{number}"));
    }
    let server = setup.start();
    let warm = letter::large("warm", 100_000);
    assert_eq!(server.session().transaction(FROM, &["u0@example.test"], &warm).unwrap().code, 250);
    server.wait_mailbox("u0", 1);
    server.forget_peak_memory();
    let before = server.peak_memory();

    let small = to_a_thousand(&server, &sink, 1, 10_000);
    let large = to_a_thousand(&server, &sink, 2, 100_000);
    eprintln!(
        "2 × 1,000 recipients: peak {} MiB with 10 KB, {} MiB with 100 KB, {} MiB before",
        small / MIB,
        large / MIB,
        before / MIB
    );
    // Whoever keeps a copy of the content for each recipient needs 86 MiB more for one domain alone.
    assert!(large.saturating_sub(small) < 8 * MIB, "{} MiB more", (large - small) / MIB);
    assert!(large - before < 24 * MIB, "{} MiB more", (large - before) / MIB);

    // RFC 5321 §4.5.3.1.10: one too many is refused for now, and the others stay.
    let mut client = server.session();
    client.command(&format!("MAIL FROM:<{FROM}>")).unwrap();
    for number in 0..1000 {
        assert_eq!(client.command(&format!("RCPT TO:<u{number}@example.test>")).unwrap().code, 250);
    }
    assert_eq!(client.command("RCPT TO:<alice@example.test>").unwrap().code, 452);
    assert_eq!(client.command("DATA").unwrap().code, 354);
}

/// One message of `size` octets for 1,000 mailboxes, one for 1,000 strangers. The peak of memory when
/// the `round`th of these pairs has arrived.
fn to_a_thousand(server: &Gatepost, sink: &Sink, round: usize, size: usize) -> u64 {
    let message = letter::large(&format!("many {round}"), size);
    for domain in ["example.test", "target.test"] {
        let to: Vec<String> = (0..1000).map(|number| format!("u{number}@{domain}")).collect();
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        assert_eq!(server.session().transaction(FROM, &to, &message).unwrap().code, 250);
    }
    let relayed = eventually("all recipients at the sink", || {
        let all: Vec<String> = sink.taken().into_iter().flat_map(|taken| taken.rcpt).collect();
        (all.len() >= round * 1000).then_some(all)
    });
    assert_eq!(relayed.len(), round * 1000, "nobody gets two copies");
    assert_eq!(relayed.iter().collect::<BTreeSet<_>>().len(), 1000);
    for number in 1..1000 {
        assert_eq!(server.wait_mailbox(&format!("u{number}"), round).len(), round);
    }
    server.peak_memory()
}
