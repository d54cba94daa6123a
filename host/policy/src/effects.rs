//! Grants bound what a plugin brings about, not only what it may call: mail that vanishes, that is held back or that goes
//! elsewhere by a verdict needs the same word of the administrator as by an edit.
//!
//! What is refused to the client (`reject`, `defer`, `disconnect`) and what lets the mail go on needs none: the client is
//! told, and nothing is changed.

use crate::answer::Answer;
use crate::bindings::stages::on_data::{ForRecipient, RecipientVerdict};
use crate::config::{EditGrant, Grants};

/// Why this answer has an effect that was not granted, if that is so.
pub(crate) fn not_granted(answer: &Answer, grants: &Grants) -> Option<String> {
    needed(answer).into_iter().find(|grant| !grants.edit.contains(grant)).map(|grant| {
        format!("not granted: the verdict {} needs edit {:?}", answer.name(), grant.name())
    })
}

/// What an answer needs to be granted.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "all other answers have no effect but their reply"
)]
fn needed(answer: &Answer) -> Vec<EditGrant> {
    vec![match answer {
        // Nobody hears of it any more.
        Answer::Discard | Answer::SuppressNotice | Answer::Suppress => EditGrant::Discard,
        // The client was told that the message is accepted.
        Answer::Quarantine(_) | Answer::Hold(_) => EditGrant::Hold,
        Answer::To(_) => EditGrant::Route,
        // It goes to somebody else.
        Answer::Redirect(_) => EditGrant::Recipients,
        Answer::Send(changes) if changes.to.is_some() => EditGrant::Recipients,
        Answer::Each(each) => return each.iter().filter_map(needed_for_one).collect(),
        _ => return Vec::new(),
    }]
}

/// The same for one recipient.
fn needed_for_one(one: &ForRecipient) -> Option<EditGrant> {
    match one.verdict {
        RecipientVerdict::Discard => Some(EditGrant::Discard),
        RecipientVerdict::Quarantine(_) => Some(EditGrant::Hold),
        RecipientVerdict::Accept | RecipientVerdict::Reject(_) | RecipientVerdict::Defer(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(answer: &Answer, grant: Option<EditGrant>) {
        let mut grants = Grants::default();
        let refused = not_granted(answer, &grants);
        assert_eq!(refused.is_some(), grant.is_some(), "{answer:?}: {refused:?}");
        if let Some(grant) = grant {
            assert!(refused.unwrap_or_default().contains(grant.name()));
            grants.edit = EditGrant::ALL.into_iter().filter(|other| *other != grant).collect();
            assert!(not_granted(answer, &grants).is_some(), "{answer:?}: no other grant is enough");
            grants.edit = [grant].into_iter().collect();
            assert_eq!(not_granted(answer, &grants), None);
        }
    }

    #[test]
    fn verdicts_with_effects_need_grants() {
        check(&Answer::Next, None);
        check(&Answer::Accept, None);
        check(&Answer::Reject(None), None);
        check(&Answer::Defer(None), None);
        check(&Answer::Disconnect(None), None);
        check(&Answer::Drop, None);
        check(&Answer::Discard, Some(EditGrant::Discard));
        check(&Answer::SuppressNotice, Some(EditGrant::Discard));
        check(&Answer::Quarantine("q".into()), Some(EditGrant::Hold));
        check(&Answer::Hold("q".into()), Some(EditGrant::Hold));
        check(&Answer::To("mx:example.net".into()), Some(EditGrant::Route));
        check(&Answer::Suppress, Some(EditGrant::Discard));
        check(&Answer::Redirect(vec!["a@example.net".into()]), Some(EditGrant::Recipients));
        let each =
            |verdict| Answer::Each(vec![ForRecipient { address: "a@example.net".into(), verdict }]);
        check(&each(RecipientVerdict::Accept), None);
        check(&each(RecipientVerdict::Reject(None)), None);
        check(&each(RecipientVerdict::Discard), Some(EditGrant::Discard));
        check(&each(RecipientVerdict::Quarantine("q".into())), Some(EditGrant::Hold));
    }
}
