//! Verdicts about single recipients at the end of data: which reply each gets over LMTP, and which one all get over SMTP.
//! The rule stands in `wit/README.md`.

use policy::{PolicyRecipient, RecipientVerdict, Verdict};
use smtp::{ForwardPath, Reply};

/// What the stage `data` decided about every recipient.
pub(crate) struct Fates(Vec<(ForwardPath, RecipientVerdict)>);

/// What becomes of the whole message.
pub(crate) enum Folded {
    /// Nothing is stored: this is the reply.
    Refuse(Reply),
    /// It is taken, for those who did not refuse it.
    Take,
}

impl Fates {
    /// None if no recipient has a verdict of its own: then the verdict of the stage is all there is.
    pub(crate) fn of(recipients: &[PolicyRecipient], stage: &Verdict) -> Option<Self> {
        if recipients.iter().all(|recipient| recipient.verdict.is_none()) {
            return None;
        }
        let others = match stage {
            Verdict::Pass => RecipientVerdict::Accept,
            Verdict::Refuse(reply) => RecipientVerdict::Refuse(reply.clone()),
            Verdict::Discard => RecipientVerdict::Discard,
            Verdict::Quarantine(name) => RecipientVerdict::Quarantine(name.clone()),
            // The session ends: there is nobody left to hear more than that.
            Verdict::Disconnect(_) | Verdict::Drop => return None,
        };
        let fate = |recipient: &PolicyRecipient| {
            let verdict = recipient.verdict.clone().unwrap_or_else(|| others.clone());
            (recipient.original.clone(), verdict)
        };
        Some(Self(recipients.iter().map(fate).collect()))
    }

    /// In the order of the recipients.
    pub(crate) fn verdicts(&self) -> impl Iterator<Item = &RecipientVerdict> {
        self.0.iter().map(|(_, verdict)| verdict)
    }

    /// Over SMTP: one reply for all.
    pub(crate) fn fold(&self) -> Folded {
        let refusals = || {
            self.verdicts().filter_map(|verdict| match verdict {
                RecipientVerdict::Refuse(reply) => Some(reply),
                RecipientVerdict::Accept
                | RecipientVerdict::Discard
                | RecipientVerdict::Quarantine(_) => None,
            })
        };
        if let Some(reply) = refusals().find(|reply| reply.is_temporary()) {
            return Folded::Refuse(reply.clone());
        }
        match refusals().next() {
            Some(reply) if refusals().count() == self.0.len() => Folded::Refuse(reply.clone()),
            Some(_) | None => Folded::Take,
        }
    }

    /// Over LMTP: whether anybody takes it.
    pub(crate) fn any_takes(&self) -> bool {
        self.verdicts().any(|verdict| !matches!(verdict, RecipientVerdict::Refuse(_)))
    }

    /// Over LMTP: the refusal for a RCPT of the client, if all that came of it refused; what a plugin made two of is
    /// taken if one of them takes it.
    pub(crate) fn refusal(&self, path: &ForwardPath) -> Option<&Reply> {
        let mut mine = self.0.iter().filter(|(original, _)| original == path).peekable();
        mine.peek()?;
        let mut refusal = None;
        for (_, verdict) in mine {
            match verdict {
                RecipientVerdict::Refuse(reply) => {
                    refusal.get_or_insert(reply);
                }
                RecipientVerdict::Accept
                | RecipientVerdict::Discard
                | RecipientVerdict::Quarantine(_) => return None,
            }
        }
        refusal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipients(verdicts: &str) -> Vec<PolicyRecipient> {
        let recipient = |(n, letter): (usize, char)| {
            let path: ForwardPath =
                ForwardPath::Mailbox(format!("r{n}@example.org").parse().unwrap());
            let mut recipient = PolicyRecipient::from(smtp::Recipient {
                path,
                parameters: smtp::RcptParameters::default(),
            });
            recipient.verdict = match letter {
                'a' => Some(RecipientVerdict::Accept),
                'r' => Some(RecipientVerdict::Refuse(Reply::new(550, format!("5.7.1 r{n}")))),
                'd' => Some(RecipientVerdict::Refuse(Reply::new(451, format!("4.7.1 r{n}")))),
                'x' => Some(RecipientVerdict::Discard),
                'q' => Some(RecipientVerdict::Quarantine("suspects".into())),
                _ => None,
            };
            recipient
        };
        verdicts.chars().enumerate().map(recipient).collect()
    }

    #[track_caller]
    fn check(verdicts: &str, stage: &Verdict, expected: &str) {
        let folded = Fates::of(&recipients(verdicts), stage).map(|fates| fates.fold());
        let found = match folded {
            None => "whole".to_owned(),
            Some(Folded::Take) => "take".to_owned(),
            Some(Folded::Refuse(reply)) => reply.to_string(),
        };
        assert_eq!(found, expected, "{verdicts}");
    }

    #[test]
    fn one_reply_stands_for_all() {
        let pass = Verdict::Pass;
        check("---", &pass, "whole");
        check("aaa", &pass, "take");
        check("rrr", &pass, "550 5.7.1 r0");
        check("arr", &pass, "take");
        check("rxr", &pass, "take");
        check("rqr", &pass, "take");
        check("r-r", &pass, "take");
        check("rdr", &pass, "451 4.7.1 r1");
        check("ada", &pass, "451 4.7.1 r1");
        check("r--", &Verdict::Refuse(Reply::new(554, "5.6.0 rest")), "550 5.7.1 r0");
        check("a--", &Verdict::Refuse(Reply::new(451, "4.3.0 rest")), "451 4.3.0 rest");
        check("a--", &Verdict::Drop, "whole");
    }

    #[test]
    fn each_recipient_hears_its_own_over_lmtp() {
        let mut recipients = recipients("ard-q");
        // What a plugin made of r1 besides: it takes the message.
        let mut second = recipients[0].clone();
        second.original = recipients[1].original.clone();
        recipients.push(second);
        let fates = Fates::of(&recipients, &Verdict::Pass).unwrap();
        let refusal = |n: usize| {
            fates
                .refusal(&recipients[n].original)
                .map(|reply| reply.to_string())
                .unwrap_or_default()
        };
        assert_eq!([0, 1, 2, 3, 4].map(refusal), ["", "", "451 4.7.1 r2", "", ""]);
        assert!(fates.any_takes());
    }
}
