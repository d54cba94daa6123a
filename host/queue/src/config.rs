//! What can be set, and what it is when nobody sets it.

use std::path::PathBuf;
use std::time::Duration;

/// How a queue is to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The spool. Made if absent (mode 0700); one server at a time.
    pub directory: PathBuf,
    /// What it may use.
    pub limits: Limits,
    /// When it tries again and when it gives up.
    pub schedule: ScheduleConfig,
    /// Other schedules for the recipients of some domains; the first that fits counts.
    pub schedules: Vec<RouteSchedule>,
    /// Deliveries in hand at once for one destination.
    pub per_destination: usize,
    /// Deliveries in hand at once, of all destinations: as many as there are workers. When they are scarce, each destination
    /// gets fewer.
    pub workers: usize,
    /// The name of the hold on every message that is accepted. `None`: no hold but what policy and operators say.
    pub hold: Option<String>,
    /// Messages being routed or delivered at once. All others are a few dozen octets of memory each.
    pub active: usize,
}

impl Config {
    /// The defaults, with the spool in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            limits: Limits::default(),
            schedule: ScheduleConfig::default(),
            schedules: Vec::new(),
            // RFC 5321 §4.5.4.1 advises against many simultaneous connections to one host; Postfix has 20 as well.
            per_destination: 20,
            workers: 500,
            hold: None,
            active: 2000,
        }
    }
}

/// Everything that grows has a limit.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Messages in the queue. Each costs about 150 octets of memory.
    pub messages: usize,
    /// Octets of content in the queue.
    pub octets: u64,
    /// Messages of one sender: of who had logged in, or of one reverse-path.
    pub sender_messages: u64,
    /// Octets of content of one sender.
    pub sender_octets: u64,
    /// Size of a segment of the log, in octets; a multiple of 4096.
    pub segment_octets: u64,
    /// Segments in use, the current one included, before accepting pauses; one that a start cut off counts by its octets.
    /// Survivors are moved out when half as many are in use.
    pub segments: usize,
    /// End of each segment that only STATE and DONE records may use, in octets, so that a full disk stops accepting and
    /// not delivering.
    pub reserve_octets: u64,
    /// Larger messages go to a file of their own, in octets of received content.
    pub large_octets: u64,
    /// Memory of all drafts together, in octets; beyond it a draft goes to its own file at once.
    pub draft_memory_octets: u64,
    /// Accepting stops when less than this is free on the file system, in octets…
    pub free_octets: u64,
    /// …or fewer inodes than this. Both are released at one and a half times the mark.
    pub free_inodes: u64,
    /// Messages in one batch of the log: what a crash can tear, and how long a flush can take.
    pub batch_messages: usize,
    /// Octets in one batch of the log.
    pub batch_octets: u64,
    /// What stays longer than this is moved from the log to a readable file of its own.
    pub settle_after: Duration,
    /// An index of `deferred/` that is not larger is read before the queue opens; a larger one while it runs, in octets.
    pub index_at_once_octets: u64,
    /// Recipients of one message after aliases were expanded. Ten times what RFC 5321 §4.5.3.1.8 demands.
    pub recipients: usize,
    /// Aliases of aliases; a deeper one is a loop.
    pub expansions: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            messages: 5_000_000,
            // The disk is the limit.
            octets: u64::MAX,
            // A fiftieth: no single sender fills the queue, and no honest list meets it.
            sender_messages: 100_000,
            sender_octets: u64::MAX,
            segment_octets: 64 << 20,
            segments: 16,
            reserve_octets: 1 << 20,
            large_octets: 1 << 20,
            draft_memory_octets: 256 << 20,
            free_octets: 256 << 20,
            free_inodes: 1000,
            batch_messages: 512,
            batch_octets: 8 << 20,
            settle_after: Duration::from_secs(120),
            index_at_once_octets: 16 << 20,
            recipients: 10_000,
            expansions: 10,
        }
    }
}

impl Limits {
    /// For tests and tiny machines: segments of 2 MiB, and no demands on free space.
    pub fn small() -> Self {
        Self {
            segment_octets: 2 << 20,
            reserve_octets: 64 << 10,
            large_octets: 64 << 10,
            free_octets: 0,
            free_inodes: 0,
            ..Self::default()
        }
    }
}

/// A schedule for the recipients of some domains.
#[derive(Clone, Debug)]
pub struct RouteSchedule {
    /// "example.org", ".example.org" for what is below it, or "*".
    pub to: String,
    /// Their schedule.
    pub schedule: ScheduleConfig,
}

impl RouteSchedule {
    pub(crate) fn fits(&self, domain: &str) -> bool {
        let to = self.to.as_str();
        let below = || {
            let at = domain.len().checked_sub(to.len())?;
            Some(domain.get(at..)?.eq_ignore_ascii_case(to))
        };
        to == "*"
            || domain.eq_ignore_ascii_case(to)
            || (to.starts_with('.') && below() == Some(true))
    }
}

/// When a recipient is tried again, and for how long.
#[derive(Clone, Debug)]
pub struct ScheduleConfig {
    /// First interval. RFC 5321 §4.5.4.1 says 30 minutes in general and allows shorter ones at first; greylisting hosts
    /// let a second attempt pass after about 5 minutes.
    pub first: Duration,
    /// By how much each interval is longer than the one before.
    pub factor: f64,
    /// Longest interval (RFC 5321 §4.5.4.1: at least 30 minutes in the long run).
    pub longest: Duration,
    /// Given up after so long a wait, RFC 5321 §4.5.4.1: 4 to 5 days.
    pub max_age: Duration,
    /// The sender is told of a delay after so long a wait (RFC 3461 §4.1), once. `None`: never.
    pub delay_notice_after: Option<Duration>,
    /// After a delivery or notice that was dropped without a result, or a content that could not be read.
    pub soon: Duration,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            first: Duration::from_mins(5),
            factor: 1.5,
            longest: Duration::from_hours(4),
            max_age: Duration::from_hours(5 * 24),
            delay_notice_after: Some(Duration::from_hours(4)),
            soon: Duration::from_secs(30),
        }
    }
}
