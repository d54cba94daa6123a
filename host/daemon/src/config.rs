//! The configuration file: raw TOML in, checked [`Config`] out, or every fault at once.
//!
//! `run` and `check` share this path. What a key means, its default and its limits stand at the field it fills; the files in
//! `config/` show them at work.

mod addresses;
mod authentication;
pub(crate) mod plugins;
pub(crate) mod reader;
mod sections;
mod switch;
#[cfg(test)]
mod tests;
pub(crate) mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use inbound::{DoorLimits, LoginLimits, Secret, SendAs};
use ipnet::IpNet;
use policy::{BreakerConfig, CompilerLimits, PluginLimits};
use smtp::sasl::ScramVerifier;
use smtp::{Domain, Mailbox, MailingList, Quota, Route};
use toml::Spanned;
use toml::de::DeTable;

pub(crate) use self::authentication::{Authentication, DkimKey, DmarcReports};
pub(crate) use self::reader::Fault;
use self::reader::{Reader, Source};
pub(crate) use self::sections::schedule_of;
pub(crate) use self::switch::switch;

/// A whole, checked configuration.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The file it came from.
    pub(crate) file: PathBuf,
    /// Our name in greetings, Received fields and notifications (RFC 5321 §4.1.1.1).
    pub(crate) hostname: String,
    /// Everything that the server writes lies below this folder.
    pub(crate) data: PathBuf,
    /// How much is logged, and in which form.
    pub(crate) log: Log,
    /// Where mail comes in.
    pub(crate) listeners: Vec<Listener>,
    /// What we show to clients that ask for TLS.
    pub(crate) tls: Tls,
    /// Bounds of sessions and messages.
    pub(crate) limits: Limits,
    /// What is held against abuse.
    pub(crate) door: DoorLimits,
    /// The domains whose mailboxes are here; what their files say is in them.
    pub(crate) domains: Vec<LocalDomain>,
    /// Lists of members; they are among the domains, too.
    pub(crate) lists: Vec<List>,
    /// How the reverse-paths of what is forwarded are rewritten.
    pub(crate) srs: Option<Srs>,
    /// Who may log in: those of this file, then those of the users' file.
    pub(crate) users: Vec<User>,
    /// How logins are checked.
    pub(crate) logins: Logins,
    /// Whose mail is believed.
    pub(crate) authentication: Authentication,
    /// Our keys.
    pub(crate) dkim: Vec<DkimKey>,
    /// Reports to the owners of domains; none are kept or sent without it.
    pub(crate) dmarc_reports: Option<DmarcReports>,
    /// Networks that may relay without logging in.
    pub(crate) relay_from: Vec<IpNet>,
    /// Where mail to other domains goes, first match first; MX if none fits.
    pub(crate) routes: Vec<RouteRule>,
    /// Names and secrets for next hops, by the name that a route uses.
    pub(crate) credentials: BTreeMap<String, Login>,
    /// Whom we ask for names.
    pub(crate) dns: Dns,
    /// Retries and expiry.
    pub(crate) queue: Queue,
    /// Connections to other hosts.
    pub(crate) delivery: Delivery,
    /// Tables that plugins may look up.
    pub(crate) tables: Vec<Table>,
    /// The plugins, in the order in which they are asked.
    pub(crate) plugins: Vec<Plugin>,
    /// What all plugins share.
    pub(crate) policy: Policy,
    /// How long it is known what was decided.
    pub(crate) trace: Trace,
    /// Where administrators and monitoring connect.
    pub(crate) admin: Admin,
}

/// `[log]`
#[derive(Clone, Debug)]
pub(crate) struct Log {
    /// A filter of the form `info` or `info,policy=debug`.
    pub(crate) level: String,
    /// One JSON object a line instead of text.
    pub(crate) json: bool,
}

/// `[[listener]]`
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    /// Its name in logs and for plugins.
    pub(crate) name: String,
    /// What it is for.
    pub(crate) role: Role,
    /// Where it listens.
    pub(crate) address: Address,
    /// A PROXY protocol header is required from these networks, and refused from others.
    pub(crate) proxy_from: Vec<IpNet>,
}

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Other servers bring mail for our domains (port 25).
    Mx,
    /// Our users send, after STARTTLS (port 587, RFC 6409).
    Submission,
    /// Our users send, with TLS from the first octet (port 465, RFC 8314).
    Submissions,
    /// LMTP (RFC 2033).
    Lmtp,
}

