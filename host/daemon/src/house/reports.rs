//! DMARC aggregate reports (RFC 9990): what is seen is kept in the data folder, and told to the owners of the domains once
//! in a span of time.
//!
//! A span has one file, `seen-BEGIN-END`, with a line of JSON for each message. When it is over, the reports are made of it
//! and handed to the queue, and `sent-BEGIN-END` names the domains that are done. A crash in between repeats one report
//! at most, under the same id and the same file name, as RFC 9990 §3.5.2 wants it. A line that a crash cut off is passed over.
//! What cannot be sent is tried for three days (RFC 9990 §3.5 lets us keep or discard it), and takes no more room meanwhile
//! than one span may.

mod kept;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use auth::Discovery;
use auth::report::{Carrier, Gathered, Observation, destinations};
use inbound::{Injection, Injector};
use net::Resolver;
use smtp::{ForwardPath, MailParameters, Mailbox, Notify, RcptParameters, Recipient, ReversePath};
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{Notify as Signal, mpsc};
use tokio::task::JoinHandle;

use self::kept::surplus;
pub(crate) use self::kept::{Span, gathered, spans};
use crate::config::{Config, DmarcReports};

/// Messages that may wait to be written. A server that is busier than its disk leaves some out of its reports, and says so.
pub(super) const WAITING: usize = 4096;

/// How often what was seen goes to the disk: so much is lost by a power cut.
const FLUSH: Duration = Duration::from_secs(5);

/// How often it is looked for spans that are over, and for reports that could not be made before.
const RESEND: Duration = Duration::from_secs(15 * 60);

/// Seconds after which nothing is written any more to a span that is over.
const SETTLED: u64 = 3 * FLUSH.as_secs();

/// How long a report is tried that cannot be made, because the DNS does not answer or the queue is full.
const PATIENCE: Duration = Duration::from_secs(3 * 24 * 3600);

/// What is running.
pub(super) struct Reporting {
    stop: Arc<Signal>,
    task: JoinHandle<()>,
}

/// Begins to keep and to send, where the configuration says so.
pub(super) fn start(
    config: &Config,
    discovery: Discovery,
    resolver: Resolver,
    injector: Injector,
    seen: mpsc::Receiver<Observation>,
) -> Option<Reporting> {
    let reports = Reports {
        config: config.dmarc_reports.clone()?,
        folder: config.folder("dmarc"),
        hostname: config.hostname.clone(),
        discovery,
        resolver,
        injector,
    };
    let stop = Arc::new(Signal::new());
    let task = tokio::spawn(reports.run(seen, Arc::clone(&stop)));
    Some(Reporting { stop, task })
}

impl Reporting {
    /// Lets it write what it has.
    pub(super) async fn stop(self, wait: Duration) {
        self.stop.notify_one();
        if tokio::time::timeout(wait, self.task).await.is_err() {
            tracing::warn!("what was seen last is in no DMARC report");
        }
    }
}

/// The one who keeps and sends.
struct Reports {
    config: DmarcReports,
    /// `data/dmarc`
    folder: PathBuf,
    hostname: String,
    discovery: Discovery,
    resolver: Resolver,
    injector: Injector,
}

/// What is kept of the span that is not over.
struct Keeping {
    span: Span,
    file: File,
    octets: u64,
    left_out: u64,
}

impl Reports {
    /// Keeps what is seen, and sends, until it is told to stop.
    async fn run(self, seen: mpsc::Receiver<Observation>, stop: Arc<Signal>) {
        // Apart, so that the making of many reports does not hold up what is seen meanwhile.
        tokio::select! {
            () = self.keep_all(seen, &stop) => {}
            () = self.send_forever() => {}
        }
    }

    async fn keep_all(&self, mut seen: mpsc::Receiver<Observation>, stop: &Signal) {
        let mut keeping = self.keep(now()).await;
        let mut flush = tokio::time::interval(FLUSH);
        loop {
            tokio::select! {
                Some(observation) = seen.recv() => self.add(&mut keeping, &observation).await,
                _ = flush.tick() => {
                    sync(&mut keeping).await;
                    let now = now();
                    if keeping.as_ref().is_none_or(|keeping| keeping.span.end < now) {
                        keeping = self.keep(now).await;
                    }
                }
                () = stop.notified() => break,
            }
        }
        while let Ok(observation) = seen.try_recv() {
            self.add(&mut keeping, &observation).await;
        }
        sync(&mut keeping).await;
    }

