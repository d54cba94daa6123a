//! Services over HTTP, and short ways to the records that go there.

use std::time::Duration;

use super::Services;
use crate::{Content, HostError, NewRecipient, Request, Response};

/// Services over HTTP: only hosts that the configuration names, and none in a private network unless it names that, too.
///
/// ```
/// use gatepost_plugin::{Request, test::World};
///
/// let world = World::new().responds("https://scan.example.net/check", 200, "clean");
/// let request = Request::post("https://scan.example.net/check", "a message").header("accept", "text/plain");
/// let response = world.host().http().send(&request)?;
/// assert_eq!((response.status, response.text().as_str()), (200, "clean"));
/// # Ok::<(), gatepost_plugin::HostError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Http<'a> {
    pub(super) services: &'a Services,
}

impl Http<'_> {
    /// Sends a request and waits for the whole answer. A redirect comes back as it is.
    pub fn send(&self, request: &Request) -> Result<Response, HostError> {
        self.services.http_send(request)
    }

    /// The same, with the content of the message behind the body. It does not pass through the plugin.
    pub fn send_content(
        &self,
        request: &Request,
        content: &Content,
    ) -> Result<Response, HostError> {
        self.services.http_send_content(request, content)
    }
}

impl Request {
    /// A request without a body.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url, Vec::new())
    }

    /// A request with a body.
    pub fn post(url: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self::new("POST", url, body)
    }

    /// A request with a method of your choice.
    pub fn new(method: &str, url: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self {
            method: method.to_owned(),
            url: url.into(),
            headers: Vec::new(),
            body: body.into(),
            timeout_milliseconds: None,
        }
    }

    /// One more header field.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// How long all of it may take.
    #[must_use]
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout_milliseconds = Some(u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
        self
    }
}

impl Response {
    /// The value of the first header field of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text, with invalid UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl NewRecipient {
    /// An address, and nothing asked for. In the place of another recipient it keeps what that one has.
    pub fn to(address: impl Into<String>) -> Self {
        Self { address: address.into(), notify: None, original_recipient: None }
    }

    /// When the sender is told (RFC 3461 §4.1): `NEVER`, or some of `SUCCESS,FAILURE,DELAY`.
    #[must_use]
    pub fn notify(mut self, notify: impl Into<String>) -> Self {
        self.notify = Some(notify.into());
        self
    }
}