/// A TCP address or the path of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// `[tls]`
#[derive(Clone, Debug)]
pub(crate) enum Tls {
    /// A certificate that the first start makes for itself.
    SelfSigned,
    /// PEM files: chain and key.
    Files(Vec<(PathBuf, PathBuf)>),
}

/// `[limits]`
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Sessions at the same time, all listeners together.
    pub(crate) connections: usize,
    /// Sessions at the same time from one address (IPv6: from one /64).
    pub(crate) connections_per_address: usize,
    /// Sessions at the same time from one network (IPv4 /24, IPv6 /48); four times as many as from an address if absent.
    pub(crate) connections_per_network: Option<usize>,
    /// Octets of one message, announced as SIZE (RFC 1870).
    pub(crate) message: u64,
    /// Recipients of one transaction (RFC 5321 §4.5.3.1.8 asks for 100 at least).
    pub(crate) recipients: usize,
    /// Octets of one message's header.
    pub(crate) header: u64,
    /// Commands that fail before the session ends.
    pub(crate) errors: u64,
    /// Commands between two transactions that do nothing (NOOP, RSET, VRFY, …).
    pub(crate) commands: u64,
    /// How long we wait for a command (RFC 5321 §4.5.3.2.7: five minutes at least).
    pub(crate) command_timeout: Duration,
    /// How long a stop waits for sessions to finish.
    pub(crate) drain: Duration,
    /// Octets of memory that the process may hold; near it mail is refused. `None`: three quarters of what there is.
    pub(crate) memory: Option<u64>,
}

/// `[[domain]]`
#[derive(Clone, Debug)]
pub(crate) struct LocalDomain {
    /// The domain.
    pub(crate) name: Domain,
    /// Local parts that have a mailbox.
    pub(crate) users: BTreeSet<String>,
    /// The form of a route, with `{domain}` and `{user}`.
    pub(crate) deliver: String,
    /// Who gets what is addressed to nobody.
    pub(crate) catch_all: Option<Mailbox>,
    /// Local parts that stand for others.
    pub(crate) aliases: BTreeMap<String, Vec<Mailbox>>,
    /// A file with more of them: `name: member, member`.
    pub(crate) alias_file: Option<PathBuf>,
    /// Who logs in with an address of this domain has a mailbox, too.
    pub(crate) logins_have_mailboxes: bool,
    /// The lists of this domain.
    pub(crate) lists: BTreeMap<String, MailingList>,
    /// How much the mailboxes hold.
    pub(crate) quota: Quota,
    /// The separator in `user+detail`.
    pub(crate) subaddress: Option<char>,
}

/// `[[list]]`
#[derive(Clone, Debug)]
pub(crate) struct List {
    /// The line of the file where it stands.
    pub(crate) line: usize,
    /// Its address.
    pub(crate) address: Mailbox,
    /// Its owner, and the members that stand in the configuration.
    pub(crate) list: MailingList,
    /// A file with more members, one a line.
    pub(crate) file: Option<PathBuf>,
}

/// `[srs]`
#[derive(Clone, Debug)]
pub(crate) struct Srs {
    /// The domain of rewritten reverse-paths.
    pub(crate) domain: Domain,
    /// The secrets, one a line: the first signs, all are believed. Made at the first start.
    pub(crate) file: PathBuf,
}

/// `[[user]]`, here and in the users' file.
#[derive(Clone, Debug)]
pub(crate) struct User {
    /// The name to log in with.
    pub(crate) name: String,
    /// A hash: argon2 as `gatepost user hash` makes it, bcrypt, or sha512-crypt.
    pub(crate) password: Secret,
    /// What SCRAM is held with; without it the user logs in by PLAIN and LOGIN only.
    pub(crate) scram: Option<ScramVerifier>,
    /// Addresses that the user may send as besides its own: `a@b`, `@domain`, `*`.
    pub(crate) may_send_as: Vec<SendAs>,
}

/// `[logins]`
#[derive(Clone, Debug)]
pub(crate) struct Logins {
    /// The users' file, which `gatepost user` writes; it need not be there.
    pub(crate) file: PathBuf,
    /// The auth-client socket of a Dovecot that knows further users.
    pub(crate) dovecot: Option<PathBuf>,
    /// How many logins may fail.
    pub(crate) limits: LoginLimits,
}

