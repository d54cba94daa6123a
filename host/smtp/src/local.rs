//! Which domains are ours, and who lives there. Pure data; the daemon makes it from the
//! configuration.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use crate::address::{Domain, ForwardPath, Host, LocalPart, Mailbox};
use crate::route::{LmtpAddress, Route};

/// All local domains. Finds out whether a forward-path ends here.
#[derive(Clone, Debug, Default)]
pub struct LocalDomains {
    domains: Vec<LocalDomain>,
    /// By A-labels, so that it does not matter how an address writes the domain.
    by_name: HashMap<String, usize>,
}

/// One domain whose mail is delivered here.
#[derive(Clone, Debug)]
pub struct LocalDomain {
    /// Its name.
    pub name: Domain,
    /// The local parts that have a mailbox. Compared without regard to case.
    pub users: BTreeSet<String>,
    /// Who gets what is for nobody.
    pub catch_all: Option<Mailbox>,
    /// Local parts that stand for other mailboxes, here or elsewhere. Compared without regard to
    /// case.
    pub aliases: BTreeMap<String, Vec<Mailbox>>,
    /// Local parts whose mail goes to the members of a list. Compared without regard to case.
    pub lists: BTreeMap<String, MailingList>,
    /// Where its mailboxes are.
    pub delivery: LocalDelivery,
    /// How much its mailboxes hold.
    pub quota: Quota,
    /// The character that separates a user from a detail: with `+`, `alice+list` is delivered to
    /// `alice` (RFC 5233).
    pub subaddress: Option<char>,
}

/// Members of a list (RFC 5321 §3.9.2). In contrast to an alias, the mail to them has the owner as its reverse-path: who
/// wrote to a list is not told which of its members cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailingList {
    /// Who is told what cannot be delivered.
    pub owner: Mailbox,
    /// Who gets its mail.
    pub members: Vec<Mailbox>,
}

/// How much the mailboxes of a domain hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Octets of each mailbox; `None`: as much as the disk.
    pub octets: Option<u64>,
    /// Octets of single ones, by their users. Compared without regard to case.
    pub of_users: BTreeMap<String, u64>,
    /// What becomes of mail to a full mailbox.
    pub when_full: WhenFull,
}

/// What becomes of mail to a full mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// It waits: 452 4.2.2.
    #[default]
    Defer,
    /// It is refused: 552 5.2.2.
    Refuse,
}

/// Where the mailboxes of a domain are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalDelivery {
    /// Each user has a Maildir.
    Maildir {
        /// The path of one, with `{domain}` and `{user}` in it.
        template: String,
    },
    /// An LMTP server has them.
    Lmtp(LmtpAddress),
}

/// What a forward-path is to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// A mailbox here.
    Local {
        /// The address as it was given, with the detail; `postmaster` has got its domain.
        mailbox: Mailbox,
        /// Where the mailbox is.
        route: Route,
    },
    /// An alias or a catch-all: these instead. They are to be resolved in their turn; the caller
    /// stops loops.
    Expanded(Vec<Mailbox>),
    /// A local domain, but nobody of this name.
    Unknown,
    /// Not ours.
    Remote(Host),
}

impl LocalDomains {
    /// The first domain is the one that `postmaster` without a domain belongs to.
    pub fn new(domains: Vec<LocalDomain>) -> Self {
        let mut domains = domains;
        for domain in &mut domains {
            domain.users = domain.users.iter().map(|user| fold(user)).collect();
            domain.aliases = std::mem::take(&mut domain.aliases)
                .into_iter()
                .map(|(alias, to)| (fold(&alias), to))
                .collect();
            domain.lists = std::mem::take(&mut domain.lists)
                .into_iter()
                .map(|(name, list)| (fold(&name), list))
                .collect();
            domain.quota.of_users = std::mem::take(&mut domain.quota.of_users)
                .into_iter()
                .map(|(user, octets)| (fold(&user), octets))
                .collect();
        }
        let by_name = (domains.iter().enumerate())
            .map(|(index, domain)| (domain.name.to_ascii().into_owned(), index))
            .collect();
        Self { domains, by_name }
    }

    /// The domains, in order.
    pub fn domains(&self) -> &[LocalDomain] {
        &self.domains
    }

    /// Whether mail for this domain ends here.
    pub fn contains(&self, domain: &Domain) -> bool {
        self.by_name.contains_key(domain.to_ascii().as_ref())
    }

    /// What the forward-path is to us.
    pub fn resolve(&self, path: &ForwardPath) -> Resolution {
        match path {
            ForwardPath::Mailbox(mailbox) => self.resolve_mailbox(mailbox),
            // RFC 5321 §4.5.1: postmaster without a domain is always accepted.
            ForwardPath::Postmaster => match (self.domains.first(), LocalPart::new(POSTMASTER)) {
                (Some(domain), Ok(postmaster)) => {
                    domain.resolve(&Mailbox::new(postmaster, Host::Domain(domain.name.clone())))
                }
                _ => Resolution::Unknown,
            },
        }
    }

