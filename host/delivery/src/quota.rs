//! How full a mailbox is, as Maildir++ keeps count of it (S. Varshavchik, "Maildir++"): a file `maildirsize` in the
//! mailbox, whose first line is the quota and whose others are changes. Every program that delivers or deletes adds a
//! line; who finds the file out of date counts the messages and writes it anew.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use smtp::{Reply, WhenFull};

use crate::clock;

/// Why a message has no place in a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// It does not hold so much more at the moment.
    Mailbox,
    /// The message alone is more than it may ever hold.
    Message,
}

impl Full {
    /// What is said about it.
    pub(crate) fn reply(self, when_full: WhenFull) -> Reply {
        match (self, when_full) {
            (Self::Message, _) => {
                Reply::new(552, "5.2.2 The message is larger than the mailbox may be")
            }
            (Self::Mailbox, WhenFull::Defer) => {
                Reply::new(452, "4.2.2 The mailbox is full, try again later")
            }
            (Self::Mailbox, WhenFull::Refuse) => Reply::new(552, "5.2.2 The mailbox is full"),
        }
    }
}

/// Whether `octets` more find room in the Maildir, as far as is known: what cannot be read has room. `None`: they do.
/// Blocks; may count all messages.
pub fn refusal(mailbox: &Path, limit: u64, when_full: WhenFull, octets: u64) -> Option<Reply> {
    check(mailbox, limit, octets).ok().flatten().map(|full| full.reply(when_full))
}

/// Whether a message of so many octets finds room.
pub(crate) fn check(mailbox: &Path, limit: u64, octets: u64) -> io::Result<Option<Full>> {
    if octets > limit {
        return Ok(Some(Full::Message));
    }
    let has_room = |used: u64| used.saturating_add(octets) <= limit && used < limit;
    if let Some(kept) = read(mailbox, limit)? {
        if has_room(kept.octets) {
            return Ok(None);
        }
        // Somebody may have deleted without telling: it is counted once more, but not for each message.
        if !kept.is_worth_a_recount {
            return Ok(Some(Full::Mailbox));
        }
    }
    Ok((!has_room(recount(mailbox, limit)?)).then_some(Full::Mailbox))
}

