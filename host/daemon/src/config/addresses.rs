//! `[[domain]]`, `[[list]]` and `[srs]`: who lives here, and the files that say so. `[door]`: who may knock how often.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use inbound::DoorLimits;
use smtp::{Domain, Host, LocalPart, Mailbox, MailingList, Quota, Route, WhenFull};

use super::reader::{Fault, Reader};
use super::sections::networks;
use super::value::{ByteSize, Text};
use super::{List, LocalDomain, Srs, User};

pub(super) fn domain(section: Reader<'_>) -> Option<LocalDomain> {
    let name = section.require::<Text<Domain>>("name").map(|name| name.0);
    let users: BTreeSet<String> = section.get_or("users", Vec::new()).into_iter().collect();
    if let Some(bad) = users.iter().find(|user| !is_folder(user)) {
        section.fault("users", format!("\"{bad}\" can't be a user: write the local part alone, without '/', '@' or a leading dot"));
    }
    let deliver = section.require::<String>("deliver");
    if let Some(text) = &deliver {
        check_deliver(&section, text);
    }
    let catch_all = section.get::<Text<Mailbox>>("catch-all").map(|mailbox| mailbox.0);
    let aliases: Vec<(String, Vec<Text<Mailbox>>)> = section.map("aliases");
    let aliases = aliases
        .into_iter()
        .map(|(alias, to)| (alias, to.into_iter().map(|mailbox| mailbox.0).collect()))
        .collect();
    let subaddress = section.get::<String>("subaddress").and_then(|text| {
        let mut letters = text.chars();
        let only = letters.next().filter(|_| letters.next().is_none());
        if only.is_none() {
            section.fault("subaddress", "this has to be one character, as in \"+\"");
        }
        only
    });
    let quota = quota(&section, deliver.as_deref());
    let alias_file = section.get("alias-file");
    let logins_have_mailboxes = section.get_or("logins-have-mailboxes", false);
    section.finish();
    Some(LocalDomain {
        name: name?,
        users,
        deliver: deliver?,
        catch_all,
        aliases,
        alias_file,
        logins_have_mailboxes,
        lists: BTreeMap::new(),
        quota,
        subaddress,
    })
}

/// Whether a local part may be the name of a folder.
fn is_folder(user: &str) -> bool {
    !user.is_empty() && !user.contains(['/', '@', '\0']) && !user.starts_with('.')
}

fn check_deliver(section: &Reader<'_>, text: &str) {
    let example = text.replace("{domain}", "example.org").replace("{user}", "user");
    match example.parse::<Route>() {
        Ok(Route::Maildir(_)) if !text.contains("{user}") => {
            section.fault("deliver", "without {user} all users would share one Maildir");
        }
        Ok(Route::Maildir(_) | Route::Lmtp(_)) => {}
        Ok(Route::Mx(_) | Route::Host { .. } | Route::List(_)) => {
            section.fault("deliver", "a local domain is delivered by \"maildir:\" or \"lmtp:\"; for a next hop write [[route]]");
        }
        Err(error) => section.fault("deliver", format!("\"{text}\": {error}")),
    }
}

fn quota(section: &Reader<'_>, deliver: Option<&str>) -> Quota {
    let of_users: Vec<(String, ByteSize)> = section.map("quotas");
    let when_full = [("defer", WhenFull::Defer), ("refuse", WhenFull::Refuse)];
    let quota = Quota {
        octets: section.get::<ByteSize>("quota").map(|size| size.0),
        of_users: of_users.into_iter().map(|(user, size)| (user, size.0)).collect(),
        when_full: section.choice("when-full", &when_full, WhenFull::Defer),
    };
    let has_any = quota.octets.is_some() || !quota.of_users.is_empty();
    if has_any && deliver.is_some_and(|deliver| !deliver.starts_with("maildir:")) {
        section.fault("quota", "an LMTP server keeps the quotas of its mailboxes itself");
    }
    quota
}

pub(super) fn list(section: Reader<'_>) -> Option<List> {
    let line = section.line();
    let address = section.require::<Text<Mailbox>>("address").map(|address| address.0);
    let owner = section.require::<Text<Mailbox>>("owner").map(|owner| owner.0);
    let members: Vec<Text<Mailbox>> = section.get_or("members", Vec::new());
    let file = section.get("member-file");
    if members.is_empty() && file.is_none() {
        section.fault_here("give members, or a member-file with one address a line");
    }
    section.finish();
    let members = members.into_iter().map(|member| member.0).collect();
    Some(List { line, address: address?, list: MailingList { owner: owner?, members }, file })
}