    async fn send_forever(&self) {
        let mut resend = tokio::time::interval(RESEND.min(self.config.interval));
        loop {
            resend.tick().await;
            self.send_all(now()).await;
        }
    }

    /// Opens the file of the span of this moment.
    async fn keep(&self, now: u64) -> Option<Keeping> {
        let span = Span::around(now, self.config.interval);
        let path = self.folder.join(span.name("seen"));
        let open = async {
            tokio::fs::create_dir_all(&self.folder).await?;
            let mut file = OpenOptions::new().create(true).append(true).open(&path).await?;
            let octets = file.metadata().await?.len();
            // What a crash cut off must not swallow the next line.
            if octets > 0 {
                file.write_all(b"\n").await?;
            }
            Ok::<_, std::io::Error>(Keeping { span, file, octets, left_out: 0 })
        };
        let opened = open.await;
        if let Err(error) = &opened {
            tracing::error!(path = %path.display(), %error, "what is seen for DMARC reports can't be kept");
        }
        opened.ok()
    }

    async fn add(&self, keeping: &mut Option<Keeping>, observation: &Observation) {
        let Some(kept) = keeping else { return };
        let Ok(mut line) = serde_json::to_vec(observation) else { return };
        line.push(b'\n');
        if kept.octets + line.len() as u64 > self.config.space {
            if kept.left_out == 0 {
                tracing::warn!(
                    space = self.config.space,
                    "[dmarc-reports] space is full: the reports of this span will lack what comes now"
                );
            }
            kept.left_out += 1;
            return;
        }
        kept.octets += line.len() as u64;
        if let Err(error) = kept.file.write_all(&line).await {
            tracing::error!(%error, "what is seen for DMARC reports can't be kept");
            *keeping = None;
        }
    }

    /// Makes and sends the reports of all spans that are over.
    async fn send_all(&self, now: u64) {
        let spans = match spans(&self.folder) {
            Ok(spans) => spans,
            Err(error) => {
                tracing::error!(folder = %self.folder.display(), %error, "DMARC reports can't be read");
                return;
            }
        };
        for span in spans.into_iter().filter(|span| span.end + SETTLED < now) {
            match self.send(span).await {
                Ok(0) => self.forget(span).await,
                Ok(open) if span.end + PATIENCE.as_secs() < now => {
                    tracing::warn!(open, begin = span.begin, "DMARC reports are given up");
                    self.forget(span).await;
                }
                Ok(open) => tracing::info!(
                    open,
                    begin = span.begin,
                    "DMARC reports wait for the DNS or the queue"
                ),
                Err(error) => {
                    tracing::error!(begin = span.begin, "DMARC reports can't be sent: {error:#}")
                }
            }
        }
        self.make_room(now).await;
    }

    /// What waits has as much room as one span; of more, the oldest is given up.
    async fn make_room(&self, now: u64) {
        let space = self.config.space;
        match surplus(&self.folder, space, now) {
            Ok(spans) => {
                for span in spans {
                    tracing::warn!(
                        space,
                        begin = span.begin,
                        "what waits takes more than [dmarc-reports] space: the oldest DMARC reports are given up"
                    );
                    self.forget(span).await;
                }
            }
            Err(error) => {
                tracing::error!(folder = %self.folder.display(), %error, "DMARC reports can't be read");
            }
        }
    }

    /// Sends the reports of one span that were not sent yet. How many are still open?
    async fn send(&self, span: Span) -> Result<usize> {
        let folder = self.folder.clone();
        let collector = tokio::task::spawn_blocking(move || gathered(&folder, span)).await??;
        let done_path = self.folder.join(span.name("sent"));
        let done: BTreeSet<String> = match std::fs::read_to_string(&done_path) {
            Ok(text) => text.lines().map(str::to_owned).collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(error).context(done_path.display().to_string()),
        };
        let mut log = OpenOptions::new().create(true).append(true).open(&done_path).await?;
        let mut open = 0;
        for (domain, seen) in collector.domains().filter(|(domain, _)| !done.contains(*domain)) {
            if self.send_one(domain, seen, span).await? {
                log.write_all(format!("{domain}\n").as_bytes()).await?;
                log.flush().await?;
                log.sync_data().await?;
            } else {
                open += 1;
            }
        }
        Ok(open)
    }

