//! `message.session`: the connection.

use wasmtime::component::Resource;

use crate::bindings::imports::message::HostSession;
use crate::bindings::types::SessionInfo;
use crate::bindings::{HostError, SessionHandle};
use crate::chain::Stage;
use crate::config::PluginLimits;
use crate::guest::Guest;

impl HostSession for Guest {
    fn info(&mut self, _: Resource<SessionHandle>) -> wasmtime::Result<SessionInfo> {
        self.charge()?;
        let session = self
            .call
            .session
            .as_ref()
            .ok_or_else(|| wasmtime::format_err!("no session in this call"))?;
        Ok(session.info.clone())
    }

    fn client_name(&mut self, _: Resource<SessionHandle>) -> wasmtime::Result<Option<String>> {
        self.charge()?;
        Ok(self.call.session.as_ref().and_then(|session| session.client_name.clone()))
    }

    fn delay_reply(
        &mut self,
        _: Resource<SessionHandle>,
        milliseconds: u32,
    ) -> wasmtime::Result<Result<(), HostError>> {
        self.charge()?;
        if !self.core.grants.delay {
            return Ok(Err(HostError::Denied("delay".into())));
        }
        if self.call.stage == Stage::Disconnect {
            return Ok(Err(HostError::Invalid("no reply is left to delay".into())));
        }
        if let Err(error) = self.count_edit(0) {
            return Ok(Err(error));
        }
        self.call.staged.line(|| format!("delay-reply {milliseconds} ms"));
        self.call.staged.delay += std::time::Duration::from_millis(milliseconds.into());
        Ok(Ok(()))
    }

    fn note(
        &mut self,
        _: Resource<SessionHandle>,
        key: String,
    ) -> wasmtime::Result<Option<String>> {
        self.charge()?;
        let key = whole(&self.core.name, &key);
        if let Some(staged) = self.call.staged.session_notes.get(&*key) {
            return Ok(staged.clone());
        }
        Ok(self.call.session.as_ref().and_then(|session| session.notes.get(&*key).cloned()))
    }

    fn set_note(
        &mut self,
        _: Resource<SessionHandle>,
        key: String,
        value: Option<String>,
    ) -> wasmtime::Result<Result<(), HostError>> {
        self.charge()?;
        let (core, call) = (&self.core, &mut self.call);
        let Some(session) = &call.session else {
            return Ok(Err(HostError::Invalid("no session in this call".into())));
        };
        let staged = &mut call.staged.session_notes;
        Ok(note(&core.name, &core.limits, &session.notes, staged, &key, value))
    }

    fn drop(&mut self, _: Resource<SessionHandle>) -> wasmtime::Result<()> {
        Ok(())
    }
}

type Notes = std::collections::BTreeMap<String, String>;
type StagedNotes = std::collections::BTreeMap<String, Option<String>>;

/// The whole key of a note: one with "/" names its plugin, any other is the plugin's own.
pub(super) fn whole<'a>(plugin: &str, key: &'a str) -> std::borrow::Cow<'a, str> {
    if key.contains('/') { key.into() } else { format!("{plugin}/{key}").into() }
}

/// Stages a note of the plugin's own.
pub(super) fn note(
    plugin: &str,
    limits: &PluginLimits,
    notes: &Notes,
    staged: &mut StagedNotes,
    key: &str,
    value: Option<String>,
) -> Result<(), HostError> {
    if key.is_empty()
        || key.len() > KEY_OCTETS
        || key.contains('/')
        || key.chars().any(char::is_control)
    {
        return Err(HostError::Invalid(format!(
            "a key has 1 to {KEY_OCTETS} octets, and neither \"/\" nor controls"
        )));
    }
    let key = format!("{plugin}/{key}");
    if let Some(value) = &value {
        let prefix = format!("{plugin}/");
        let committed = notes
            .range(prefix.clone()..)
            .take_while(|(key, _)| key.starts_with(&prefix))
            .filter(|(key, _)| !staged.contains_key(*key))
            .map(|(key, value)| key.len() + value.len());
        let fresh = staged
            .iter()
            .filter(|(other, _)| **other != key)
            .map(|(key, value)| key.len() + value.as_ref().map_or(0, String::len));
        if committed.chain(fresh).sum::<usize>() + key.len() + value.len() > limits.note_octets {
            return Err(HostError::Quota(format!(
                "the plugin keeps {} octets of notes",
                limits.note_octets
            )));
        }
    }
    if staged.len() >= MANY && !staged.contains_key(&key) {
        return Err(HostError::Quota(format!("one call changes at most {MANY} notes")));
    }
    staged.insert(key, value);
    Ok(())
}

const KEY_OCTETS: usize = 100;
const MANY: usize = 1000;
