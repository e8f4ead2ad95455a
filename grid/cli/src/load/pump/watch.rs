//! How far the pump is behind, as the nodes say it, seen again and again.

use std::time::{Duration, Instant};

use data_pump::pump::{FenceOutcomes, LaneState, LaneStatus};
use serde::Serialize;

use crate::api::Api;
use crate::cluster::{self, ClusterStatus};
use crate::failure::Failure;

/// How often it is looked; each look asks every node about every partition.
pub(super) const LOOK_PERIOD: Duration = Duration::from_millis(250);
/// A pump is level when its oldest change waits no longer than this.
const LEVEL_MS: u64 = 1_000;
/// It must be so in this many looks running.
const LEVEL_LOOKS: u32 = 3;

/// All lanes at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lanes {
    /// The age of the oldest change that is not written, over all partitions.
    pub(super) behind_ms: u64,
    pub(super) behind_entries: u64,
    /// Whether every partition has a lane that writes or rests.
    pub(super) all_run: bool,
    /// How the database stood whenever one of the present lanes opened.
    pub(super) fence: FenceOutcomes,
}

impl Lanes {
    pub(super) async fn look(api: &Api) -> anyhow::Result<Self> {
        let cluster = ClusterStatus::ask(api).await?;
        let pumps = cluster.statuses().filter_map(cluster::pump);
        let lanes: Vec<LaneStatus> = pumps.flat_map(|pump| pump.lanes).collect();
        let active = || lanes.iter().filter(|lane| lane.active);
        let runs =
            |lane: &&LaneStatus| matches!(lane.state(), LaneState::Running | LaneState::Resting);
        let sum = |of: fn(&FenceOutcomes) -> u64| lanes.iter().map(|lane| of(&lane.fence)).sum();
        Ok(Self {
            behind_ms: active().map(|lane| lane.behind_ms).max().unwrap_or(0),
            behind_entries: active().filter_map(|lane| lane.behind_entries).sum(),
            all_run: active().filter(runs).count() >= cluster.partitions().len(),
            fence: FenceOutcomes {
                equal: sum(|fence| fence.equal),
                ahead: sum(|fence| fence.ahead),
                behind: sum(|fence| fence.behind),
            },
        })
    }
}

/// Waits until every lane writes and is level with the sale.
pub(super) async fn await_level(api: &Api, patience: Duration) -> anyhow::Result<()> {
    let is_level = |lanes: &Lanes| lanes.all_run && lanes.behind_ms <= LEVEL_MS;
    await_lanes(api, patience, "come level", LEVEL_LOOKS, is_level).await
}

/// Waits until every partition has a lane that writes, however far it is behind.
pub(super) async fn await_running(api: &Api, patience: Duration) -> anyhow::Result<()> {
    await_lanes(api, patience, "run", 1, |lanes| lanes.all_run).await
}

/// Waits until so many looks running find what is wanted.
async fn await_lanes(
    api: &Api,
    patience: Duration,
    wanted: &str,
    looks_wanted: u32,
    is_so: impl Fn(&Lanes) -> bool,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + patience;
    let mut looks = 0;
    loop {
        let lanes = Lanes::look(api).await?;
        looks = if is_so(&lanes) { looks + 1 } else { 0 };
        if looks >= looks_wanted {
            return Ok(());
        }
        if Instant::now() > deadline {
            let text = format!(
                "the pump does not {wanted}: {} entries behind, the oldest change waits {:.1} s; see \
                 `grid pump status`",
                lanes.behind_entries,
                lanes.behind_ms as f64 / 1_000.0
            );
            return Err(Failure::Database(text).into());
        }
        tokio::time::sleep(LOOK_PERIOD).await;
    }
}

/// Lags over a time, in milliseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Lags {
    samples: usize,
    pub(super) p50_ms: u64,
    pub(super) p99_ms: u64,
    pub(super) max_ms: u64,
    pub(super) entries_max: u64,
}

impl Lags {
    pub(super) fn of(looks: &[Lanes]) -> Self {
        let mut sorted: Vec<u64> = looks.iter().map(|lanes| lanes.behind_ms).collect();
        sorted.sort_unstable();
        let at = |part: f64| {
            let rank = (part * sorted.len() as f64).ceil() as usize;
            sorted.get(rank.max(1) - 1).copied().unwrap_or(0)
        };
        Self {
            samples: sorted.len(),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            max_ms: at(1.0),
            entries_max: looks
                .iter()
                .map(|lanes| lanes.behind_entries)
                .max()
                .unwrap_or(0),
        }
    }

    pub(super) fn text(&self) -> String {
        format!(
            "{} samples: p50 {} ms, p99 {} ms, max {} ms",
            self.samples, self.p50_ms, self.p99_ms, self.max_ms
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lags_are_ranked() {
        let looks: Vec<Lanes> = (1..=200)
            .rev()
            .map(|behind_ms| Lanes {
                behind_ms,
                ..Lanes::default()
            })
            .collect();
        let lags = Lags::of(&looks);
        assert_eq!((lags.p50_ms, lags.p99_ms, lags.max_ms), (100, 198, 200));
        assert_eq!(Lags::of(&[]).max_ms, 0);
    }
}
