//! Mail comes in: listeners, sessions, the end of data.
//!
//! This room drives the receiver's machine of [`smtp`]. It owns the sockets that listen, the rules about who may send
//! where, who may log in, and the five steps from the final dot to 250. It knows no delivery: what it received lies in
//! the queue.

mod answer;
mod authenticate;
mod config;
mod content;
mod counters;
mod counts;
mod door;
mod error;
mod findings;
mod fold;
mod forward;
mod house;
mod inject;
mod listener;
mod login;
mod networks;
mod proxy;
mod refusal;
mod rules;
mod session;
mod simulate;
mod submission;
mod trace_field;
mod transaction;
mod users;
mod who;

pub use authenticate::{Authentication, Quarantine};
pub use config::{
    Address, Config, Directory, Limits, ListenerConfig, MailboxRefusal, Role, TlsUse,
};
pub use counts::Counts;
pub use door::DoorLimits;
pub use error::Error;
pub use house::{Pressure, Rooms};
pub use inject::{Injection, Injector};
pub use listener::{Inbound, Listening, bind};
pub use networks::{NetworkError, Networks};
pub use simulate::{Ended, Event, Simulator, Visit, Visitor};
pub use users::{LoginLimits, Secret, SecretError, SendAs, User, Users};
