//! One component that exports every stage and does at each what its configuration says: `act.rcpt = "spin"`. What it
//! has to tell it tells as the reason of its decision.
//!
//! `released/` builds the same source against the frozen contract of 0.1.0.

#[cfg(not(feature = "released"))]
wit_bindgen::generate!({ path: "../../wit", world: "plugin", generate_all });
#[cfg(feature = "released")]
wit_bindgen::generate!({ path: "../../../wit/released/0.1.0", world: "plugin", generate_all });

mod acts;
mod hostile;

use acts::{Asked, act};
use exports::gatepost::policy::{
    configure, on_auth, on_connect, on_data, on_deliver, on_disconnect, on_dsn, on_helo, on_mail,
    on_outcome, on_rcpt, on_route,
};
use gatepost::policy::log;
use gatepost::policy::message::{Content, Session, Transaction};
use gatepost::policy::types::{Recipient, Reply};

struct Guest;

/// What an act answers with; each stage makes its own verdict of it.
#[derive(Default)]
pub struct Said {
    pub verdict: String,
    pub reply: Option<Reply>,
    pub reason: Option<String>,
}

macro_rules! decision {
    ($stage:ident, $said:expr, $($name:literal => $verdict:expr),+) => {{
        let said = $said;
        let reply = said.reply;
        let _ = &reply;
        let verdict = match said.verdict.as_str() {
            $($name => $verdict(reply),)+
            "accept" => $stage::Verdict::Accept,
            _ => $stage::Verdict::Next,
        };
        $stage::Decision { verdict, reason: said.reason, rule: Some(String::from("test")) }
    }};
}

impl configure::Guest for Guest {
    fn configure() -> Result<configure::Registration, String> {
        let said = act("configure", &Asked::default());
        if said.verdict == "reject" {
            return Err("the configuration is not to my taste".into());
        }
        Ok(configure::Registration {
            name: "guest".into(),
            version: "0.1.0".into(),
            description: "Misbehaves on demand".into(),
        })
    }
}

impl on_connect::Guest for Guest {
    fn connect(session: &Session) -> on_connect::Decision {
        let said = act("connect", &Asked { session: Some(session), ..Asked::default() });
        decision!(on_connect, said,
            "reject" => on_connect::Verdict::Reject,
            "defer" => on_connect::Verdict::Defer,
            "drop" => |_| on_connect::Verdict::Drop)
    }
}

impl on_helo::Guest for Guest {
    fn helo(session: &Session, _: String) -> on_helo::Decision {
        let said = act("helo", &Asked { session: Some(session), ..Asked::default() });
        decision!(on_helo, said,
            "reject" => on_helo::Verdict::Reject,
            "defer" => on_helo::Verdict::Defer,
            "disconnect" => on_helo::Verdict::Disconnect)
    }
}

impl on_auth::Guest for Guest {
    fn auth(session: &Session, credentials: on_auth::Credentials) -> on_auth::Decision {
        let said = act("auth", &Asked { session: Some(session), ..Asked::default() });
        let verdict = match said.verdict.as_str() {
            "success" => on_auth::Verdict::Success(format!("plugin:{}", credentials.identity)),
            // The one right password.
            "check" if credentials.password.as_deref() == Some("open sesame") => {
                on_auth::Verdict::Success(credentials.identity)
            }
            "check" | "reject" => on_auth::Verdict::Reject(said.reply),
            "defer" => on_auth::Verdict::Defer(said.reply),
            "disconnect" => on_auth::Verdict::Disconnect(said.reply),
            _ => on_auth::Verdict::Next,
        };
        let reason = said.reason.or(Some(format!("{:?}", credentials.password)));
        on_auth::Decision { verdict, reason, rule: None }
    }
}

impl on_mail::Guest for Guest {
    fn mail(session: &Session, transaction: &Transaction) -> on_mail::Decision {
        let asked = Asked { session: Some(session), transaction: Some(transaction), ..Asked::default() };
        decision!(on_mail, act("mail", &asked),
            "reject" => on_mail::Verdict::Reject,
            "defer" => on_mail::Verdict::Defer,
            "disconnect" => on_mail::Verdict::Disconnect)
    }
}

impl on_rcpt::Guest for Guest {
    fn rcpt(session: &Session, transaction: &Transaction, recipient: Recipient) -> on_rcpt::Decision {
        let asked = Asked {
            session: Some(session),
            transaction: Some(transaction),
            recipient: Some(&recipient),
            content: None,
        };
        decision!(on_rcpt, act("rcpt", &asked),
            "reject" => on_rcpt::Verdict::Reject,
            "defer" => on_rcpt::Verdict::Defer,
            "disconnect" => on_rcpt::Verdict::Disconnect,
            "discard" => |_| on_rcpt::Verdict::Discard)
    }
}