/// Notes a message that was delivered.
pub(crate) fn note(mailbox: &Path, octets: u64) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = options.append(true).custom_flags(NO_LINK).open(mailbox.join(FILE));
    match file {
        // One write, so that no two programs mix their lines.
        Ok(mut file) => file.write_all(format!("{octets} 1\n").as_bytes()),
        // Who needs it makes it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// What the file says.
struct Kept {
    octets: u64,
    is_worth_a_recount: bool,
}

/// `None`: there is no file, or it is of no use.
fn read(mailbox: &Path, limit: u64) -> io::Result<Option<Kept>> {
    let mut options = OpenOptions::new();
    let mut file = match options.read(true).custom_flags(NO_LINK).open(mailbox.join(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let data = file.metadata()?;
    // Maildir++: with 5,120 octets the file is worth being written anew.
    if data.len() > LONGEST_FILE {
        return Ok(None);
    }
    let mut text = String::new();
    if file.read_to_string(&mut text).is_err() {
        return Ok(None);
    }
    let mut lines = text.lines();
    if lines.next() != Some(&format!("{limit}S")) {
        // Another quota: Maildir++ wants it counted anew.
        return Ok(None);
    }
    let sizes: Option<Vec<i64>> = lines.map(size_of).collect();
    let Some(sizes) = sizes else { return Ok(None) };
    let age = data.modified().ok().and_then(|time| clock::now().duration_since(time).ok());
    Ok(Some(Kept {
        octets: u64::try_from(sizes.iter().sum::<i64>()).unwrap_or(0),
        is_worth_a_recount: sizes.len() > 1 || age.is_some_and(|age| age > OLD),
    }))
}

/// The octets of a line `octets messages`.
fn size_of(line: &str) -> Option<i64> {
    let mut words = line.split_whitespace();
    let (octets, _messages) = (words.next()?.parse().ok()?, words.next()?.parse::<i64>().ok()?);
    words.next().is_none().then_some(octets)
}

/// Counts all messages and writes the file anew.
fn recount(mailbox: &Path, limit: u64) -> io::Result<u64> {
    let (mut octets, mut messages) = count_maildir(mailbox)?;
    for entry in entries(mailbox)? {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // Maildir++: what lies in the folder Trash counts for nothing.
        let is_folder = name.starts_with('.') && name.len() > 1 && name != ".Trash";
        if is_folder && entry.file_type()?.is_dir() {
            let (more, further) = count_maildir(&entry.path())?;
            octets += more;
            messages += further;
        }
    }
    let folder = mailbox.join("tmp");
    // A mailbox that is not there yet is made by the first delivery.
    if folder.is_dir() {
        let aside = folder.join(format!("maildirsize.{:016x}", clock::random()));
        let mut file = File::create_new(&aside)?;
        file.write_all(format!("{limit}S\n{octets} {messages}\n").as_bytes())?;
        fs::rename(&aside, mailbox.join(FILE))?;
    }
    Ok(octets)
}

fn count_maildir(maildir: &Path) -> io::Result<(u64, u64)> {
    let (mut octets, mut messages) = (0, 0);
    for part in ["new", "cur"] {
        for entry in entries(&maildir.join(part))? {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // Maildir++: a message that is marked as deleted counts for nothing.
            let is_deleted = name.rsplit_once(":2,").is_some_and(|(_, flags)| flags.contains('T'));
            if is_deleted || name.starts_with('.') {
                continue;
            }
            octets += match size_in(&name) {
                Some(size) => size,
                // Gone since: a reader moved it.
                None => entry.metadata().map_or(0, |data| data.len()),
            };
            messages += 1;
        }
    }
    Ok((octets, messages))
}

fn entries(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Maildir++: `,S=1234` in a name says how large the file is.
fn size_in(name: &str) -> Option<u64> {
    let base = name.split(":2,").next().unwrap_or(name);
    base.split(',').find_map(|part| part.strip_prefix("S=")?.parse().ok())
}

const FILE: &str = "maildirsize";
/// Maildir++: five kilobytes, and fifteen minutes.
const LONGEST_FILE: u64 = 5120;
const OLD: Duration = Duration::from_mins(15);
const NO_LINK: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(files: &[(&str, usize)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for part in ["tmp", "new", "cur"] {
            fs::create_dir(folder.path().join(part)).unwrap();
        }
        for (name, octets) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![b'x'; *octets]).unwrap();
        }
        folder
    }

    fn kept(folder: &Path) -> String {
        fs::read_to_string(folder.join(FILE)).unwrap_or_default()
    }

    #[test]
    fn messages_are_counted_as_maildir_plus_plus_counts_them() {
        let folder = mailbox(&[
            ("new/1.host", 100),
            ("cur/2.host,S=5000:2,S", 10), // the name counts, not the file
            ("cur/3.host:2,ST", 1000),
            (".Lists.rust/cur/4.host:2,", 200),
            (".Trash/cur/5.host:2,S", 1000),
            ("tmp/6.host", 1000),
        ]);
        assert_eq!(check(folder.path(), 10_000, 4700).unwrap(), None);
        assert_eq!(kept(folder.path()), "10000S\n5300 3\n");
        assert_eq!(check(folder.path(), 10_000, 4701).unwrap(), Some(Full::Mailbox));
        assert_eq!(check(folder.path(), 10_000, 10_001).unwrap(), Some(Full::Message));
        note(folder.path(), 4700).unwrap();
        assert_eq!(kept(folder.path()), "10000S\n5300 3\n4700 1\n");
    }

    #[test]
    fn a_file_that_tells_another_story_is_written_anew() {
        let check_file = |text: &str, octets: u64, expected: Option<Full>, after: &str| {
            let folder = mailbox(&[("new/1.host", 600)]);
            fs::write(folder.path().join(FILE), text).unwrap();
            assert_eq!(check(folder.path(), 1000, octets).unwrap(), expected, "{text:?}");
            assert_eq!(kept(folder.path()), after, "{text:?}");
        };
        let anew = "1000S\n600 1\n";
        check_file("1000S\n100 1\n", 400, None, "1000S\n100 1\n"); // believed while there is room
        check_file("2000S\n100 1\n", 400, None, anew); // another quota
        check_file("nonsense", 400, None, anew);
        check_file("1000S\nmuch 1\n", 400, None, anew);
        check_file("1000S\n900 1\n100 1\n", 400, None, anew); // somebody deleted and did not tell
        check_file("1000S\n900 1\n", 400, Some(Full::Mailbox), "1000S\n900 1\n"); // counted just now
        check_file("1000S\n700 2\n-700 -2\n", 400, None, "1000S\n700 2\n-700 -2\n");
        check_file(&format!("1000S\n{}", "1 1\n".repeat(1300)), 400, None, anew);
    }

    #[test]
    fn a_mailbox_that_is_not_there_has_room() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(check(&folder.path().join("none"), 1000, 1000).unwrap(), None);
        assert_eq!(note(&folder.path().join("none"), 1).ok(), Some(()));
        assert_eq!(
            refusal(&folder.path().join("none"), 10, WhenFull::Defer, 11).unwrap().code(),
            552
        );
    }
}
