//! Export, import, check and repair of a spool on a real disk.
#![expect(clippy::disallowed_methods, reason = "who works offline says what time it is")]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use message::Octets;
use queue::offline::{self, Fault, PlainEnvelope};
use queue::{Config, Filter, Limits, Outcome, Queue};

use support::*;

fn small(root: &Path) -> Config {
    let limits =
        Limits { settle_after: Duration::ZERO, segment_octets: 256 << 10, ..Limits::small() };
    Config { limits, ..Config::new(root) }
}

/// Messages 0 to 9: 3 is large, 4 was tried once, 5 is held, and all are in `deferred/` but the last two.
async fn spool(root: &Path) {
    let (queue, _) = Queue::open(small(root)).await.unwrap();
    queue.set_router(Arc::new(TestRouter::default()));
    for number in [4, 0, 1, 2, 3, 5, 6, 7] {
        let body =
            if number == 3 { vec![b'L'; 100_000] } else { format!("body {number}").into_bytes() };
        let domain = if number == 4 { "tried.test" } else { "other.test" };
        send(&queue, number, &[&format!("user{number}@{domain}")], &body).await.unwrap();
        if number == 4 {
            let delivery = next_within(&queue, Duration::from_secs(20)).await.expect("number 4");
            let outcome = Outcome::Deferred { reply: reply(451), peer: None, retry_in: None };
            delivery.finish(vec![(0, outcome)]).await.unwrap();
        }
    }
    queue.hold(Filter::id(id(5)), "look").await.unwrap();
    // Until the log knows nothing of them any more: what it knows goes before what the files say.
    while files(root, "record").len() < 8 || segments(root) > 1 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    queue.shutdown().await;
    let (queue, _) = Queue::open(Config { limits: Limits::small(), ..small(root) }).await.unwrap();
    for number in 8..10 {
        send(&queue, number, &["late@other.test"], format!("body {number}").as_bytes())
            .await
            .unwrap();
    }
    queue.shutdown().await;
}

/// How many segments the log has.
fn segments(root: &Path) -> usize {
    let names = fs::read_dir(root.join("log")).unwrap().map(|file| file.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".seg")).count()
}

/// The files of `deferred/` with that ending.
fn files(root: &Path, ending: &str) -> Vec<PathBuf> {
    let directories = fs::read_dir(root.join("deferred")).unwrap();
    let names = directories.flat_map(|directory| fs::read_dir(directory.unwrap().path()).unwrap());
    let mut names: Vec<PathBuf> = names.map(|name| name.unwrap().path()).collect();
    names.retain(|name| name.extension().is_some_and(|extension| extension == ending));
    names.sort();
    names
}

fn expected(number: u32) -> Vec<u8> {
    let body =
        if number == 3 { vec![b'L'; 100_000] } else { format!("body {number}").into_bytes() };
    [HEAD.as_bytes(), &body].concat()
}

/// Nobody watches.
fn quiet(_: usize, _: usize) {}

#[tokio::test]
async fn what_is_exported_is_imported_elsewhere_with_all_that_is_known_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let (root, out) = (directory.path().join("spool"), directory.path().join("out"));
    spool(&root).await;
    let exported =
        offline::export(&root, &Filter::default(), SystemTime::now(), &out, quiet).unwrap();
    assert_eq!((exported.messages.len(), exported.damaged.len()), (10, 0));
    for number in 0..10 {
        assert_eq!(fs::read(out.join(format!("{}.eml", id(number)))).unwrap(), expected(number));
    }
    let error =
        offline::export(&root, &Filter::default(), SystemTime::now(), &out, quiet).unwrap_err();
    assert!(error.to_string().contains("exists"), "nothing is replaced: {error}");

    let other = directory.path().join("other");
    let (taken, result) =
        offline::import(small(&other), &[out], None, SystemTime::now(), quiet).await;
    result.unwrap();
    assert_eq!(taken.len(), 10);
    for (path, new) in &taken {
        let number =
            (0..10).find(|n| path.to_string_lossy().contains(&id(*n).to_string())).unwrap();
        assert_eq!(
            offline::content(&other, *new).unwrap().read(0, usize::MAX).unwrap(),
            expected(number)
        );
        let before = offline::show(&root, id(number)).unwrap().unwrap().message;
        let after = offline::show(&other, *new).unwrap().unwrap().message;
        assert_eq!(
            (after.received, &after.hold, after.size),
            (before.received, &before.hold, before.size)
        );
        assert_eq!(format!("{:?}", after.recipients), format!("{:?}", before.recipients));
    }
    let held = Filter { held: Some(true), ..Filter::default() };
    assert_eq!(offline::list(&other, &held, SystemTime::now()).unwrap().len(), 1);
    let tried = Filter { domain: Some("tried.test".to_owned()), ..Filter::default() };
    assert_eq!(offline::list(&other, &tried, SystemTime::now()).unwrap()[0].attempts, 1);
}

