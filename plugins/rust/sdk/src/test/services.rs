//! Randomness, metrics, token buckets, HTTP, mail and the finer questions of DNS, in memory.

use std::net::IpAddr;

use super::{Bucket, Content, World};
use crate::wit::imports::gatepost::policy::dns::Query;
use crate::{HostError, Kind, Listing, Mail, Rate, Request, Response, Taken};

impl World {
    pub(crate) fn kv_keys(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> Result<Vec<String>, HostError> {
        self.granted("kv")?;
        let fits = |key: &String| {
            key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after)
        };
        Ok(self.keys().into_iter().filter(fits).take(1000).collect())
    }

    pub(crate) fn random_octets(&self, length: u32) -> Vec<u8> {
        (0..length).map(|_| self.random_number().to_le_bytes()[0]).collect()
    }

    /// The same numbers in every test (G. L. Steele et al., "Fast splittable pseudorandom number generators").
    pub(crate) fn random_number(&self) -> u64 {
        let mut state = self.0.borrow_mut();
        state.randoms = state.randoms.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state.randoms ^ (state.randoms >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn metrics_add(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        delta: u64,
    ) -> Result<(), HostError> {
        self.measure(name, labels, &delta.to_string())
    }

    pub(crate) fn metrics_set(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) -> Result<(), HostError> {
        self.measure(name, labels, &value.to_string())
    }

    pub(crate) fn metrics_observe(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) -> Result<(), HostError> {
        self.measure(name, labels, &value.to_string())
    }

    fn measure(&self, name: &str, labels: &[(&str, &str)], value: &str) -> Result<(), HostError> {
        self.granted("metrics")?;
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let line = format!("{name}{{{}}} {value}", labels.join(","));
        self.0.borrow_mut().measured.push(line);
        Ok(())
    }

    pub(crate) fn rate_limit_take(
        &self,
        key: &str,
        tokens: u32,
        rate: Rate,
    ) -> Result<Taken, HostError> {
        self.granted("rate-limit")?;
        if rate.tokens == 0 || rate.seconds == 0 || tokens > rate.tokens {
            return Err(HostError::Invalid("more than the bucket ever holds".into()));
        }
        let mut state = self.0.borrow_mut();
        let now = state.now;
        let (seconds, each) = (u64::from(rate.seconds), u64::from(rate.tokens));
        let full = each * seconds;
        let bucket = state.buckets.entry(key.to_owned()).or_insert(Bucket { left: full, at: now });
        bucket.left = full.min(bucket.left + (now - bucket.at) * each);
        bucket.at = now;
        let wanted = u64::from(tokens) * seconds;
        let allowed = wanted <= bucket.left;
        let wait = if allowed { 0 } else { ((wanted - bucket.left) * 1000).div_ceil(each) };
        bucket.left -= if allowed { wanted } else { 0 };
        let remaining = u32::try_from(bucket.left / seconds).unwrap_or(u32::MAX);
        Ok(Taken { allowed, remaining, wait })
    }

    pub(crate) fn http_send(&self, request: &Request) -> Result<Response, HostError> {
        self.0.borrow_mut().requests.push(request.clone());
        let denied = || Err(HostError::Denied(format!("http {:?}", request.url)));
        self.0.borrow().responses.get(&request.url).cloned().unwrap_or_else(denied)
    }

    pub(crate) fn http_send_content(
        &self,
        request: &Request,
        content: &Content,
    ) -> Result<Response, HostError> {
        let mut request = request.clone();
        request.body.extend_from_slice(&content.octets());
        self.http_send(&request)
    }

    pub(crate) fn submit(&self, mail: &Mail) -> Result<(), HostError> {
        self.granted("submit")?;
        self.0.borrow_mut().submitted.push(mail.clone());
        Ok(())
    }

    pub(crate) fn lookup_match_domain(
        &self,
        table: &str,
        domain: &str,
    ) -> Result<Option<String>, HostError> {
        let entries = self.entries(table, false)?;
        let domain = domain.trim_end_matches('.').to_lowercase();
        let parents =
            domain.match_indices('.').filter_map(|(dot, _)| domain.get(dot..)).map(str::to_owned);
        let mut keys = std::iter::once(domain.clone()).chain(parents);
        Ok(keys.find_map(|key| entries.get(&key).cloned()))
    }

    pub(crate) fn dns_verified_names(&self, ip: &str) -> Result<Vec<String>, HostError> {
        let address: IpAddr =
            ip.parse().map_err(|_| HostError::Invalid(format!("{ip} is no address")))?;
        let (suffix, kind) =
            if address.is_ipv4() { ("in-addr.arpa", Kind::A) } else { ("ip6.arpa", Kind::Aaaa) };
        let names =
            self.dns_resolve(&query(format!("{}.{suffix}", reversed(ip)), Kind::Ptr))?.records;
        let leads_back = |name: &String| {
            self.dns_resolve(&query(name.clone(), kind))
                .is_ok_and(|answer| answer.records.iter().any(|record| record == ip))
        };
        Ok(names.into_iter().filter(leads_back).collect())
    }

    pub(crate) fn dns_listed(
        &self,
        subject: &str,
        zones: &[String],
    ) -> Result<Vec<Listing>, HostError> {
        self.granted("dns")?;
        let subject = reversed(subject);
        let mut listings = Vec::new();
        for zone in zones {
            let ask = |kind| self.dns_resolve(&query(format!("{subject}.{zone}"), kind));
            let codes = ask(Kind::A).map(|answer| answer.records).unwrap_or_default();
            if !codes.is_empty() {
                let text = ask(Kind::Txt).ok().and_then(|answer| answer.records.into_iter().next());
                listings.push(Listing { zone: zone.clone(), codes, text });
            }
        }
        Ok(listings)
    }
}

fn query(name: String, kind: Kind) -> Query {
    Query { name, kind: kind.as_str().to_owned() }
}

/// RFC 5782 §2.1: an address is asked about backwards, a domain as it is.
fn reversed(subject: &str) -> String {
    match subject.parse() {
        Ok(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}")
        }
        Ok(IpAddr::V6(address)) => {
            let nibbles = address.octets().into_iter().rev();
            let nibbles = nibbles.map(|octet| format!("{:x}.{:x}", octet & 15, octet >> 4));
            nibbles.collect::<Vec<_>>().join(".")
        }
        Err(_) => subject.to_owned(),
    }
}