/// `[[route]]`
#[derive(Clone, Debug)]
pub(crate) struct RouteRule {
    /// `*`, a domain, or `.parent.domain`.
    pub(crate) to: String,
    /// Where its mail goes; none: to the hosts that its domain names in the DNS.
    pub(crate) via: Option<Route>,
    /// Which of our addresses its connections come from: one of each family at most.
    pub(crate) source: net::Source,
    /// Messages per time to each host.
    pub(crate) rate: Option<delivery::Rate>,
}

/// `[credentials.NAME]`
#[derive(Clone)]
pub(crate) struct Login {
    /// The identity.
    pub(crate) user: String,
    /// The secret.
    pub(crate) password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// `[dns]`
#[derive(Clone, Debug)]
pub(crate) struct Dns {
    /// Resolvers; none: those of `/etc/resolv.conf`.
    pub(crate) servers: Vec<SocketAddr>,
    /// For one question, all tries included.
    pub(crate) timeout: Duration,
    /// Names whose addresses stand here and are asked of nobody.
    pub(crate) hosts: BTreeMap<String, Vec<IpAddr>>,
}

/// `[queue]`
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    /// The wait after the first failed attempt.
    pub(crate) first_retry: Duration,
    /// By how much each further wait is longer.
    pub(crate) retry_factor: f64,
    /// The longest wait.
    pub(crate) longest_retry: Duration,
    /// When we give up (RFC 5321 §4.5.4.1: four or five days).
    pub(crate) expire: Duration,
    /// When the sender is told that a message is late.
    pub(crate) delay_notice: Duration,
    /// The same five for the recipients of some domains: `[[queue.schedule]]`.
    pub(crate) schedules: Vec<(String, queue::ScheduleConfig)>,
    /// Messages in the queue; more are refused with 452 until there are a tenth fewer.
    pub(crate) max_messages: usize,
    /// Octets in the queue.
    pub(crate) max_octets: u64,
    /// Messages of one sender: of who logged in, or of one reverse-path.
    pub(crate) max_messages_per_sender: u64,
    /// Octets of one sender.
    pub(crate) max_octets_per_sender: u64,
    /// Mail is refused with less than so many octets free on the spool's file system, until there are half as many more.
    pub(crate) free_space: u64,
    /// The same for inodes.
    pub(crate) free_inodes: u64,
    /// Every message stays until it is released.
    pub(crate) hold: bool,
}

/// `[delivery]`
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// The port of MX hosts; anything but 25 is for tests.
    pub(crate) port: u16,
    /// Connections at the same time to one destination.
    pub(crate) connections_per_destination: usize,
    /// Messages over one connection.
    pub(crate) messages_per_connection: u32,
    /// How long an idle connection is kept for the next message.
    pub(crate) idle_connection: Duration,
}

/// `[[table]]`
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// The name in grants and look-ups.
    pub(crate) name: String,
    /// The text file.
    pub(crate) file: PathBuf,
    /// How keys are compared.
    pub(crate) kind: TableKind,
}

/// How the keys of a table are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableKind {
    /// Letter for letter, without regard to case.
    Exact,
    /// The longest prefix that holds an address.
    Cidr,
    /// An address, then `@domain`, then the nearest `.parent`.
    Address,
    /// A domain, then the nearest `.parent`.
    Domain,
}

/// `[policy]`
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// Threads that run plugins.
    pub(crate) threads: usize,
    /// What the compilation of one plugin may use up.
    pub(crate) compiler: CompilerLimits,
}

/// `[[plugin]]`
#[derive(Clone, Debug)]
pub(crate) struct Plugin {
    /// The line of the file where it stands.
    pub(crate) line: usize,
    /// Its name in logs, traces and its store.
    pub(crate) name: String,
    /// The component.
    pub(crate) component: Component,
    /// Whether it is asked at all; `gatepost plugin enable` and `disable` change it.
    pub(crate) enabled: bool,
    /// The digest that the component must have.
    pub(crate) sha256: Option<String>,
    /// What a failed call means.
    pub(crate) on_error: OnError,
    /// When it is not asked any more, and what then.
    pub(crate) breaker: BreakerConfig,
    /// What it may do besides deciding.
    pub(crate) grants: policy::Grants,
    /// What it may use.
    pub(crate) limits: PluginLimits,
    /// Its own table.
    pub(crate) config: serde_json::Value,
}

