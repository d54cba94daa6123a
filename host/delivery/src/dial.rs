//! Sockets and TLS towards a host.

use std::{fmt, net::SocketAddr, path::Path};

use net::{Connected, Dialing, Stream, tls::Verification};
use smtp::{Reply, TlsDemand};
use tokio::{net::UnixStream, time::timeout};

use crate::{House, resolve::Target};

/// One address of a host.
#[derive(Clone, Debug)]
pub(crate) enum Endpoint {
    Tcp(SocketAddr),
    Unix,
}

/// A host and the address that was reached, as logs and reports name it: `mx.example.org
/// [192.0.2.1]:25`.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) endpoint: Endpoint,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.endpoint {
            Endpoint::Tcp(address) => {
                write!(f, "{} [{}]:{}", self.name, address.ip(), address.port())
            }
            Endpoint::Unix => f.write_str(&self.name),
        }
    }
}

/// Connects to the first of these addresses that answers.
pub(crate) async fn tcp(
    house: &House,
    target: &Target,
    addresses: &[SocketAddr],
) -> Result<Connected, Reply> {
    let dialing = Dialing { source: target.source, ..Dialing::new(house.config.limits.connect) };
    let connected = net::connect(addresses, &dialing).await;
    connected.map_err(|error| {
        Reply::new(451, format!("4.4.1 No connection to {}: {error}", target.name))
    })
}

/// Connects to a socket of this machine.
pub(crate) async fn unix(house: &House, path: &Path) -> Result<Stream, Reply> {
    let limit = house.config.limits.connect;
    let failed = match timeout(limit, UnixStream::connect(path)).await {
        Ok(Ok(stream)) => return Ok(stream.into()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer in {} s", limit.as_secs_f64()),
    };
    Err(Reply::new(451, format!("4.4.1 No connection to {}: {failed}", path.display())))
}

/// Makes TLS on a connection, as strictly as the target demands.
pub(crate) async fn tls(house: &House, stream: Stream, target: &Target) -> Result<Stream, Reply> {
    let verification = match target.tls {
        // RFC 7435: encryption without proof of identity is better than none.
        TlsDemand::Opportunistic | TlsDemand::Require => Verification::None,
        TlsDemand::Verify | TlsDemand::Implicit => Verification::WebPki,
    };
    let handshake = house
        .rooms
        .tls
        .connect(stream, &target.name, verification, house.config.limits.handshake)
        .await;
    handshake
        .map_err(|error| Reply::new(451, format!("4.7.5 No TLS with {}: {error}", target.name)))
}
