//! Which messages an operator means: found in the index and in memory, read away from the owner of the queue.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use memchr::memmem::Finder;
use message::Id;
use tokio::task::spawn_blocking;

use super::Queue;
use crate::admin::Filter;
use crate::disk::File;
use crate::index::{Line, Reader, parse};
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
        let places = match self.places(&filter, now).await {
            Some(places) => places,
            None => filter.ids.iter().map(|id| (*id, Place::Unknown)).collect(),
        };
        let mut found = Vec::new();
        let mut places = places.into_iter();
        while found.len() < limit {
            let portion: BTreeMap<Id, Place> = places.by_ref().take(PORTION).collect();
            if portion.is_empty() {
                break;
            }
            let ids = portion.keys().copied().collect();
            let candidates = self.ask(|reply| Command::Select(ids, reply)).await;
            let (filter, make) = (Arc::clone(&filter), Arc::clone(&make));
            let read = move || -> Vec<T> {
                let matching = candidates.unwrap_or_default().into_iter().filter_map(|candidate| {
                    let message = portion.get(&candidate.id)?.read(&candidate)?;
                    filter.matches(&message, now).then(|| make(&candidate, message))
                });
                matching.collect()
            };
            found.extend(spawn_blocking(read).await.unwrap_or_default());
        }
        found.truncate(limit);
        found
    }

    /// All messages that may match, without reading them. `None`: the filter names them.
    async fn places(&self, filter: &Arc<Filter>, now: SystemTime) -> Option<BTreeMap<Id, Place>> {
        if !filter.ids.is_empty() {
            return None;
        }
        let Survey { index, others } = self.ask(Command::Survey).await?;
        let filter = Arc::clone(filter);
        let look = move || {
            let mut places = BTreeMap::new();
            if let Some((file, end)) = index
                && let Err(error) = search(&file, end, &filter, now, &mut places)
            {
                tracing::error!(%error, "the index of the spool could not be read; the list is not whole");
            }
            places.extend(others.into_iter().map(|id| (id, Place::Unknown)));
            places
        };
        spawn_blocking(look).await.ok()
    }
}

/// Where the state of a message may be read.
#[derive(Debug)]
enum Place {
    Unknown,
    /// In that line of the index, if it is still its last revision.
    Line {
        file: Arc<dyn File>,
        offset: u64,
        len: usize,
        revision: u32,
    },
}

impl Place {
    fn read(&self, candidate: &Candidate) -> Option<Message> {
        if let Self::Line { file, offset, len, revision } = self
            && candidate.is_deferred_as(*revision)
            && let Ok(line) = file.read_exact_at(*offset, *len)
            && let Some(Line::Put(_, json)) = parse(&line)
            && let Some(message) = parse_message(json)
        {
            return Some(message);
        }
        let read = candidate.read();
        read.inspect_err(|error| {
            tracing::debug!(message = %candidate.id, %error, "left out of a list");
        })
        .ok()
    }
}

/// Finds the lines of an index that may match: quickly, and rather too many.
fn search(
    file: &Arc<dyn File>,
    end: u64,
    filter: &Filter,
    now: SystemTime,
    places: &mut BTreeMap<Id, Place>,
) -> std::io::Result<()> {
    let texts = texts(filter);
    let finders: Vec<Finder<'_>> = texts.iter().map(|text| Finder::new(text.as_bytes())).collect();
    let mut reader = Reader::new(Arc::clone(file), end)?;
    let mut small = Vec::new();
    while let Some((offset, line)) = reader.next_raw()? {
        if line.first() != Some(&b'+') {
            continue;
        }
        if !finders.is_empty() {
            small.clear();
            small.extend_from_slice(line);
            small.make_ascii_lowercase();
            if finders.iter().any(|finder| finder.find(&small).is_none()) {
                continue;
            }
        }
        let Some(Line::Put(indexed, _)) = parse(line) else { continue };
        let old = |age| now.duration_since(indexed.received).is_ok_and(|passed| passed > age);
        let fits = filter.held.is_none_or(|wanted| indexed.brief.held == wanted)
            && filter.older.is_none_or(old);
        if fits {
            let (file, len, revision) = (Arc::clone(file), line.len(), indexed.revision());
            places.insert(indexed.id, Place::Line { file, offset, len, revision });
        }
    }
    Ok(())
}

/// What stands in the JSON of every message that matches, in small letters.
fn texts(filter: &Filter) -> Vec<String> {
    let wanted = [&filter.sender, &filter.recipient, &filter.domain, &filter.destination];
    // What JSON may write in another way is not looked for.
    let plain = |text: &&String| {
        let as_it_is = |octet: u8| octet.is_ascii_graphic() && !matches!(octet, b'"' | b'\\');
        !text.is_empty() && *text != "<>" && text.bytes().all(as_it_is)
    };
    wanted.into_iter().flatten().filter(plain).map(|text| text.to_ascii_lowercase()).collect()
}

/// Messages that are read at once.
const PORTION: usize = 1024;
