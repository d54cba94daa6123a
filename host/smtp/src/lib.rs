//! SMTP and LMTP as the RFCs state them: addresses, envelopes, replies, routes, and the two
//! machines of a session. No I/O and no clock: octets and answers go in, octets and questions come
//! out.

mod address;
pub mod client;
pub mod command;
pub mod content;
mod envelope;
pub mod extension;
mod line;
mod local;
mod reply;
mod route;
pub mod sasl;
pub mod server;
mod text;

pub use address::{
    AddressError, AddressLiteral, Domain, ForwardPath, Host, LocalPart, Mailbox, ReversePath,
};
pub use envelope::{
    BodyType, Envelope, MailParameters, Notify, OriginalRecipient, ParameterError, RcptParameters,
    Recipient, Ret,
};
pub use line::{ContentFault, LineFault};
pub use local::{
    LocalDelivery, LocalDomain, LocalDomains, MailingList, Quota, Resolution, WhenFull,
};
pub use reply::{EnhancedStatus, Reply, ReplyError, ReplyParser};
pub use route::{LmtpAddress, Route, RouteError, TlsDemand};
