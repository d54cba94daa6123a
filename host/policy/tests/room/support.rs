//! A host, a plugin that does as it is told, and the questions of one session.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use message::{Header, Id};
use policy::{
    Chain, Component, ContentView, DnsGrant, EditGrant, Grants, Host, HostConfig, LoadError,
    OnError, Origin, PluginConfig, Session, SessionFacts, Transaction,
};
use smtp::{ForwardPath, MailParameters, RcptParameters, Recipient, ReversePath};

/// The component of `tests/guests`, built when the first test asks for it.
pub(crate) fn guest() -> Component {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    Component::File(BUILT.get_or_init(|| build("tests/guests/Cargo.toml", "guests")).clone())
}

/// Builds a crate for WebAssembly and says where its component is.
pub(crate) fn build(manifest: &str, name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = root.join("target/guests");
    let status = std::process::Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "--target", "wasm32-wasip2"])
        .arg("--manifest-path")
        .arg(root.join(manifest))
        .arg("--target-dir")
        .arg(&target)
        // What a build of the workspace sets for its own target has no meaning for this one.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .status()
        .expect("cargo runs");
    assert!(status.success(), "{manifest} is built for wasm32-wasip2");
    target.join(format!("wasm32-wasip2/release/{name}.wasm"))
}

pub(crate) struct World {
    pub(crate) host: Arc<Host>,
    _directory: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut HostConfig)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        copy_cache(directory.path());
        let mut config = HostConfig::new(directory.path(), net::Resolver::zone(zone()));
        config.slots = 64;
        config.kv.map_octets = 64 << 20;
        change(&mut config);
        Self { host: Host::new(config).unwrap(), _directory: directory }
    }

    /// A chain of plugins made for this test, live.
    pub(crate) async fn chain(&self, plugins: Vec<PluginConfig>) -> Arc<Chain> {
        let chain = self.host.load(plugins).await.unwrap_or_else(|faults| panic!("{faults:?}"));
        self.host.install(chain);
        self.host.current()
    }

    /// A session before one plugin.
    pub(crate) async fn session(&self, plugin: PluginConfig) -> Session {
        session(self.chain(vec![plugin]).await, 1)
    }

    pub(crate) async fn faults(&self, plugins: Vec<PluginConfig>) -> Vec<LoadError> {
        self.host.load(plugins).await.expect_err("this does not load")
    }
}

/// Compiling is what takes time here: it is done once, and each world begins with a copy of what came out.
fn copy_cache(to: &Path) {
    static WARM: OnceLock<tempfile::TempDir> = OnceLock::new();
    let warm = WARM.get_or_init(|| std::thread::spawn(compile_once).join().unwrap());
    std::fs::create_dir(to.join("cache")).unwrap();
    std::fs::copy(warm.path().join("cache.key"), to.join("cache.key")).unwrap();
    for entry in std::fs::read_dir(warm.path().join("cache")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join("cache").join(entry.file_name())).unwrap();
    }
}

fn compile_once() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let config = HostConfig::new(directory.path(), net::Resolver::zone(zone()));
        Host::new(config).unwrap().load(vec![plugin("warm", &[])]).await.unwrap();
    });
    directory
}

fn zone() -> net::Zone {
    "a.example A 192.0.2.7\nmx.example MX 10 mail.example".parse().unwrap()
}

/// A plugin that does at each stage what `acts` says: `[("rcpt", "spin")]`.
pub(crate) fn plugin(name: &str, acts: &[(&str, &str)]) -> PluginConfig {
    let acts: serde_json::Map<String, serde_json::Value> =
        acts.iter().map(|(stage, act)| ((*stage).to_owned(), (*act).into())).collect();
    let mut plugin = PluginConfig::new(name, guest());
    plugin.config = serde_json::json!({ "act": acts, "tag": name });
    // Tests share a busy machine: what is stopped by another limit is not to be stopped by the clock first.
    plugin.limits.cpu = Duration::from_secs(5);
    plugin.limits.cpu_data = Duration::from_secs(5);
    // What fails again and again is asked again and again, unless the breaker is what a test is about.
    plugin.breaker.failures = 0;
    plugin
}

