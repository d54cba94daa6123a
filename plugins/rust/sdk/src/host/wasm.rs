//! The imports of a component. Each call names its import directly, so that the linker drops those
//! that a plugin never makes.

use crate::wit::imports::gatepost::policy::{
    clock, config, dns, http, kv, log, lookup, metrics, random, rate_limit, submit,
};
use crate::{Answer, Content, HostError, Level, Listing, Mail, Rate, Request, Response, Taken};

pub(crate) struct Services;

impl Services {
    pub(crate) fn config_json(&self) -> String {
        config::json()
    }

    pub(crate) fn config_value(&self, key: &str) -> Option<String> {
        config::get(key)
    }

    pub(crate) fn now(&self) -> (i64, u32) {
        let now = clock::now();
        (now.seconds, now.nanoseconds)
    }

    pub(crate) fn monotonic(&self) -> u64 {
        clock::monotonic()
    }

    pub(crate) fn log(&self, level: Level, message: &str, fields: &[(&str, &str)]) {
        if log::enabled(level) {
            let fields: Vec<_> =
                fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            log::write(level, message, &fields);
        }
    }

    pub(crate) fn kv_get(&self, key: &str) -> Result<Option<Vec<u8>>, HostError> {
        kv::get(key)
    }

    pub(crate) fn kv_set(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<u32>,
    ) -> Result<(), HostError> {
        kv::set(key, value, ttl)
    }

    pub(crate) fn kv_delete(&self, key: &str) -> Result<bool, HostError> {
        kv::delete(key)
    }

    pub(crate) fn kv_increment(
        &self,
        key: &str,
        delta: i64,
        ttl: Option<u32>,
    ) -> Result<i64, HostError> {
        kv::increment(key, delta, ttl)
    }

    pub(crate) fn kv_compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Option<u32>,
    ) -> Result<bool, HostError> {
        kv::compare_and_set(key, expected, value, ttl)
    }

    pub(crate) fn lookup_get(&self, table: &str, key: &str) -> Result<Option<String>, HostError> {
        lookup::get(table, key)
    }

    pub(crate) fn lookup_match_ip(
        &self,
        table: &str,
        ip: &str,
    ) -> Result<Option<String>, HostError> {
        lookup::match_ip(table, ip)
    }

    pub(crate) fn lookup_match_address(
        &self,
        table: &str,
        address: &str,
    ) -> Result<Option<String>, HostError> {
        lookup::match_address(table, address)
    }

    pub(crate) fn dns_resolve(&self, query: &dns::Query) -> Result<Answer, HostError> {
        dns::resolve(query)
    }

    pub(crate) fn dns_resolve_many(
        &self,
        queries: &[dns::Query],
    ) -> Vec<Result<Answer, HostError>> {
        dns::resolve_many(queries)
    }

    pub(crate) fn random_octets(&self, length: u32) -> Vec<u8> {
        random::octets(length)
    }

    pub(crate) fn random_number(&self) -> u64 {
        random::number()
    }

    pub(crate) fn metrics_add(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        delta: u64,
    ) -> Result<(), HostError> {
        metrics::add(name, &owned(labels), delta)
    }

    pub(crate) fn metrics_set(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) -> Result<(), HostError> {
        metrics::set(name, &owned(labels), value)
    }

    pub(crate) fn metrics_observe(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) -> Result<(), HostError> {
        metrics::observe(name, &owned(labels), value)
    }

    pub(crate) fn kv_keys(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> Result<Vec<String>, HostError> {
        kv::keys(prefix, after)
    }

    pub(crate) fn rate_limit_take(
        &self,
        key: &str,
        tokens: u32,
        rate: Rate,
    ) -> Result<Taken, HostError> {
        rate_limit::take(key, tokens, rate)
    }

    pub(crate) fn lookup_match_domain(
        &self,
        table: &str,
        domain: &str,
    ) -> Result<Option<String>, HostError> {
        lookup::match_domain(table, domain)
    }

    pub(crate) fn dns_verified_names(&self, ip: &str) -> Result<Vec<String>, HostError> {
        dns::verified_names(ip)
    }

    pub(crate) fn dns_listed(
        &self,
        subject: &str,
        zones: &[String],
    ) -> Result<Vec<Listing>, HostError> {
        dns::listed(subject, zones)
    }

    pub(crate) fn http_send(&self, request: &Request) -> Result<Response, HostError> {
        http::send(request)
    }

    pub(crate) fn http_send_content(
        &self,
        request: &Request,
        content: &Content,
    ) -> Result<Response, HostError> {
        http::send_content(request, content)
    }

    pub(crate) fn submit(&self, mail: &Mail) -> Result<(), HostError> {
        submit::submit(mail)
    }
}

fn owned(labels: &[(&str, &str)]) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}
