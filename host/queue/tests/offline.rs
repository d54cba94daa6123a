//! A spool on a real disk, read while no server runs.
#![expect(clippy::disallowed_methods, reason = "offline readers say what time it is")]

mod support;

use std::time::SystemTime;

use message::Octets;
use queue::{Config, Error, Filter, Limits, Queue, offline};

use support::*;

#[tokio::test]
async fn a_spool_is_read_without_a_server_and_not_beside_one() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("spool");
    let config = Config { limits: Limits::small(), ..Config::new(&root) };
    let now = SystemTime::now();
    assert!(offline::list(&root, &Filter::default(), now).unwrap().is_empty(), "there is none yet");
    let (queue, _) = Queue::open(config.clone()).await.unwrap();
    let large = vec![b'x'; 100_000];
    send(&queue, 1, &["a@one.test"], b"small").await.unwrap();
    send(&queue, 2, &["b@two.test"], &large).await.unwrap();
    let error = offline::list(&root, &Filter::default(), now).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    queue.shutdown().await;

    let listed = offline::list(&root, &Filter::default(), now).unwrap();
    let recipients: Vec<_> = listed.iter().map(|summary| summary.recipients.join(" ")).collect();
    assert_eq!(recipients, ["a@one.test", "b@two.test"]);
    let one = Filter { recipient: Some("B@two.test".to_owned()), ..Filter::default() };
    assert_eq!(offline::list(&root, &one, now).unwrap().len(), 1);
    let detail = offline::show(&root, id(1)).unwrap().expect("it is there");
    assert!(detail.place.starts_with("log segment 1 at "), "{}", detail.place);
    assert!(offline::show(&root, id(9)).unwrap().is_none());
    let content = offline::content(&root, id(2)).unwrap();
    assert_eq!(content.read(0, usize::MAX).unwrap(), [HEAD.as_bytes(), &large].concat());

    let (queue, recovery) = Queue::open(config).await.unwrap();
    assert_eq!((recovery.messages, recovery.corrupt, recovery.orphans), (2, 0, 0));
    queue.shutdown().await;
}

#[tokio::test]
async fn a_spool_of_another_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("FORMAT"), "gatepost spool 2\n").unwrap();
    let error = Queue::open(Config::new(directory.path())).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("has format gatepost spool 2"), "{error}");
}
