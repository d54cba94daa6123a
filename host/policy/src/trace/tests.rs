use std::time::Duration;

use super::*;

fn entry(unique: u32, seconds: u64, reverse_path: &str, recipient: &str) -> Entry {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000 + seconds);
    Entry {
        id: Id::new(time, unique),
        session: None,
        time,
        kind: Cow::Borrowed("transaction"),
        peer: None,
        helo: None,
        reverse_path: Some(reverse_path.into()),
        recipients: vec![recipient.into()],
        fate: Cow::Borrowed("accepted"),
        reply: Some("250 2.0.0 ok".into()),
        stages: Vec::new(),
    }
}

#[tokio::test]
async fn what_was_recorded_is_found_by_id_and_by_address() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(JournalConfig::new(directory.path())).unwrap();
    let entries: Vec<Entry> = (0..100)
        .map(|n| entry(n, u64::from(n), &format!("a{n}@example.org"), "Bob@example.net"))
        .collect();
    for entry in &entries {
        assert!(journal.record(entry.clone()));
    }
    journal.flush().await;
    let by = |query: Query, limit| search(directory.path(), &query, limit).unwrap();
    assert_eq!(by(Query::Id(entries[7].id), 10), [entries[7].clone()]);
    assert_eq!(by(Query::Address("A7@EXAMPLE.org".into()), 10), [entries[7].clone()]);
    assert_eq!(by(Query::Address("bob@example.net".into()), 3), entries[97..]);
    assert_eq!(by(Query::Address("example.net".into()), 3), []);
}

#[tokio::test]
async fn a_torn_line_hides_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace-2026-11-21.jsonl");
    let wanted = entry(1, 0, "", "bob@example.net");
    let mut text = String::from("{\"id\":\"bob@example.net\n\u{0}\u{0}\n");
    text.push_str(&serde_json::to_string(&wanted).unwrap());
    text.push_str("\n{\"half bob@example.net");
    std::fs::write(&path, text).unwrap();
    let query = Query::Address("bob@example.net".into());
    assert_eq!(search(directory.path(), &query, 10).unwrap(), [wanted]);
}

/// A moment that no test waits for.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_305_600)
}

fn names(directory: &std::path::Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn old_and_excess_files_go() {
    let directory = tempfile::tempdir().unwrap();
    for age in 1..=20 {
        let path = directory.path().join(format!("trace-2026-10-{:02}.jsonl", 21 - age));
        std::fs::write(&path, [b' '; 100]).unwrap();
        let file = std::fs::File::options().append(true).open(&path).unwrap();
        file.set_modified(now() - Duration::from_secs(age * 24 * 3600)).unwrap();
    }
    std::fs::write(directory.path().join("other.txt"), "stays").unwrap();
    let config = JournalConfig {
        keep: Duration::from_secs(10 * 24 * 3600),
        now,
        ..JournalConfig::new(directory.path())
    };
    let expected = |days: std::ops::RangeInclusive<u32>| -> Vec<String> {
        let files = days.map(|day| format!("trace-2026-10-{day:02}.jsonl"));
        std::iter::once("other.txt".into()).chain(files).collect()
    };
    drop(Journal::open(config.clone()).unwrap());
    assert_eq!(names(directory.path()), expected(11..=20));
    let journal = Journal::open(config.clone()).unwrap();
    journal.keep(config.keep, 350).await;
    drop(journal);
    assert_eq!(names(directory.path()), expected(18..=20));
    // The newest is never too old and never too much.
    let nothing = JournalConfig { keep: Duration::ZERO, keep_octets: 0, ..config };
    drop(Journal::open(nothing).unwrap());
    assert_eq!(names(directory.path()), expected(20..=20));
}

#[tokio::test]
async fn a_busy_day_is_cut_into_files_and_keeps_to_its_size() {
    let directory = tempfile::tempdir().unwrap();
    let config = JournalConfig { keep_octets: 16_000, now, ..JournalConfig::new(directory.path()) };
    let journal = Journal::open(config.clone()).unwrap();
    let entries: Vec<Entry> =
        (0..400).map(|n| entry(n, 0, "alice@example.org", "bob@example.net")).collect();
    for entry in &entries {
        while !journal.record(entry.clone()) {
            journal.flush().await;
        }
    }
    drop(journal);
    let kept = names(directory.path());
    let octets: u64 =
        kept.iter().map(|name| std::fs::metadata(directory.path().join(name)).unwrap().len()).sum();
    // The file that is written may be whole besides.
    assert!((12_000..=18_500).contains(&octets), "{octets} octets in {kept:?}");
    let query = Query::Address("bob@example.net".into());
    let found = search(directory.path(), &query, 1000).unwrap();
    assert_eq!(found, entries[400 - found.len()..], "the newest, in their order");
    // A writer that comes later goes on where the last one ended.
    let journal = Journal::open(config).unwrap();
    journal.record(entries[0].clone());
    drop(journal);
    assert_eq!(search(directory.path(), &query, 1).unwrap(), entries[..1]);
}

#[tokio::test]
async fn a_client_is_found_by_its_address() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(JournalConfig::new(directory.path())).unwrap();
    let from = |peer: &str, unique| Entry {
        peer: Some(peer.into()),
        ..entry(unique, 0, "alice@example.org", "bob@example.net")
    };
    let entries = [from("192.0.2.1", 1), from("192.0.2.10", 2), from("2001:db8::1", 3)];
    entries.iter().for_each(|entry| assert!(journal.record(entry.clone())));
    journal.flush().await;
    let by = |address: &str| {
        search(directory.path(), &Query::Client(address.parse().unwrap()), 10).unwrap()
    };
    assert_eq!(by("192.0.2.1"), [entries[0].clone()]);
    assert_eq!(by("2001:0db8::1"), [entries[2].clone()]);
    assert_eq!(by("192.0.2.3"), []);
}

#[tokio::test]
async fn everything_is_written_before_the_journal_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let wanted = entry(1, 0, "", "bob@example.net");
    let journal = Journal::open(JournalConfig::new(directory.path())).unwrap();
    journal.record(wanted.clone());
    drop(journal);
    assert_eq!(search(directory.path(), &Query::Id(wanted.id), 10).unwrap(), [wanted]);
}
