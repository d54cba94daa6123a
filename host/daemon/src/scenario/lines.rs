//! The log lines of plugins, kept while a scenario is played.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Lines of plugins since the last time they were taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<Line>>>);

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) plugin: String,
    /// "info", …
    pub(crate) level: String,
    /// The message, and its fields behind it.
    pub(crate) text: String,
}

impl Lines {
    /// Keeps what plugins log from now on in this process, down to `debug`. `GATEPOST_LOG` shows the log itself on stderr.
    pub(crate) fn start() -> Self {
        let lines = Self::default();
        let shown =
            std::env::var("GATEPOST_LOG").ok().and_then(|level| EnvFilter::try_new(level).ok());
        let shown = shown.map(|filter| {
            tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(filter)
        });
        let kept = lines.clone().with_filter(
            tracing_subscriber::filter::Targets::new().with_target("plugin", tracing::Level::DEBUG),
        );
        // Where somebody else logs already, nothing is kept.
        let _ = tracing_subscriber::registry().with(kept).with(shown).try_init();
        lines
    }

    pub(crate) fn take(&self) -> Vec<Line> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut found = Found::default();
        event.record(&mut found);
        // What the host says about a plugin has no stage, or is about a call that failed: the trace tells that.
        if found.is_host {
            return;
        }
        let level = event.metadata().level().to_string().to_ascii_lowercase();
        let text = match found.fields.as_str() {
            "" => found.message,
            fields => format!("{} {fields}", found.message),
        };
        let line = Line { plugin: found.plugin, level, text };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

#[derive(Default)]
struct Found {
    plugin: String,
    message: String,
    fields: String,
    is_host: bool,
}

impl Visit for Found {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "plugin" => self.plugin = value.to_owned(),
            "fields" => self.fields = value.to_owned(),
            "error" => self.is_host = true,
            _ => {}
        }
    }
}
