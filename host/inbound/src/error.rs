//! What the room could not do, in words for operators.

use std::io;

use crate::config::Address;

/// The room could not do its work. What a peer hears of it is said in [`refusal`](crate::refusal) and nowhere else.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A listener cannot be opened.
    #[error("cannot listen on {address} ({listener}){}", advice(.source, .address))]
    Bind {
        /// Its name in the configuration.
        listener: String,
        /// Its address.
        address: Address,
        /// Why not.
        source: io::Error,
    },
    /// PROXY headers do not come over Unix sockets.
    #[error("the listener {listener} is a Unix socket and cannot have proxy_from")]
    ProxyOnUnix {
        /// Its name in the configuration.
        listener: String,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] net::tls::TlsError),
    /// The queue did not take the message.
    #[error(transparent)]
    Queue(#[from] queue::Error),
}

fn advice(source: &io::Error, address: &Address) -> &'static str {
    match (source.kind(), address) {
        (io::ErrorKind::AddrInUse, _) => {
            "; another program listens there: stop it or choose another address"
        }
        (io::ErrorKind::PermissionDenied, Address::Tcp(address)) if address.port() < 1024 => {
            "; ports below 1024 need the capability CAP_NET_BIND_SERVICE"
        }
        (io::ErrorKind::AddrNotAvailable, _) => "; this machine does not have that address",
        _ => "",
    }
}
