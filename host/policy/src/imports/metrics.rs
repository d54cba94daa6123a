//! `metrics`: counters, gauges and histograms of the plugin. Grant: metrics.

use metrics::Label;

use crate::bindings::HostError;
use crate::bindings::imports::metrics::Host;
use crate::guest::Guest;
use crate::imports::log::clean;

type Done = wasmtime::Result<Result<(), HostError>>;
type Labels = Vec<(String, String)>;

impl Host for Guest {
    fn add(&mut self, name: String, labels: Labels, delta: u64) -> Done {
        self.charge()?;
        Ok(self.series(&name, labels).map(|(name, labels)| {
            metrics::counter!(name, labels).increment(delta);
        }))
    }

    fn set(&mut self, name: String, labels: Labels, value: f64) -> Done {
        self.charge()?;
        Ok(self.series(&name, labels).map(|(name, labels)| {
            metrics::gauge!(name, labels).set(value);
        }))
    }

    fn observe(&mut self, name: String, labels: Labels, value: f64) -> Done {
        self.charge()?;
        Ok(self.series(&name, labels).map(|(name, labels)| {
            metrics::histogram!(name, labels).record(value);
        }))
    }
}

impl Guest {
    /// The whole name and all labels of a series that the plugin may have.
    fn series(&self, name: &str, labels: Labels) -> Result<(String, Vec<Label>), HostError> {
        if !self.core.grants.metrics {
            return Err(HostError::Denied("metrics".into()));
        }
        check_name(name)?;
        if labels.len() > MOST_LABELS {
            return Err(HostError::Invalid(format!("a series has at most {MOST_LABELS} labels")));
        }
        let mut all = vec![Label::new("plugin", self.core.name.to_string())];
        for (label, value) in labels {
            check_name(&label)?;
            if label == "plugin" {
                return Err(HostError::Invalid("the label `plugin` is the host's".into()));
            }
            all.push(Label::new(label, clean(&value, VALUE_OCTETS)));
        }
        let key = format!("{name} {all:?}");
        let mut series =
            self.core.series.lock().map_err(|_| HostError::Unavailable("metrics".into()))?;
        if !series.contains(&key) {
            if series.len() >= self.core.limits.series {
                return Err(HostError::Quota(format!("{} series", self.core.limits.series)));
            }
            series.insert(key);
        }
        Ok((format!("gatepost_plugin_{name}"), all))
    }
}

fn check_name(name: &str) -> Result<(), HostError> {
    let good = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'_';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(good) {
        return Err(HostError::Invalid(format!(
            "{name:?} is no name: 1 to 64 lower case letters, digits, \"_\""
        )));
    }
    Ok(())
}

const MOST_LABELS: usize = 4;
const VALUE_OCTETS: usize = 100;