/// Where a component comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Component {
    /// A file.
    File(PathBuf),
    /// One of the plugins that come with the server.
    Bundled(String),
}

/// What a failed call of a plugin means for the command it was asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnError {
    /// 451 4.3.0.
    Defer,
    /// As if it had no opinion.
    Pass,
    /// 554 5.3.0.
    Reject,
}

/// `[trace]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    /// What is older is removed.
    pub(crate) keep: Duration,
    /// Where there is more than so many octets, the oldest goes.
    pub(crate) size: u64,
}

/// `[admin]`
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    /// The Unix socket for `gatepost queue` and its like.
    pub(crate) socket: PathBuf,
    /// `/metrics` and `/healthz` over HTTP; nowhere if absent.
    pub(crate) http: Option<SocketAddr>,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// All faults of the file, in its order; one that names the file if it can't be read.
    pub(crate) fn load(file: &Path) -> Result<Self, Vec<Fault>> {
        let text = std::fs::read_to_string(file).map_err(|error| {
            let message = format!("can't read this file: {error}");
            vec![Fault { file: file.to_owned(), line: 1, key: String::new(), message }]
        })?;
        if let Some(message) = open_to_all(file) {
            return Err(vec![Fault {
                file: file.to_owned(),
                line: 1,
                key: String::new(),
                message,
            }]);
        }
        Self::parse(file, &text)
    }

    /// Checks the text of a configuration; `file` stands in the faults.
    ///
    /// # Errors
    /// All faults, in the order of the text.
    pub(crate) fn parse(file: &Path, text: &str) -> Result<Self, Vec<Fault>> {
        let source = Source::new(file, text);
        let table = table(&source, text);
        let config = sections::read(&Reader::root(&source, table.get_ref()), file);
        match (config, source.into_faults()) {
            (Some(config), faults) if faults.is_empty() => config.with_users_file()?.with_files(),
            (_, faults) => Err(faults),
        }
    }

    /// Adds the users of the users' file, if there is one.
    fn with_users_file(mut self) -> Result<Self, Vec<Fault>> {
        let file = self.logins.file.clone();
        let fault = |message: String| {
            vec![Fault { file: file.clone(), line: 1, key: String::new(), message }]
        };
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(self),
            Err(error) => return Err(fault(format!("can't read this file: {error}"))),
        };
        let source = Source::new(&file, &text);
        let table = table(&source, &text);
        self.users.extend(sections::users(&Reader::root(&source, table.get_ref())));
        let mut names = BTreeSet::new();
        for user in &self.users {
            if !names.insert(user.name.to_ascii_lowercase()) {
                source.fault(0, "user", format!("the name \"{}\" stands twice", user.name));
            }
        }
        let faults = source.into_faults();
        if faults.is_empty() { Ok(self) } else { Err(faults) }
    }

    /// Adds what the files of domains and lists say.
    fn with_files(mut self) -> Result<Self, Vec<Fault>> {
        let faults = addresses::read_files(&mut self.domains, &self.lists, &self.users, &self.file);
        if faults.is_empty() { Ok(self) } else { Err(faults) }
    }

    /// Files besides this one that say who lives here: a change of one is a change of the configuration.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let secrets = self.srs.iter().map(|srs| srs.file.clone());
        addresses::files(&self.domains, &self.lists).into_iter().chain(secrets).collect()
    }

    /// A folder below [`Config::data`].
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }
}

/// Why everybody on this machine could put something else in the place of this file, if that is so.
fn open_to_all(file: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| Some(std::fs::metadata(path).ok()?.permissions().mode());
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    if mode(file)? & 0o002 != 0 {
        let name = file.display();
        return Some(format!("everybody may write to {name}; chmod o-w {name}"));
    }
    // In a folder with the sticky bit, as /tmp is, nobody removes what is another's.
    if mode(folder)? & 0o1002 == 0o002 {
        let name = folder.display();
        return Some(format!("everybody may write to the folder {name}; chmod o-w {name}"));
    }
    None
}

/// The table of a file; where the text is no TOML, that is a fault of the file.
pub(crate) fn table<'a>(source: &Source, text: &'a str) -> Spanned<DeTable<'a>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        source.fault(error.span().map_or(0, |span| span.start), "", error.message());
    }
    table
}
