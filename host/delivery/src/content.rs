//! The content of a queued message on its way out: read in pieces, never whole.

use std::{io, sync::Arc};

use bytes::Bytes;
use message::Octets;
use smtp::client::{ContentTraits, Survey};

/// A content whose traits are known.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    content: Arc<queue::Content>,
    traits: ContentTraits,
    /// The first piece, kept from the survey; most messages are no longer than this.
    first: Bytes,
}

impl Outgoing {
    /// Reads the content once to find its traits.
    pub(crate) async fn survey(content: Arc<queue::Content>) -> io::Result<Self> {
        tokio::task::spawn_blocking(move || {
            let mut survey = Survey::default();
            let mut first = Bytes::new();
            let mut offset = 0;
            while offset < content.len() {
                let piece = read(&*content, offset, PIECE)?;
                survey.update(&piece);
                if offset == 0 {
                    first = piece.clone();
                }
                offset += piece.len() as u64;
            }
            Ok(Self { content, traits: survey.finish(), first })
        })
        .await
        .map_err(io::Error::other)?
    }

    pub(crate) const fn traits(&self) -> ContentTraits {
        self.traits
    }

    /// Up to `length` octets from `offset` on; empty at the end only.
    pub(crate) async fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        if let Ok(start) = usize::try_from(offset)
            && start < self.first.len()
        {
            let end = self.first.len().min(start.saturating_add(length));
            return Ok(self.first.slice(start..end));
        }
        let content = Arc::clone(&self.content);
        tokio::task::spawn_blocking(move || read(&*content, offset, length))
            .await
            .map_err(io::Error::other)?
    }
}

/// Fills a piece as far as there is content. Blocks.
pub(crate) fn read(content: &dyn Octets, offset: u64, length: usize) -> io::Result<Bytes> {
    let left = usize::try_from(content.len().saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut buffer = vec![0; length.min(left)];
    let mut filled = 0;
    while filled < buffer.len() {
        match content.read_at(offset + filled as u64, &mut buffer[filled..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    Ok(Bytes::from(buffer))
}

/// One read from disk and one write to the socket.
pub(crate) const PIECE: usize = 64 * 1024;
