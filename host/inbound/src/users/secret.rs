//! What a password is checked against: argon2, and what other servers leave behind.

use std::str::FromStr;

use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHashString, SaltString};
use argon2::{Argon2, PasswordHasher, PasswordVerifier};

/// A hash of a password.
#[derive(Clone, Debug)]
pub struct Secret(Scheme);

#[derive(Clone, Debug)]
enum Scheme {
    /// RFC 9106, in PHC form. What we make ourselves.
    Argon2(PasswordHashString),
    /// `$2a$`, `$2b$`, `$2y$`: bcrypt.
    Bcrypt(String),
    /// `$6$`: SHA-512 crypt, as in /etc/shadow.
    Sha512Crypt { salt: String, rounds: usize, hash: String },
}

/// A hash that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no hash that can be checked: argon2 ($argon2id$v=19$m=…), bcrypt ($2b$…) and \
     sha512-crypt ($6$…) can; `gatepost user hash` makes one"
)]
pub struct SecretError;

impl Secret {
    /// Makes a hash with a fresh salt and the crate's parameters (19 MiB, 2 passes: RFC 9106 §4 for
    /// little memory, as OWASP recommends it).
    ///
    /// # Errors
    /// A password that is too long for argon2 (4 GiB).
    pub fn hash(password: &str) -> Result<String, SecretError> {
        let salt = SaltString::generate(&mut OsRng);
        let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
        Ok(hash.map_err(|_| SecretError)?.to_string())
    }

    /// What nobody's password matches, at the price of a real check. Making it costs nothing: a server starts with it.
    pub(super) fn nobody() -> Self {
        Self(Scheme::Argon2(PasswordHashString::new(NOBODY).expect("it is a hash")))
    }

    /// Takes as long as the scheme wants, which is some tens of milliseconds.
    pub(super) fn matches(&self, password: &str) -> bool {
        match &self.0 {
            Scheme::Argon2(hash) => Argon2::default()
                .verify_password(password.as_bytes(), &hash.password_hash())
                .is_ok(),
            Scheme::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Scheme::Sha512Crypt { salt, rounds, hash } => {
                sha512_crypt(password, salt, *rounds).is_some_and(|other| is_equal(&other, hash))
            }
        }
    }
}

impl FromStr for Secret {
    type Err = SecretError;

    /// The forms of crypt(5), also with the scheme in braces before it, as Dovecot writes them.
    fn from_str(text: &str) -> Result<Self, SecretError> {
        let text = match text.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            Some((_, hash)) => hash,
            None => text,
        };
        if text.starts_with("$argon2") {
            let hash = PasswordHashString::new(text).map_err(|_| SecretError)?;
            let is_whole = hash.password_hash().hash.is_some();
            return if is_whole { Ok(Self(Scheme::Argon2(hash))) } else { Err(SecretError) };
        }
        if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
            text.parse::<bcrypt::HashParts>().map_err(|_| SecretError)?;
            return Ok(Self(Scheme::Bcrypt(text.to_owned())));
        }
        sha512_parts(text).map(Self).ok_or(SecretError)
    }
}

/// The hash of no known password, with the parameters of [`Secret::hash`].
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGlzIGhlcmU$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// ```text
/// $6$[rounds=N$]SALT$HASH
/// ```
fn sha512_parts(text: &str) -> Option<Scheme> {
    let parts: Vec<&str> = text.strip_prefix("$6$")?.split('$').collect();
    let (rounds, salt, hash) = match parts.as_slice() {
        [salt, hash] => (DEFAULT_ROUNDS, salt, hash),
        [rounds, salt, hash] => (rounds.strip_prefix("rounds=")?.parse().ok()?, salt, hash),
        _ => return None,
    };
    let (salt, hash) = ((*salt).to_owned(), (*hash).to_owned());
    (hash.len() == 86).then_some(Scheme::Sha512Crypt { salt, rounds, hash })
}

fn sha512_crypt(password: &str, salt: &str, rounds: usize) -> Option<String> {
    let parameters = sha_crypt::Sha512Params::new(rounds).ok()?;
    sha_crypt::sha512_crypt_b64(password.as_bytes(), salt.as_bytes(), &parameters).ok()
}

/// In a time that does not tell where they differ.
fn is_equal(one: &str, other: &str) -> bool {
    let differences = one.bytes().zip(other.bytes()).fold(0, |found, (a, b)| found | (a ^ b));
    one.len() == other.len() && differences == 0
}

/// U. Drepper, "Unix crypt using SHA-256 and SHA-512".
const DEFAULT_ROUNDS: usize = 5000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_takes_its_password_and_no_other() {
        let argon2 = Secret::hash("correct horse").unwrap();
        let sha512 = sha512_crypt("correct horse", "saltsalt", 6000).unwrap();
        let sha512 = format!("$6$rounds=6000$saltsalt${sha512}");
        let bcrypt = bcrypt::hash("correct horse", 5).unwrap();
        for hash in [argon2, sha512, bcrypt.clone(), format!("{{BLF-CRYPT}}{bcrypt}")] {
            let secret: Secret = hash.parse().unwrap();
            assert!(secret.matches("correct horse"), "{hash}");
            assert!(!secret.matches("Correct horse"), "{hash}");
            assert!(!secret.matches(""), "{hash}");
        }
    }

    #[test]
    fn nobody_is_checked_as_long_as_a_user() {
        let price = |hash: &str| hash.split('$').take(4).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(price(NOBODY), price(&Secret::hash("x").unwrap()));
        assert!(!Secret::nobody().matches("nobody"));
    }

    #[test]
    fn what_other_programs_made_is_read() {
        // By crypt(3) of glibc; the first example of U. Drepper's text.
        let hash = "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1";
        let secret: Secret = hash.parse().unwrap();
        assert!(secret.matches("Hello world!"));
        // The crypt_blowfish test "U*U".
        let hash = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        assert!(hash.parse::<Secret>().unwrap().matches("U*U"));
    }

    #[test]
    fn a_hash_that_cannot_be_checked_is_refused_at_the_start() {
        for hash in [
            "",
            "secret",
            "$2b$12$abcdefghijklmnopqrstuv",
            "$6$salt$short",
            "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5",
            "{PLAIN}secret",
        ] {
            assert_eq!(hash.parse::<Secret>().err(), Some(SecretError), "{hash}");
        }
    }
}
