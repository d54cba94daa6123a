//! Which messages an operator means: found in the index and in memory, read away from the owner of the queue.

use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use memchr::memmem::Finder;
use message::Id;
use tokio::task::spawn_blocking;

use super::Queue;
use crate::admin::Filter;
use crate::disk::File;
use crate::index::{HELD, Line, Reader, glance, parse};
use crate::manager::{Candidate, Command, Survey};
use crate::message::Message;
use crate::store::parse_message;

impl Queue {
    /// Reads what matches, oldest first.
    pub(super) async fn matching<T: Send + 'static>(
        &self,
        filter: Filter,
        make: impl Fn(&Candidate, Message) -> T + Send + Sync + 'static,
    ) -> Vec<T> {
        let (now, limit) = (self.shared.clock.now(), filter.limit.unwrap_or(usize::MAX));
        let (filter, make) = (Arc::new(filter), Arc::new(make));
        let (file, places) = match self.places(&filter, now).await {
            Some((file, places)) => (file, places),
            None => {
                let unknown = filter.ids.iter().copied().map(Place::unknown);
                (None, last_of_each(unknown.collect()))
            }
        };
        let mut found = Vec::new();
        for portion in places.chunks(PORTION) {
            let portion = portion.to_vec();
            let ids = portion.iter().map(|place| place.id).collect();
            let candidates = self.ask(|reply| Command::Select(ids, reply)).await;
            let (filter, make, file) = (Arc::clone(&filter), Arc::clone(&make), file.clone());
            let read = move || -> Vec<T> {
                let texts = texts(&filter);
                let finders = finders(&texts);
                let matching = candidates.unwrap_or_default().into_iter().filter_map(|candidate| {
                    let place = portion.binary_search_by_key(&candidate.id, |place| place.id);
                    let message =
                        portion[place.ok()?].read(file.as_deref(), &candidate, &finders)?;
                    filter.matches(&message, now).then(|| make(&candidate, message))
                });
                matching.collect()
            };
            found.extend(spawn_blocking(read).await.unwrap_or_default());
            if found.len() >= limit {
                break;
            }
        }
        found.truncate(limit);
        found
    }

    /// All messages that may match, oldest first, without reading them, and the index that they may be read in. `None`:
    /// the filter names them.
    async fn places(
        &self,
        filter: &Arc<Filter>,
        now: SystemTime,
    ) -> Option<(Option<Arc<dyn File>>, Vec<Place>)> {
        if !filter.ids.is_empty() {
            return None;
        }
        let asked = Arc::clone(filter);
        let Survey { index, others } = self.ask(move |reply| Command::Survey(asked, reply)).await?;
        let filter = Arc::clone(filter);
        let look = move || {
            let mut places = Vec::new();
            if let Some((file, end)) = &index
                && let Err(error) = search(file, *end, &filter, now, &mut places)
            {
                tracing::error!(%error, "the index of the spool could not be read; the list is not whole");
            }
            places.extend(others.into_iter().map(Place::unknown));
            (index.map(|(file, _)| file), last_of_each(places))
        };
        spawn_blocking(look).await.ok()
    }
}

/// Where the state of a message may be read: in that line of the index, if it is still its last revision. There may be a
/// million of them.
#[derive(Clone, Copy, Debug)]
struct Place {
    id: Id,
    offset: u64,
    /// 0: it is not known to have a line.
    len: u32,
    revision: u32,
}

impl Place {
    /// It counts more than any line.
    fn unknown(id: Id) -> Self {
        Self { id, offset: u64::MAX, len: 0, revision: 0 }
    }

