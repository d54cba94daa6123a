//! Everything about one message in one call.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::join;
use message::{Header, Octets};
use net::{Kind, Resolver};
use smtp::ReversePath;

use crate::limits::Limits;
use crate::outcome::{Authentication, Dkim, Iprev, IprevResult, Spf, SpfIdentity, SpfResult};
use crate::{arc, dkim, dmarc, name, spf};

/// Verifies messages. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Verifier {
    resolver: Resolver,
    options: Options,
}

/// How messages are verified.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Bounds.
    pub limits: Limits,
    /// How the organization of a domain is found.
    pub discovery: Discovery,
    /// Let a signature with `l=`, to whose body anybody could add, speak for the author in DMARC.
    pub partial_bodies: bool,
}

/// How DMARC finds the organization of a domain, and with it the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discovery {
    /// By walking up the DNS tree (RFC 9989 §4.10).
    #[default]
    TreeWalk,
    /// By the Public Suffix List (RFC 7489 §3.2).
    PublicSuffixList,
}

/// What the session knows.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Address of the client.
    pub client: IpAddr,
    /// What the client called itself.
    pub helo: &'a str,
    /// The argument of MAIL.
    pub reverse_path: &'a ReversePath,
    /// Our host name.
    pub receiver: &'a str,
    /// The time of the verification.
    pub now: SystemTime,
}

impl Verifier {
    /// Verifies with what this resolver says.
    pub fn new(resolver: Resolver, options: Options) -> Self {
        Self { resolver, options }
    }

    /// Whether the name of an address leads back to it (RFC 8601 §3).
    pub async fn iprev(&self, address: IpAddr) -> Iprev {
        let found = self.resolver.names_of(address).await;
        let (result, names) = match found {
            Ok(names) if !names.is_empty() => (IprevResult::Pass, names),
            // RFC 8601 §2.7.3: "permerror" is for an address without any name.
            Ok(_) => match self.resolver.lookup(&name::reverse(address), Kind::Ptr).await {
                Ok(answer) if answer.records.is_empty() => (IprevResult::PermError, Vec::new()),
                Ok(_) => (IprevResult::Fail, Vec::new()),
                Err(_) => (IprevResult::TempError, Vec::new()),
            },
            Err(_) => (IprevResult::TempError, Vec::new()),
        };
        Iprev { result, address, names }
    }

    /// Whether the client may use its HELO name (RFC 7208 §2.3).
    pub async fn spf_of_helo(&self, facts: &Facts<'_>) -> Spf {
        self.spf(facts, SpfIdentity::Helo, "postmaster", facts.helo).await
    }

    /// Whether the client may use the reverse-path (RFC 7208 §2.4).
    pub async fn spf_of_mail_from(&self, facts: &Facts<'_>) -> Spf {
        match facts.reverse_path.mailbox() {
            None => self.spf(facts, SpfIdentity::MailFrom, "postmaster", facts.helo).await,
            Some(mailbox) => {
                let domain = mailbox.domain().map(|domain| domain.to_ascii()).unwrap_or_default();
                let local_part = mailbox.local_part().as_str();
                self.spf(facts, SpfIdentity::MailFrom, local_part, &domain).await
            }
        }
    }

    /// The signatures of a message (RFC 6376 §6).
    pub async fn dkim(
        &self,
        header: &Header,
        content: &Arc<dyn Octets>,
        now: SystemTime,
    ) -> Vec<Dkim> {
        dkim::verify(&self.resolver, &self.options.limits, header, content, now).await
    }

    /// Everything about a message. `content` is all of it, its header included.
    pub async fn verify(
        &self,
        facts: &Facts<'_>,
        header: &Header,
        content: &Arc<dyn Octets>,
    ) -> Authentication {
        let limits = &self.options.limits;
        let (iprev, helo, mail_from, dkim, arc) = join!(
            self.iprev(facts.client),
            self.spf_of_helo(facts),
            self.spf_of_mail_from(facts),
            self.dkim(header, content, facts.now),
            arc::verify(&self.resolver, limits, header, content, facts.now),
        );
        let evidence = dmarc::Evidence::new(&mail_from, &dkim, self.options.partial_bodies);
        let dmarc =
            dmarc::of_message(&self.resolver, limits, self.options.discovery, header, &evidence)
                .await;
        Authentication { iprev, helo, mail_from, dkim, arc, dmarc }
    }

    async fn spf(
        &self,
        facts: &Facts<'_>,
        identity: SpfIdentity,
        local_part: &str,
        domain: &str,
    ) -> Spf {
        // RFC 7208 §4.3: what is no domain name, as an address literal, has no policy.
        let Some(domain) = name::canonical(domain) else {
            return Spf::new(identity, String::new(), SpfResult::None);
        };
        let question = spf::Question {
            client: facts.client.to_canonical(),
            local_part,
            domain: &domain,
            helo: facts.helo,
            receiver: facts.receiver,
            now: facts.now,
        };
        let answer = spf::check(&self.resolver, &self.options.limits, &question).await;
        Spf {
            result: answer.result,
            identity,
            explanation: answer.explanation,
            problem: answer.problem,
            domain,
        }
    }
}
