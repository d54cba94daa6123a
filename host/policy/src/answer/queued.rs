//! Answers about messages that are in the queue, checked: `route`, `deliver`, `outcome`, `dsn`.

use std::time::Duration;

use smtp::Route;

use super::{Answer, REFUSED, checked, checked_name, misplaced};
use crate::imports::log::clean;
use crate::verdict::{
    DeliverVerdict, NoticeVerdict, OutcomeVerdict, Place, ReturnedPart, RouteVerdict,
};

/// The checked answer at `deliver`; none lets the next plugin speak.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other answers belong to other stages")]
pub(crate) fn deliver_verdict(answer: Answer) -> Result<Option<DeliverVerdict>, String> {
    Ok(Some(match answer {
        Answer::Next => return Ok(None),
        Answer::Accept => DeliverVerdict::Next,
        Answer::File(place) => DeliverVerdict::File(Place {
            folder: folder(&place.folder)?,
            is_seen: place.is_seen,
            is_flagged: place.is_flagged,
        }),
        Answer::Redirect(addresses) => {
            if addresses.is_empty() || addresses.len() > MAX_REDIRECT {
                return Err(format!("mail is redirected to 1 to {MAX_REDIRECT} addresses"));
            }
            let mailboxes = addresses.iter().map(|address| {
                address.parse().map_err(|error| format!("{address:?} is no address: {error}"))
            });
            DeliverVerdict::Redirect(mailboxes.collect::<Result<_, _>>()?)
        }
        Answer::Reject(reply) => DeliverVerdict::Fail(checked(reply, 5, REFUSED)?),
        Answer::Wait(seconds, reply) => DeliverVerdict::Defer {
            wait: wait(seconds),
            reply: checked(reply, 4, "451 4.3.0 Deferred by policy")?,
        },
        Answer::Discard => DeliverVerdict::Discard,
        Answer::Hold(name) => DeliverVerdict::Hold(checked_name(name)?),
        other => return Err(misplaced(&other)),
    }))
}

/// The checked answer at `dsn`; none lets the next plugin speak.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other answers belong to other stages")]
pub(crate) fn notice_verdict(answer: Answer) -> Result<Option<NoticeVerdict>, String> {
    Ok(Some(match answer {
        Answer::Next => return Ok(None),
        Answer::Accept => NoticeVerdict::Next,
        Answer::Suppress => NoticeVerdict::Suppress,
        Answer::Send(changes) => {
            let to = changes
                .to
                .map(|to| to.parse().map_err(|error| format!("{to:?} is no address: {error}")));
            let returned = changes.returned.map(|part| match part.as_str() {
                "full" => Ok(ReturnedPart::Full),
                "header" => Ok(ReturnedPart::Header),
                "none" => Ok(ReturnedPart::Nothing),
                _ => Err(format!("{part:?} is none of \"full\", \"header\", \"none\"")),
            });
            NoticeVerdict::Send {
                to: to.transpose()?,
                returned: returned.transpose()?,
                text: changes.text.map(|text| paragraphs(&text)).filter(|text| !text.is_empty()),
            }
        }
        other => return Err(misplaced(&other)),
    }))
}

/// Text of several lines, without other control characters.
fn paragraphs(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT_OCTETS);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let lines = text[..end].lines().map(|line| clean(line, MAX_TEXT_OCTETS));
    lines.collect::<Vec<_>>().join("\n")
}

/// The parts of a folder's name, which becomes one on disk.
fn folder(name: &str) -> Result<Vec<String>, String> {
    let fault = || format!("{:?} is no name of a folder", clean(name, MAX_FOLDER_OCTETS));
    if name.is_empty() || name.eq_ignore_ascii_case("inbox") {
        return Ok(Vec::new());
    }
    let good = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '~'])
            && !part.contains(['.', '\\', '*', '%', '&'])
            && !part.chars().any(char::is_control)
            && part.trim() == part
    };
    if name.len() > MAX_FOLDER_OCTETS || !name.split('/').all(good) {
        return Err(fault());
    }
    Ok(name.split('/').map(str::to_owned).collect())
}

/// The checked answer at `route`.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other answers belong to other stages")]
pub(crate) fn route_verdict(answer: Answer) -> Result<RouteVerdict, String> {
    Ok(match answer {
        Answer::To(text) => {
            let route: Route =
                text.parse().map_err(|error| format!("{text:?} is no route: {error}"))?;
            RouteVerdict::To(route)
        }
        Answer::Hold(name) => RouteVerdict::Hold(checked_name(name)?),
        Answer::Wait(seconds, reply) => RouteVerdict::Defer {
            wait: wait(seconds),
            reply: checked(reply, 4, "451 4.3.0 Deferred by policy")?,
        },
        Answer::Fail(reply) => RouteVerdict::Fail(checked(reply, 5, REFUSED)?),
        Answer::Discard => RouteVerdict::Discard,
        Answer::Next => RouteVerdict::Next,
        other => return Err(misplaced(&other)),
    })
}

/// The checked answer at `outcome`.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other answers belong to other stages")]
pub(crate) fn outcome_verdict(answer: Answer) -> Result<OutcomeVerdict, String> {
    Ok(match answer {
        Answer::RetryIn(seconds) => OutcomeVerdict::RetryIn(wait(seconds)),
        Answer::Fail(reply) => {
            OutcomeVerdict::Fail(checked(reply, 5, "550 5.7.1 Given up by policy")?)
        }
        Answer::Hold(name) => OutcomeVerdict::Hold(checked_name(name)?),
        Answer::SuppressNotice => OutcomeVerdict::SuppressNotice,
        Answer::Next => OutcomeVerdict::Next,
        other => return Err(misplaced(&other)),
    })
}

fn wait(seconds: u32) -> Duration {
    Duration::from_secs(u64::from(seconds).clamp(1, MAX_WAIT_SECONDS))
}

/// More than this is a mailing list, and has an entrance of its own.
const MAX_REDIRECT: usize = 100;
/// A page.
const MAX_TEXT_OCTETS: usize = 4000;
/// A file name has 255 octets at most, and some of them are ours.
const MAX_FOLDER_OCTETS: usize = 200;
/// No message lives that long in a queue.
const MAX_WAIT_SECONDS: u64 = 30 * 24 * 3600;
