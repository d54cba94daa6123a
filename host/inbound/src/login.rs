//! AUTH: who too often was wrong is not looked at, then policy is asked, then our own users.

use policy::{AuthInfo, AuthVerdict};
use smtp::Reply;
use smtp::server::{Answer, Credentials, Proof};
use tokio::time::Instant;
use tracing::info;

use crate::answer::wait;
use crate::refusal;
use crate::session::Session;
use crate::users::{self, Login};

impl Session {
    /// SCRAM: what is kept of the user, or what looks like it.
    pub(crate) fn verifier(&self, identity: &str) -> Answer {
        let verifier = Box::new(self.directory.users.verifier(identity));
        Answer::Verifier { verifier, nonce: users::nonce() }
    }

    /// AUTH: policy, and if it has no opinion, the users of the configuration.
    pub(crate) async fn auth(&mut self, credentials: Credentials) -> Answer {
        // A password that is tried now may be the right one and is refused all the same.
        let identity = &credentials.identity;
        if !self.house.logins.allows(self.peer.ip(), identity, Instant::now()) {
            return self.refuse_login(&credentials, None, refusal::too_many_failed_logins()).await;
        }
        // Whoever could not show the password is nobody's user.
        if credentials.proof == Proof::Wrong {
            return self.check_login(credentials).await;
        }
        let password = match &credentials.proof {
            Proof::Password(password) => Some(password.clone()),
            Proof::Shown | Proof::Wrong => None,
        };
        let login = policy::Login {
            mechanism: credentials.mechanism.to_string(),
            identity: identity.clone(),
            authorization: credentials.authorization.clone(),
            password,
        };
        let ruling = self.policy.auth(login).await;
        wait(ruling.delay).await;
        let plugin = ruling.plugin.as_deref();
        match ruling.verdict {
            AuthVerdict::Next => self.check_login(credentials).await,
            AuthVerdict::Success(identity) => {
                match self.log_in(identity, credentials.mechanism.to_string(), plugin) {
                    Ok(()) => Answer::Proceed,
                    Err(reply) => Answer::Refuse(reply),
                }
            }
            AuthVerdict::Refuse(reply) => {
                self.note_failure(&credentials.identity);
                self.refuse_login(&credentials, plugin, reply).await
            }
            AuthVerdict::Disconnect(reply) => {
                self.note_failure(&credentials.identity);
                Answer::Disconnect(reply)
            }
        }
    }

    /// Our own users.
    async fn check_login(&mut self, credentials: Credentials) -> Answer {
        let Credentials { mechanism, authorization, identity, proof } = &credentials;
        let login = match proof {
            Proof::Password(password) => {
                self.directory.users.verify(identity, password.clone()).await
            }
            Proof::Shown => Login::Right,
            Proof::Wrong => Login::Wrong,
        };
        let reply = match login {
            // RFC 4616 §2: an empty authorization identity is that of the one who logs in.
            Login::Right
                if authorization.is_empty() || authorization.eq_ignore_ascii_case(identity) =>
            {
                return match self.log_in(identity.clone(), mechanism.to_string(), None) {
                    Ok(()) => Answer::Proceed,
                    Err(reply) => Answer::Refuse(reply),
                };
            }
            Login::Right => refusal::wrong_authorization(),
            Login::Wrong => {
                self.note_failure(identity);
                refusal::wrong_password()
            }
            Login::Failed => refusal::login_failed(),
        };
        self.refuse_login(&credentials, None, reply).await
    }

    /// The door may be shut for one who is logged in too often already.
    fn log_in(
        &mut self,
        identity: String,
        mechanism: String,
        plugin: Option<&str>,
    ) -> Result<(), Reply> {
        let most = self.house.config.limits.door.sessions_per_user;
        let Some(permit) = self.house.door.begin_session(&identity, most) else {
            info!(identity, mechanism, plugin, "login refused: too many sessions of this user");
            return Err(refusal::too_many_sessions_of_user());
        };
        self.user_permit = Some(permit);
        info!(identity, mechanism, plugin, "logged in");
        self.policy.set_auth(AuthInfo { mechanism, identity: identity.clone() });
        self.login = Some(identity);
        Ok(())
    }

    fn note_failure(&self, identity: &str) {
        self.house.logins.note_failure(self.peer.ip(), identity, Instant::now());
    }

    async fn refuse_login(
        &mut self,
        credentials: &Credentials,
        plugin: Option<&str>,
        reply: Reply,
    ) -> Answer {
        let Credentials { mechanism, identity, .. } = credentials;
        info!(identity, %mechanism, plugin, reply = reply.to_string(), "login refused");
        // Somebody may be guessing.
        self.wrong_passwords += 1;
        if self.wrong_passwords >= WRONG_PASSWORDS_WITHOUT_PAUSE {
            tokio::time::sleep(self.house.config.limits.wrong_password).await;
        }
        Answer::Refuse(reply)
    }
}

/// Two typing errors cost nothing.
const WRONG_PASSWORDS_WITHOUT_PAUSE: u32 = 3;
