//! Who may log in: users with argon2 hashes in PHC form.

use std::collections::HashMap;

use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHashString, SaltString};
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// The users of a server and how many of their passwords are checked at once.
#[derive(Debug)]
pub struct Credentials {
    users: HashMap<String, PasswordHashString>,
    /// Verified when there is no such user, so that the answer takes the same time.
    stand_in: PasswordHashString,
    hashes: Semaphore,
}

/// A user's hash that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "the password hash of «{user}» is no argon2 hash in PHC form ($argon2id$v=19$m=…): {source}"
)]
pub struct CredentialError {
    /// Whose it is.
    pub user: String,
    /// What is wrong with it.
    pub source: argon2::password_hash::Error,
}

/// What came of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Login {
    Right,
    Wrong,
    /// The check itself failed; the user may be right.
    Failed,
}

impl Credentials {
    /// Users and their hashes. A name is compared without regard to the case of ASCII letters.
    pub fn new(users: impl IntoIterator<Item = (String, String)>) -> Result<Self, CredentialError> {
        let users: HashMap<_, _> = users
            .into_iter()
            .map(|(user, hash)| Ok((key(&user), parse(user, &hash)?)))
            .collect::<Result<_, _>>()?;
        // The parameters of a real user, because they decide how long a check takes.
        let stand_in = users.values().next().cloned().unwrap_or_else(stand_in);
        Ok(Self { users, stand_in, hashes: Semaphore::new(CONCURRENT_HASHES) })
    }

    /// True when nobody can log in.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Makes a hash for a configuration file, with a fresh salt and the crate's parameters (19 MiB, 2 passes:
    /// RFC 9106 §4 for little memory, as OWASP recommends it).
    pub fn hash(password: &str) -> Result<String, argon2::password_hash::Error> {
        let salt = SaltString::generate(&mut OsRng);
        Ok(Argon2::default().hash_password(password.as_bytes(), &salt)?.to_string())
    }

    /// Checks a password on a thread where it may take its time.
    pub(crate) async fn verify(&self, user: &str, password: String) -> Login {
        let known = self.users.get(&key(user));
        let hash = known.unwrap_or(&self.stand_in).clone();
        let Ok(_permit) = self.hashes.acquire().await else { return Login::Failed };
        let matches = spawn_blocking(move || {
            Argon2::default().verify_password(password.as_bytes(), &hash.password_hash()).is_ok()
        });
        match (matches.await, known) {
            (Ok(true), Some(_)) => Login::Right,
            (Ok(_), _) => Login::Wrong,
            (Err(_), _) => Login::Failed,
        }
    }
}

fn key(user: &str) -> String {
    user.to_ascii_lowercase()
}

fn parse(user: String, hash: &str) -> Result<PasswordHashString, CredentialError> {
    use argon2::password_hash::Error;
    match PasswordHashString::new(hash) {
        Ok(hash)
            if hash.algorithm().as_str().starts_with("argon2")
                && hash.password_hash().hash.is_some() =>
        {
            Ok(hash)
        }
        Ok(_) => Err(CredentialError { user, source: Error::Algorithm }),
        Err(source) => Err(CredentialError { user, source }),
    }
}

fn stand_in() -> PasswordHashString {
    let salt = SaltString::from_b64("bm9ib2R5IGlzIGhlcmU").expect("the salt is base64");
    Argon2::default()
        .hash_password(b"nobody", &salt)
        .expect("default parameters are valid")
        .serialize()
}

/// Hashes at once: two on our smallest machine's two cores, 19 MiB each. A flood of logins waits and cannot take the memory.
const CONCURRENT_HASHES: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(user: &str, password: &str, expected: Login) {
        let hash = Credentials::hash("correct horse").unwrap();
        let credentials = Credentials::new([("alice@example.test".to_owned(), hash)]).unwrap();
        assert_eq!(
            credentials.verify(user, password.to_owned()).await,
            expected,
            "{user} {password}"
        );
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_is_right() {
        check("alice@example.test", "correct horse", Login::Right).await;
        check("Alice@Example.TEST", "correct horse", Login::Right).await;
        check("alice@example.test", "Correct horse", Login::Wrong).await;
        check("alice@example.test", "", Login::Wrong).await;
        check("bob@example.test", "correct horse", Login::Wrong).await;
        check("", "", Login::Wrong).await;
    }

    #[tokio::test]
    async fn nobody_logs_in_where_there_are_no_users() {
        let credentials = Credentials::new([]).unwrap();
        assert!(credentials.is_empty());
        assert_eq!(credentials.verify("nobody", "nobody".to_owned()).await, Login::Wrong);
    }

    #[test]
    fn a_hash_that_cannot_be_checked_is_refused_at_the_start() {
        for hash in [
            "",
            "secret",
            "$2b$12$abcdefghijklmnopqrstuv",
            "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5",
        ] {
            let error = Credentials::new([("bob".to_owned(), hash.to_owned())]).expect_err(hash);
            assert!(error.to_string().contains("bob"), "{error}");
        }
    }
}
