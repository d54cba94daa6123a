//! Aggregate reports: kept, sent, read; bounded where they cannot be sent.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use tests::maildir::header;
use tests::{Setup, eventually};

use crate::{SIGN, World, letter, sent};

/// A server that reports.
fn reporting(world: &World, more: &str) -> Setup {
    world.setup().with(&format!(
        "[[dkim]]\ndomain = \"example.test\"\nselector = \"s1\"\nkey = {:?}\n\
         [dmarc-reports]\nfrom = \"dmarc@example.test\"\ninterval = \"1h\"\n{more}",
        world.key("example.test")
    ))
}

#[test]
fn what_was_seen_is_reported_to_those_who_may_know_and_a_crash_loses_nothing() {
    let Some(world) = World::new("aggregate reports") else { return };
    let mut server = reporting(&world, "organization = \"Example & Test\"").start();
    let signed = world.by_python(SIGN, "author.example", &letter("a@author.example", ""));
    for _ in 0..2 {
        assert_eq!(sent(&server, "a@author.example", &signed).0, 250);
    }
    assert_eq!(sent(&server, "x@list.example", &letter("a@author.example", "")).0, 550);
    assert_eq!(sent(&server, "x@list.example", &letter("ceo@victim.example", "")).0, 550);
    let folder = server.folder().join("var/dmarc");
    let seen = eventually("four observations", || {
        let file = fs::read_dir(&folder).ok()?.next()?.ok()?.path();
        (fs::read_to_string(&file).ok()?.lines().filter(|line| line.len() > 1).count() >= 4)
            .then_some(file)
    });
    let pending = server.command(&["dmarc", "pending", "--config", "gatepost.toml"]);
    let pending = pending.expect_success("gatepost dmarc pending").stdout;
    assert!(
        pending.contains("author.example: 3 messages, to mailto:alice@example.test"),
        "{pending}"
    );

    // The machine stops, and is there again when the hour is over.
    server.kill();
    fs::rename(&seen, folder.join("seen-1700000000-1700003599")).unwrap();
    server.restart();
    let report = server.wait_mailbox("alice", 1).remove(0);
    let subject = header(&report, "Subject").remove(0);
    assert!(
        subject.starts_with("Report Domain: author.example Submitter: mx.example.test"),
        "{subject}"
    );
    assert!(header(&report, "DKIM-Signature")[0].contains("d=example.test"));
    eventually("the files of the span are gone", || {
        (!folder.join("seen-1700000000-1700003599").exists()).then_some(())
    });
    // x@stranger.example did not ask for reports about victim.example (RFC 9990 §4).
    assert_eq!(server.queue(&["list"]).as_array().unwrap().len(), 0);
    let read = server.command(&["dmarc", "read", "var/mail/example.test/alice"]);
    let read = read.expect_success("gatepost dmarc read").stdout;
    assert!(
        read.contains("author.example (p=reject): 2 of 3 messages passed; 1 report by 1 reporter"),
        "{read}"
    );
    assert!(read.contains("pass 2, reject 1; from author.example"), "{read}");
    assert_eq!(server.mailbox("alice").len(), 1);
}

#[test]
fn reports_have_bounds_in_space_and_time() {
    let Some(world) = World::new("bounds of reports") else { return };
    let mut server = reporting(&world, "space = \"2 KiB\"").start();
    for _ in 0..12 {
        assert_eq!(sent(&server, "x@list.example", &letter("a@author.example", "")).0, 550);
    }
    server.wait_log("[dmarc-reports] space is full", 0);
    let folder = server.folder().join("var/dmarc");
    let seen = eventually("what was seen", || {
        let files = fs::read_dir(&folder).ok()?;
        let paths = files.filter_map(|file| Some(file.ok()?.path()));
        paths.filter(|path| path.to_string_lossy().contains("seen-")).max()
    });
    server.terminate();
    server.wait_end();
    let kept = fs::read(&seen).unwrap();
    let lines = kept.iter().filter(|octet| **octet == b'\n').count();
    assert!((1..12).contains(&lines) && kept.len() <= 2048, "{lines} lines, {} octets", kept.len());
    assert!(kept.len() > 1024, "two spans like this are more than there is room for");

    // Reports of three spans, and a DNS that is gone: the first is given up after three days, of the others only as many
    // stay as there is room for.
    let day = 24 * 3600;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let spans = [now - 9 * day, now - 2 * day, now - day].map(|begin| begin / 3600 * 3600);
    let file = |begin: u64| folder.join(format!("seen-{begin}-{}", begin + 3599));
    for begin in spans {
        fs::write(file(begin), &kept).unwrap();
    }
    fs::remove_file(&seen).unwrap();
    server
        .setup()
        .clone()
        .with("[dns]\nservers = [\"127.0.0.1:1\"]\n")
        .write(&server.folder().join("gatepost.toml"));
    server.restart();
    server.wait_log("DMARC reports are given up", 0);
    server.wait_log("DMARC reports wait for the DNS or the queue", 1);
    server.wait_log("the oldest DMARC reports are given up", 0);
    eventually("one span", || {
        let left = spans.map(|begin| file(begin).exists());
        (left == [false, false, true]).then_some(())
    });
    assert_eq!(server.queue(&["list"]).as_array().unwrap().len(), 0);

    // The DNS is there again: what stayed is told.
    server.terminate();
    server.wait_end();
    server.setup().clone().write(&server.folder().join("gatepost.toml"));
    server.restart();
    let report = server.wait_mailbox("alice", 1).remove(0);
    assert!(header(&report, "Subject")[0].contains("author.example"));
}
