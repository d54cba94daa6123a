//! New mail that plugins make.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use message::Id;
use smtp::{ForwardPath, RcptParameters, ReversePath};

use crate::chain::Core;

/// Takes mail that plugins submit; the server gives one by [`Host::set_submit`](crate::Host::set_submit).
pub trait Submit: Send + Sync + 'static {
    /// Brings it on its way, with the origin `plugin`; the answer says under which id, or why not.
    fn submit(&self, mail: NewMail) -> BoxFuture<'static, Result<Id, String>>;
}

/// A mail that a plugin made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMail {
    /// The plugin.
    pub plugin: String,
    /// Who is told if it fails.
    pub reverse_path: ReversePath,
    /// Whom it is for, with their DSN parameters.
    pub recipients: Vec<(ForwardPath, RcptParameters)>,
    /// Header and body.
    pub content: Vec<u8>,
}

/// Hands mail over without waiting: a session is not to wait for another one.
pub(crate) fn send(core: &Arc<Core>, mails: Vec<NewMail>) {
    for mail in mails {
        let services = &core.services;
        let plugin = mail.plugin.clone();
        let Some(submit) = services.submit.load_full() else {
            tracing::error!(target: "plugin", plugin, "mail of a plugin is lost: this host has no way to send it");
            continue;
        };
        let Ok(place) = services.submitting.clone().try_acquire_owned() else {
            tracing::error!(target: "plugin", plugin, "mail of a plugin is lost: too many are on their way");
            continue;
        };
        let work = submit.submit(mail);
        services.server.spawn(async move {
            match work.await {
                Ok(id) => tracing::info!(target: "plugin", plugin, message = %id, "submitted mail"),
                Err(why) => {
                    tracing::warn!(target: "plugin", plugin, why, "submitted mail was refused");
                }
            }
            drop(place);
        });
    }
}

/// Mails of plugins that are on their way at once.
pub(crate) const SUBMITTING: usize = 100;