    /// Sends one report to all who may have it; false where that is to be tried again.
    async fn send_one(&self, domain: &str, seen: &Gathered, span: Span) -> Result<bool> {
        let found =
            destinations(&self.resolver, self.discovery, domain, &seen.organization, &seen.to);
        let Ok(addresses) = found.await else { return Ok(false) };
        let from = self.config.from.to_string();
        let carrier = Carrier { from: &from, submitter: &self.hostname, now: moment() };
        let report =
            seen.report(&self.config.organization, &from, id(domain, span), (span.begin, span.end));
        let plain: Vec<&str> = addresses.iter().map(|(address, _)| address.as_str()).collect();
        let octets = report.mail(&carrier, &plain)?.len() as u64;
        // RFC 7489 §6.2: the size behind an address is the most that its owner takes (RFC 9990 knows none).
        let fits = |most: &Option<u64>| most.is_none_or(|most| octets <= most);
        let mut all_taken = true;
        for (address, most) in &addresses {
            let Ok(mailbox) = address.parse::<Mailbox>() else { continue };
            if !fits(most) {
                tracing::info!(
                    domain,
                    address,
                    octets,
                    "a DMARC report is larger than its owner takes"
                );
                continue;
            }
            // Each gets a message of its own: one that refuses holds up no other.
            let content = report.mail(&carrier, &[address.as_str()])?;
            all_taken &= self.hand_in(domain, mailbox, content).await;
        }
        Ok(all_taken)
    }

    async fn hand_in(&self, domain: &str, to: Mailbox, content: Vec<u8>) -> bool {
        let address = to.to_string();
        let recipient = Recipient {
            path: ForwardPath::Mailbox(to),
            // Nobody reads what comes back about a report.
            parameters: RcptParameters {
                notify: Some(Notify::never()),
                ..RcptParameters::default()
            },
        };
        let mail = Injection {
            reverse_path: ReversePath::Mailbox(self.config.from.clone()),
            parameters: MailParameters::default(),
            recipients: vec![recipient],
            content: content.into(),
        };
        match self.injector.local(mail).await {
            Ok(message) => {
                tracing::info!(domain, address, %message, "a DMARC report is on its way");
                true
            }
            Err(reply) if reply.is_temporary() => false,
            Err(reply) => {
                tracing::warn!(domain, address, %reply, "a DMARC report was refused by our own rules");
                true
            }
        }
    }

    async fn forget(&self, span: Span) {
        for kind in ["seen", "sent"] {
            let path = self.folder.join(span.name(kind));
            if let Err(error) = tokio::fs::remove_file(&path).await
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::error!(path = %path.display(), %error, "a file of DMARC reports can't be removed");
            }
        }
    }
}

async fn sync(keeping: &mut Option<Keeping>) {
    let Some(kept) = keeping else { return };
    let synced = async {
        kept.file.flush().await?;
        kept.file.sync_data().await
    };
    if let Err(error) = synced.await {
        tracing::error!(%error, "what is seen for DMARC reports can't be kept");
        *keeping = None;
    }
}

/// The same for the same domain and span, whenever it is asked for (RFC 9990 §3.5.1).
fn id(domain: &str, span: Span) -> String {
    // FNV-1a: it has to be the same after a restart and an update, and to be different for most domains; no more.
    let hash = domain.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{}x{hash:016x}", span.begin)
}

#[expect(clippy::disallowed_methods, reason = "reports tell of the time of day")]
fn moment() -> SystemTime {
    SystemTime::now()
}

fn now() -> u64 {
    moment().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_same_each_time_and_differ() {
        let span = Span { begin: 7, end: 9 };
        assert_eq!(id("example.org", span), id("example.org", span));
        assert_ne!(id("example.org", span), id("example.net", span));
        assert!(id("example.org", span).bytes().all(|octet| octet.is_ascii_alphanumeric()));
    }
}
