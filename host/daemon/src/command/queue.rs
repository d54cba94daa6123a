//! `gatepost queue`: asks the running server over its admin socket.

mod files;
mod print;
mod progress;
mod which;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use smtp::{Reply, Route};

use ::queue::{Changes, Priority, Suspension};

use self::progress::Progress;
use self::which::{Which, duration};
use super::{At, count, say};
use crate::admin::client::Client;

#[derive(Args, Debug)]
pub(crate) struct Queue {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    at: At,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say whether mail comes in and goes out, what was set aside, and what to do about it
    Status,
    /// List messages, the oldest first
    List(Which),
    /// Show one message: envelope, recipients, what was tried
    Show {
        /// Its id
        id: String,
        /// Print the content instead
        #[arg(long)]
        content: bool,
    },
    /// List destinations: how many messages, the oldest, the next attempt, the last reply, connections
    Destinations {
        /// Only names that have this in them
        name: Option<String>,
    },
    /// Keep back a destination, a sender or a tag until it is resumed, over restarts too
    ///
    /// Mail for it is still accepted, and waits. What is being delivered at this moment is finished.
    Suspend {
        #[command(flatten)]
        what: What,
        /// Why, for `queue suspended` and those who come after you
        #[arg(long)]
        reason: Option<String>,
    },
    /// End a suspension: what was due meanwhile is tried now
    Resume {
        #[command(flatten)]
        what: What,
    },
    /// List what is suspended
    Suspended,
    /// Try now, whatever the schedule says
    Retry(Act),
    /// Hold: no attempts until released
    Hold {
        /// The name of the hold, for `queue list` and those who come after you
        #[arg(long, default_value = "admin")]
        name: String,
        #[command(flatten)]
        act: Act,
    },
    /// Release what is held, or in quarantine
    Release(Act),
    /// Remove without telling the sender
    Remove(Act),
    /// Give up now, and tell the sender
    Bounce {
        /// The reply that the report shows, as in "550 5.7.1 We do not relay this"
        #[arg(long)]
        reply: Option<String>,
        #[command(flatten)]
        act: Act,
    },
    /// Change priority, tags, lifetime, next hop or the time of the next attempt
    Change {
        #[command(flatten)]
        changes: ChangeArgs,
        #[command(flatten)]
        act: Act,
    },
    Export(files::Export),
    Import(files::Import),
    Fsck(files::Fsck),
}

/// What is suspended or resumed.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
struct What {
    /// A domain of recipients ("example.org"), or a name as `queue destinations` shows it ("mx:example.org")
    #[arg(long)]
    destination: Option<String>,
    /// A reverse-path ("" for the null path, "@example.org" for a domain), or the name of a user who logs in
    #[arg(long)]
    sender: Option<String>,
    /// A tag that a plugin or `queue change` gave
    #[arg(long)]
    tag: Option<String>,
}

/// Messages, and whether they are touched.
#[derive(Args, Clone, Debug)]
struct Act {
    #[command(flatten)]
    which: Which,
    /// Change nothing; list what would be changed
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args, Clone, Debug)]
struct ChangeArgs {
    /// From -9 to 9; 0 is ordinary, above it goes first
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    set_priority: Option<i8>,
    /// Give a tag
    #[arg(long, value_name = "TAG")]
    add_tag: Vec<String>,
    /// Take a tag away
    #[arg(long, value_name = "TAG")]
    remove_tag: Vec<String>,
    /// Give up after so long a wait in all, as in "2d"
    #[arg(long, value_name = "TIME", value_parser = duration)]
    set_lifetime: Option<Duration>,
    /// No attempt before so long from now, as in "1h"
    #[arg(long, value_name = "TIME", value_parser = duration)]
    delay: Option<Duration>,
    /// Where its unfinished recipients go, as in "smtp:relay.example.net:25"
    #[arg(long, value_name = "ROUTE")]
    set_route: Option<Route>,
}

impl Queue {
    pub(crate) fn run(self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.ask())
    }

    async fn ask(self) -> Result<()> {
        let config = self.at.load()?;
        let desk = Desk { client: Client::new(&config.admin.socket), json: self.json };
        match self.action {
            Action::Status => desk.status().await,
            Action::List(which) => desk.list(which).await,
            Action::Show { id, content: true } => {
                desk.client.content(&id, &mut std::io::stdout().lock()).await
            }
            Action::Show { id, content: false } => {
                say(&serde_json::to_string_pretty(&desk.client.show(&id).await?)?);
                Ok(())
            }
            Action::Destinations { name } => desk.destinations(name.as_deref()).await,
            Action::Suspend { what, reason } => desk.suspend(what.into(), reason).await,
            Action::Resume { what } => desk.resume(what.into()).await,
            Action::Suspended => desk.suspended().await,
            Action::Export(export) => export.run(&config, self.json),
            Action::Import(import) => import.run(&config, self.json).await,
            Action::Fsck(fsck) => fsck.run(&config, self.json).await,
            Action::Retry(act) => desk.act("retried", ::queue::Action::Retry, act).await,
            Action::Hold { name, act } => {
                desk.act("held", ::queue::Action::Hold { name }, act).await
            }
            Action::Release(act) => desk.act("released", ::queue::Action::Release, act).await,
            Action::Remove(act) => desk.act("removed", ::queue::Action::Remove, act).await,
            Action::Bounce { reply, act } => {
                let reply = reply.as_deref().map(permanent).transpose()?;
                desk.act("bounced", ::queue::Action::Bounce { reply }, act).await
            }
            Action::Change { changes, act } => {
                let action = ::queue::Action::Change(changes.read()?);
                desk.act("changed", action, act).await
            }
        }
    }
}

