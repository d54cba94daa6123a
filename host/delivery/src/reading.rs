//! What replies say beyond "yes", "later" and "no": how a host feels, and when greylisting ends.
//! Pure functions.

use std::time::Duration;

use smtp::{Reply, client::Fate};

/// What a transaction, or an attempt to open a session, says about the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It took the message for somebody.
    Taken,
    /// It answered, and the answer was about the message or its recipients.
    Answered,
    /// It is short of something, or the connection broke.
    Strained,
    /// It gives no session now.
    Unavailable,
}

/// What the fates of one transaction say about the host, and in which words; `None` if it was not
/// asked.
pub(crate) fn news(fates: &[Fate]) -> Option<(News, &Reply)> {
    fates.iter().filter_map(of_one).min_by_key(|(news, _)| match news {
        News::Unavailable => 0,
        News::Taken => 1,
        News::Answered => 2,
        News::Strained => 3,
    })
}

fn of_one(fate: &Fate) -> Option<(News, &Reply)> {
    match fate {
        Fate::Accepted(reply) => Some((News::Taken, reply)),
        Fate::Refused(reply) => Some((of_refusal(reply), reply)),
        // RFC 5321 §3.8: 421 ends the session by the host's own wish.
        Fate::Lost { reply, .. } if is_unavailable(reply) => Some((News::Unavailable, reply)),
        Fate::Lost { reply, .. } => Some((News::Strained, reply)),
        Fate::Unfit(_) | Fate::Untried => None,
    }
}

fn of_refusal(reply: &Reply) -> News {
    let subject = reply.enhanced().map(|status| status.subject);
    match (reply.code(), subject) {
        (421, _) => News::Unavailable,
        // RFC 3463 §3.4–5: the system (X.3) and the network (X.4); without a code of that kind 451
        // and 452 say it (RFC 5321 §4.2.3).
        (400..=499, Some(3 | 4)) | (451 | 452, None | Some(0)) if !is_greylisting(reply) => {
            News::Strained
        }
        // Rate limits of large hosts: 4.7.28, 4.7.500 and the like. 4.7.0 and 4.7.1 are said about
        // senders too.
        (400..=499, Some(7)) if reply.enhanced().is_some_and(|status| status.detail >= 20) => {
            News::Strained
        }
        _ => News::Answered,
    }
}

/// 421 in the host's words: what the machine says by itself about a broken connection is 4.4.2 or
/// 4.5.0, and 4.3.0 is a content that we could not read.
fn is_unavailable(reply: &Reply) -> bool {
    let status = reply.enhanced().map(|status| (status.subject, status.detail));
    reply.code() == 421 && !matches!(status, Some((4, 2) | (5, 0)))
}

/// True if a host puts off everybody whom it does not know yet (RFC 6647). It says 450 or 451, with
/// 4.7.1 (milter-greylist, rspamd) or 4.2.0 (Postgrey) or nothing (spamd), and nearly always the
/// word.
pub(crate) fn is_greylisting(reply: &Reply) -> bool {
    if !matches!(reply.code(), 421 | 450 | 451) {
        return false;
    }
    let text = reply.text().to_ascii_lowercase();
    let says_so = ["greylist", "graylist", "grey-list", "gray-list", "grey list", "postgrey"];
    if says_so.iter().any(|word| text.contains(word)) {
        return true;
    }
    let status = reply.enhanced().map(|status| (status.subject, status.detail));
    reply.code() != 421
        && status == Some((7, 1))
        && ["try again", "try later", "come back", "retry"].iter().any(|word| text.contains(word))
}

/// When to come again after a greylisting reply, if it is one: the time that it names, else
/// `usual`.
pub(crate) fn greylist_retry(reply: &Reply, usual: Duration) -> Option<Duration> {
    if !is_greylisting(reply) {
        return None;
    }
    let named = named_wait(&reply.text());
    Some(match named {
        // A moment more, since its clock counts from another event than ours.
        Some(wait) => (wait + MARGIN).min(LONGEST_NAMED),
        None => usual,
    })
}

/// The time that a text names: `in 00:05:00`, `300 seconds`, `5 minutes`, `60s`.
fn named_wait(text: &str) -> Option<Duration> {
    let words: Vec<&str> = text
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == ':'))
        .filter(|word| !word.is_empty())
        .collect();
    words.iter().enumerate().find_map(|(index, word)| {
        clock_time(word).or_else(|| {
            let digits = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
            let (number, unit) = word.split_at(digits);
            let unit =
                if unit.is_empty() { words.get(index + 1).copied().unwrap_or("") } else { unit };
            let unit = match unit.to_ascii_lowercase().as_str() {
                "s" | "sec" | "secs" | "second" | "seconds" => 1,
                "m" | "min" | "mins" | "minute" | "minutes" => 60,
                "h" | "hour" | "hours" => 3600,
                _ => return None,
            };
            Some(Duration::from_secs(number.parse::<u32>().ok()?.checked_mul(unit)?.into()))
        })
    })
}

