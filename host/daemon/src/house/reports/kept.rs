//! What lies on the disk: a file for each span.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use auth::report::Collector;

/// From the first second of a span to its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) begin: u64,
    pub(crate) end: u64,
}

impl Span {
    /// The span that a second is in: spans begin at midnight UTC and at whole intervals behind it.
    pub(super) fn around(second: u64, interval: Duration) -> Self {
        let length = interval.as_secs().max(1);
        let begin = second - second % length;
        Self { begin, end: begin + length - 1 }
    }

    pub(super) fn name(self, kind: &str) -> String {
        format!("{kind}-{}-{}", self.begin, self.end)
    }

    fn parse(name: &str) -> Option<Self> {
        let (begin, end) = name.strip_prefix("seen-")?.split_once('-')?;
        Some(Self { begin: begin.parse().ok()?, end: end.parse().ok()? })
    }
}

/// The spans of which something is kept, the oldest first.
pub(crate) fn spans(folder: &Path) -> Result<Vec<Span>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut spans = Vec::new();
    for entry in entries {
        spans.extend(entry?.file_name().to_str().and_then(Span::parse));
    }
    spans.sort();
    Ok(spans)
}

/// The oldest spans that are over, so many that what is left fits into `space`. The youngest stays in any case: it was
/// within its own bounds while it was kept.
pub(super) fn surplus(folder: &Path, space: u64, now: u64) -> Result<Vec<Span>> {
    let mut waiting = Vec::new();
    for span in spans(folder)?.into_iter().filter(|span| span.end < now) {
        match std::fs::metadata(folder.join(span.name("seen"))) {
            Ok(data) => waiting.push((span, data.len())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut octets: u64 = waiting.iter().map(|(_, size)| size).sum();
    let mut surplus = Vec::new();
    waiting.pop();
    for (span, size) in waiting {
        if octets <= space {
            break;
        }
        octets -= size;
        surplus.push(span);
    }
    Ok(surplus)
}

/// What was seen in a span.
pub(crate) fn gathered(folder: &Path, span: Span) -> Result<Collector> {
    let path = folder.join(span.name("seen"));
    let file = std::fs::File::open(&path).with_context(|| path.display().to_string())?;
    let mut collector = Collector::default();
    for line in BufReader::new(file).split(b'\n') {
        // A line that was cut off, or that is of another version, is passed over.
        if let Ok(seen) = serde_json::from_slice(&line?) {
            collector.add(seen);
        }
    }
    Ok(collector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_begin_at_midnight() {
        let day = Duration::from_secs(86_400);
        let check = |second, interval, begin, end| {
            assert_eq!(Span::around(second, interval), Span { begin, end });
        };
        check(1_700_000_000, day, 1_699_920_000, 1_700_006_399);
        check(1_699_920_000, day, 1_699_920_000, 1_700_006_399);
        check(1_700_006_399, day, 1_699_920_000, 1_700_006_399);
        check(1_700_000_000, Duration::from_secs(3600), 1_699_999_200, 1_700_002_799);
        let span = Span::around(1_700_000_000, day);
        assert_eq!(Span::parse(&span.name("seen")), Some(span));
        assert_eq!(Span::parse(&span.name("sent")), None);
        assert_eq!(Span::parse("seen-x"), None);
    }

    #[test]
    fn what_waits_has_as_much_room_as_one_span() {
        let folder = tempfile::tempdir().unwrap();
        let span = |begin| Span { begin, end: begin + 9 };
        for (begin, octets) in [(0, 40), (10, 60), (20, 50), (30, 1000)] {
            let file = folder.path().join(span(begin).name("seen"));
            std::fs::write(file, "x".repeat(octets)).unwrap();
        }
        let check = |space, now, expected: &[u64]| {
            let found = surplus(folder.path(), space, now).unwrap();
            let expected: Vec<Span> = expected.iter().map(|begin| span(*begin)).collect();
            assert_eq!(found, expected, "{space}");
        };
        // The fourth is not over.
        check(150, 35, &[]);
        check(149, 35, &[0]);
        check(110, 35, &[0]);
        check(109, 35, &[0, 10]);
        check(1, 35, &[0, 10]);
        check(1, 5, &[]);
    }

    #[test]
    fn a_line_that_was_cut_off_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let span = Span { begin: 0, end: 9 };
        std::fs::write(folder.path().join(span.name("seen")), b"{\"published\":{\n\n{}\n").unwrap();
        assert_eq!(spans(folder.path()).unwrap(), [span]);
        assert_eq!(gathered(folder.path(), span).unwrap().domains().count(), 0);
    }
}
