//! The edits that rspamd wants, as its own milter would make them.

use gatepost_plugin::{Content, Error, NewRecipient, Transaction};

use crate::answer::{Answer, Milter};
use crate::config::Config;

/// What the block `milter` asks for.
pub(crate) fn edit(
    milter: &Milter,
    transaction: &Transaction,
    content: &Content,
) -> Result<(), Error> {
    for (name, number) in milter.remove.iter().filter(|(name, _)| is_ours_to_edit(name)) {
        remove(content, name, *number)?;
    }
    for (name, value, place) in milter.add.iter().filter(|(name, ..)| is_ours_to_edit(name)) {
        let value = one_line(value);
        match place {
            None => content.add_header(name, &value)?,
            Some(place) => {
                let count = content.headers().len() as u64;
                // -1 is behind the last.
                let position = u64::try_from(*place)
                    .unwrap_or_else(|_| (count + 1).saturating_sub(place.unsigned_abs()));
                let position = u32::try_from(position).unwrap_or(u32::MAX);
                content.insert_header(position, name, &value)?;
            }
        }
    }
    if let Some(from) = &milter.change_from {
        let address = from.trim_matches(['<', '>']);
        transaction.set_reverse_path(Some(address).filter(|address| !address.is_empty()))?;
    }
    for address in &milter.add_recipients {
        transaction.add_recipient(&NewRecipient::to(address.trim_matches(['<', '>'])))?;
    }
    let present = transaction.recipients();
    for address in &milter.remove_recipients {
        let address = address.trim_matches(['<', '>']);
        if let Some(found) = present.iter().find(|one| one.address.eq_ignore_ascii_case(address)) {
            transaction.remove_recipient(&found.address)?;
        }
    }
    Ok(())
}

/// Says that it is spam, in the place of all that somebody else said about it.
pub(crate) fn spam_header(
    config: &Config,
    milter: &Milter,
    content: &Content,
) -> Result<(), Error> {
    let own = (config.spam_header.clone(), milter.spam_value.clone().unwrap_or("Yes".to_owned()));
    let fields = if milter.spam_header.is_empty() { &[own][..] } else { &milter.spam_header };
    for (name, value) in fields {
        if !content.header(name).is_empty() {
            content.remove_header(name, None)?;
        }
        content.add_header(name, &one_line(value))?;
    }
    Ok(())
}

/// The subject that rspamd made, or one by our own pattern.
pub(crate) fn subject(config: &Config, answer: &Answer, content: &Content) -> Result<(), Error> {
    let present = content.header("Subject").into_iter().next();
    let subject = answer.subject.clone().unwrap_or_else(|| {
        config.subject.replace("{subject}", present.as_deref().unwrap_or_default())
    });
    let subject = one_line(&subject);
    Ok(match present {
        Some(_) => content.replace_header("Subject", 0, subject.trim())?,
        None => content.add_header("Subject", subject.trim())?,
    })
}

fn remove(content: &Content, name: &str, number: i64) -> Result<(), Error> {
    let count = content.header(name).len() as u64;
    let index = match number {
        0 if count == 0 => return Ok(()),
        0 => None,
        1.. => Some(number.unsigned_abs() - 1),
        _ => Some(count.wrapping_sub(number.unsigned_abs())),
    };
    if index.is_none_or(|index| index < count) {
        content.remove_header(name, index.and_then(|index| u32::try_from(index).ok()))?;
    }
    Ok(())
}

/// What says where a message came from and who vouches for it, the host writes itself and lets nobody else edit.
fn is_ours_to_edit(name: &str) -> bool {
    !RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name))
}

/// rspamd folds with line ends; the host folds by itself.
fn one_line(value: &str) -> String {
    let words = value.split(['\r', '\n', '\0']).map(str::trim).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// See `content.add-header` in `wit/message.wit`.
const RESERVED: [&str; 7] = [
    "Received",
    "Return-Path",
    "DKIM-Signature",
    "Authentication-Results",
    "ARC-Seal",
    "ARC-Message-Signature",
    "ARC-Authentication-Results",
];
