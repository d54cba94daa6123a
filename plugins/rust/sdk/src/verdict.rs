//! What a plugin can decide at each stage, and what stages have in common.
//!
//! Each stage has a verdict type of its own, so that an impossible verdict does not compile.
//! [`Decision`](crate::Decision) makes them; the traits here say which constructor fits which stage.

use std::time::Duration;

use crate::Reply;
pub use crate::wit::{
    on_connect::Verdict as ConnectVerdict, on_data::Verdict as DataVerdict,
    on_helo::Verdict as HeloVerdict, on_mail::Verdict as MailVerdict,
    on_outcome::Verdict as OutcomeVerdict, on_rcpt::Verdict as RcptVerdict,
    on_route::Verdict as RouteVerdict,
};

/// The verdict of any stage.
pub trait Verdict: Sized {
    /// No opinion: the next plugin is asked, and the host's own rules after the last.
    const NEXT: Self;
}

/// A stage of the SMTP session: it can be passed, refused and put off.
pub trait Refuse: Verdict {
    /// Ends this stage in favour of the client; later plugins are not asked.
    const ACCEPT: Self;
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

/// A stage behind the queue: what lies there can be held or given up.
pub trait Queued: Verdict {
    /// Holds under this name until an administrator releases it.
    fn hold(name: String) -> Self;
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
    (@ Refuse $verdict:ty) => {
        impl Refuse for $verdict {
            const ACCEPT: Self = Self::Accept;
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
    (@ Queued $verdict:ty) => {
        impl Queued for $verdict {
            fn hold(name: String) -> Self {
                Self::Hold(name)
            }
            fn fail(reply: Option<Reply>) -> Self {
                Self::Fail(reply)
            }
        }
    };
}

verdicts! {
    ConnectVerdict: Refuse;
    HeloVerdict: Refuse Disconnect;
    MailVerdict: Refuse Disconnect;
    RcptVerdict: Refuse Disconnect Discard;
    DataVerdict: Refuse Disconnect Discard;
    RouteVerdict: Discard Queued;
    OutcomeVerdict: Queued;
}

/// Whole seconds as the host takes them; what is longer than 136 years is cut.
pub(crate) fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}
