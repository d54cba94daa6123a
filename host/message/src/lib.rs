//! RFC 5322 content: header fields, edits, trace fields, reports. No I/O and no clock.
//!
//! Content streams through a [`Watch`], which keeps the [`Header`] and bounds everything that a parser could be
//! hurt by; [`compose`] applies [`Edits`] to the header without touching a field that nobody edited. [`trace`]
//! writes what a server adds, [`report`] what it tells a sender, [`mime`] shows plugins the leaves of the content.
//! What an address, a reply or an envelope is, belongs to the room `smtp`.

mod content_type;
#[cfg(test)]
mod corpora;
pub mod date;
mod decode;
mod edit;
mod fold;
mod header;
mod id;
mod line_end;
pub mod mime;
#[cfg(test)]
mod mutations;
mod octets;
pub mod report;
mod structure;
pub mod trace;
mod watch;

pub use edit::{Body, Composed, Edit, EditError, Edits, NewField, compose};
pub use header::{Field, Header};
pub use id::{Id, IdError};
pub use line_end::with_crlf;
pub use octets::Octets;
pub use trace::is_trace_field;
pub use watch::{Defect, Limits, Watch};
