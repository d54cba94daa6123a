//! Changes in a running server: all of a change, or nothing of it and a reason.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

use super::{House, all};
use crate::config::{Config, Fault};
use crate::wiring;

impl House {
    /// Takes a new configuration in. What can't be changed without a restart is named in the log.
    #[expect(clippy::disallowed_methods, reason = "how long a swap took is for the log alone")]
    pub(super) async fn reload(
        &mut self,
        why: &str,
        reread: &impl Fn() -> Result<Config, Vec<Fault>>,
    ) {
        let begun = Instant::now();
        let config = match reread() {
            Ok(config) => config,
            Err(faults) => {
                for fault in &faults {
                    tracing::error!(%fault, "the configuration has a fault; nothing was changed");
                }
                return;
            }
        };
        if let Err(error) = self.tls.reload() {
            tracing::error!(%error, "the certificates did not load; those in use stay");
        }
        match self.take_in(&config).await {
            Ok(generation) => {
                let millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(
                    why,
                    generation,
                    millis,
                    plugins = config.plugins.iter().filter(|plugin| plugin.enabled).count(),
                    "a new plugin set is live"
                );
                warn_about_the_rest(&self.config, &config);
                self.config = config;
            }
            Err(error) => {
                for fault in format!("{error:#}").lines() {
                    tracing::error!(
                        why,
                        fault,
                        "the new plugin set is refused; the one in use stays"
                    );
                }
            }
        }
    }

    /// Everything that may fail comes first; the last steps can't.
    async fn take_in(&self, config: &Config) -> Result<u64> {
        let tables = policy::Tables::load(wiring::tables(config)).map_err(|faults| all(&faults))?;
        let chain = self.policy.load(wiring::plugins(config)).await;
        let chain = chain.map_err(|faults| all(&wiring::plugin_faults(config, &faults)))?;
        let local = Arc::new(wiring::local_domains(config)?);
        let directory = wiring::directory(config, Arc::clone(&local))?;
        let delivery = wiring::delivery(config, local)?;
        let generation = chain.generation();
        self.policy.set_tables(tables);
        self.policy.install(chain);
        // Delivery first: who is accepted from now on has a place to go to.
        self.delivery.set_routing(delivery);
        self.inbound.set_directory(directory);
        self.journal.keep(config.trace.keep, config.trace.size).await;
        Ok(generation)
    }
}

/// Names the sections that need a restart, if they were changed.
fn warn_about_the_rest(old: &Config, new: &Config) {
    fn same<T: std::fmt::Debug>(old: &T, new: &T) -> bool {
        format!("{old:?}") == format!("{new:?}")
    }
    let sections = [
        ("hostname", old.hostname == new.hostname),
        ("data", old.data == new.data),
        ("log", same(&old.log, &new.log)),
        ("listener", same(&old.listeners, &new.listeners)),
        ("tls", same(&old.tls, &new.tls)),
        ("limits", same(&old.limits, &new.limits)),
        ("door", same(&old.door, &new.door)),
        ("logins", same(&old.logins, &new.logins)),
        ("authentication", same(&old.authentication, &new.authentication)),
        ("dkim", same(&old.dkim, &new.dkim)),
        ("dmarc-reports", same(&old.dmarc_reports, &new.dmarc_reports)),
        ("dns", same(&old.dns, &new.dns)),
        ("queue", same(&old.queue, &new.queue)),
        ("delivery", same(&old.delivery, &new.delivery)),
        ("policy", same(&old.policy, &new.policy)),
        ("admin", same(&old.admin, &new.admin)),
    ];
    for (section, _) in sections.iter().filter(|(_, same)| !*same) {
        tracing::warn!(section, "this section was changed; it is taken in at the next start");
    }
}
