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

#[test]
fn old_and_excess_files_go() {
    let directory = tempfile::tempdir().unwrap();
    for day in 1..=20 {
        std::fs::write(directory.path().join(format!("trace-2026-10-{day:02}.jsonl")), [b' '; 100])
            .unwrap();
    }
    std::fs::write(directory.path().join("other.txt"), "stays").unwrap();
    let names = || {
        let mut names: Vec<String> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let config = JournalConfig {
        keep: Duration::from_secs(10 * 24 * 3600),
        ..JournalConfig::new(directory.path())
    };
    drop(Journal::open(config.clone()).unwrap());
    assert_eq!(names().len(), 12, "{:?}", names());
    drop(Journal::open(JournalConfig { keep_octets: 350, ..config }).unwrap());
    let expected: Vec<String> = std::iter::once("other.txt".into())
        .chain((17..=20).map(|day| format!("trace-2026-10-{day}.jsonl")))
        .collect();
    assert_eq!(names(), expected);
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
