//! A configuration that a test writes down: defaults, and what it wants otherwise.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use toml::{Table, Value};

use crate::place::free_port;
use crate::server::Gatepost;

/// The configuration of one server, in the making. It listens as `mx` on a free port, knows
/// `example.test` with `alice` and `bob` in Maildirs, and asks a DNS server that isn't there.
#[derive(Clone, Debug)]
pub struct Setup {
    table: Table,
    ports: BTreeMap<String, u16>,
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

impl Setup {
    /// The defaults. `{domain}` and `{user}` are the configuration's own placeholders.
    pub fn new() -> Self {
        let table = r#"
            hostname = "mx.example.test"
            data = "var"
            [log]
            level = "info"
            [tls]
            self-signed = true
            [limits]
            drain = "10s"
            [dns]
            servers = ["127.0.0.1:1"]
            timeout = "2s"
            [queue]
            first-retry = "1s"
            longest-retry = "2s"
            [admin]
            socket = "var/admin.sock"
            [[domain]]
            name = "example.test"
            users = ["alice", "bob"]
            deliver = "maildir:var/mail/{domain}/{user}"
        "#;
        let table = table.parse().expect("the defaults are TOML");
        Self { table, ports: BTreeMap::new() }.listener("mx", "mx")
    }

    /// One more listener, on a free port of 127.0.0.1.
    pub fn listener(self, name: &str, role: &str) -> Self {
        let port = free_port();
        self.listener_at(name, role, &format!("127.0.0.1:{port}"))
    }

    /// One more listener, at an address: `ip:port`, or `unix:path` for LMTP.
    pub fn listener_at(mut self, name: &str, role: &str, address: &str) -> Self {
        if let Ok(address) = address.parse::<SocketAddr>() {
            self.ports.insert(name.to_owned(), address.port());
        }
        self.with(&format!(
            "[[listener]]\nname = \"{name}\"\nrole = \"{role}\"\naddress = \"{address}\"\n"
        ))
    }

    /// Lays `toml` over what is there: tables are merged, lists of tables grow, all else is replaced.
    pub fn with(mut self, toml: &str) -> Self {
        let over: Table = toml.parse().unwrap_or_else(|error| panic!("{error}\n{toml}"));
        merge(&mut self.table, over);
        self
    }

    /// Takes out what stands under a key of the first level.
    pub fn without(mut self, key: &str) -> Self {
        self.table.remove(key);
        self
    }

    /// The same with another port for the listener `mx`.
    pub fn with_new_port(mut self) -> Self {
        let port = free_port();
        self.ports.insert("mx".to_owned(), port);
        self.listener_with("mx", &format!("address = \"127.0.0.1:{port}\""))
    }

    /// The same with the port that the listener `mx` of another one has.
    pub fn with_port_of(mut self, other: &Self) -> Self {
        let port = other.port("mx");
        self.ports.insert("mx".to_owned(), port);
        self.listener_with("mx", &format!("address = \"127.0.0.1:{port}\""))
    }

    /// Lets a key of a listener be what `toml` says, such as `proxy-from = ["127.0.0.1/32"]`.
    pub fn listener_with(mut self, name: &str, toml: &str) -> Self {
        let over: Table = toml.parse().unwrap_or_else(|error| panic!("{error}\n{toml}"));
        for listener in self.list("listener").iter_mut().filter_map(Value::as_table_mut) {
            if listener.get("name").and_then(Value::as_str) == Some(name) {
                merge(listener, over.clone());
            }
        }
        self
    }

    /// A user of `example.test` with a mailbox.
    pub fn user(mut self, name: &str) -> Self {
        let domain = self.list("domain")[0].as_table_mut().expect("a domain is a table");
        let users = domain.get_mut("users").and_then(Value::as_array_mut).expect("a list of users");
        users.push(Value::String(name.to_owned()));
        self
    }

    /// The port of a listener.
    pub fn port(&self, listener: &str) -> u16 {
        *self.ports.get(listener).unwrap_or_else(|| panic!("no listener {listener}"))
    }

    /// The text of the file.
    pub fn toml(&self) -> String {
        toml::to_string(&self.table).expect("a table is written as TOML")
    }

    /// Starts a server with this configuration in a new folder and waits until it is ready.
    pub fn start(self) -> Gatepost {
        Gatepost::start(self)
    }

    /// Writes the file in one step, so that a server that watches it never sees a half.
    pub fn write(&self, file: &Path) {
        let aside = file.with_extension("new");
        std::fs::write(&aside, self.toml()).expect("the configuration is written");
        std::fs::rename(&aside, file).expect("the configuration gets its name");
    }

    fn list(&mut self, key: &str) -> &mut Vec<Value> {
        self.table
            .get_mut(key)
            .and_then(Value::as_array_mut)
            .unwrap_or_else(|| panic!("no list of {key}"))
    }
}

fn merge(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => merge(under, over),
            (Some(Value::Array(list)), Value::Array(more))
                if more.iter().all(Value::is_table) && !more.is_empty() =>
            {
                list.extend(more);
            }
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}
