//! Why a plugin could not do its work.

use std::fmt;

use crate::HostError;

/// Why a plugin could not do its work: a sentence for the administrator.
///
/// From [`Plugin::configure`](crate::Plugin::configure) it keeps this version of the plugin from
/// going live. From a stage it makes the call fail: nothing that was staged takes effect, and what
/// the administrator chose as `on-error` for this plugin is done in place of a verdict. So `?` on a
/// call of the host is right wherever the plugin has no better answer of its own.
///
/// ```
/// use gatepost_plugin::{Error, HostError};
///
/// assert_eq!(Error::from("`delay` is negative").to_string(), "`delay` is negative");
/// assert_eq!(Error::from(HostError::Denied("kv".into())).to_string(), "the host does not grant kv");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    /// An error with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<String> for Error {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Error {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<HostError> for Error {
    fn from(error: HostError) -> Self {
        Self(match error {
            HostError::Denied(grant) => ["the host does not grant ", &grant].concat(),
            HostError::Quota(quota) => ["a quota of the host is used up: ", &quota].concat(),
            HostError::Invalid(what) => ["the host finds this invalid: ", &what].concat(),
            HostError::Unavailable(why) => ["not available at present: ", &why].concat(),
            HostError::Timeout => "the time for the call to the host is over".to_owned(),
            HostError::Other(what) => what,
        })
    }
}
