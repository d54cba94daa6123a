//! The seam of a running server: the clock of the machine, its resolver, its tables, its store.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use net::{DnsError, Kind};
use tokio::runtime::Handle;

use super::{Answer, Asker, Fault, Match, Question, Seam, unfit_question};
use crate::buckets::Buckets;
use crate::host::Clock;
use crate::http;
use crate::kv::{Change, Changed, KvError, Namespace};
use crate::tables::{Table, TableKind, Tables};

/// Answers by what the server has.
pub(crate) struct Live {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) resolver: net::Resolver,
    pub(crate) tables: Arc<ArcSwap<Tables>>,
    pub(crate) buckets: Buckets,
    pub(crate) http: http::Client,
    /// The runtime of the server: its sockets live there, not on the guests' threads.
    pub(crate) server: Handle,
}

impl Seam for Live {
    fn at_once(&self, asker: &Asker, question: Question) -> Result<Answer, Fault> {
        match question {
            Question::Now => Ok(time(self.clock.now())),
            Question::Monotonic => Ok(Answer::Nanoseconds(
                u64::try_from(coarse(self.clock.monotonic()).as_nanos()).unwrap_or(u64::MAX),
            )),
            Question::Random { octets } => random(octets),
            Question::Lookup { table, by, key } => self.look_up(&table, by, &key).map(Answer::Text),
            Question::Take { key, tokens, capacity, seconds } => self.buckets.take(
                &asker.core.name,
                key,
                tokens,
                (capacity, seconds),
                self.clock.monotonic(),
            ),
            Question::KvGet { key } => Ok(Answer::Value(store(asker)?.get(&key)?)),
            Question::KvKeys { prefix, after } => {
                Ok(Answer::Names(store(asker)?.keys(&prefix, after.as_deref())?))
            }
            other @ (Question::KvSet { .. }
            | Question::KvDelete { .. }
            | Question::KvIncrement { .. }
            | Question::KvCompareAndSet { .. }
            | Question::Dns { .. }
            | Question::Names { .. }
            | Question::Http { .. }) => Err(unfit_question(&other)),
        }
    }

    fn later<'a>(
        &'a self,
        asker: &'a Asker,
        question: Question,
    ) -> BoxFuture<'a, Result<Answer, Fault>> {
        Box::pin(async move {
            match question {
                Question::KvSet { key, value, ttl } => {
                    change(asker, key, Change::Set { value, ttl }).await
                }
                Question::KvDelete { key } => change(asker, key, Change::Delete).await,
                Question::KvIncrement { key, delta, ttl } => {
                    change(asker, key, Change::Increment { delta, ttl }).await
                }
                Question::KvCompareAndSet { key, expected, value, ttl } => {
                    change(asker, key, Change::CompareAndSet { expected, value, ttl }).await
                }
                Question::Dns { name, kind } => self.resolve(name, &kind).await,
                Question::Names { address } => self.names(&address).await,
                Question::Http { .. } => self.fetch(asker, question).await,
                other @ (Question::Now
                | Question::Monotonic
                | Question::Random { .. }
                | Question::Lookup { .. }
                | Question::Take { .. }
                | Question::KvGet { .. }
                | Question::KvKeys { .. }) => self.at_once(asker, other),
            }
        })
    }
}

impl Live {
    fn look_up(&self, name: &str, by: Match, key: &str) -> Result<Option<String>, Fault> {
        let tables = self.tables.load();
        let table = tables
            .get(name)
            .ok_or_else(|| Fault::Invalid(format!("there is no table {name:?}")))?;
        find(table, name, by, key).map(|found| found.map(str::to_owned))
    }

    async fn resolve(&self, name: String, kind: &str) -> Result<Answer, Fault> {
        let kind = kind_of(kind)?;
        let resolver = self.resolver.clone();
        let answer = self.on_server(async move { resolver.lookup(&name, kind).await }).await??;
        Ok(Answer::Records {
            records: answer.records.iter().map(ToString::to_string).collect(),
            nxdomain: answer.nxdomain,
            ttl: u32::try_from(answer.ttl.as_secs()).unwrap_or(u32::MAX),
        })
    }

    async fn names(&self, address: &str) -> Result<Answer, Fault> {
        let address =
            address.parse().map_err(|_| Fault::Invalid(format!("{address:?} is no IP address")))?;
        let resolver = self.resolver.clone();
        Ok(Answer::Names(self.on_server(async move { resolver.names_of(address).await }).await??))
    }