/// Where a command is carried out, and how its results are shown.
struct Desk {
    client: Client,
    json: bool,
}

impl Desk {
    /// An error if there is anything to do.
    async fn status(&self) -> Result<()> {
        let condition = self.client.status().await?;
        if self.json {
            say(&serde_json::to_string(&condition)?);
        } else {
            print::status(&condition);
        }
        if condition.is_well() { Ok(()) } else { bail!("there is something to do") }
    }

    /// Before any list: what nobody may overlook. On standard error, so that scripts read the list alone.
    async fn warn(&self) -> Result<()> {
        for (fault, _) in self.client.status().await?.faults() {
            eprintln!("{fault} (see `gatepost queue status`)");
        }
        Ok(())
    }

    async fn list(&self, which: Which) -> Result<()> {
        self.warn().await?;
        let messages = self.client.list(&which.filter(false)?).await?;
        if self.json {
            say(&serde_json::to_string(&messages)?);
        } else {
            print::messages(&messages);
        }
        Ok(())
    }

    async fn act(&self, what: &'static str, action: ::queue::Action, act: Act) -> Result<()> {
        let filter = act.which.filter(true)?;
        if act.dry_run {
            let messages = self.client.list(&filter).await?;
            if self.json {
                let ids: Vec<_> = messages.iter().map(|message| message.id).collect();
                let would = format!("would-be-{what}");
                say(&serde_json::json!({ would: messages.len(), "ids": ids }).to_string());
            } else {
                print::messages(&messages);
                say(&format!("dry run: nothing was {what}"));
            }
            return Ok(());
        }
        let mut progress = Progress::new(what);
        let changed =
            self.client.change(action, filter, |done, of| progress.show(done, of)).await?;
        drop(progress);
        if self.json {
            say(&serde_json::json!({ what: changed }).to_string());
        } else {
            say(&format!("{what} {}", count(changed, "message")));
        }
        Ok(())
    }

    async fn destinations(&self, name: Option<&str>) -> Result<()> {
        self.warn().await?;
        let mut destinations = self.client.destinations().await?;
        destinations.retain(|one| name.is_none_or(|name| one.queue.name.contains(name)));
        if self.json {
            say(&serde_json::to_string(&destinations)?);
        } else {
            print::destinations(&destinations);
        }
        Ok(())
    }

    async fn suspend(&self, what: Suspension, reason: Option<String>) -> Result<()> {
        self.client.suspend(&what, reason.as_deref()).await?;
        self.done("suspended", &what);
        Ok(())
    }

    async fn resume(&self, what: Suspension) -> Result<()> {
        self.client.resume(&what).await?;
        self.done("resumed", &what);
        Ok(())
    }

    fn done(&self, verb: &str, what: &Suspension) {
        if self.json {
            say(&serde_json::json!({ verb: what }).to_string());
        } else {
            say(&format!("{verb} {what}"));
        }
    }

    async fn suspended(&self) -> Result<()> {
        let suspended = self.client.suspended().await?;
        if self.json {
            say(&serde_json::to_string(&suspended)?);
        } else {
            print::suspended(&suspended);
        }
        Ok(())
    }
}

impl From<What> for Suspension {
    fn from(what: What) -> Self {
        match (what.destination, what.sender, what.tag) {
            (Some(name), _, _) => Self::Destination(name),
            (None, Some(sender), _) => {
                Self::Sender(if sender == "<>" { String::new() } else { sender })
            }
            (None, None, tag) => Self::Tag(tag.unwrap_or_default()),
        }
    }
}

impl ChangeArgs {
    fn read(self) -> Result<Changes> {
        let changes = Changes {
            priority: self.set_priority.map(Priority::new),
            add_tags: self.add_tag.into_iter().collect::<BTreeSet<_>>(),
            remove_tags: self.remove_tag.into_iter().collect(),
            lifetime: self.set_lifetime,
            delay: self.delay,
            route: self.set_route,
        };
        anyhow::ensure!(
            changes != Changes::default(),
            "say what to change: --set-priority, --add-tag, --remove-tag, --set-lifetime, --delay or --set-route"
        );
        Ok(changes)
    }
}

fn permanent(text: &str) -> Result<Reply> {
    let reply = text.parse::<Reply>().ok().filter(Reply::is_permanent);
    reply.with_context(|| format!("\"{text}\" is not a reply as in \"550 5.7.1 No relaying\""))
}
