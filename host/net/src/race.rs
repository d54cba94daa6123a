//! Calls a host at the first of its addresses that answers: happy eyeballs (RFC 8305).
//!
//! A family that is broken on the way costs a quarter of a second instead of a timeout. Which host is called, and in
//! what order hosts are, is decided above; so is the order of the addresses, for which [`interleave`] gives the usual
//! one.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpSocket;
use tokio::time::{sleep, timeout};

use crate::Stream;

/// How addresses are called.
#[derive(Clone, Debug)]
pub struct Dialing {
    /// Which of our addresses connections come from.
    pub source: Source,
    /// How long an address has a head start before the next one is called too (RFC 8305 §5, Connection Attempt Delay:
    /// 250 ms).
    pub head_start: Duration,
    /// How long one address may take.
    pub limit: Duration,
}

/// The addresses of ours that connections leave from. None at all: the system chooses. If there is one of one family
/// only, hosts are not called by the other family: mail that must come from known addresses comes from no other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source {
    /// Towards IPv4 addresses.
    pub v4: Option<Ipv4Addr>,
    /// Towards IPv6 addresses.
    pub v6: Option<Ipv6Addr>,
}

/// The address that answered first.
#[derive(Debug)]
pub struct Connected {
    /// The connection.
    pub stream: Stream,
    /// Where it leads.
    pub address: SocketAddr,
    /// Addresses that were called before and failed, or had not answered yet: worth less the next time.
    pub passed: Vec<SocketAddr>,
}

/// No address answered.
#[derive(Debug, thiserror::Error)]
pub struct Unreachable {
    /// What happened at each, in the order in which they failed. Empty: there was no address that our source addresses
    /// could reach.
    pub failures: Vec<(SocketAddr, io::Error)>,
}

impl Dialing {
    /// With the head start of RFC 8305, from any address of ours.
    pub fn new(limit: Duration) -> Self {
        Self { source: Source::default(), head_start: HEAD_START, limit }
    }
}

impl Source {
    /// True if the system chooses.
    pub fn is_any(&self) -> bool {
        *self == Self::default()
    }

    /// Takes one more address; false if there is one of its family, which then stays.
    pub fn add(&mut self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => *self.v4.get_or_insert(address) == address,
            IpAddr::V6(address) => *self.v6.get_or_insert(address) == address,
        }
    }

    fn serves(&self, address: SocketAddr) -> bool {
        self.is_any() || if address.is_ipv4() { self.v4.is_some() } else { self.v6.is_some() }
    }
}

/// Connects to the first address that answers. Addresses are called in this order, each as soon as the one before it
/// failed or had its head start; when one answers, the others are dropped.
pub async fn connect(
    addresses: &[SocketAddr],
    dialing: &Dialing,
) -> Result<Connected, Unreachable> {
    let mut waiting = addresses.iter().copied().filter(|to| dialing.source.serves(*to)).peekable();
    let mut called = Vec::new();
    let mut failures = Vec::new();
    let mut running = FuturesUnordered::new();
    loop {
        match waiting.next() {
            Some(address) => {
                called.push(address);
                running.push(async move { (address, call(address, dialing).await) });
            }
            None if running.is_empty() => return Err(Unreachable { failures }),
            None => {}
        }
        let ended = tokio::select! {
            ended = running.next() => ended,
            () = sleep(dialing.head_start), if waiting.peek().is_some() => None,
        };
        match ended {
            Some((address, Ok(stream))) => {
                called.retain(|other| *other != address);
                return Ok(Connected { stream, address, passed: called });
            }
            Some((address, Err(error))) => failures.push((address, error)),
            // The head start is over.
            None => {}
        }
    }
}

async fn call(address: SocketAddr, dialing: &Dialing) -> io::Result<Stream> {
    let socket = match (address, dialing.source.v4, dialing.source.v6) {
        (SocketAddr::V4(_), from, _) => bound(TcpSocket::new_v4()?, from.map(IpAddr::V4))?,
        (SocketAddr::V6(_), _, from) => bound(TcpSocket::new_v6()?, from.map(IpAddr::V6))?,
    };
    match timeout(dialing.limit, socket.connect(address)).await {
        Ok(connected) => connected.map(Stream::from),
        Err(_) => {
            let seconds = dialing.limit.as_secs_f64();
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {seconds} s")))
        }
    }
}

fn bound(socket: TcpSocket, from: Option<IpAddr>) -> io::Result<TcpSocket> {
    if let Some(from) = from {
        let unbound = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot send from {from}: {error}"))
        };
        socket.bind(SocketAddr::new(from, 0)).map_err(unbound)?;
    }
    Ok(socket)
}

/// Families in turns, that of the first address first, otherwise in the order given (RFC 8305 §4, with a First Address
/// Family Count of one).
pub fn interleave(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let six_is_first = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (first, second): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == six_is_first);
    let longest = first.len().max(second.len());
    (0..longest).flat_map(|turn| [first.get(turn), second.get(turn)]).flatten().copied().collect()
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (address, error)) in self.failures.iter().enumerate() {
            let gap = if index > 0 { "; " } else { "" };
            write!(f, "{gap}{address}: {error}")?;
        }
        if self.failures.is_empty() {
            f.write_str("none of its addresses is of a family that we may send from")?;
        }
        Ok(())
    }
}

// RFC 8305 §5: recommended; at least 100 ms.
const HEAD_START: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests;
