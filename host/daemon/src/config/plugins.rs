//! The sections about plugins: raw TOML in, checked values out.

use std::time::Duration;

use policy::{
    BreakerConfig, CompilerLimits, DnsGrant, EditGrant, Fallback, Grants, HttpHost, PluginLimits,
};
use toml::de::DeValue;

use super::reader::Reader;
use super::value::{ByteSize, Text, Value};
use super::{Component, OnError, Plugin, Policy, Table};

/// `[policy]`
pub(super) fn room(section: Option<Reader<'_>>) -> Policy {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let default = CompilerLimits::default();
    let mut policy = Policy { threads: cores, compiler: default };
    let Some(section) = section else { return policy };
    policy.threads = section.get_or("threads", cores);
    if policy.threads == 0 {
        section.fault("threads", "plugins need a thread");
    }
    policy.compiler.cpu = section.get_or("compile-cpu", default.cpu);
    if policy.compiler.cpu < Duration::from_secs(1) {
        section.fault("compile-cpu", "the compiler needs a second");
    }
    policy.compiler.memory = section.get_or("compile-memory", ByteSize(default.memory)).0;
    if policy.compiler.memory < SMALLEST_COMPILER {
        section.fault("compile-memory", "the compiler needs 256 MiB of address space");
    }
    section.finish();
    policy
}

/// `[[plugin]]`
pub(super) fn plugin(section: Reader<'_>, tables: &[Table]) -> Option<Plugin> {
    let name = section.require::<String>("name");
    let well_formed =
        |name: &String| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if name.as_ref().is_some_and(|name| name.is_empty() || !well_formed(name)) {
        section.fault("name", "letters, digits, '-', '_' and '.' make a plugin's name");
    }
    let component =
        section.require::<String>("component").map(|text| match text.strip_prefix("bundled:") {
            Some(bundled) => Component::Bundled(bundled.to_owned()),
            None => Component::File(text.into()),
        });
    let enabled = section.get_or("enabled", true);
    if enabled {
        check_component(&section, component.as_ref());
    }
    let sha256 = section.get::<String>("sha256").map(|digest| digest.to_ascii_lowercase());
    if sha256
        .as_ref()
        .is_some_and(|hex| hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        section.fault("sha256", "a SHA-256 digest is 64 hexadecimal digits");
    }
    let choices = [("defer", OnError::Defer), ("pass", OnError::Pass), ("reject", OnError::Reject)];
    let on_error = section.choice("on-error", &choices, OnError::Defer);
    let breaker = breaker(section.table("breaker"));
    let grants = grants(section.table("grants"), tables);
    let limits = plugin_limits(section.table("limits"));
    let config = section.get_or("config", serde_json::Value::Object(serde_json::Map::new()));
    let line = section.line();
    section.finish();
    Some(Plugin {
        line,
        name: name?,
        component: component?,
        enabled,
        sha256,
        on_error,
        breaker,
        grants,
        limits,
        config,
    })
}

fn check_component(section: &Reader<'_>, component: Option<&Component>) {
    match component {
        Some(Component::Bundled(name)) if crate::bundled::find(name).is_none() => {
            let names: Vec<&str> = crate::bundled::names().collect();
            section.fault(
                "component",
                format!(
                    "no plugin \"{name}\" comes with the server; these do: {}",
                    names.join(", ")
                ),
            );
        }
        Some(Component::File(path)) if !path.is_file() => {
            section.fault("component", format!("there is no file {}", path.display()));
        }
        Some(Component::File(path)) => {
            if let Some(message) = super::open_to_all(path) {
                section.fault("component", message);
            }
        }
        Some(Component::Bundled(_)) | None => {}
    }
}

