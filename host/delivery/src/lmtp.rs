//! LMTP servers (RFC 2033): a mailbox store behind a TCP port or a Unix socket. The conversation is
//! that of SMTP but for the hello and one reply per recipient, so machine and driver are the same.

use smtp::{LmtpAddress, Reply, TlsDemand, client::Dialect};

use crate::{
    House,
    resolve::{Place, Target, fixed_host},
};

/// The one place that an LMTP route names.
pub(crate) async fn resolve(house: &House, address: &LmtpAddress) -> Result<Target, Reply> {
    match address {
        LmtpAddress::Tcp { host, port } => fixed_host(house, host, *port, Dialect::Lmtp).await,
        LmtpAddress::Unix(path) => Ok(Target {
            name: path.display().to_string(),
            place: Place::Unix(path.clone()),
            dialect: Dialect::Lmtp,
            tls: TlsDemand::Opportunistic,
            credentials: None,
            source: net::Source::default(),
            preference: 0,
        }),
    }
}
