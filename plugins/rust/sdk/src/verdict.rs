//! What a plugin can decide at each stage, and what stages have in common.
//!
//! Each stage has a verdict type of its own, so that an impossible verdict does not compile.
//! [`Decision`](crate::Decision) makes them; the traits here say which constructor fits which stage. All of them at work:
//!
//! ```
//! use std::time::Duration;
//!
//! use gatepost_plugin::*;
//!
//! let reply = || Reply::new(550, "5.7.1", "Not here");
//! let later = || Reply::new(451, "4.7.1", "Try again later");
//! let minute = Duration::from_secs(60);
//!
//! let connect: [Decision<ConnectVerdict>; 5] =
//!     [Decision::next(), Decision::accept(), Decision::reject(reply()), Decision::defer(None), Decision::hang_up()];
//! let helo: [Decision<HeloVerdict>; 3] =
//!     [Decision::reject(None), Decision::defer(later()), Decision::disconnect(None)];
//! let auth: [Decision<AuthVerdict>; 2] = [Decision::success("alice"), Decision::reject(None)];
//! let mail: [Decision<MailVerdict>; 2] = [Decision::next(), Decision::disconnect(later())];
//! let rcpt: [Decision<RcptVerdict>; 2] = [Decision::reject(reply()), Decision::discard()];
//! let data: [Decision<DataVerdict>; 3] = [
//!     Decision::quarantine("suspicious"),
//!     Decision::discard(),
//!     Decision::each([("bob@example.org", RecipientVerdict::Accept)]),
//! ];
//! let route: [Decision<RouteVerdict>; 4] = [
//!     Decision::to("smtp:[192.0.2.1]:25"),
//!     Decision::hold("suspicious"),
//!     Decision::wait(minute, None),
//!     Decision::fail(reply()),
//! ];
//! let deliver: [Decision<DeliverVerdict>; 3] = [
//!     Decision::file("Lists/wasm"),
//!     Decision::file(Place::folder("Junk").seen()),
//!     Decision::redirect(["carol@example.net"]),
//! ];
//! let outcome: [Decision<OutcomeVerdict>; 2] = [Decision::retry_in(minute), Decision::suppress_notice()];
//! let dsn: [Decision<DsnVerdict>; 2] =
//!     [Decision::suppress(), Decision::send(NoticeChanges::nothing().text("Ask the help desk."))];
//! assert_eq!(rcpt[0].verdict(), &RcptVerdict::Reject(Some(reply())));
//! assert_eq!(deliver[0].verdict(), &DeliverVerdict::File(Place::folder("Lists/wasm")));
//! ```

use std::time::Duration;

pub use crate::wit::{
    on_auth::Verdict as AuthVerdict, on_connect::Verdict as ConnectVerdict,
    on_data::Verdict as DataVerdict, on_deliver::Verdict as DeliverVerdict,
    on_dsn::Verdict as DsnVerdict, on_helo::Verdict as HeloVerdict,
    on_mail::Verdict as MailVerdict, on_outcome::Verdict as OutcomeVerdict,
    on_rcpt::Verdict as RcptVerdict, on_route::Verdict as RouteVerdict,
};
use crate::{NoticeChanges, Place, Reply};

impl Place {
    /// This folder of the mailbox: `Junk`, `Lists/wasm`; empty for the inbox.
    pub fn folder(folder: impl Into<String>) -> Self {
        Self { folder: folder.into(), is_seen: false, is_flagged: false }
    }

    /// As if it had been read.
    #[must_use]
    pub fn seen(self) -> Self {
        Self { is_seen: true, ..self }
    }

    /// Marked.
    #[must_use]
    pub fn flagged(self) -> Self {
        Self { is_flagged: true, ..self }
    }
}

impl From<&str> for Place {
    fn from(folder: &str) -> Self {
        Self::folder(folder)
    }
}

impl From<String> for Place {
    fn from(folder: String) -> Self {
        Self::folder(folder)
    }
}

impl NoticeChanges {
    /// None yet.
    pub fn nothing() -> Self {
        Self { to: None, returned: None, text: None }
    }

    /// Tell somebody else. Grant: edit "recipients".
    #[must_use]
    pub fn to(self, address: impl Into<String>) -> Self {
        Self { to: Some(address.into()), ..self }
    }

    /// How much of the message goes back: `full`, `header`, `none`.
    #[must_use]
    pub fn returned(self, part: impl Into<String>) -> Self {
        Self { returned: Some(part.into()), ..self }
    }

