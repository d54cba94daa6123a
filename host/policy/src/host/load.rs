//! From a plugin of the configuration to one that runs. All of it happens aside: nothing here is on the way of mail.

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component as Code, InstancePre};

use super::Host;
use crate::breaker::Breaker;
use crate::call::probe;
use crate::chain::{Bucket, Core, Exports, Meters, PluginInfo, Previous, Stage};
use crate::compile::hex;
use crate::config::{Component, Fallback, PluginConfig};
use crate::engine::{MAX_MEMORY_OCTETS, MAX_TABLE_ELEMENTS};
use crate::guest::Guest;
use crate::imports::INTERFACES;
use crate::imports::log::clean;
use crate::kv::{Namespace, Quota};
use crate::wasi;

/// Loads one plugin, or says all that is wrong with it.
pub(super) async fn plugin(
    host: &Arc<Host>,
    config: PluginConfig,
) -> Result<(Arc<Core>, PluginInfo), Vec<String>> {
    check(host, &config)?;
    let (aside, component) = (host.clone(), config.component.clone());
    let (pin, quota) = (
        config.sha256.clone(),
        Quota { keys: config.limits.kv_keys, octets: config.limits.kv_octets },
    );
    let namespace = config.grants.kv.then(|| config.name.clone());
    let prepared = tokio::task::spawn_blocking(move || {
        let prepared = Prepared::new(&aside, &component, pin.as_deref())?;
        let kv = namespace
            .map(|name| aside.kv.namespace(&name, quota))
            .transpose()
            .map_err(|error| vec![error])?;
        Ok::<_, Vec<String>>((prepared, kv))
    });
    let (prepared, kv) =
        prepared.await.map_err(|error| vec![format!("the compiler failed: {error}")])??;
    let previous = previous(host, &config, &prepared.digest, kv.as_ref());
    let live = host.current();
    let kept = live
        .cores
        .iter()
        .zip(&live.infos)
        .find(|(core, info)| *info.digest == *prepared.digest && core.is(&config));
    if let Some((core, info)) = kept {
        // Nothing about it was changed: what is known about its failures holds on. `configure` may see another world.
        probe(core).await?;
        return Ok((core.clone(), info.clone()));
    }
    let digest: Arc<str> = prepared.digest.into();
    let core = Arc::new(Core {
        name: config.name.as_str().into(),
        digest: digest.clone(),
        on_error: config.on_error,
        grants: config.grants,
        config_json: config.config.to_string(),
        config: config.config,
        pre: prepared.pre,
        exports: Arc::new(prepared.exports),
        breaker: Breaker::new(config.breaker),
        previous,
        kv,
        services: host.services.clone(),
        share: host.services.share(),
        slow: AtomicU32::new(0),
        log: Bucket::new(config.limits.log_lines),
        meters: Meters::all(&config.name),
        series: Mutex::default(),
        limits: config.limits,
    });
    let registration = probe(&core).await?;
    let info = PluginInfo {
        name: core.name.clone(),
        registered_name: clean(&registration.name, 100),
        version: clean(&registration.version, 50).into(),
        description: clean(&registration.description, 500),
        digest,
        stages: Stage::ALL.into_iter().filter(|stage| core.exports.has(*stage)).collect(),
        grants: core.grants.clone(),
        imports: prepared.imports,
        size: prepared.size,
    };
    Ok((core, info))
}

/// What the breaker of this plugin may fall back on: what is live now under its name, if that is another version and works,
/// or what that would have fallen back on.
fn previous(
    host: &Host,
    config: &PluginConfig,
    digest: &str,
    kv: Option<&Namespace>,
) -> Option<Previous> {
    if config.breaker.fallback != Fallback::Previous {
        return None;
    }
    let live = host.current();
    let at = live.infos.iter().position(|info| *info.name == *config.name)?;
    let (core, info) = (&live.cores[at], &live.infos[at]);
    let same = *info.digest == *digest && core.config == config.config;
    let (core, version, digest) = if same || core.breaker.is_open() {
        let before = core.previous.as_ref()?;
        (&before.core, &before.version, &before.digest)
    } else {
        (core, &info.version, &info.digest)
    };
    let core = core.under(config, kv.cloned());
    Some(Previous { core, version: version.clone(), digest: digest.clone() })
}