/// What forwarded mail has as its reverse-path. On where there is a domain of ours to answer for it.
pub(super) fn srs(root: &Reader<'_>, domains: &[LocalDomain], data: &Path) -> Option<Srs> {
    let section = root.table("srs");
    let first = domains.first().map(|domain| domain.name.clone());
    let file = data.join("srs-secrets");
    let Some(section) = section else { return Some(Srs { domain: first?, file }) };
    let is_on = section.get_or("rewrite", true);
    let named = section.get::<Text<Domain>>("domain").map(|domain| domain.0);
    let file = section.get_or("secrets", file);
    if let Some(named) = &named
        && !domains.iter().any(|domain| domain.name.to_ascii() == named.to_ascii())
    {
        section.fault("domain", "reports have to come back here: this has to be a [[domain]]");
    }
    if is_on && named.is_none() && first.is_none() {
        section.fault_here("there is no [[domain]] whose address forwarded mail could have");
    }
    section.finish();
    Some(Srs { domain: named.or(first)?, file }).filter(|_| is_on)
}

pub(super) fn door(section: Option<Reader<'_>>) -> DoorLimits {
    let mut door = DoorLimits::default();
    let Some(section) = section else { return door };
    door.greeting_delay = section.get_or("greeting-delay", door.greeting_delay);
    door.errors_before_tarpit = section.get_or("tarpit-after", door.errors_before_tarpit);
    door.tarpit = section.get_or("tarpit", door.tarpit);
    door.messages_per_address = section.get_or("messages-per-address", door.messages_per_address);
    door.messages_per_network = section.get_or("messages-per-network", door.messages_per_network);
    door.recipients_per_address =
        section.get_or("recipients-per-address", door.recipients_per_address);
    door.messages_per_user = section.get_or("messages-per-user", door.messages_per_user);
    door.recipients_per_user = section.get_or("recipients-per-user", door.recipients_per_user);
    door.sessions_per_user = section.get_or("sessions-per-user", door.sessions_per_user);
    if section.get::<Vec<String>>("exempt").is_some() {
        door.exempt = networks(&section, "exempt").into_iter().collect();
    }
    section.finish();
    door
}

/// Reads the files that the domains and lists name, and gives each login its mailbox where that is wanted.
pub(super) fn read_files(
    domains: &mut [LocalDomain],
    lists: &[List],
    users: &[User],
    config: &Path,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    for domain in domains.iter_mut() {
        if let Some(file) = domain.alias_file.clone() {
            read_aliases(domain, &file, &mut faults);
        }
        if domain.logins_have_mailboxes {
            domain.users.extend(users.iter().filter_map(|user| mailbox_of(user, &domain.name)));
        }
    }
    for list in lists {
        let fault = |message| Fault {
            file: config.to_owned(),
            line: list.line,
            key: "list.address".to_owned(),
            message,
        };
        let is_its = |domain: &&mut LocalDomain| {
            let name = list.address.domain().map(Domain::to_ascii);
            name.is_some_and(|name| name == domain.name.to_ascii())
        };
        let Some(domain) = domains.iter_mut().find(is_its) else {
            faults.push(fault(format!("{} is not of a [[domain]] of this file", list.address)));
            continue;
        };
        let mut whole = list.list.clone();
        if let Some(file) = &list.file {
            whole.members.extend(read_members(domain, file, &mut faults));
        }
        let name = list.address.local_part().as_str().to_lowercase();
        if domain.lists.insert(name, whole).is_some() {
            faults.push(fault(format!("the list {} stands twice", list.address)));
        }
    }
    faults
}

/// The mailbox of one who logs in with an address of this domain.
fn mailbox_of(user: &User, domain: &Domain) -> Option<String> {
    let mailbox = Mailbox::parse(&user.name).ok()?;
    let of_domain = mailbox.domain().is_some_and(|other| other.to_ascii() == domain.to_ascii());
    let local = mailbox.local_part().as_str();
    (of_domain && is_folder(local)).then(|| local.to_owned())
}

/// `name: member, member …`; a line that begins with white space goes on with the one before; `#` begins a comment.
fn read_aliases(domain: &mut LocalDomain, file: &Path, faults: &mut Vec<Fault>) {
    let Some(text) = read(file, faults) else { return };
    let mut current: Option<String> = None;
    for (number, line) in text.lines().enumerate() {
        let mut fault = |message: String| {
            faults.push(Fault {
                file: file.to_owned(),
                line: number + 1,
                key: String::new(),
                message,
            });
        };
        let line = without_comment(line);
        if line.trim().is_empty() {
            continue;
        }
        let members = if line.starts_with([' ', '\t']) {
            line
        } else {
            let Some((name, members)) = line.split_once(':') else {
                fault("write this as \"name: member, member\"".to_owned());
                continue;
            };
            let name = name.trim().to_lowercase();
            if domain.aliases.insert(name.clone(), Vec::new()).is_some() {
                fault(format!("the alias \"{name}\" stands twice, here or in the configuration"));
            }
            current = Some(name);
            members
        };
        let Some(alias) = current.as_ref().and_then(|name| domain.aliases.get_mut(name)) else {
            fault("this line goes on with another, and there is none before it".to_owned());
            continue;
        };
        for member in members.split(',').map(str::trim).filter(|member| !member.is_empty()) {
            match address(member, &domain.name) {
                Some(mailbox) => alias.push(mailbox),
                None => fault(format!("\"{member}\" is not an address")),
            }
        }
    }
}

