//! The content of a message as plugins see it.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use message::mime::Parts;
use message::{Header, Limits, Octets};
use tokio::sync::OnceCell;

use crate::authentication::Results;
use crate::bindings::HostError;

/// The received content: its parsed header, and access to all its octets. Only content that a [`message::Watch`] has
/// passed may stand here: a parser of MIME that nobody guards can be hurt.
pub struct ContentView {
    /// The header as received.
    pub header: Header,
    /// The whole content, header included.
    pub octets: Arc<dyn Octets>,
    /// What the host's own checks of the sender say.
    pub results: Option<Results>,
    /// The MIME tree: made when the first plugin asks for it, shared by all.
    parts: OnceCell<Result<Arc<Parts>, HostError>>,
    decoded: Mutex<Option<(usize, Bytes)>>,
}

impl ContentView {
    /// A view of this content.
    pub fn new(header: Header, octets: Arc<dyn Octets>) -> Self {
        Self { header, octets, results: None, parts: OnceCell::new(), decoded: Mutex::default() }
    }

    /// The same, with what the host's own checks of the sender say.
    #[must_use]
    pub fn with_results(self, results: Results) -> Self {
        Self { results: Some(results), ..self }
    }

    /// The leaves of the MIME tree. Reading and decoding is done on a thread that may wait.
    pub(crate) async fn parts(&self) -> Result<&Arc<Parts>, HostError> {
        let parts = self.parts.get_or_init(|| {
            let octets = self.octets.clone();
            let parse = tokio::task::spawn_blocking(move || parse(octets.as_ref()).map(Arc::new));
            async {
                parse
                    .await
                    .unwrap_or_else(|_| Err(HostError::Unavailable("the parser failed".into())))
            }
        });
        parts.await.as_ref().map_err(Clone::clone)
    }

    /// One leaf, decoded. The last one is kept: it is read in pieces.
    pub(crate) async fn decoded(&self, index: usize) -> Result<Option<Bytes>, HostError> {
        if let Ok(last) = self.decoded.lock()
            && let Some((_, octets)) = last.as_ref().filter(|(last, _)| *last == index)
        {
            return Ok(Some(octets.clone()));
        }
        let (octets, parts) = (self.octets.clone(), self.parts().await?.clone());
        let decode = tokio::task::spawn_blocking(move || parts.decoded(octets.as_ref(), index));
        let unavailable = |error: String| HostError::Unavailable(error);
        let decoded = decode.await.map_err(|_| unavailable("the decoder failed".into()))?;
        let decoded = decoded.map_err(|error| unavailable(error.to_string()))?;
        if let (Some(octets), Ok(mut last)) = (&decoded, self.decoded.lock()) {
            *last = Some((index, octets.clone()));
        }
        Ok(decoded)
    }
}

impl std::fmt::Debug for ContentView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContentView").field("octets", &self.octets.len()).finish_non_exhaustive()
    }
}

fn parse(octets: &dyn Octets) -> Result<Parts, HostError> {
    let size = octets.len();
    if size > MAX_PARSED_OCTETS {
        return Err(HostError::Quota(format!(
            "{size} octets, at most {MAX_PARSED_OCTETS} are taken apart"
        )));
    }
    Parts::read(octets, &Limits::default())
        .map_err(|error| HostError::Unavailable(error.to_string()))
}

/// The whole content stands in memory while it is taken apart.
const MAX_PARSED_OCTETS: u64 = 64 << 20;
