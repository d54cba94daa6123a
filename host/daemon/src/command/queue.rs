//! `gatepost queue`: asks the running server over its admin socket, or reads the spool when none runs.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use ::queue::{Filter, Summary};

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
    /// Try now, whatever the schedule says
    Retry(Which),
    /// Hold: no attempts until released
    Hold {
        /// The name of the hold, for `queue list` and those who come after you
        #[arg(long, default_value = "admin")]
        name: String,
        #[command(flatten)]
        which: Which,
    },
    /// Release what is held
    Release(Which),
    /// Remove without telling the sender
    Remove(Which),
}

/// Which messages; conditions are combined by «and».
#[derive(Args, Clone, Debug)]
struct Which {
    /// Message ids
    ids: Vec<String>,
    /// All messages
    #[arg(long)]
    all: bool,
    /// Reverse-path ("" for the null path)
    #[arg(long)]
    sender: Option<String>,
    /// A recipient
    #[arg(long)]
    to: Option<String>,
    /// Domain of a recipient
    #[arg(long)]
    domain: Option<String>,
    /// In the queue for longer than this many seconds
    #[arg(long, value_name = "SECONDS")]
    older: Option<u64>,
    /// Only what is held
    #[arg(long)]
    held: bool,
}

impl Queue {
    pub(crate) fn run(self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.ask())
    }

    async fn ask(self) -> Result<()> {
        let config = self.at.load()?;
        let client = Client::new(&config.admin.socket);
        let (what, action, which) = match self.action {
            Action::List(which) => {
                let messages = client.list(&which.filter(false)?).await?;
                if self.json {
                    say(&serde_json::to_string(&messages)?)
                } else {
                    print_list(&messages)
                }
                return Ok(());
            }
            Action::Show { id, content: true } => {
                return client.content(&id, &mut std::io::stdout().lock()).await;
            }
            Action::Show { id, content: false } => {
                say(&serde_json::to_string_pretty(&client.show(&id).await?)?);
                return Ok(());
            }
            Action::Retry(which) => ("retried", ::queue::Action::Retry, which),
            Action::Hold { name, which } => ("held", ::queue::Action::Hold { name }, which),
            Action::Release(which) => ("released", ::queue::Action::Release, which),
            Action::Remove(which) => ("removed", ::queue::Action::Remove, which),
        };
        report(self.json, what, client.change(action, which.filter(true)?).await?);
        Ok(())
    }
}

impl Which {
    /// `acts`: the command changes something, so «nothing was said» must not mean «all».
    fn filter(self, acts: bool) -> Result<Filter> {
        let said = !self.ids.is_empty() || self.held;
        let said = said || [&self.sender, &self.to, &self.domain].iter().any(|text| text.is_some());
        anyhow::ensure!(
            !acts || self.all || said || self.older.is_some(),
            "say which: message ids, --sender, --to, --domain, --older, --held, or --all"
        );
        let id =
            |text: &String| text.parse().with_context(|| format!("\"{text}\" is not a message id"));
        Ok(Filter {
            ids: self.ids.iter().map(id).collect::<Result<_>>()?,
            sender: self.sender,
            recipient: self.to,
            domain: self.domain,
            older: self.older.map(Duration::from_secs),
            held: self.held.then_some(true),
            ..Filter::default()
        })
    }
}

fn report(json: bool, what: &str, changed: usize) {
    if json {
        say(&serde_json::json!({ what: changed }).to_string());
    } else {
        say(&format!("{what} {}", count(changed, "message")));
    }
}

fn print_list(messages: &[Summary]) {
    if messages.is_empty() {
        say("the queue is empty");
        return;
    }
    say(&format!(
        "{:<17}{:>10} {:>5}  {:<12} {:<30} RECIPIENTS",
        "ID", "OCTETS", "AGE", "STATE", "SENDER"
    ));
    for message in messages {
        let state = match (&message.hold, message.active, message.attempts) {
            (Some(name), _, _) => format!("hold:{name}"),
            (None, true, _) => "active".to_owned(),
            (None, false, 0) => "new".to_owned(),
            (None, false, n) => format!("deferred:{n}"),
        };
        let sender = format!("<{}>", message.sender);
        let (id, age) = (message.id.to_string(), age(message.received));
        let recipients = message.recipients.join(" ");
        say(&format!(
            "{id:<17}{:>10} {age:>5}  {state:<12} {sender:<30} {recipients}",
            message.size
        ));
        if let Some(last) = &message.last {
            say(&format!("{:<17}{last}", ""));
        }
    }
    say(&count(messages.len(), "message"));
}

#[expect(
    clippy::disallowed_methods,
    reason = "a command that shows ages to a person asks for the time once"
)]
fn age(received: SystemTime) -> String {
    match SystemTime::now().duration_since(received).map_or(0, |passed| passed.as_secs()) {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}m", seconds / 60),
        seconds @ 7_200..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}
