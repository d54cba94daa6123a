//! Who may log in, and which addresses are theirs.

mod dovecot;
mod secret;
mod throttle;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use argon2::password_hash::rand_core::{OsRng, RngCore};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use smtp::sasl::ScramVerifier;
use smtp::{Domain, LocalDomains, Mailbox};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

pub use self::secret::{Secret, SecretError};
pub use self::throttle::LoginLimits;
pub(crate) use self::throttle::Throttle;

/// One who may log in.
#[derive(Clone, Debug)]
pub struct User {
    /// The name to log in with, compared without regard to the case of ASCII letters.
    pub name: String,
    /// What the password is checked against.
    pub password: Secret,
    /// What SCRAM is held with; none: this user logs in with the password only.
    pub scram: Option<ScramVerifier>,
    /// Addresses that this user may send as besides its own.
    pub may_send_as: Vec<SendAs>,
}

/// Addresses that a user may send as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendAs {
    /// `*`
    Everybody,
    /// `@example.org`: everybody of one domain.
    Domain(Domain),
    /// One address.
    Address(Mailbox),
}

impl FromStr for SendAs {
    type Err = smtp::AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix('@') {
            Some(domain) => domain.parse().map(Self::Domain),
            None if text == "*" => Ok(Self::Everybody),
            None => Mailbox::parse(text).map(Self::Address),
        }
    }
}

impl SendAs {
    fn covers(&self, mailbox: &Mailbox) -> bool {
        match self {
            Self::Everybody => true,
            Self::Domain(domain) => {
                mailbox.domain().is_some_and(|other| other.to_ascii() == domain.to_ascii())
            }
            Self::Address(address) => is_same(address, mailbox),
        }
    }
}

/// All users of a server.
pub struct Users {
    users: HashMap<String, User>,
    /// What users log in with. Who is none is answered as one of them would be, always the same one for a name, so that
    /// neither time nor SCRAM tells who is there.
    models: Vec<Secret>,
    /// The same for SCRAM.
    scram_models: Vec<ScramVerifier>,
    /// What stand-ins of SCRAM are derived from.
    secret: [u8; 32],
    /// A Dovecot that knows users, too: its auth-client socket.
    dovecot: Option<PathBuf>,
    /// Passwords that are checked at once.
    checks: Semaphore,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("users", &self.users.len()).finish_non_exhaustive()
    }
}

/// What came of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Login {
    Right,
    Wrong,
    /// The check itself failed; the user may be right.
    Failed,
}

impl Users {
    /// `dovecot` is the auth-client socket of a Dovecot that is asked about those who are not among
    /// `users`. `secret` makes unknown users look like known ones to SCRAM; it stays the same over
    /// restarts, or the difference could be seen.
    pub fn new(
        users: impl IntoIterator<Item = User>,
        dovecot: Option<PathBuf>,
        secret: [u8; 32],
    ) -> Self {
        let users: HashMap<_, _> = users.into_iter().map(|user| (key(&user.name), user)).collect();
        // Real users, because scheme and parameters decide how long a check takes.
        let mut sorted: Vec<(&String, &User)> = users.iter().collect();
        sorted.sort_by_key(|(name, _)| *name);
        let mut models: Vec<_> = sorted.iter().map(|(_, user)| user.password.clone()).collect();
        if models.is_empty() {
            models.push(Secret::nobody());
        }
        let scram_models = sorted.iter().filter_map(|(_, user)| user.scram.clone()).collect();
        let checks = Semaphore::new(CONCURRENT_CHECKS);
        Self { users, models, scram_models, secret, dovecot, checks }
    }

    /// A secret for [`Users::new`].
    pub fn new_secret() -> [u8; 32] {
        let mut secret = [0; 32];
        OsRng.fill_bytes(&mut secret);
        secret
    }

