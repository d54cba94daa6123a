//! Prometheus metrics: gathered by the rooms, rendered for the admin listener.

use std::time::Duration;

use anyhow::{Context as _, Result};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Seconds. From one stage of a plugin to a delivery that waits for another host.
const BUCKETS: [f64; 12] =
    [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0];

/// How often what histograms gathered is summed up.
const UPKEEP: Duration = Duration::from_secs(5);

/// Installs the recorder of this process.
///
/// # Errors
/// If there is one already.
pub(crate) fn install() -> Result<PrometheusHandle> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)
        .and_then(PrometheusBuilder::install_recorder)
        .context("can't install the metrics recorder")
}

/// Sums up what histograms gathered, for ever: they keep each value until then, and nobody may ever ask for them.
pub(crate) async fn keep_up(metrics: PrometheusHandle) {
    let mut tick = tokio::time::interval(UPKEEP);
    loop {
        tick.tick().await;
        metrics.run_upkeep();
    }
}
