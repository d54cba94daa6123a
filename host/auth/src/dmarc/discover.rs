//! Where the policy for a domain is, and which organization the domain belongs to.

use net::{DnsError, Kind, Record as DnsRecord, Resolver};

use super::public_suffix;
use super::record::{Alignment, Psd, Record};
use crate::name;
use crate::outcome::DmarcPolicy;
use crate::verify::Discovery;

/// A policy that was found.
#[derive(Clone, Debug)]
pub(super) struct Discovered {
    pub(super) record: Record,
    pub(super) policy_domain: String,
    pub(super) organizational_domain: String,
    /// What applies to the author.
    pub(super) policy: DmarcPolicy,
}

/// Looks records up, in one of the two ways.
pub(crate) struct Walker<'a> {
    resolver: &'a Resolver,
    discovery: Discovery,
}

/// What stands at `_dmarc.` of a domain.
enum Published {
    Nothing,
    /// RFC 9989 §4.10: several records are as good as none.
    Several,
    One(Box<Record>),
}

impl<'a> Walker<'a> {
    pub(crate) fn new(resolver: &'a Resolver, discovery: Discovery) -> Self {
        Self { resolver, discovery }
    }

    /// The policy for an author (RFC 9989 §4.10.1, RFC 7489 §6.6.3).
    pub(super) async fn discover(&self, author: &str) -> Result<Option<Discovered>, DnsError> {
        let own = self.published(author).await?;
        // An owner who says two things has said nothing, also not what the domain above says.
        if matches!(own, Published::Several) {
            return Ok(None);
        }
        let (records, organizational_domain) = match self.discovery {
            Discovery::TreeWalk => {
                let records = self.walk(author, own).await?;
                let organization = organization(author, &records);
                (records, organization)
            }
            Discovery::PublicSuffixList => {
                let organization = public_suffix::organizational_domain(author);
                let mut records = Vec::new();
                if let Published::One(record) = own {
                    records.push((author.to_owned(), *record));
                } else if organization != author
                    && let Published::One(record) = self.published(&organization).await?
                {
                    records.push((organization.clone(), *record));
                }
                (records, organization)
            }
        };
        let at = |domain: &str| records.iter().find(|(name, _)| name == domain);
        // RFC 9989 §4.10.1: the author's own, else the organization's, else that of the public suffix above.
        let chosen = at(author)
            .or_else(|| at(&organizational_domain))
            .or_else(|| records.last().filter(|(_, record)| record.psd == Psd::Yes));
        let Some((policy_domain, record)) = chosen.cloned() else { return Ok(None) };
        let policy = if policy_domain == author {
            record.policy
        } else {
            record.policy_below(self.exists(author, &record).await?)
        };
        let policy = record.tempered(policy);
        Ok(Some(Discovered { record, policy_domain, organizational_domain, policy }))
    }

    /// Whether a domain is close enough to the author's (RFC 9989 §4.4).
    pub(crate) async fn aligns(
        &self,
        domain: &str,
        author: &str,
        organization: &str,
        alignment: Alignment,
    ) -> Result<bool, DnsError> {
        if domain == author {
            return Ok(true);
        }
        // A domain outside the organization cannot belong to it: no lookup for strangers.
        if alignment == Alignment::Strict || !name::is_within(domain, organization) {
            return Ok(false);
        }
        let found = match self.discovery {
            Discovery::PublicSuffixList => public_suffix::organizational_domain(domain),
            Discovery::TreeWalk => {
                let own = self.published(domain).await?;
                self::organization(domain, &self.walk(domain, own).await?)
            }
        };
        Ok(found == organization)
    }

    /// The DNS tree walk (RFC 9989 §4.10): eight queries at most, from the name towards the root.
    async fn walk(&self, start: &str, own: Published) -> Result<Vec<(String, Record)>, DnsError> {
        let mut found = Vec::new();
        let mut name = start;
        let mut published = own;
        loop {
            if let Published::One(record) = published {
                let ends = record.psd != Psd::Unknown;
                found.push((name.to_owned(), *record));
                if ends {
                    return Ok(found);
                }
            }
            match above(name) {
                Some(next) => name = next,
                None => return Ok(found),
            }
            published = self.published(name).await?;
        }
    }

    async fn published(&self, domain: &str) -> Result<Published, DnsError> {
        let answer = self.resolver.lookup(&format!("_dmarc.{domain}"), Kind::Txt).await;
        let answer = match answer {
            Ok(answer) => answer,
            // The name with "_dmarc." is too long to be one.
            Err(DnsError::Invalid(_)) => return Ok(Published::Nothing),
            Err(error) => return Err(error),
        };
        let mut texts = answer.records.iter().filter_map(|record| match record {
            DnsRecord::Txt(text) if Record::is_dmarc(text) => Some(text),
            _ => None,
        });
        Ok(match (texts.next(), texts.next()) {
            (Some(_), Some(_)) => Published::Several,
            (Some(text), None) => Record::parse(text)
                .map_or(Published::Nothing, |record| Published::One(Box::new(record))),
            (None, _) => Published::Nothing,
        })
    }

    /// Whether the author's domain exists, where that makes a difference (RFC 9989 §3.2.13: NXDOMAIN, for any type).
    async fn exists(&self, author: &str, record: &Record) -> Result<bool, DnsError> {
        if record.policy_below(true) == record.policy_below(false) {
            return Ok(true);
        }
        Ok(!self.resolver.lookup(author, Kind::A).await?.nxdomain)
    }
}

/// The next name of the walk. RFC 9989 §4.10: from eight labels or more down to seven at once.
fn above(name: &str) -> Option<&str> {
    let labels = name.split('.').count();
    let skip = if labels >= 8 { labels - 7 } else { 1 };
    (0..skip).try_fold(name, |name, _| name::parent(name))
}

/// The organization of a domain, of the records that its walk found (RFC 9989 §4.10.2).
fn organization(start: &str, records: &[(String, Record)]) -> String {
    for (domain, record) in records {
        match record.psd {
            Psd::No => return domain.clone(),
            // One label below the public suffix.
            Psd::Yes if domain != start => {
                let front = start.strip_suffix(domain.as_str()).unwrap_or_default();
                let label = front.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
                return format!("{label}.{domain}");
            }
            Psd::Yes | Psd::Unknown => {}
        }
    }
    records.last().map_or_else(|| start.to_owned(), |(domain, _)| domain.clone())
}
