//! What the door holds against abuse before any policy is asked: clients that speak before the greeting, clients that make
//! error after error, and too much mail in an hour.

mod meter;

use std::net::IpAddr;
use std::time::Duration;

use smtp::Reply;
use smtp::server::Answer;
use tokio::time::Instant;
use tracing::info;

use self::meter::What;
pub(crate) use self::meter::{Door, UserPermit};
use crate::config::Role;
use crate::counters;
use crate::networks::Networks;
use crate::refusal;
use crate::session::Session;
use crate::who::Who;

/// How the door is kept. Zero is "no limit" everywhere.
#[derive(Clone, Debug)]
pub struct DoorLimits {
    /// Strangers' servers wait so long for the greeting. Who says something before it comes is no mail server (RFC 5321
    /// §3.1) and hears 554.
    pub greeting_delay: Duration,
    /// So many replies of 4yz or 5yz in a session come at once; before each further one is a pause.
    pub errors_before_tarpit: u32,
    /// That pause.
    pub tarpit: Duration,
    /// Messages in an hour from one stranger (IPv4 address, IPv6 /64).
    pub messages_per_address: u32,
    /// Messages in an hour from one network of strangers (IPv4 /24, IPv6 /48).
    pub messages_per_network: u32,
    /// Recipients in an hour of one stranger's messages, refused ones too.
    pub recipients_per_address: u32,
    /// Messages in an hour of one who logged in, from wherever: a stolen password is worth no more than this.
    pub messages_per_user: u32,
    /// Recipients in an hour of one who logged in.
    pub recipients_per_user: u32,
    /// Sessions at once of one who logged in.
    pub sessions_per_user: u32,
    /// Clients to whom none of this applies, besides those that may relay.
    pub exempt: Networks,
}

impl Default for DoorLimits {
    fn default() -> Self {
        Self {
            // Long enough for what speaks at once, short enough for everybody else; postscreen waits six seconds.
            greeting_delay: Duration::from_secs(1),
            errors_before_tarpit: 5,
            tarpit: Duration::from_secs(2),
            // One a second: a large provider's server sends less to one domain, a flood more.
            messages_per_address: 3600,
            messages_per_network: 18_000,
            recipients_per_address: 10_000,
            // A person writes fewer; a newsletter has a route of its own.
            messages_per_user: 500,
            recipients_per_user: 2000,
            sessions_per_user: 20,
            exempt: "127.0.0.0/8, ::1".parse().unwrap_or_default(),
        }
    }
}

impl DoorLimits {
    /// A door that is open to all.
    pub fn none() -> Self {
        Self {
            greeting_delay: Duration::ZERO,
            errors_before_tarpit: 0,
            tarpit: Duration::ZERO,
            messages_per_address: 0,
            messages_per_network: 0,
            recipients_per_address: 0,
            messages_per_user: 0,
            recipients_per_user: 0,
            sessions_per_user: 0,
            exempt: Networks::default(),
        }
    }
}

impl Session {
    /// A server that we know nothing of: it has come to a listener of the role `mx` and may not relay.
    fn stranger(&self) -> Option<IpAddr> {
        let ip = self.peer.ip()?;
        let exempt = self.house.config.limits.door.exempt.contains(ip);
        (self.entrance.config.role == Role::Mx && !exempt && !self.may_relay()).then_some(ip)
    }

    /// Lets a stranger wait for the greeting. Who does not wait is sent away.
    pub(crate) async fn await_silence(&mut self) -> Option<Answer> {
        let delay = self.house.config.limits.door.greeting_delay;
        if delay.is_zero() || self.stranger().is_none() || !self.speaks_within(delay).await {
            return None;
        }
        counters::session_refused(&self.entrance.config.name, "early");
        info!(peer = %self.peer_name(), "the client spoke before the greeting");
        // RFC 5321 §3.1: 554 in place of the greeting.
        Some(Answer::Disconnect(refusal::spoke_early()))
    }

    /// Whether a reply that refuses has to wait: those who make many errors are served slowly.
    pub(crate) fn tarpit(&mut self, octets: &[u8]) -> Option<Duration> {
        if !octets.iter().any(|octet| matches!(octet, b'4' | b'5')) || self.stranger().is_none() {
            return None;
        }
        let refused = octets.split(|octet| *octet == b'\n').filter(|line| is_refusal(line)).count();
        self.refusals = self.refusals.saturating_add(u32::try_from(refused).unwrap_or(u32::MAX));
        let limits = &self.house.config.limits.door;
        let patient = limits.errors_before_tarpit == 0 || limits.tarpit.is_zero();
        (refused > 0 && !patient && self.refusals > limits.errors_before_tarpit)
            .then_some(limits.tarpit)
    }

    /// Counts a message; too many in an hour are refused.
    pub(crate) fn meter_message(&self) -> Result<(), Reply> {
        let limits = &self.house.config.limits.door;
        let door = &self.house.door;
        let now = Instant::now();
        if let Some(user) = &self.login {
            let key = (Who::user(user), What::Messages);
            return door
                .count(&[(key, limits.messages_per_user)], now)
                .map_err(|_| refusal::too_many_messages_of_user());
        }
        let Some(ip) = self.stranger() else { return Ok(()) };
        let keys = [
            ((Who::address(ip), What::Messages), limits.messages_per_address),
            ((Who::network(ip), What::Messages), limits.messages_per_network),
        ];
        door.count(&keys, now).map_err(|first| match first {
            0 => refusal::too_many_messages("address"),
            _ => refusal::too_many_messages("network"),
        })
    }

    /// Counts a recipient; too many in an hour are refused.
    pub(crate) fn meter_recipient(&self) -> Result<(), Reply> {
        let limits = &self.house.config.limits.door;
        let door = &self.house.door;
        let now = Instant::now();
        if let Some(user) = &self.login {
            let key = (Who::user(user), What::Recipients);
            return door
                .count(&[(key, limits.recipients_per_user)], now)
                .map_err(|_| refusal::too_many_recipients());
        }
        let Some(ip) = self.stranger() else { return Ok(()) };
        let key = (Who::address(ip), What::Recipients);
        door.count(&[(key, limits.recipients_per_address)], now)
            .map_err(|_| refusal::too_many_recipients())
    }
}

/// The last line of a reply of 4yz or 5yz: `550 …`.
fn is_refusal(line: &[u8]) -> bool {
    matches!(line, [b'4' | b'5', b'0'..=b'5', b'0'..=b'9', b' ', ..])
}