impl on_data::Guest for Guest {
    fn data(session: &Session, transaction: &Transaction, content: &Content) -> on_data::Decision {
        let asked = Asked {
            session: Some(session),
            transaction: Some(transaction),
            content: Some(content),
            recipient: None,
        };
        decision!(on_data, act("data", &asked),
            "reject" => on_data::Verdict::Reject,
            "defer" => on_data::Verdict::Defer,
            "disconnect" => on_data::Verdict::Disconnect,
            "discard" => |_| on_data::Verdict::Discard,
            "quarantine" => |_| on_data::Verdict::Quarantine("suspects".into()),
            "each" => |_| on_data::Verdict::Each(acts::each(transaction)),
            "quarantine-badly" => |_| on_data::Verdict::Quarantine("a\r\nb".into()))
    }
}

impl on_route::Guest for Guest {
    fn route(transaction: &Transaction, recipient: Recipient) -> on_route::Decision {
        let asked =
            Asked { transaction: Some(transaction), recipient: Some(&recipient), ..Asked::default() };
        let said = act("route", &asked);
        let verdict = match said.verdict.as_str() {
            "to" => on_route::Verdict::To("smtp:[192.0.2.1]:25".into()),
            "to-nowhere" => on_route::Verdict::To("nowhere at all".into()),
            "hold" => on_route::Verdict::Hold("suspects".into()),
            "defer" => on_route::Verdict::Defer(on_route::Waiting { seconds: 60, reply: said.reply }),
            "fail" => on_route::Verdict::Fail(said.reply),
            "discard" => on_route::Verdict::Discard,
            _ => on_route::Verdict::Next,
        };
        on_route::Decision { verdict, reason: said.reason, rule: None }
    }
}

impl on_deliver::Guest for Guest {
    fn deliver(
        transaction: &Transaction,
        recipient: Recipient,
        content: &Content,
    ) -> on_deliver::Decision {
        let asked = Asked {
            transaction: Some(transaction),
            recipient: Some(&recipient),
            content: Some(content),
            session: None,
        };
        let said = act("deliver", &asked);
        let place = |folder: &str, is_seen| {
            on_deliver::Verdict::File(on_deliver::Place { folder: folder.into(), is_seen, is_flagged: is_seen })
        };
        let verdict = match said.verdict.as_str() {
            "accept" => on_deliver::Verdict::Accept,
            "file" => place("Lists/wasm", false),
            "file-seen" => place("Junk", true),
            "file-badly" => place("../../etc", false),
            "redirect" => on_deliver::Verdict::Redirect(vec!["carol@example.org".into()]),
            "reject" => on_deliver::Verdict::Reject(said.reply),
            "defer" => on_deliver::Verdict::Defer(on_deliver::Waiting { seconds: 60, reply: said.reply }),
            "discard" => on_deliver::Verdict::Discard,
            "hold" => on_deliver::Verdict::Hold("suspects".into()),
            _ => on_deliver::Verdict::Next,
        };
        on_deliver::Decision { verdict, reason: said.reason, rule: None }
    }
}

impl on_dsn::Guest for Guest {
    fn dsn(transaction: &Transaction, notice: on_dsn::Notice) -> on_dsn::Decision {
        let said = act("dsn", &Asked { transaction: Some(transaction), ..Asked::default() });
        let verdict = match said.verdict.as_str() {
            "accept" => on_dsn::Verdict::Accept,
            "suppress" => on_dsn::Verdict::Suppress,
            "send" => on_dsn::Verdict::Send(on_dsn::Changes {
                to: Some("postmaster@example.org".into()),
                returned: Some("none".into()),
                text: Some("Ask the help desk.".into()),
            }),
            _ => on_dsn::Verdict::Next,
        };
        let told = notice.recipients.iter().map(|one| {
            let code = one.reply.as_ref().map_or(0, |reply| reply.code);
            format!("{} {} {code}", one.recipient.address, one.action)
        });
        let told: Vec<String> = told.collect();
        let reason = format!("{} to {}: {}", notice.kind, notice.to, told.join(", "));
        on_dsn::Decision { verdict, reason: Some(said.reason.unwrap_or(reason)), rule: None }
    }
}

impl on_disconnect::Guest for Guest {
    fn disconnect(session: &Session, how: String) {
        act("disconnect", &Asked { session: Some(session), ..Asked::default() });
        log::write(log::Level::Info, &format!("disconnect: {how}"), &[]);
    }
}

impl on_outcome::Guest for Guest {
    fn outcome(
        transaction: &Transaction,
        recipient: Recipient,
        _: String,
        _: on_outcome::AttemptResult,
    ) -> on_outcome::Decision {
        let asked =
            Asked { transaction: Some(transaction), recipient: Some(&recipient), ..Asked::default() };
        let said = act("outcome", &asked);
        let verdict = match said.verdict.as_str() {
            "retry" => on_outcome::Verdict::RetryIn(30),
            "fail" => on_outcome::Verdict::Fail(said.reply),
            "hold" => on_outcome::Verdict::Hold("suspects".into()),
            "suppress" => on_outcome::Verdict::SuppressNotice,
            _ => on_outcome::Verdict::Next,
        };
        on_outcome::Decision { verdict, reason: said.reason, rule: None }
    }
}

export!(Guest);
