//! What plugins say about a notification: the stage `dsn` before it is made, and `mail`, `rcpt` and `data` about the message
//! that it becomes, with the origin "notice".

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use message::{Edit, Header, Id};
use policy::{ContentView, NoticeVerdict, Origin, RecipientVerdict, SessionFacts, Stage, Verdict};
use queue::{Notice, NoticeKind, RecipientState};
use smtp::{MailParameters, Recipient, ReversePath};

use crate::{House, report, router};

/// The stage `dsn`.
pub(crate) async fn judge(house: &House, notice: &Notice, kind: &'static str) -> NoticeVerdict {
    let chain = house.rooms.policy.as_ref().map(|host| host.current());
    let asked = chain.and_then(|chain| router::ask_at(&chain, Stage::Dsn, &notice.message));
    let Some(mut asked) = asked else { return NoticeVerdict::Next };
    let recipients = notice.recipients.iter();
    let about = policy::Notice {
        kind,
        to: notice.message.reverse_path.to_string(),
        recipients: recipients
            .map(|one| (one.index, action(&one.state, notice.kind), one.last.clone()))
            .collect(),
    };
    let (verdict, trace) = asked.notice(about).await;
    if let Some(journal) = &house.rooms.journal
        && !trace.is_empty()
    {
        let fate = match &verdict {
            NoticeVerdict::Next => "next",
            NoticeVerdict::Send { .. } => "changed",
            NoticeVerdict::Suppress => "suppressed",
        };
        let told: Vec<_> = notice.recipients.iter().collect();
        let note = report::Note { kind: "dsn", fate, reply: None, peer: None };
        journal.record(report::entry(&notice.message, &told, note, trace));
    }
    verdict
}

/// RFC 3464 §2.3.3.
fn action(state: &RecipientState, kind: NoticeKind) -> &'static str {
    match (state, kind) {
        (RecipientState::Delivered, _) => "delivered",
        (RecipientState::Relayed { .. }, _) => "relayed",
        (RecipientState::Expanded, _) => "expanded",
        (RecipientState::Pending | RecipientState::Held(_), NoticeKind::Delay) => "delayed",
        _ => "failed",
    }
}

/// What the stages made of the message.
pub(crate) enum Passed {
    /// It goes out, changed or not; held under a name, if there is one.
    Send { edits: Vec<Edit>, transaction: Box<policy::Transaction>, hold: Option<String> },
    /// It is forgotten.
    Forget,
}

/// The stages `mail`, `rcpt` and `data` about a notification.
pub(crate) async fn pass(
    house: &House,
    id: Id,
    parameters: MailParameters,
    recipient: Recipient,
    text: &Bytes,
) -> Passed {
    let mut transaction = policy::Transaction::new(id, ReversePath::Null, parameters);
    let chain = house.rooms.policy.as_ref().map(|host| host.current());
    let stages = [Stage::Mail, Stage::Rcpt, Stage::Data];
    let Some(chain) = chain.filter(|chain| stages.iter().any(|stage| chain.asks(*stage))) else {
        transaction.recipients.push(recipient.into());
        return Passed::Send { edits: Vec::new(), transaction: Box::new(transaction), hold: None };
    };
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let facts = SessionFacts {
        id,
        listener: Origin::Notice.name().to_owned(),
        origin: Origin::Notice,
        client: nowhere,
        server: nowhere,
    };
    let mut session = policy::Session::new(chain, facts);
    let mut verdict = session.mail(&mut transaction).await.verdict;
    if verdict == Verdict::Pass {
        verdict = session.rcpt(&mut transaction, recipient).await.verdict;
    }
    if verdict == Verdict::Pass {
        let view = ContentView::new(Header::parse(text.clone()), Arc::new(text.clone()));
        verdict = session.data(&mut transaction, Arc::new(view)).await.verdict;
    }
    let one = transaction.recipients.iter().find_map(|recipient| recipient.verdict.clone());
    let hold = match (verdict, one) {
        (Verdict::Quarantine(name), _)
        | (Verdict::Pass, Some(RecipientVerdict::Quarantine(name))) => Some(name),
        (Verdict::Pass, None | Some(RecipientVerdict::Accept)) => None,
        (verdict, _) => {
            // Nobody is left who could be told that he was not told.
            tracing::warn!(message = %id, ?verdict, "a notification was refused by policy and is forgotten");
            return Passed::Forget;
        }
    };
    if transaction.recipients.is_empty() {
        return Passed::Forget;
    }
    let edits = std::mem::take(&mut transaction.edits);
    Passed::Send { edits, transaction: Box::new(transaction), hold }
}