#[tokio::test]
async fn a_plain_message_is_imported_with_an_envelope_of_the_caller() {
    let directory = tempfile::tempdir().unwrap();
    let (root, file) = (directory.path().join("spool"), directory.path().join("plain.eml"));
    fs::write(&file, "Subject: plain\n\nhello\n").unwrap();
    let paths = [file.clone()];
    let (taken, result) =
        offline::import(small(&root), &paths, None, SystemTime::now(), quiet).await;
    assert!(taken.is_empty() && result.unwrap_err().to_string().contains("--from and --to"));
    let plain = PlainEnvelope {
        reverse_path: "a@one.test".parse().unwrap(),
        forward_paths: vec!["b@two.test".parse().unwrap(), "c@two.test".parse().unwrap()],
    };
    let (taken, result) =
        offline::import(small(&root), &paths, Some(&plain), SystemTime::now(), quiet).await;
    result.unwrap();
    let content = offline::content(&root, taken[0].1).unwrap().read(0, usize::MAX).unwrap();
    assert_eq!(content, b"Subject: plain\r\n\r\nhello\r\n");
    let listed = offline::list(&root, &Filter::default(), SystemTime::now()).unwrap();
    assert_eq!(listed[0].recipients, ["b@two.test", "c@two.test"]);
    // An envelope as somebody writes it by hand.
    fs::write(
        file.with_extension("json"),
        r#"{"reverse_path": "", "recipients": [{"path": "d@two.test"}], "hold": "look"}"#,
    )
    .unwrap();
    let (taken, result) =
        offline::import(small(&root), &[file], None, SystemTime::now(), quiet).await;
    result.unwrap();
    let message = offline::show(&root, taken[0].1).unwrap().unwrap().message;
    assert!(message.reverse_path.is_null() && message.hold.as_deref() == Some("look"));
}

#[tokio::test]
async fn a_check_finds_every_kind_of_damage_and_a_repair_loses_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("spool");
    spool(&root).await;
    let report = offline::fsck(&root, quiet).unwrap();
    assert!(report.is_clean() && report.messages == 10, "{report:?}");
    assert_eq!(report.octets, (0..10).map(|n| expected(n).len() as u64).sum::<u64>());

    // One message's content, another's state, a large body, the index, and files that belong to nobody.
    let path = |number: u32, ending: &str| {
        let name = format!("{}.{ending}", id(number));
        files(&root, ending).into_iter().find(|file| file.ends_with(&name)).unwrap()
    };
    flip(&path(0, "eml"), 20);
    flip(&path(1, "record"), 120);
    flip(&root.join(format!("large/{}.body", id(3))), 50_000);
    flip(&root.join("deferred.index"), 25);
    let orphan = path(0, "eml").with_file_name("01HZZZZZZZ0000AB.eml");
    fs::write(&orphan, "nobody's").unwrap();
    fs::write(root.join("notes.txt"), "an operator's").unwrap();
    let report = offline::fsck(&root, quiet).unwrap();
    let damaged: Vec<_> = report
        .findings
        .iter()
        .filter_map(|finding| match &finding.fault {
            Fault::Message(id, _) => Some(*id),
            _ => None,
        })
        .collect();
    assert_eq!(damaged, [id(0), id(1), id(3)]);
    let has = |fault: &Fault, place: &str| {
        report.findings.iter().any(|f| f.fault == *fault && f.place.ends_with(place))
    };
    assert!(has(&Fault::Index(1), "deferred.index"), "{report:?}");
    assert!(has(&Fault::Orphan, "01HZZZZZZZ0000AB.eml") && has(&Fault::Stranger, "notes.txt"));
    assert!(!report.is_clean());
    assert_eq!(
        offline::fsck(&root, quiet).unwrap().findings,
        report.findings,
        "a check changes nothing"
    );

    offline::repair(small(&root), quiet).await.unwrap();
    let report = offline::fsck(&root, quiet).unwrap();
    assert!(report.is_clean() && report.messages == 7, "{report:?}");
    for number in [2, 4, 5, 6, 7, 8, 9] {
        let content = offline::content(&root, id(number)).unwrap();
        assert_eq!(content.read(0, usize::MAX).unwrap(), expected(number));
    }
    let aside: Vec<_> =
        fs::read_dir(root.join("corrupt")).unwrap().map(|e| e.unwrap().file_name()).collect();
    for part in
        [id(0).to_string(), id(1).to_string(), id(3).to_string(), "01HZZZZZZZ0000AB".to_owned()]
    {
        assert!(
            aside.iter().any(|name| name.to_string_lossy().contains(&part)),
            "{part}: {aside:?}"
        );
    }
    assert!(root.join("notes.txt").exists());
}

#[tokio::test]
async fn damage_in_the_log_is_named_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("spool");
    let (queue, _) = Queue::open(small(&root)).await.unwrap();
    for number in 0..3 {
        send(&queue, number, &["a@one.test"], b"hello").await.unwrap();
    }
    queue.shutdown().await;
    let logs = fs::read_dir(root.join("log")).unwrap().map(|entry| entry.unwrap().path());
    let segment =
        logs.into_iter().find(|path| path.extension().is_some_and(|e| e == "seg")).unwrap();
    flip(&segment, 20);
    let report = offline::fsck(&root, quiet).unwrap();
    assert_eq!((report.messages, report.findings.len()), (2, 1), "{report:?}");
    assert!(report.findings[0].place.ends_with(".seg at 0"), "{report:?}");
    offline::repair(small(&root), quiet).await.unwrap();
    assert_eq!(fs::read_dir(root.join("corrupt")).unwrap().count(), 1);
}

fn flip(path: &Path, offset: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut octet = [0];
    file.read_exact_at(&mut octet, offset).unwrap();
    file.write_all_at(&[octet[0] ^ 1], offset).unwrap();
}
