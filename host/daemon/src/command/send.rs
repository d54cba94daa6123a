//! `gatepost send`: mail that is handed in on this machine.

use std::io::Read as _;

use anyhow::{Context as _, Result};
use clap::Args;

use super::{At, say};
use crate::admin::client::Client;

/// It takes the way of all mail: every rule and every plugin is asked, with the origin `local`.
#[derive(Args, Debug)]
pub(crate) struct Send {
    /// Who is told if it fails; "" for nobody
    #[arg(long, short, value_name = "ADDRESS")]
    from: String,
    /// Whom it is for
    #[arg(required = true, value_name = "ADDRESS")]
    to: Vec<String>,
    #[command(flatten)]
    at: At,
}

impl Send {
    pub(crate) fn run(self) -> Result<()> {
        let config = self.at.load()?;
        let mut content = Vec::new();
        std::io::stdin().lock().read_to_end(&mut content).context("can't read the mail")?;
        let from = Some(self.from.as_str()).filter(|from| !from.is_empty());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = Client::new(&config.admin.socket);
        let id = runtime.block_on(client.send_mail(from, &self.to, &content))?;
        say(&format!("queued as {id}"));
        Ok(())
    }
}