    /// True when nobody can log in.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.dovecot.is_none()
    }

    /// True when somebody can log in by SCRAM.
    pub fn knows_scram(&self) -> bool {
        !self.scram_models.is_empty()
    }

    /// What the exchange of SCRAM is held with, whether there is such a user or not.
    pub(crate) fn verifier(&self, user: &str) -> ScramVerifier {
        let stand_in = ScramVerifier::stand_in(&self.secret, &key(user));
        let stand_in = match self.scram_models.as_slice() {
            [] => stand_in,
            models => stand_in.like(&models[self.place_of(user, models.len())]),
        };
        // It is made for known users, too, or they would be known by a quicker answer.
        let stand_in = std::hint::black_box(stand_in);
        self.users.get(&key(user)).and_then(|user| user.scram.clone()).unwrap_or(stand_in)
    }

    /// A number below `count`, always the same for a name and not to be foreseen.
    fn place_of(&self, user: &str, count: usize) -> usize {
        let place = ScramVerifier::stand_in(&self.secret, &format!("{} place", key(user)));
        place.number() as usize % count.max(1)
    }

    /// Checks a password. Beside a Dovecot, which takes its time with failures, each failure has been both here and
    /// there: so nobody learns by the clock who is known where.
    pub(crate) async fn verify(&self, user: &str, password: String) -> Login {
        let Some(socket) = &self.dovecot else { return self.verify_here(user, password).await };
        if self.users.contains_key(&key(user)) {
            let login = self.verify_here(user, password).await;
            if login == Login::Wrong {
                // It is asked about nobody; a password that is almost right is not its affair.
                let _ = dovecot::verify(socket, &nonce(), &nonce()).await;
            }
            return login;
        }
        if !self.users.is_empty() {
            let _ = self.verify_here(user, password.clone()).await;
        }
        dovecot::verify(socket, user, &password).await
    }

    /// Our own users, on a thread where it may take its time.
    async fn verify_here(&self, user: &str, password: String) -> Login {
        let known = self.users.get(&key(user));
        let model = || &self.models[self.place_of(user, self.models.len())];
        let secret = known.map_or_else(model, |user| &user.password).clone();
        let Ok(_permit) = self.checks.acquire().await else { return Login::Failed };
        match (spawn_blocking(move || secret.matches(&password)).await, known) {
            (Ok(true), Some(_)) => Login::Right,
            (Ok(_), _) => Login::Wrong,
            (Err(_), _) => Login::Failed,
        }
    }

    /// Whether a user may send as `address`: it is the user's own, an alias or a subaddress of it,
    /// or one that the configuration gives away (RFC 6409 §6.1).
    pub(crate) fn may_send_as(&self, user: &str, address: &Mailbox, local: &LocalDomains) -> bool {
        let extra = self.users.get(&key(user)).map(|user| user.may_send_as.as_slice());
        if extra.unwrap_or_default().iter().any(|pattern| pattern.covers(address)) {
            return true;
        }
        match Mailbox::parse(user) {
            Ok(own) => {
                is_same(&own, address)
                    || local.owners(address).iter().any(|owner| is_same(owner, &own))
            }
            // One who logs in by the local part alone has it in every domain here.
            Err(_) => {
                let is_own = |owner: &Mailbox| key(owner.local_part().as_str()) == key(user);
                local.owners(address).iter().any(is_own)
            }
        }
    }
}

/// For an exchange of SCRAM: 24 printable octets that nobody can guess.
pub(crate) fn nonce() -> String {
    let mut octets = [0; 18];
    OsRng.fill_bytes(&mut octets);
    STANDARD.encode(octets)
}

fn is_same(one: &Mailbox, other: &Mailbox) -> bool {
    let domain = |mailbox: &Mailbox| mailbox.domain().map(|domain| domain.to_ascii().into_owned());
    key(one.local_part().as_str()) == key(other.local_part().as_str())
        && domain(one) == domain(other)
}

fn key(user: &str) -> String {
    user.to_ascii_lowercase()
}

/// Checks at once: two on our smallest machine's two cores, 19 MiB each. A flood of logins waits
/// and can't take the memory.
const CONCURRENT_CHECKS: usize = 2;

#[cfg(test)]
mod tests;
