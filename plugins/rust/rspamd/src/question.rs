//! What rspamd is told: the message, and in header fields of the request all that it cannot see from it
//! (<https://docs.rspamd.com/developers/protocol>).

use gatepost_plugin::{Request, Session, Transaction};

use crate::config::Config;

/// A request to the normal worker or the proxy; the content goes behind it.
pub(crate) fn request(config: &Config, url: &str, headers: Vec<(String, String)>) -> Request {
    let mut request = Request::post([url, "/checkv2"].concat(), "").timeout(config.timeout);
    request.headers = headers;
    request
}

/// Who sent it, from where, to whom.
pub(crate) fn headers(
    config: &Config,
    session: &Session,
    transaction: &Transaction,
) -> Vec<(String, String)> {
    let info = session.info();
    let mut headers = Headers(Vec::new());
    // Without it rspamd leaves the block `milter` out.
    headers.add("Milter", "Yes");
    headers.add("Queue-Id", &transaction.id());
    headers.add("From", &transaction.reverse_path().unwrap_or_default());
    for recipient in transaction.recipients().iter().take(MOST_RECIPIENTS) {
        headers.add("Rcpt", &recipient.address);
    }
    // What came by no connection has no address that means anything.
    if !matches!(info.origin.as_str(), "local" | "notice" | "plugin") {
        headers.add("IP", &info.client.ip);
    }
    headers.add("Helo", info.helo.as_deref().unwrap_or(""));
    headers.add("Hostname", &session.client_name().unwrap_or_default());
    headers.add("MTA-Tag", &info.listener);
    if let Some(auth) = &info.auth {
        headers.add("User", &auth.identity);
    }
    if let Some(tls) = &info.tls {
        headers.add("TLS-Cipher", &tls.cipher);
        headers.add("TLS-Version", &tls.version);
    }
    headers.add("Password", config.password.as_deref().unwrap_or(""));
    headers.add("Settings-Id", config.settings_id.as_deref().unwrap_or(""));
    headers.0
}

struct Headers(Vec<(String, String)>);

impl Headers {
    /// Nothing where there is no value. Octets that cannot stand in a header field are left out: they come from
    /// strangers, and rspamd takes no field with them.
    fn add(&mut self, name: &str, value: &str) {
        let value: String = value.chars().filter(|c| !c.is_control()).collect();
        if !value.is_empty() || name == "From" {
            self.0.push((name.to_owned(), value));
        }
    }
}

/// The host sends at most 100 header fields.
const MOST_RECIPIENTS: usize = 80;