    /// Words above those of the host; 4,000 octets at most.
    #[must_use]
    pub fn text(self, text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..self }
    }
}

/// The verdict of any stage.
pub trait Verdict: Sized {
    /// No opinion: the next plugin is asked, and the host's own rules after the last.
    const NEXT: Self;
}

/// A stage at which a plugin can keep the later ones from being asked.
pub trait Accept: Verdict {
    /// Ends this stage as if nobody had an opinion; later plugins are not asked.
    const ACCEPT: Self;
}

/// A stage that can be refused and put off.
pub trait Refuse: Verdict {
    /// Refuses for good, with 5yz.
    fn reject(reply: Option<Reply>) -> Self;
    /// Refuses for now, with 4yz.
    fn defer(reply: Option<Reply>) -> Self;
}

/// A stage at which the connection can be ended with a reply.
pub trait Disconnect: Verdict {
    /// Replies (421 if nothing is given), then closes the connection.
    fn disconnect(reply: Option<Reply>) -> Self;
}

/// A stage at which mail can vanish without a word.
pub trait Discard: Verdict {
    /// Forgets the recipient, the message or the copy.
    const DISCARD: Self;
}

/// A stage behind the queue: what lies there can be held.
pub trait Hold: Verdict {
    /// Holds under this name until an administrator releases it.
    fn hold(name: String) -> Self;
}

/// A stage at which a copy can be put off until a later question.
pub trait Wait: Verdict {
    /// The question comes again after this time.
    fn wait(time: Duration, reply: Option<Reply>) -> Self;
}

/// A stage at which a copy can be given up.
pub trait Fail: Verdict {
    /// Gives up; the sender is told.
    fn fail(reply: Option<Reply>) -> Self;
}

macro_rules! verdicts {
    ($($verdict:ty: $($ability:ident)*;)*) => {$(
        impl Verdict for $verdict {
            const NEXT: Self = Self::Next;
        }
        $(verdicts!(@ $ability $verdict);)*
    )*};
    (@ Accept $verdict:ty) => {
        impl Accept for $verdict {
            const ACCEPT: Self = Self::Accept;
        }
    };
    (@ Refuse $verdict:ty) => {
        impl Refuse for $verdict {
            fn reject(reply: Option<Reply>) -> Self {
                Self::Reject(reply)
            }
            fn defer(reply: Option<Reply>) -> Self {
                Self::Defer(reply)
            }
        }
    };
    (@ Disconnect $verdict:ty) => {
        impl Disconnect for $verdict {
            fn disconnect(reply: Option<Reply>) -> Self {
                Self::Disconnect(reply)
            }
        }
    };
    (@ Discard $verdict:ty) => {
        impl Discard for $verdict {
            const DISCARD: Self = Self::Discard;
        }
    };
    (@ Hold $verdict:ty) => {
        impl Hold for $verdict {
            fn hold(name: String) -> Self {
                Self::Hold(name)
            }
        }
    };
    (@ Fail $verdict:ty) => {
        impl Fail for $verdict {
            fn fail(reply: Option<Reply>) -> Self {
                Self::Fail(reply)
            }
        }
    };
}

verdicts! {
    ConnectVerdict: Accept Refuse;
    HeloVerdict: Accept Refuse Disconnect;
    AuthVerdict: Refuse Disconnect;
    MailVerdict: Accept Refuse Disconnect;
    RcptVerdict: Accept Refuse Disconnect Discard;
    DataVerdict: Accept Refuse Disconnect Discard;
    RouteVerdict: Discard Hold Fail;
    DeliverVerdict: Accept Discard Hold;
    OutcomeVerdict: Hold Fail;
    DsnVerdict: Accept;
}

impl Wait for RouteVerdict {
    fn wait(time: Duration, reply: Option<Reply>) -> Self {
        Self::Defer(crate::wit::on_route::Waiting { seconds: seconds(time), reply })
    }
}

impl Wait for DeliverVerdict {
    fn wait(time: Duration, reply: Option<Reply>) -> Self {
        Self::Defer(crate::wit::on_deliver::Waiting { seconds: seconds(time), reply })
    }
}

impl Fail for DeliverVerdict {
    fn fail(reply: Option<Reply>) -> Self {
        Self::Reject(reply)
    }
}

/// Whole seconds as the host takes them; what is longer than 136 years is cut.
pub(crate) fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}
