//! One component that exports every stage and does at each what its configuration says: `act.rcpt = "spin"`. What it
//! has to tell it tells as the reason of its decision.

wit_bindgen::generate!({ path: "../../wit", world: "plugin", generate_all });

mod acts;
mod hostile;

use acts::{Asked, act};
use exports::gatepost::policy::{
    configure, on_connect, on_data, on_helo, on_mail, on_outcome, on_rcpt, on_route,
};
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
