//! Names, TLS and streams: everything between the rooms of mail and the network.
//!
//! This room owns the DNS resolver, the TLS configurations of both sides, the race for the first address that
//! answers, the octet stream that a session runs on, and the permits that bound how many there are. It knows no SMTP
//! command and keeps no policy; who is asked, and what an answer means for a message, is decided above.

mod dns;
mod permit;
mod race;
mod stream;
pub mod tls;

pub use dns::{
    Answer, Dns, DnsError, Hosts, Kind, MxAnswer, Record, Resolver, ResolverOptions, Zone,
    ZoneError,
};
pub use permit::{Permit, Permits, Refused};
pub use race::{Connected, Dialing, Source, Unreachable, connect, interleave};
pub use stream::{Stream, TlsInfo};