/// Faults of the configuration itself.
fn check(host: &Host, config: &PluginConfig) -> Result<(), Vec<String>> {
    let mut faults = Vec::new();
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if config.name.is_empty() || config.name.len() > 64 || !config.name.chars().all(good) {
        faults.push("a name has 1 to 64 letters, digits, \"-\", \"_\", \".\"".into());
    }
    let tables = host.services.tables.load();
    for table in &config.grants.lookup {
        if tables.get(table).is_none() {
            faults.push(format!("grants the table {table:?}, which does not exist"));
        }
    }
    if config.limits.memory > MAX_MEMORY_OCTETS {
        faults.push(format!("limit of memory: at most {MAX_MEMORY_OCTETS} octets"));
    }
    if config.limits.table_elements > MAX_TABLE_ELEMENTS {
        faults.push(format!("limit of table elements: at most {MAX_TABLE_ELEMENTS}"));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// A component that is compiled and linked.
struct Prepared {
    pre: InstancePre<Guest>,
    exports: Exports,
    imports: Vec<String>,
    digest: String,
    size: usize,
}

impl Prepared {
    fn new(host: &Host, component: &Component, pin: Option<&str>) -> Result<Self, Vec<String>> {
        let one = |message: String| vec![message];
        let wasm = read(component).map_err(one)?;
        let digest: [u8; 32] = Sha256::digest(&wasm).into();
        let text = hex(&digest);
        if let Some(pin) = pin.filter(|pin| !pin.eq_ignore_ascii_case(&text)) {
            return Err(one(format!("sha256 is {text}, the configuration wants {pin}")));
        }
        let code = host.cache.component(&host.services.engine, &wasm, &digest).map_err(one)?;
        let mut linker = host.linker.clone();
        let mut unknown =
            wasi::link(&mut linker, &code).map_err(|error| one(format!("{error:#}")))?;
        unknown.extend(unknown_interfaces(host, &code));
        if !unknown.is_empty() {
            return Err(unknown
                .iter()
                .map(|name| format!("imports {name}, which this host does not have"))
                .collect());
        }
        let pre = linker
            .instantiate_pre(&code)
            .map_err(|error| one(format!("does not link: {error:#}")))?;
        let exports = Exports::find(&pre).map_err(|_| {
            one(format!("does not export gatepost:policy/configure, {}", exported(host, &code)))
        })?;
        let imports = code
            .component_type()
            .imports(&host.services.engine)
            .map(|(name, _)| name.to_owned())
            .collect();
        Ok(Self { pre, exports, imports, digest: text, size: wasm.len() })
    }
}

fn read(component: &Component) -> Result<Vec<u8>, String> {
    match component {
        Component::File(path) => {
            std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
        }
        Component::Bytes(octets, _) => Ok(octets.to_vec()),
    }
}

/// Imports that are neither WASI nor interfaces of the contract that this host has. A version that does not fit is the
/// linker's matter.
fn unknown_interfaces(host: &Host, code: &Code) -> Vec<String> {
    let ours = |name: &str| {
        let rest = name.strip_prefix("gatepost:policy/");
        let interface = rest.map(|rest| rest.split('@').next().unwrap_or(rest));
        interface.is_some_and(|interface| INTERFACES.contains(&interface))
    };
    let instance = |item: &ComponentItem| matches!(item, ComponentItem::ComponentInstance(_));
    code.component_type()
        .imports(&host.services.engine)
        .filter(|(name, _)| !name.starts_with("wasi:"))
        .filter(|(name, item)| !ours(name) || !instance(&item.ty))
        .map(|(name, _)| name.to_owned())
        .collect()
}

fn exported(host: &Host, code: &Code) -> String {
    let names: Vec<String> = code
        .component_type()
        .exports(&host.services.engine)
        .map(|(name, _)| name.to_owned())
        .collect();
    if names.is_empty() { "nor anything else".into() } else { format!("only {}", names.join(", ")) }
}