/// `00:05:00`: hours, minutes, seconds.
fn clock_time(word: &str) -> Option<Duration> {
    let parts: Vec<u64> = word
        .split(':')
        .map(|part| part.parse().ok().filter(|n| *n < 100))
        .collect::<Option<_>>()?;
    let &[hours, minutes, seconds] = parts.as_slice() else { return None };
    Some(Duration::from_secs(hours * 3600 + minutes * 60 + seconds))
}

// Clocks, and the way between the two events.
const MARGIN: Duration = Duration::from_secs(5);
// RFC 6647 §4.2 speaks of a minute to a day; who names more than an hour is left to the schedule's
// growing intervals and asked in between.
const LONGEST_NAMED: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greylisting_is_recognised_and_its_time_read() {
        fn check(reply: &str, expected: Option<u64>) {
            let found = greylist_retry(&reply.parse().unwrap(), Duration::from_secs(300));
            assert_eq!(found.map(|wait| wait.as_secs()), expected, "{reply}");
        }
        check("451 4.7.1 Greylisting in action, please come back in 00:02:00", Some(125));
        check(
            "450 4.2.0 <b@example.org>: Recipient address rejected: Greylisted, see http://postgrey.example/help/example.org.html",
            Some(300),
        );
        check("450 4.7.1 Recipient address rejected: Greylisted for 5 minutes", Some(305));
        check("451 Greylisted, please try again in 300 seconds", Some(305));
        check("451 4.7.1 greylisted, retry in 60s", Some(65));
        check("421 Greylisted: come back in 1 hour", Some(3600));
        check("450 4.7.1 Greylisting for 2 days or 48 hours", Some(3600));
        check("451 4.7.1 Try again later", Some(300));
        check("450 4.7.1 Service unavailable - try again later", Some(300));
        check("451 4.7.1 Greylisting: 99999999999 seconds", Some(300));
        check("450 4.2.2 Mailbox full, try again later", None);
        check("450 4.2.1 Not yet", None);
        check("451 4.7.1 Sender is blocked", None);
        check("421 4.7.1 Too many connections, try again later", None);
        check("452 4.3.1 Greylist database full", None);
        check("550 5.7.1 Greylisted for ever", None);
        check("451 4.3.0 Try again in 5 minutes", None);
    }

    #[test]
    fn replies_tell_how_a_host_feels() {
        fn check(reply: &str, expected: News) {
            assert_eq!(of_refusal(&reply.parse().unwrap()), expected, "{reply}");
        }
        check("550 5.1.1 No such user", News::Answered);
        check("554 5.3.0 Broken", News::Answered);
        check("450 4.2.2 Mailbox full", News::Answered);
        check("450 4.2.0 Greylisted", News::Answered);
        check("451 4.7.1 Try again later", News::Answered);
        check("451 4.3.0 Greylisted", News::Answered);
        check("451 4.3.2 Not accepting messages", News::Strained);
        check("452 4.3.1 Insufficient system storage", News::Strained);
        check("452 Out of storage", News::Strained);
        check("452 4.5.3 Too many recipients", News::Answered);
        check("451 4.4.2 Bad connection", News::Strained);
        check("450 4.7.28 Unusual rate of mail", News::Strained);
        check("451 4.7.500 Server busy", News::Strained);
        check("421 4.7.0 Too many connections", News::Unavailable);
    }

    #[test]
    fn one_acceptance_outweighs_refusals_but_not_an_end() {
        fn check(fates: &[Fate], expected: Option<News>) {
            assert_eq!(news(fates).map(|(news, _)| news), expected, "{fates:?}");
        }
        let reply = |text: &str| text.parse::<Reply>().unwrap();
        let accepted = Fate::Accepted(reply("250 2.0.0 ok"));
        let strained = Fate::Refused(reply("451 4.3.0 later"));
        let unknown = Fate::Refused(reply("550 5.1.1 who?"));
        let ended = Fate::Lost { reply: reply("421 4.3.2 closing"), uncertain: false };
        let broken =
            Fate::Lost { reply: reply("421 4.4.2 The connection was lost"), uncertain: true };
        check(&[], None);
        check(&[Fate::Untried, Fate::Unfit(reply("552 5.3.4 large"))], None);
        check(&[strained.clone(), accepted.clone(), unknown.clone()], Some(News::Taken));
        check(&[strained.clone(), unknown.clone()], Some(News::Answered));
        check(&[strained.clone(), strained], Some(News::Strained));
        check(&[unknown, ended], Some(News::Unavailable));
        check(&[broken], Some(News::Strained));
    }
}
