//! What administrators and monitoring connect to: JSON over HTTP on a Unix socket that only the server's own user may
//! open, and metrics over TCP.

pub(crate) mod client;
pub(crate) mod destination;
mod server;

pub(crate) use self::server::{Office, serve_http, serve_socket};
