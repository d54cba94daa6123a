//! The connection, the envelope and the content, as the host shows them.
//!
//! In a component these are handles of the host; elsewhere the ones of [`test`](mod@crate::test),
//! with the same methods. What is written here is on top of both.

use std::net::IpAddr;

#[cfg(not(target_family = "wasm"))]
pub use crate::test::{Content, Session, Transaction};
#[cfg(target_family = "wasm")]
pub use crate::wit::imports::gatepost::policy::message::{Content, Session, Transaction};

use crate::SessionInfo;

impl SessionInfo {
    /// The address of the client.
    ///
    /// ```
    /// let session = gatepost_plugin::test::Session::from("192.0.2.1");
    /// assert_eq!(session.info().client_address().to_string(), "192.0.2.1");
    /// ```
    pub fn client_address(&self) -> IpAddr {
        self.client.ip.parse().expect("the host writes addresses in canonical form")
    }

    /// True for mail from somebody we know: an authenticated client, one of our own listeners for
    /// submission, or the host itself.
    pub fn is_ours(&self) -> bool {
        self.auth.is_some()
            || matches!(
                self.origin.as_str(),
                "submission" | "submissions" | "local" | "notice" | "plugin"
            )
    }
}