    /// `None`: it cannot be read, or lacks one of the texts.
    fn read(
        &self,
        index: Option<&dyn File>,
        candidate: &Candidate,
        finders: &[Finder<'_>],
    ) -> Option<Message> {
        if self.len > 0
            && candidate.is_deferred_as(self.revision)
            && let Ok(line) = index?.read_exact_at(self.offset, self.len as usize)
            && let Some(Line::Put(_, json)) = parse(&line)
            && let Some(message) = parse_message(json)
        {
            return Some(message);
        }
        let has_all = |json: &[u8]| {
            let small = json.to_ascii_lowercase();
            finders.iter().all(|finder| finder.find(&small).is_some())
        };
        let read = candidate.read_if(has_all).inspect_err(|error| {
            tracing::debug!(message = %candidate.id, %error, "left out of a list");
        });
        read.ok().flatten()
    }
}

/// The last place of each message, oldest message first.
fn last_of_each(mut places: Vec<Place>) -> Vec<Place> {
    places.sort_unstable_by_key(|place| (place.id, std::cmp::Reverse(place.offset)));
    places.dedup_by_key(|place| place.id);
    places
}

/// Finds the lines of an index that may match: quickly, and rather too many.
fn search(
    file: &Arc<dyn File>,
    end: u64,
    filter: &Filter,
    now: SystemTime,
    places: &mut Vec<Place>,
) -> std::io::Result<()> {
    let mut texts = texts(filter);
    if filter.held == Some(true) || filter.hold.is_some() {
        texts.push(HELD.to_owned());
    }
    let finders = finders(&texts);
    let mut reader = Reader::new(Arc::clone(file), end)?;
    let mut small = Vec::new();
    while let Some((offset, lines)) = reader.next_lines()? {
        let mut searched = lines;
        if !finders.is_empty() {
            small.clear();
            small.extend_from_slice(lines);
            small.make_ascii_lowercase();
            searched = &small;
        }
        lines_with(&finders, searched, |line| {
            let (offset, line) = (offset + line.start as u64, &lines[line]);
            // Its checksum is looked at when it is read for good.
            let Some(glance) = glance(line) else { return };
            let old = |age| now.duration_since(glance.received).is_ok_and(|passed| passed > age);
            let held = filter.held.is_none_or(|wanted| glance.held == wanted);
            if held && filter.older.is_none_or(old) {
                let len = u32::try_from(line.len()).unwrap_or_default();
                places.push(Place { id: glance.id, offset, len, revision: glance.revision });
            }
        });
    }
    Ok(())
}

/// Takes each line in which all texts stand. All lines together are searched for the first text: those that lack it, and
/// they are most of a million, are not even looked at one by one.
fn lines_with(finders: &[Finder<'_>], lines: &[u8], mut take: impl FnMut(Range<usize>)) {
    let mut at = 0;
    while at < lines.len() {
        let found = match finders.first() {
            Some(finder) => finder.find(&lines[at..]),
            None => Some(0),
        };
        let Some(found) = found.map(|found| at + found) else { return };
        let begin = memchr::memrchr(b'\n', &lines[at..found]).map_or(at, |end| at + end + 1);
        let end = memchr::memchr(b'\n', &lines[found..]).map_or(lines.len(), |end| found + end);
        let line = &lines[begin..end];
        if finders.iter().skip(1).all(|finder| finder.find(line).is_some()) {
            take(begin..end);
        }
        at = end + 1;
    }
}

fn finders(texts: &[String]) -> Vec<Finder<'_>> {
    texts.iter().map(|text| Finder::new(text.as_bytes())).collect()
}

/// What stands in the JSON of every message that matches, in small letters.
fn texts(filter: &Filter) -> Vec<String> {
    let addresses = [&filter.sender, &filter.recipient, &filter.domain, &filter.destination];
    let names = [&filter.user, &filter.tag, &filter.hold];
    // What JSON may write in another way is not looked for.
    let plain = |text: &&String| {
        let as_it_is = |octet: u8| octet.is_ascii_graphic() && !matches!(octet, b'"' | b'\\');
        !text.is_empty() && *text != "<>" && text.bytes().all(as_it_is)
    };
    let wanted = addresses.into_iter().chain(names).flatten().filter(plain);
    wanted.map(|text| text.to_ascii_lowercase()).collect()
}

/// Messages that are read at once.
const PORTION: usize = 1024;
