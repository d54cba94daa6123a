//! What plugins cost: `cargo run --release -p policy --example cost [COMPONENT.wasm [CONFIG.json]]`.
//!
//! Prints medians in microseconds. Without an argument it takes the component of `tests/guests`, which the tests build and
//! which imports and exports all that there is.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "this is a program that measures and prints"
)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use message::{Header, Id};
use policy::trace::{Entry, Journal, JournalConfig};
use policy::{
    Chain, Component, ContentView, DnsGrant, EditGrant, Grants, Host, HostConfig, Origin,
    PluginConfig, Session, SessionFacts, Stage, TraceEntry, Transaction,
};
use smtp::{ForwardPath, MailParameters, RcptParameters, Recipient, ReversePath};

const ROUNDS: usize = 5_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let default = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../target/guests/wasm32-wasip2/release/guests.wasm"
    );
    let path = std::env::args().nth(1).unwrap_or_else(|| default.into());
    let directory = tempfile::tempdir()?;
    let settings = std::env::args().nth(2).unwrap_or_else(|| "{}".into());
    let settings: serde_json::Value = serde_json::from_str(&settings)?;
    let host = Host::new(config(directory.path(), 1000))?;
    for plugins in [1, 4] {
        let (chain, took) = load(&host, &path, plugins, settings.clone()).await?;
        let size = chain.plugins()[0].size;
        let known = if plugins == 1 { "compiled and loaded" } else { "loaded from the cache" };
        println!("{plugins} plugins of {size} octets, {known} in {took:?}");
        measure(&chain).await?;
    }
    if settings != serde_json::json!({}) {
        return Ok(());
    }
    let acts = serde_json::json!({ "act": { "data": "five-headers" } });
    let (chain, _) = load(&host, &path, 1, acts).await?;
    println!("1 plugin that reads five header fields at data");
    measure(&chain).await?;
    drop((chain, host));
    trace().await?;
    memory(&path).await
}

/// What it costs to write down what four plugins decided at four stages: for who records, and for the thread that writes.
async fn trace() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let journal = Journal::open(JournalConfig::new(directory.path()))?;
    let entry = entry();
    let began = Instant::now();
    let mut recorded = Duration::ZERO;
    for _ in 0..ROUNDS {
        let entry = entry.clone();
        let begun = Instant::now();
        journal.record(entry);
        recorded += begun.elapsed();
    }
    journal.flush().await;
    let count = u32::try_from(ROUNDS)?;
    let octets: u64 = std::fs::read_dir(directory.path())?
        .map(|file| Ok(file?.metadata()?.len()))
        .sum::<std::io::Result<u64>>()?;
    println!(
        "an entry of the trace with 16 answers: {:.2?} to record, {:.2?} until it is written, {} octets",
        recorded / count,
        began.elapsed() / count,
        octets / u64::from(count)
    );
    Ok(())
}

fn entry() -> Entry {
    let stage = |stage| TraceEntry {
        stage,
        plugin: "greylist".into(),
        version: "0.1.0".into(),
        digest: "0123456789abcdef".repeat(4).into(),
        recipient: (stage == Stage::Rcpt).then(|| "bob@example.org".to_owned()),
        verdict: "next".into(),
        reply: None,
        reason: Some("seen before".into()),
        rule: None,
        edits: Vec::new(),
        micros: 7,
        host_calls: 12,
        asked: Vec::new(),
        error: None,
    };
    let stages = [Stage::Helo, Stage::Mail, Stage::Rcpt, Stage::Data];
    Entry {
        id: facts().id,
        session: Some("0123456789abcdef".into()),
        time: SystemTime::now(),
        kind: "transaction".into(),
        peer: Some("192.0.2.1".into()),
        helo: Some("client.example".into()),
        reverse_path: Some("alice@example.com".into()),
        recipients: vec!["bob@example.org".into()],
        fate: "received".into(),
        reply: Some("250 2.0.0 Ok: queued".into()),
        stages: stages.into_iter().flat_map(|at| std::iter::repeat_n(stage(at), 4)).collect(),
    }
}

fn config(directory: &Path, slots: u32) -> HostConfig {
    let resolver = net::Resolver::zone(net::Zone::default());
    HostConfig { slots, ..HostConfig::new(directory, resolver) }
}