/// One address a line; `#` begins a comment.
fn read_members(domain: &LocalDomain, file: &Path, faults: &mut Vec<Fault>) -> Vec<Mailbox> {
    let Some(text) = read(file, faults) else { return Vec::new() };
    let mut members = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let member = without_comment(line).trim();
        match address(member, &domain.name) {
            Some(mailbox) => members.push(mailbox),
            None if member.is_empty() => {}
            None => faults.push(Fault {
                file: file.to_owned(),
                line: number + 1,
                key: String::new(),
                message: format!("\"{member}\" is not an address"),
            }),
        }
    }
    members
}

fn read(file: &Path, faults: &mut Vec<Fault>) -> Option<String> {
    match std::fs::read_to_string(file) {
        Ok(text) => Some(text),
        Err(error) => {
            let message = format!("can't read this file: {error}");
            faults.push(Fault { file: file.to_owned(), line: 1, key: String::new(), message });
            None
        }
    }
}

fn without_comment(line: &str) -> &str {
    line.split('#').next().unwrap_or_default()
}

/// An address; without a domain it is one of this domain.
fn address(text: &str, domain: &Domain) -> Option<Mailbox> {
    if text.contains('@') {
        return Mailbox::parse(text).ok();
    }
    let local = LocalPart::new(text).ok().filter(|_| !text.is_empty())?;
    Some(Mailbox::new(local, Host::Domain(domain.clone())))
}

/// The files that [`read_files`] reads.
pub(super) fn files(domains: &[LocalDomain], lists: &[List]) -> Vec<PathBuf> {
    let aliases = domains.iter().filter_map(|domain| domain.alias_file.clone());
    aliases.chain(lists.iter().filter_map(|list| list.file.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parse(folder: &Path, more: &str) -> Result<Config, Vec<String>> {
        let at = |name: &str| folder.join(name).display().to_string();
        let text = format!(
            "hostname = \"mx.example.org\"\ndata = {:?}\n[[domain]]\nname = \"example.org\"\nusers = [\"bob\"]\n\
             deliver = \"maildir:mail/{{user}}\"\nalias-file = {:?}\n{more}",
            at("var"),
            at("aliases"),
        );
        Config::parse(Path::new("test.toml"), &text)
            .map_err(|faults| faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn aliases_and_members_are_read_from_files() {
        let folder = tempfile::tempdir().unwrap();
        let text =
            "# who is who\ninfo: alice, bob@example.org,  # and\n  carol@example.net\nRoot: info\n";
        std::fs::write(folder.path().join("aliases"), text).unwrap();
        std::fs::write(folder.path().join("team"), "bob\n\ndave@example.com # elsewhere\n")
            .unwrap();
        let file = folder.path().join("team").display().to_string();
        let list = format!(
            "[[list]]\naddress = \"Team@example.org\"\nowner = \"bob@example.org\"\nmember-file = {file:?}\n"
        );
        let config = parse(folder.path(), &list).unwrap();
        let domain = &config.domains[0];
        let names = |mailboxes: &[Mailbox]| {
            mailboxes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            names(&domain.aliases["info"]),
            "alice@example.org bob@example.org carol@example.net"
        );
        assert_eq!(names(&domain.aliases["root"]), "info@example.org");
        assert_eq!(names(&domain.lists["team"].members), "bob@example.org dave@example.com");
        assert_eq!(config.files().len(), 3, "aliases, members, secrets");
    }

    #[test]
    fn a_fault_of_a_file_has_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let check = |aliases: &str, more: &str, expected: &str| {
            std::fs::write(folder.path().join("aliases"), aliases).unwrap();
            let found = parse(folder.path(), more).unwrap_err().join("\n");
            assert!(found.contains(expected), "{aliases:?} {more:?}: {found}");
        };
        check("info alice\n", "", "aliases:1: write this as");
        check("a: b\ninfo: a b@c\n", "", "aliases:2: \"a b@c\" is not an address");
        check("  a\n", "", "aliases:1: this line goes on");
        check("a: b\nA: c\n", "", "aliases:2: the alias \"a\" stands twice");
        let list = "[[list]]\naddress = \"x@example.net\"\nowner = \"a@example.org\"\nmembers = [\"b@example.org\"]\n";
        check("", list, "test.toml:8: list.address: x@example.net is not of a [[domain]]");
        check(
            "",
            "[srs]\ndomain = \"example.net\"\n",
            "srs.domain: reports have to come back here",
        );
    }

    #[test]
    fn a_login_can_be_a_mailbox() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("aliases"), "").unwrap();
        let hash = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        let user = |name: &str| format!("[[user]]\nname = \"{name}\"\npassword = \"{hash}\"\n");
        let text = format!(
            "logins-have-mailboxes = true\n{}{}{}",
            user("alice@example.org"),
            user("eve@example.net"),
            user("\\\"../x\\\"@example.org")
        );
        let config = parse(folder.path(), &text).unwrap();
        assert_eq!(config.domains[0].users, ["alice", "bob"].map(str::to_owned).into());
    }
}
