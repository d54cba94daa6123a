//! `dns`: questions through the host's caching resolver. Grant: dns.

use futures_util::StreamExt;
use net::{DnsError, Kind};

use crate::bindings::HostError;
use crate::bindings::imports::dns::{Answer, Host, Query};
use crate::chain::Services;
use crate::guest::Guest;

impl Host for Guest {
    async fn resolve(&mut self, query: Query) -> wasmtime::Result<Result<Answer, HostError>> {
        self.charge()?;
        if !self.core.grants.dns {
            return Ok(Err(denied()));
        }
        let services = self.core.services.clone();
        Self::wait(&mut self.meter, resolve(&services, query)).await
    }

    async fn resolve_many(
        &mut self,
        queries: Vec<Query>,
    ) -> wasmtime::Result<Vec<Result<Answer, HostError>>> {
        self.charge()?;
        if !self.core.grants.dns {
            return Ok(queries.iter().map(|_| Err(denied())).collect());
        }
        if queries.len() > MANY {
            let error = HostError::Quota(format!("at most {MANY} names are looked up in one call"));
            return Ok(queries.iter().map(|_| Err(error.clone())).collect());
        }
        let services = self.core.services.clone();
        let answers = futures_util::stream::iter(queries)
            .map(|query| resolve(&services, query))
            .buffered(AT_ONCE)
            .collect();
        Self::wait(&mut self.meter, answers).await
    }
}

async fn resolve(services: &Services, query: Query) -> Result<Answer, HostError> {
    let kind = kind(&query.kind)
        .ok_or_else(|| HostError::Invalid(format!("unknown kind {:?}", query.kind)))?;
    // RFC 1035 §2.3.4: 255 octets, and some more for a final dot and escapes.
    if query.name.is_empty() || query.name.len() > 260 {
        return Err(HostError::Invalid("a name has 1 to 255 octets".into()));
    }
    // The sockets of the resolver belong to the runtime of the server, not to that of the guests.
    let resolver = services.resolver.clone();
    let answer = services.server.spawn(async move { resolver.lookup(&query.name, kind).await });
    let answer = answer
        .await
        .map_err(|_| HostError::Unavailable("the server stops".into()))?
        .map_err(error)?;
    Ok(Answer {
        records: answer.records.iter().map(ToString::to_string).collect(),
        nxdomain: answer.nxdomain,
        ttl: u32::try_from(answer.ttl.as_secs()).unwrap_or(u32::MAX),
    })
}

fn kind(name: &str) -> Option<Kind> {
    Some(match name.to_ascii_uppercase().as_str() {
        "A" => Kind::A,
        "AAAA" => Kind::Aaaa,
        "MX" => Kind::Mx,
        "TXT" => Kind::Txt,
        "PTR" => Kind::Ptr,
        "NS" => Kind::Ns,
        "SRV" => Kind::Srv,
        "CNAME" => Kind::Cname,
        _ => return None,
    })
}

fn error(error: DnsError) -> HostError {
    match error {
        DnsError::Timeout => HostError::Timeout,
        DnsError::Servfail(text) => HostError::Unavailable(text),
        DnsError::Invalid(text) => HostError::Invalid(text),
    }
}

fn denied() -> HostError {
    HostError::Denied("dns".into())
}

/// Names in one call: a long list of DNS blocklists for every Received field.
const MANY: usize = 256;
/// Of these so many under way together.
const AT_ONCE: usize = 32;