/// A chain of so many plugins of this component, and how long it took to make.
async fn load(
    host: &Arc<Host>,
    path: &str,
    plugins: usize,
    config: serde_json::Value,
) -> Result<(Arc<Chain>, Duration), Box<dyn std::error::Error>> {
    let configs = (0..plugins).map(|n| {
        let component = Component::File(path.into());
        let grants = Grants {
            kv: true,
            dns: DnsGrant::All,
            edit: EditGrant::ALL.into(),
            ..Grants::default()
        };
        let name = format!("p{n}");
        PluginConfig { config: config.clone(), grants, ..PluginConfig::new(name, component) }
    });
    let began = Instant::now();
    let chain = host.load(configs.collect()).await.map_err(|faults| format!("{faults:?}"))?;
    Ok((Arc::new(chain), began.elapsed()))
}

/// What sessions hold with four plugins: idle ones, and ones in the middle of a transaction.
async fn memory(path: &str) -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let host = Host::new(config(directory.path(), 6000))?;
    let (chain, _) = load(&host, path, 4, serde_json::json!({})).await?;
    let before = resident()?;
    let mut idle: Vec<Session> =
        (0..10_000).map(|_| Session::new(chain.clone(), facts())).collect();
    println!("10,000 sessions that only connected: {} octets each", grown(before, 10_000)?);
    for session in &mut idle {
        session.helo("client.example", true).await;
        session.release();
    }
    let each = grown(before, 10_000)?;
    println!(
        "10,000 idle sessions whose plugins were asked and gave their memory back: {each} octets each, and what the pool keeps warm"
    );
    drop(idle);
    let before = resident()?;
    let mut open = Vec::new();
    for _ in 0..1_000 {
        let mut session = Session::new(chain.clone(), facts());
        let sender = ReversePath::Mailbox("alice@example.com".parse()?);
        let mut transaction = Transaction::new(facts().id, sender, MailParameters::default());
        session.helo("client.example", true).await;
        session.mail(&mut transaction).await;
        open.push((session, transaction));
    }
    let each = grown(before, 1_000)? >> 10;
    println!("1,000 sessions in a transaction with four live instances: {each} KiB each");
    Ok(())
}

/// Octets of memory that this process has in use.
fn resident() -> std::io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    Ok(line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10)
}

fn grown(before: u64, sessions: u64) -> std::io::Result<u64> {
    Ok(resident()?.saturating_sub(before) / sessions)
}

async fn measure(chain: &Arc<Chain>) -> Result<(), Box<dyn std::error::Error>> {
    let mut columns: Vec<(&str, Vec<Duration>)> =
        ["first call", "mail", "rcpt", "data", "a message", "drop"]
            .map(|name| (name, Vec::new()))
            .into();
    let octets = Bytes::from_static(b"Subject: hello\r\n\r\nhello\r\n");
    let content = Arc::new(ContentView::new(Header::parse(octets.clone()), Arc::new(octets)));
    let recipient = Recipient {
        path: ForwardPath::Mailbox("bob@example.org".parse()?),
        parameters: RcptParameters::default(),
    };
    for _ in 0..ROUNDS {
        let mut session = Session::new(chain.clone(), facts());
        let mut took = Vec::new();
        // The first question makes the instances.
        time(&mut took, async { drop(session.helo("client.example", true).await) }).await;
        for again in [false, true] {
            let sender = ReversePath::Mailbox("alice@example.com".parse()?);
            let mut transaction = Transaction::new(facts().id, sender, MailParameters::default());
            let mut message = Vec::new();
            time(&mut message, async { drop(session.mail(&mut transaction).await) }).await;
            let to = recipient.clone();
            time(&mut message, async { drop(session.rcpt(&mut transaction, to).await) }).await;
            time(&mut message, async {
                drop(session.data(&mut transaction, content.clone()).await)
            })
            .await;
            if again {
                took.extend(&message);
                took.push(message.iter().sum());
            }
        }
        time(&mut took, async { drop(session) }).await;
        for (column, time) in columns.iter_mut().zip(took) {
            column.1.push(time);
        }
    }
    for (name, times) in &mut columns {
        times.sort();
        let at = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1e6;
        println!("  {name:<11} {:8.2} µs  (p99 {:8.2})", at(50), at(99));
    }
    let stages =
        chain.plugins()[0].stages.iter().filter(|stage| **stage != Stage::Configure).count();
    println!("  {stages} stages exported");
    Ok(())
}

async fn time(times: &mut Vec<Duration>, work: impl Future<Output = ()>) {
    let began = Instant::now();
    work.await;
    times.push(began.elapsed());
}

fn facts() -> SessionFacts {
    SessionFacts {
        id: Id::new(SystemTime::UNIX_EPOCH, 1),
        listener: "mx".into(),
        origin: Origin::Mx,
        client: SocketAddr::from(([192, 0, 2, 1], 1)),
        server: SocketAddr::from(([127, 0, 0, 1], 25)),
    }
}
