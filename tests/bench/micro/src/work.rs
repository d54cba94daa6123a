//! What the benchmarks work on. The plugins are those that come with the server; a build of the server makes them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use message::Id;
use policy::{
    Chain, Component, EditGrant, Grants, Host, HostConfig, Origin, PluginConfig, Session,
    SessionFacts,
};
use smtp::{MailParameters, RcptParameters, Recipient};

/// A message of this size, with a short header.
pub(crate) fn content(octets: usize) -> Bytes {
    let mut text = String::from(
        "From: Alice <alice@example.net>\r\nTo: Bob <bob@example.org>\r\nSubject: measured\r\n\
         Date: Sat, 21 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@example.net>\r\n\r\n",
    );
    while text.len() < octets {
        text.push_str("The quick brown fox jumps over the lazy dog, and does so again.\r\n");
    }
    text.into()
}

/// A time, always the same.
pub(crate) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_298_400)
}

/// Bob, without parameters.
pub(crate) fn recipient() -> Recipient {
    let path = "bob@example.org".parse().expect("an address");
    Recipient { path, parameters: RcptParameters::default() }
}

/// A transaction of Alice's.
pub(crate) fn transaction() -> policy::Transaction {
    let sender = "alice@example.net".parse().expect("an address");
    policy::Transaction::new(Id::new(now(), 7), sender, MailParameters::default())
}

/// A session of this chain.
pub(crate) fn session(chain: &Arc<Chain>) -> Session {
    let facts = SessionFacts {
        id: Id::new(now(), 1),
        listener: "mx".into(),
        origin: Origin::Mx,
        client: SocketAddr::from(([192, 0, 2, 1], 1)),
        server: SocketAddr::from(([127, 0, 0, 1], 25)),
    };
    Session::new(Arc::clone(chain), facts)
}

/// A host, which must live as long as its sessions, and a chain of these bundled plugins with the configuration of `config/bench.toml`.
pub(crate) async fn chain(folder: &std::path::Path, names: &[&str]) -> (Arc<Host>, Arc<Chain>) {
    let resolver = net::Resolver::zone(net::Zone::default());
    let host = Host::new(HostConfig::new(folder, resolver)).expect("a host");
    let configs = names.iter().map(|name| plugin(name)).collect();
    let chain = host.load(configs).await.expect("plugins that load");
    (host, Arc::new(chain))
}

fn plugin(name: &str) -> PluginConfig {
    let (component, config, grants) = match name {
        "dnsbl" => (
            "dnsbl",
            serde_json::json!({"zones": [{"name": "list.bench.test", "of": ["client"]}]}),
            Grants { dns: policy::DnsGrant::All, ..Grants::default() },
        ),
        "greylist" => (
            "greylist",
            serde_json::json!({"delay": "5m"}),
            Grants { kv: true, ..Grants::default() },
        ),
        _ => (
            "rewrite",
            serde_json::json!({"headers": [{"remove": "X-Originating-IP"},
                {"add": "X-Seen-By", "value": "Gatepost"}]}),
            Grants { edit: [EditGrant::Header].into(), ..Grants::default() },
        ),
    };
    let file = target().join("plugins/wasm32-wasip2/plugin").join(format!("{component}.wasm"));
    let mut plugin = PluginConfig::new(name, Component::File(file));
    (plugin.config, plugin.grants) = (config, grants);
    plugin
}

fn target() -> PathBuf {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../target");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from(root), PathBuf::from)
}
