//! `log`: lines of the plugin in the log of the host, bounded in rate and size. Grant: log, given unless taken away.

use crate::bindings::imports::log::{Host, Level};
use crate::guest::Guest;

impl Host for Guest {
    fn enabled(&mut self, level: Level) -> wasmtime::Result<bool> {
        self.charge()?;
        self.inevitable(self.core.grants.log, "log")?;
        Ok(match level {
            Level::Trace => tracing::enabled!(target: "plugin", tracing::Level::TRACE),
            Level::Debug => tracing::enabled!(target: "plugin", tracing::Level::DEBUG),
            Level::Info => tracing::enabled!(target: "plugin", tracing::Level::INFO),
            Level::Warn => tracing::enabled!(target: "plugin", tracing::Level::WARN),
            Level::Error => tracing::enabled!(target: "plugin", tracing::Level::ERROR),
        })
    }

    fn write(
        &mut self,
        level: Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        self.charge()?;
        self.inevitable(self.core.grants.log, "log")?;
        if !self.core.may_log() {
            return Ok(());
        }
        let message = clean(&message, MESSAGE_OCTETS);
        let fields: Vec<String> = fields
            .iter()
            .take(FIELDS)
            .map(|(name, value)| format!("{}={:?}", clean(name, 64), clean(value, FIELD_OCTETS)))
            .collect();
        let fields = fields.join(" ");
        let plugin = &*self.core.name;
        let stage = self.call.stage.name();
        let session = self.call.session.as_ref().map(|session| session.info.id.as_str());
        let transaction =
            self.call.transaction.as_ref().map(|transaction| transaction.id.to_string());
        macro_rules! event {
            ($level:ident) => {
                tracing::event!(
                    target: "plugin",
                    tracing::Level::$level,
                    plugin,
                    stage,
                    session,
                    message = transaction,
                    fields,
                    "{message}"
                )
            };
        }
        match level {
            Level::Trace => event!(TRACE),
            Level::Debug => event!(DEBUG),
            Level::Info => event!(INFO),
            Level::Warn => event!(WARN),
            Level::Error => event!(ERROR),
        }
        Ok(())
    }
}

/// Text that cannot forge a line of the log: cut to a size, without control characters.
pub(crate) fn clean(text: &str, octets: usize) -> String {
    let mut end = text.len().min(octets);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

const MESSAGE_OCTETS: usize = 2048;
const FIELD_OCTETS: usize = 512;
const FIELDS: usize = 16;
