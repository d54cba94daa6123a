//! What was decided, by whom, and why: kept for each message so that `gatepost why` can tell it later.

mod asked;
mod journal;
mod search;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use message::Id;
use serde::{Deserialize, Serialize};

use crate::chain::Stage;

pub use asked::Asked;
pub(crate) use asked::Questions;
pub use journal::{Journal, JournalConfig};
pub use search::{Query, search};

/// What one plugin answered to one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceEntry {
    /// When it was asked.
    pub stage: Stage,
    /// Who was asked.
    pub plugin: Arc<str>,
    /// The version it told.
    pub version: Arc<str>,
    /// SHA-256 of its component.
    pub digest: Arc<str>,
    /// The recipient it was asked about, at `rcpt`, `route` and `outcome`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// "next", "accept", "reject", "defer", … or "error".
    pub verdict: Cow<'static, str>,
    /// The reply, if the verdict has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
    /// The plugin's words for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The plugin's rule that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The edits that took effect, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<String>,
    /// Microseconds from question to answer.
    pub micros: u64,
    /// How often it called the host.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub host_calls: u32,
    /// What it asked the world by that, the first 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked: Vec<Asked>,
    /// Why the call failed, if it did; then nothing it staged took effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl TraceEntry {
    /// Of that stage and component, with nothing said yet.
    pub fn new(stage: Stage, plugin: Arc<str>, version: Arc<str>, digest: Arc<str>) -> Self {
        Self {
            stage,
            plugin,
            version,
            digest,
            recipient: None,
            verdict: Cow::Borrowed(""),
            reply: None,
            reason: None,
            rule: None,
            edits: Vec::new(),
            micros: 0,
            host_calls: 0,
            asked: Vec::new(),
            error: None,
        }
    }

    /// What the answer took, for people: `184 µs, 3 host calls`
    pub fn effort(&self) -> String {
        match self.host_calls {
            0 => format!("{} µs", self.micros),
            1 => format!("{} µs, 1 host call", self.micros),
            calls => format!("{} µs, {calls} host calls", self.micros),
        }
    }
}

/// One line of the journal: a transaction that ended, or an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Transaction and queue id.
    pub id: Id,
    /// The session it came in by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// When it ended.
    pub time: SystemTime,
    /// "transaction", "attempt", "notice", …
    pub kind: Cow<'static, str>,
    /// The other side's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// What it called itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helo: Option<String>,
    /// The reverse-path without angle brackets; empty for `<>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverse_path: Option<String>,
    /// The forward-paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
    /// What became of it: "accepted", "rejected", "deferred", "delivered", …
    pub fate: Cow<'static, str>,
    /// The last reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
    /// What the plugins decided, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<TraceEntry>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over the field as it is")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests;
