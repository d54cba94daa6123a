//! What plugins cost: `cargo run --release -p policy --example cost [COMPONENT.wasm]`.
//!
//! Prints medians in microseconds. Without an argument it takes the component of `tests/guests`, which the tests build.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "this is a program that measures and prints"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use message::{Header, Id};
use policy::{
    Chain, Component, ContentView, Host, HostConfig, Origin, PluginConfig, Session, SessionFacts,
    Stage, Transaction,
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
    let resolver = net::Resolver::zone(net::Zone::default());
    let host = Host::new(HostConfig::new(directory.path(), resolver))?;
    for plugins in [1, 4] {
        let configs = (0..plugins)
            .map(|n| PluginConfig::new(format!("p{n}"), Component::File(path.clone().into())));
        let began = Instant::now();
        let chain =
            Arc::new(host.load(configs.collect()).await.map_err(|faults| format!("{faults:?}"))?);
        println!(
            "{plugins} plugins of {} octets, loaded in {:?}",
            chain.plugins()[0].size,
            began.elapsed()
        );
        measure(&chain).await?;
    }
    Ok(())
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