    /// What the mailbox is to us.
    pub fn resolve_mailbox(&self, mailbox: &Mailbox) -> Resolution {
        let local =
            mailbox.domain().and_then(|domain| self.by_name.get(domain.to_ascii().as_ref()));
        match local {
            Some(index) => self.domains[*index].resolve(mailbox),
            None => Resolution::Remote(mailbox.host().clone()),
        }
    }

    /// The list that has this address.
    pub fn list(&self, mailbox: &Mailbox) -> Option<&MailingList> {
        let domain = self.domain_of(mailbox)?;
        domain.names(mailbox).iter().find_map(|name| domain.lists.get(name))
    }

    /// How much the mailbox holds that this address is delivered to, and what happens when it is full.
    pub fn quota(&self, mailbox: &Mailbox) -> Option<(u64, WhenFull)> {
        let domain = self.domain_of(mailbox)?;
        let own = domain
            .names(mailbox)
            .into_iter()
            .find_map(|name| domain.quota.of_users.get(&name).copied());
        Some((own.or(domain.quota.octets)?, domain.quota.when_full))
    }

    fn domain_of(&self, mailbox: &Mailbox) -> Option<&LocalDomain> {
        let index = self.by_name.get(mailbox.domain()?.to_ascii().as_ref())?;
        self.domains.get(*index)
    }

    /// The mailboxes here that an address stands for, without details: itself, or where its aliases
    /// end. A catch-all makes nobody the owner of an address.
    pub fn owners(&self, mailbox: &Mailbox) -> Vec<Mailbox> {
        let mut owners = Vec::new();
        let mut open = vec![mailbox.clone()];
        // Aliases may lead in a circle; who is met once is not followed again.
        let mut met = BTreeSet::new();
        while let Some(mailbox) = open.pop() {
            let Some(domain) = self.domain_of(&mailbox) else { continue };
            if met.len() >= MOST_ALIASES || !met.insert(fold(&mailbox.to_string())) {
                continue;
            }
            match domain.owner(&mailbox) {
                Some(Ok(user)) => owners.extend(
                    LocalPart::new(user)
                        .map(|user| Mailbox::new(user, Host::Domain(domain.name.clone()))),
                ),
                Some(Err(aliases)) => open.extend(aliases.iter().cloned()),
                None => {}
            }
        }
        owners
    }
}

impl LocalDomain {
    /// The user whose mailbox this is, or the aliases it stands for.
    fn owner(&self, mailbox: &Mailbox) -> Option<Result<&str, &[Mailbox]>> {
        self.names(mailbox).iter().find_map(|name| {
            let alias = self.aliases.get(name).map(|mailboxes| Err(mailboxes.as_slice()));
            let list = || self.lists.get(name).map(|list| Err(std::slice::from_ref(&list.owner)));
            alias.or_else(list).or_else(|| self.users.get(name).map(|user| Ok(user.as_str())))
        })
    }

    /// What an address is called in the tables: the whole local part, and what stands before the detail.
    fn names(&self, mailbox: &Mailbox) -> Vec<String> {
        let whole = fold(mailbox.local_part().as_str());
        let base = self.subaddress.and_then(|separator| whole.split_once(separator));
        let base = base.map(|(base, _)| base.to_owned()).filter(|base| !base.is_empty());
        std::iter::once(whole).chain(base).collect()
    }

    fn resolve(&self, mailbox: &Mailbox) -> Resolution {
        for name in self.names(mailbox) {
            if let Some(mailboxes) = self.aliases.get(&name) {
                return Resolution::Expanded(mailboxes.clone());
            }
            if self.lists.contains_key(&name) {
                let route = Route::List(mailbox.clone());
                return Resolution::Local { mailbox: mailbox.clone(), route };
            }
            // RFC 5321 §4.5.1: postmaster is known in every domain, in any case.
            if self.users.contains(&name) || name == POSTMASTER {
                return Resolution::Local { mailbox: mailbox.clone(), route: self.route(&name) };
            }
        }
        self.catch_all
            .as_ref()
            .map_or(Resolution::Unknown, |other| Resolution::Expanded(vec![other.clone()]))
    }

    /// `user` is one of `users` or the postmaster: never a text that the network chose.
    fn route(&self, user: &str) -> Route {
        match &self.delivery {
            LocalDelivery::Lmtp(address) => Route::Lmtp(address.clone()),
            LocalDelivery::Maildir { template } => Route::Maildir(PathBuf::from(
                template.replace("{domain}", &self.name.to_ascii()).replace("{user}", user),
            )),
        }
    }
}

// RFC 5321 §2.4: only the host that is responsible may read the local part; this one does not care
// for case.
fn fold(local_part: &str) -> String {
    local_part.to_lowercase()
}

const POSTMASTER: &str = "postmaster";
/// As many aliases as one address may lead to, over all their levels.
const MOST_ALIASES: usize = 1000;
