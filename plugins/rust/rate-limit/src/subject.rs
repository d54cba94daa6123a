//! Who is counted.

use gatepost_plugin::config::{network_of, split};
use gatepost_plugin::{Error, HostError, Lookup, SessionInfo};
use serde::Deserialize;

use crate::config::Config;

/// What makes one mail count with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Per {
    /// The address of the client.
    Client,
    /// Its network.
    Network,
    /// The reverse-path. The null path counts with nobody.
    Sender,
    SenderDomain,
    /// Who has logged in.
    User,
    Recipient,
    RecipientDomain,
}

/// What is known at a question.
pub(crate) struct Facts {
    pub(crate) session: SessionInfo,
    /// None: the null reverse-path.
    pub(crate) sender: Option<String>,
    /// At RCPT.
    recipient: Option<String>,
}

impl Facts {
    pub(crate) fn new(
        session: SessionInfo,
        sender: Option<String>,
        recipient: Option<String>,
    ) -> Self {
        Self { session, sender, recipient }
    }

    pub(crate) fn has_recipient(&self) -> bool {
        self.recipient.is_some()
    }

    pub(crate) fn user(&self) -> Option<&str> {
        self.session.auth.as_ref().map(|auth| auth.identity.as_str())
    }
}

impl Per {
    /// The word of the configuration.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Network => "network",
            Self::Sender => "sender",
            Self::SenderDomain => "sender-domain",
            Self::User => "user",
            Self::Recipient => "recipient",
            Self::RecipientDomain => "recipient-domain",
        }
    }

    /// True if a message has as many of these as it has recipients.
    pub(crate) fn is_of_recipient(self) -> bool {
        matches!(self, Self::Recipient | Self::RecipientDomain)
    }

    /// Who that is here; none if there is nobody to count.
    pub(crate) fn of(self, facts: &Facts, config: &Config) -> Option<String> {
        let lower = |text: &String| text.to_ascii_lowercase();
        let domain = |text: &String| {
            Some(split(text).1.to_ascii_lowercase()).filter(|domain| !domain.is_empty())
        };
        match self {
            Self::Client => Some(facts.session.client_address().to_canonical().to_string()),
            Self::Network => Some(network_of(
                facts.session.client_address(),
                config.ipv4_prefix,
                config.ipv6_prefix,
            )),
            Self::Sender => facts.sender.as_ref().map(lower),
            Self::SenderDomain => facts.sender.as_ref().and_then(domain),
            Self::User => facts.user().map(str::to_ascii_lowercase),
            Self::Recipient => facts.recipient.as_ref().map(lower),
            Self::RecipientDomain => facts.recipient.as_ref().and_then(domain),
        }
    }

    /// What a table says about this subject.
    pub(crate) fn look_up(
        self,
        table: Lookup<'_>,
        facts: &Facts,
        subject: &str,
    ) -> Result<Option<String>, HostError> {
        match self {
            Self::Client | Self::Network => table.match_ip(facts.session.client_address()),
            Self::Sender | Self::Recipient => table.match_address(subject),
            Self::SenderDomain | Self::RecipientDomain => table.match_domain(subject),
            Self::User => table.get(subject),
        }
    }

    /// An error unless there is such a table and it answers such questions.
    pub(crate) fn require(self, table: Lookup<'_>) -> Result<(), Error> {
        match self {
            Self::Client | Self::Network => table.require_networks(),
            Self::Sender | Self::Recipient => table.require_addresses(),
            Self::SenderDomain | Self::RecipientDomain => {
                Ok(table.match_domain("probe.invalid").map(drop)?)
            }
            Self::User => Ok(table.get("probe").map(drop)?),
        }
    }
}

/// All of the subjects of a limit together, or none if one of them is not there.
pub(crate) fn together(per: &[Per], facts: &Facts, config: &Config) -> Option<Vec<String>> {
    per.iter().map(|per| per.of(facts, config)).collect()
}