pub(crate) fn grants(section: Option<Reader<'_>>, tables: &[Table]) -> Grants {
    let Some(section) = section else { return Grants::default() };
    let hosts: Vec<Text<HttpHost>> = section.get_or("http", Vec::new());
    let edits: Vec<Text<EditGrant>> = section.get_or("edit", Vec::new());
    let grants = Grants {
        log: section.get_or("log", true),
        clock: section.get_or("clock", true),
        random: section.get_or("random", true),
        metrics: section.get_or("metrics", false),
        kv: section.get_or("kv", false),
        rate_limit: section.get_or("rate-limit", false),
        dns: section.get_or("dns", Names(DnsGrant::None)).0,
        lookup: section.get_or("lookup", Vec::new()),
        http: hosts.into_iter().map(|host| host.0).collect(),
        http_networks: super::sections::networks(&section, "http-networks"),
        submit: section.get_or("submit", false),
        delay: section.get_or("delay", false),
        auth: section.get_or("auth", false),
        edit: edits.into_iter().map(|kind| kind.0).collect(),
    };
    for name in grants.lookup.iter().filter(|name| !tables.iter().any(|table| table.name == **name))
    {
        section.fault("lookup", format!("there is no [[table]] with the name \"{name}\""));
    }
    section.finish();
    grants
}

fn breaker(section: Option<Reader<'_>>) -> BreakerConfig {
    let default = BreakerConfig::default();
    let Some(section) = section else { return default };
    let fallbacks = [("on-error", Fallback::OnError), ("previous", Fallback::Previous)];
    let share = section.get_or("share", u32::from(default.share));
    if share > 100 {
        section.fault("share", "a share is a number of percent");
    }
    let breaker = BreakerConfig {
        failures: section.get_or("failures", default.failures),
        window: section.get_or("window", default.window),
        share: u8::try_from(share).unwrap_or(100),
        pause: section.get_or("pause", default.pause),
        fallback: section.choice("fallback", &fallbacks, default.fallback),
    };
    if breaker.pause.is_zero() {
        section.fault("pause", "a pause of nothing is no pause");
    }
    section.finish();
    breaker
}

/// `true`, `false`, or the domains below which names may be looked up.
struct Names(DnsGrant);

impl Value for Names {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        if let Some(all) = value.as_bool() {
            return Ok(Self(if all { DnsGrant::All } else { DnsGrant::None }));
        }
        let domains = Vec::<String>::read(value)
            .map_err(|_| "this has to be true, false, or a list of domains".to_owned())?;
        Ok(Self(DnsGrant::Below(domains)))
    }
}

pub(crate) fn plugin_limits(section: Option<Reader<'_>>) -> PluginLimits {
    let default = PluginLimits::default();
    let Some(section) = section else { return default };
    let octets = |key, default: usize| {
        let ByteSize(octets) = section.get_or(key, ByteSize(default as u64));
        usize::try_from(octets).unwrap_or(usize::MAX)
    };
    let limits = PluginLimits {
        cpu: section.get_or("cpu", default.cpu),
        cpu_data: section.get_or("cpu-data", default.cpu_data),
        wall: section.get_or("wall", default.wall),
        memory: octets("memory", default.memory),
        host_calls: section.get_or("host-calls", default.host_calls),
        host_call_octets: octets("host-call-size", default.host_call_octets),
        handles: section.get_or("handles", default.handles),
        table_elements: section.get_or("table-elements", default.table_elements),
        waits: section.get_or("waits", default.waits),
        edits: section.get_or("edits", default.edits),
        edit_octets: octets("edit-size", default.edit_octets),
        note_octets: octets("note-size", default.note_octets),
        series: section.get_or("series", default.series),
        submissions: section.get_or("submissions", default.submissions),
        submissions_per_minute: section
            .get_or("submissions-per-minute", default.submissions_per_minute),
        log_lines: section.get_or("log-lines", default.log_lines),
        kv_keys: section.get_or("kv-keys", default.kv_keys),
        kv_octets: section.get_or("kv-size", ByteSize(default.kv_octets)).0,
    };
    section.finish();
    limits
}

/// What the program itself takes, and some room.
const SMALLEST_COMPILER: u64 = 256 << 20;
