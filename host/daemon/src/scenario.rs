//! Scenarios: sessions that are written down, with the world around them and what is expected of the plugins.
//! `gatepost plugin test` and `gatepost simulate` play them. A file is one world and a list of steps; each step is an
//! SMTP session with one message, and goes through the real session of `inbound`.

pub(crate) mod after;
pub(crate) mod compare;
mod conversation;
pub(crate) mod expect;
pub(crate) mod lines;
pub(crate) mod outcome;
pub(crate) mod play;
pub(crate) mod print;
mod read;
mod script;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use policy::authentication::Results;
use policy::{Grants, PluginLimits, TableKind, TlsInfo};
use smtp::Domain;

use self::expect::Expected;

pub(crate) use self::read::{endpoint, load, moment, usual_tls};
pub(crate) use self::script::Script;

/// One file.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) file: PathBuf,
    pub(crate) description: Option<String>,
    /// The time at the beginning.
    pub(crate) clock: SystemTime,
    /// Domains that are ours, with every user; with none, mail for all domains is taken.
    pub(crate) local_domains: Vec<Domain>,
    pub(crate) plugin: PluginTable,
    pub(crate) given: Given,
    pub(crate) steps: Vec<Step>,
}

/// `[plugin]`: what the administrator would say.
#[derive(Clone, Debug)]
pub(crate) struct PluginTable {
    pub(crate) config: serde_json::Value,
    pub(crate) on_error: policy::OnError,
    pub(crate) grants: Grants,
    pub(crate) limits: PluginLimits,
}

/// What the world answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    /// Lines of a zone; none asks the resolvers of the configuration, where there is one.
    pub(crate) dns: Option<String>,
    /// What each plugin's store begins with.
    pub(crate) kv: Vec<(String, Kept)>,
    pub(crate) tables: Vec<GivenTable>,
    pub(crate) http: Vec<HttpRule>,
}

/// A value of the store, and how long it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) value: Vec<u8>,
    pub(crate) ttl: Option<Duration>,
}

/// A lookup table.
#[derive(Clone, Debug)]
pub(crate) struct GivenTable {
    pub(crate) name: String,
    pub(crate) kind: TableKind,
    /// In the form of a table's file.
    pub(crate) text: String,
}

/// An answer to requests of a kind. Patterns have `*` for any text.
#[derive(Clone, Debug)]
pub(crate) struct HttpRule {
    pub(crate) method: Option<String>,
    pub(crate) url: String,
    pub(crate) header: Vec<(String, String)>,
    pub(crate) body: Option<String>,
    /// What comes back: a response or a fault.
    pub(crate) answer: Result<HttpResponse, policy::seam::Fault>,
}

#[derive(Clone, Debug)]
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// One session with one message.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) name: Option<String>,
    /// Begin with a new world.
    pub(crate) fresh: bool,
    /// Go on in the session of the step before.
    pub(crate) same_session: bool,
    /// Time that passed before.
    pub(crate) after: Duration,
    pub(crate) visit: Visit,
    pub(crate) stop_after: Option<policy::Stage>,
    pub(crate) expected: Option<Expected>,
    pub(crate) attempts: Vec<Attempt>,
}

/// Who comes, and with what. What is not said is as in [`Visit::default`].
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    pub(crate) listener: String,
    pub(crate) client: SocketAddr,
    pub(crate) client_name: Option<String>,
    pub(crate) server: SocketAddr,
    pub(crate) helo: String,
    pub(crate) extended: bool,
    pub(crate) tls: Option<TlsInfo>,
    /// Is logged in already.
    pub(crate) user: Option<String>,
    pub(crate) auth: Option<Login>,
    /// Empty for the null path.
    pub(crate) from: String,
    pub(crate) mail_parameters: Option<String>,
    pub(crate) to: Vec<To>,
    pub(crate) message: Option<Vec<u8>>,
    pub(crate) end: End,
    pub(crate) results: Option<FoundWords>,
}

/// AUTH.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) mechanism: String,
    pub(crate) identity: String,
    pub(crate) password: String,
}

/// RCPT.
#[derive(Clone, Debug)]
pub(crate) struct To {
    pub(crate) address: String,
    pub(crate) parameters: String,
}

/// How the client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Quit,
    Lost,
}

/// What the host's checks say. Domains that are not named are those of the envelope.
#[derive(Clone, Debug, Default)]
pub(crate) struct FoundWords(pub(crate) Results);

impl FoundWords {
    /// The results, about the domains of this envelope and header where the scenario names none.
    fn about(&self, visit: &Visit) -> Results {
        let domain = |address: &str| address.rsplit('@').next().unwrap_or_default().to_owned();
        let envelope = if visit.from.is_empty() { visit.helo.clone() } else { domain(&visit.from) };
        let header = message::Header::parse(visit.content());
        let author =
            header.get("From").and_then(|field| field.mailboxes().into_iter().flatten().next());
        let author =
            author.map_or_else(|| envelope.clone(), |mailbox| domain(&mailbox.to_string()));
        let mut results = self.0.clone();
        let fill = |place: &mut String, with: &str| {
            if place.is_empty() {
                with.clone_into(place);
            }
        };
        results.spf.iter_mut().for_each(|spf| fill(&mut spf.domain, &envelope));
        results.dkim.iter_mut().for_each(|dkim| fill(&mut dkim.domain, &envelope));
        if let Some(dmarc) = &mut results.dmarc {
            fill(&mut dmarc.domain, &author);
        }
        results
    }
}

/// What the queue does with an accepted message.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) after: Duration,
    /// None: each.
    pub(crate) recipient: Option<String>,
    /// It is for a local mailbox.
    pub(crate) deliver: bool,
    pub(crate) route: Option<String>,
    pub(crate) result: Option<String>,
    pub(crate) reply: Option<String>,
    pub(crate) dsn: Option<&'static str>,
    pub(crate) expected: Option<Expected>,
}

impl Default for Visit {
    fn default() -> Self {
        Self {
            listener: "mx".into(),
            client: SocketAddr::from(([192, 0, 2, 1], 40_000)),
            client_name: None,
            server: SocketAddr::from(([203, 0, 113, 1], 25)),
            helo: "client.example.net".into(),
            extended: true,
            tls: None,
            user: None,
            auth: None,
            from: "sender@example.net".into(),
            mail_parameters: None,
            to: vec![To { address: "recipient@example.org".into(), parameters: String::new() }],
            message: None,
            end: End::Quit,
            results: None,
        }
    }
}

impl Visit {
    /// The content, with CRLF.
    pub(crate) fn content(&self) -> Vec<u8> {
        let content = self.message.clone().unwrap_or_else(|| {
            let to: Vec<&str> = self.to.iter().map(|to| to.address.as_str()).collect();
            format!(
                "From: {}\nTo: {}\nSubject: Test\nDate: Sun, 22 Nov 2026 05:00:00 +0000\nMessage-ID: <test@example.net>\n\nTest.\n",
                if self.from.is_empty() { "mailer-daemon@example.net" } else { &self.from },
                to.join(", "),
            )
            .into_bytes()
        });
        message::with_crlf(&content)
    }
}
