//! The durable queue: spool and schedule.
//!
//! A message enters as a [`Draft`] and is on stable storage when [`Queue::commit`] gives its [`Receipt`]; only then may
//! anybody answer 250 (RFC 5321 §6.1). From then on one task owns it: it asks the [`Router`] where each recipient goes,
//! hands out [`Delivery`]s fairly by destination, records their [`Outcome`]s and says by [`Notice`]s what must be told
//! (RFC 3461). This room does no network and reads no configuration file.

mod admin;
mod clock;
mod commit;
mod condition;
mod config;
mod content;
mod delivery;
pub mod disk;
mod draft;
mod entry;
mod error;
mod fate;
mod format;
mod index;
mod load;
mod manager;
mod message;
pub mod offline;
mod priority;
mod queue;
mod record;
mod recovery;
pub mod schedule;
mod segment;
mod sender;
mod store;
mod suspension;

pub use admin::{Action, Changes, Destination, Detail, Filter, LastWord, Summary};
pub use clock::{Clock, SystemClock};
pub use condition::Condition;
pub use config::{Config, Limits, RouteSchedule, ScheduleConfig};
pub use content::Content;
pub use delivery::{Delivery, Notice};
pub use draft::Draft;
pub use error::Error;
pub use message::{
    Accept, Message, NoticeKind, Outcome, QueuedRecipient, Receipt, RecipientState, Router, Routing,
};
pub use priority::Priority;
pub use queue::{Queue, Recovery};
pub use sender::Sender;
pub use suspension::{Suspended, Suspension};