    async fn fetch(&self, asker: &Asker, question: Question) -> Result<Answer, Fault> {
        let Question::Http { method, url, headers, body, timeout_milliseconds, .. } = question
        else {
            return Err(unfit_question(&question));
        };
        let request = http::Request {
            method,
            url,
            headers,
            body: body.into(),
            content: asker.content.as_ref().map(|content| content.octets.clone()),
            timeout: timeout_milliseconds
                .map(|milliseconds| Duration::from_millis(milliseconds.into())),
        };
        let (client, resolver) = (self.http.clone(), self.resolver.clone());
        let rules = http::Rules {
            granted: asker.core.grants.http.clone(),
            networks: asker.core.grants.http_networks.clone(),
            most_octets: asker.core.limits.host_call_octets / 2,
            longest: asker.core.limits.wall,
        };
        self.on_server(async move { client.send(&resolver, &rules, request).await }).await?
    }

    /// Ends with the one that waits for it.
    async fn on_server<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Fault> {
        struct Abort<T>(tokio::task::JoinHandle<T>);
        impl<T> Drop for Abort<T> {
            fn drop(&mut self) {
                self.0.abort();
            }
        }
        let mut task = Abort(self.server.spawn(work));
        (&mut task.0).await.map_err(|_| Fault::Unavailable("the server stops".into()))
    }
}

fn time(now: SystemTime) -> Answer {
    let since = coarse(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
    Answer::Time { seconds: since.as_secs().cast_signed(), nanoseconds: since.subsec_nanos() }
}

/// Plugins see whole milliseconds: with a finer clock one could measure what the host does for others.
fn coarse(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn random(octets: u32) -> Result<Answer, Fault> {
    let mut random = vec![0; octets as usize];
    getrandom::fill(&mut random).map_err(|error| Fault::Unavailable(error.to_string()))?;
    Ok(Answer::Octets(random))
}

fn find<'a>(table: &'a Table, name: &str, by: Match, key: &str) -> Result<Option<&'a str>, Fault> {
    match (by, table.kind()) {
        (Match::Exact, TableKind::Exact | TableKind::Address | TableKind::Domain) => {
            Ok(table.get(key))
        }
        (Match::Ip, TableKind::Cidr) => {
            let address =
                key.parse().map_err(|_| Fault::Invalid(format!("{key:?} is no IP address")))?;
            Ok(table.match_ip(address))
        }
        (Match::Address, TableKind::Address) => Ok(table.match_address(key)),
        (Match::Domain, TableKind::Domain) => Ok(table.match_domain(key)),
        (_, kind) => Err(Fault::Invalid(format!("the table {name:?} is of the kind {kind}"))),
    }
}

fn store(asker: &Asker) -> Result<&Namespace, Fault> {
    asker.core.kv.as_ref().ok_or_else(|| Fault::Denied("kv".into()))
}

async fn change(asker: &Asker, key: String, change: Change) -> Result<Answer, Fault> {
    Ok(match store(asker)?.change(key, change).await? {
        Changed::Yes(yes) => Answer::Flag(yes),
        Changed::Sum(sum) => Answer::Sum(sum),
    })
}

impl From<KvError> for Fault {
    fn from(error: KvError) -> Self {
        match error {
            KvError::Quota(text) => Self::Quota(text),
            KvError::Invalid(text) => Self::Invalid(text),
            KvError::Unavailable(text) => Self::Unavailable(text),
        }
    }
}

impl From<DnsError> for Fault {
    fn from(error: DnsError) -> Self {
        match error {
            DnsError::Timeout => Self::Timeout,
            DnsError::Servfail(text) => Self::Unavailable(text),
            DnsError::Invalid(text) => Self::Invalid(text),
        }
    }
}

fn kind_of(name: &str) -> Result<Kind, Fault> {
    Ok(match name {
        "A" => Kind::A,
        "AAAA" => Kind::Aaaa,
        "MX" => Kind::Mx,
        "TXT" => Kind::Txt,
        "PTR" => Kind::Ptr,
        "NS" => Kind::Ns,
        "SRV" => Kind::Srv,
        "CNAME" => Kind::Cname,
        _ => return Err(Fault::Invalid(format!("unknown kind {name:?}"))),
    })
}
