//! What a start prints: where it listens, what it loaded, and a command that sends a first message.

use std::net::SocketAddr;

use smtp::Route;

use super::House;
use crate::config::{Config, Role};
use crate::wiring;

impl House {
    /// Line by line, for a terminal.
    pub(crate) fn welcome(&self) -> Vec<String> {
        let mut lines =
            vec![format!("gatepost {} is {}", env!("CARGO_PKG_VERSION"), self.config.hostname)];
        lines.push("listeners".to_owned());
        lines.extend(wiring::overview(&self.config));
        if let Some(address) = self.config.admin.http {
            lines.push(format!(
                "  {:<14}{:<24}metrics and health over HTTP",
                "admin",
                address.to_string()
            ));
        }
        lines.push(format!(
            "  {:<14}{:<24}gatepost queue, gatepost plugin",
            "",
            self.config.admin.socket.display()
        ));
        lines.push("plugins".to_owned());
        let chain = self.policy.current();
        for plugin in chain.plugins() {
            let stages: Vec<&str> = plugin.stages.iter().map(|stage| stage.name()).collect();
            let digest = plugin.digest.get(..16).unwrap_or(&plugin.digest);
            lines.push(format!("  {:<14}{:<8}sha256 {digest}…", plugin.name, plugin.version));
            lines.push(format!(
                "  {:<14}stages {}; grants {}",
                "",
                stages.join(" "),
                or_none(&wiring::grants(plugin))
            ));
        }
        if chain.plugins().is_empty() {
            lines.push("  none".to_owned());
        }
        lines.extend(first_message(&self.config));
        lines
    }
}

fn or_none(words: &[String]) -> String {
    if words.is_empty() { "none".to_owned() } else { words.join(" ") }
}

/// Commands to paste, if there is a local user and a listener to send to.
fn first_message(config: &Config) -> Vec<String> {
    let Some(SocketAddr::V4(address)) = wiring::listener_of(config, Role::Mx) else {
        return Vec::new();
    };
    let found = config.domains.iter().find_map(|domain| Some((domain, domain.users.first()?)));
    let Some((domain, user)) = found else { return Vec::new() };
    let deliver = domain.deliver.replace("{domain}", domain.name.as_str()).replace("{user}", user);
    let place = match deliver.parse::<Route>() {
        Ok(Route::Maildir(path)) => format!("{}/new", path.display()),
        Ok(_) | Err(_) => deliver,
    };
    let to = format!("{user}@{}", domain.name);
    vec![
        "send a first message (one of these), then look into".to_owned(),
        format!("  {place}"),
        format!(
            "  printf 'From: you@example.net\\nTo: {to}\\nSubject: Hello\\n\\nIt works.\\n' | \\"
        ),
        format!(
            "    curl --crlf smtp://{address}/client.example.net --mail-from you@example.net --mail-rcpt {to} -T -"
        ),
        format!("  swaks --server {address} --from you@example.net --to {to}"),
    ]
}