/// A plugin whose component a test has written itself.
pub(crate) fn written(name: &str, wasm: Vec<u8>) -> PluginConfig {
    PluginConfig::new(name, Component::Bytes(wasm.leak(), "test"))
}

pub(crate) fn all_grants() -> Grants {
    // The host's own fields are nobody's, unless a test says so.
    let edit = EditGrant::ALL.into_iter().filter(|grant| *grant != EditGrant::TraceFields);
    Grants {
        metrics: true,
        kv: true,
        rate_limit: true,
        dns: DnsGrant::All,
        submit: true,
        delay: true,
        auth: true,
        edit: edit.collect(),
        ..Grants::default()
    }
}

pub(crate) fn granted(name: &str, acts: &[(&str, &str)]) -> PluginConfig {
    PluginConfig { grants: all_grants(), ..plugin(name, acts) }
}

pub(crate) fn passing(plugin: PluginConfig) -> PluginConfig {
    PluginConfig { on_error: OnError::Pass, ..plugin }
}

pub(crate) fn session(chain: Arc<Chain>, port: u16) -> Session {
    let facts = SessionFacts {
        id: id(u32::from(port)),
        listener: "mx".into(),
        origin: Origin::Mx,
        client: SocketAddr::from(([192, 0, 2, 1], port)),
        server: SocketAddr::from(([127, 0, 0, 1], 25)),
    };
    Session::new(chain, facts)
}

pub(crate) fn id(unique: u32) -> Id {
    Id::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000), unique)
}

pub(crate) fn transaction() -> Transaction {
    let parameters = MailParameters { size: Some(1000), ..MailParameters::default() };
    Transaction::new(id(77), ReversePath::Mailbox("alice@example.com".parse().unwrap()), parameters)
}

pub(crate) fn recipient(address: &str) -> Recipient {
    Recipient {
        path: ForwardPath::Mailbox(address.parse().unwrap()),
        parameters: RcptParameters::default(),
    }
}

/// A transaction with one recipient, bob@example.org.
pub(crate) fn addressed() -> Transaction {
    let mut transaction = transaction();
    transaction.recipients.push(recipient("bob@example.org").into());
    transaction
}

pub(crate) fn addresses(transaction: &Transaction) -> Vec<String> {
    transaction.recipients.iter().map(|recipient| recipient.path.to_string()).collect()
}

pub(crate) const MESSAGE: &str = "Received: from a by b; Sat, 21 Nov 2026 21:00:00 +0000\r\nSubject: hello\r\nMIME-Version: 1.0\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8gd29ybGQ=\r\n";

pub(crate) fn content() -> Arc<ContentView> {
    let octets = bytes::Bytes::from_static(MESSAGE.as_bytes());
    Arc::new(ContentView::new(Header::parse(octets.clone()), Arc::new(octets)))
}

/// A component in text form whose core module is `core` and that exports `configure` and nothing else. The module must
/// export "memory", "realloc" and "configure", the latter with a pointer to the result.
pub(crate) fn minimal(core: &str, imports: &str) -> Vec<u8> {
    minimal_with(core, imports, "")
}

/// The same with what the core module is made with: `(with "module" (instance $i))`.
pub(crate) fn minimal_with(core: &str, imports: &str, with: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            {imports}
            (core module $m {core})
            (core instance $i (instantiate $m {with}))
            (type $rec (record (field "name" string) (field "version" string) (field "description" string)))
            (func $configure (result (result $rec (error string)))
                (canon lift (core func $i "configure") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
            (component $wrap
                (type $rec (record (field "name" string) (field "version" string) (field "description" string)))
                (import "import-type-registration" (type $r (eq $rec)))
                (import "import-func-configure" (func $f (result (result $r (error string)))))
                (export $out "registration" (type $r))
                (export "configure" (func $f) (func (result (result $out (error string))))))
            (instance $out (instantiate $wrap
                (with "import-type-registration" (type $rec))
                (with "import-func-configure" (func $configure))))
            (export "gatepost:policy/configure@0.1.0" (instance $out)))"#
    );
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// The core module of a plugin that says yes to `configure`, plus what a test adds.
pub(crate) fn agreeable(more: &str) -> String {
    format!(
        r#"(memory (export "memory") 1)
           (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
           (func (export "configure") (result i32) i32.const 16)
           {more}"#
    )
}
