//! A node's metrics: recorded in the process, read as Prometheus text over its gateway.
//!
//! The recorder must be there before anything that measures is made, since handles are bound once.

use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// How often what was recorded is summed up, whether anybody reads it or not: otherwise it would pile
/// up between two readings.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// For times of a commit's parts: from 50 µs to 10 s.
const SECONDS: [f64; 17] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0,
];
/// For how many of something were handled at once.
const COUNTS: [f64; 12] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 4_096.0,
];

/// Reads the metrics of this process.
#[derive(Clone)]
pub(crate) struct Telemetry {
    handle: PrometheusHandle,
}

impl Telemetry {
    /// Records from now on. Once a process.
    ///
    /// # Errors
    /// When something records already.
    pub(crate) fn install() -> Result<Self, BuildError> {
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
            .set_buckets_for_metric(Matcher::Suffix("_commands".to_owned()), &COUNTS)?
            .set_buckets_for_metric(Matcher::Suffix("_records".to_owned()), &COUNTS)?
            .set_buckets_for_metric(Matcher::Suffix("_rows".to_owned()), &COUNTS)?
            .install_recorder()?;
        Ok(Self { handle })
    }

    /// Sums up now and then, for ever; to be spawned.
    pub(crate) async fn upkeep(self) {
        let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.handle.run_upkeep();
        }
    }

    /// Everything recorded, in Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        self.handle.render()
    }
}
