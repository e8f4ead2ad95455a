//! `grid load pump-lag`: how far the database is behind while buyers buy, and what writing to it costs
//! them.
//!
//! ```text
//!   buyers at a fixed rate ──────────────────────────────────────────────────────────►
//!     with the pump │ without: paused │ resumed, until it is level │ without │ with │ …
//! ```
//!
//! The two sides take turns under the same load, in the other order each round, so that what else the
//! machine does meets both. While the pump is paused its database has nothing to do.

use std::time::{Duration, Instant};

use data_pump::pump::PumpOperator;
use serde::Serialize;

use super::watch::{LOOK_PERIOD, Lags, Lanes, await_level};
use crate::failure::Failure;
use crate::load::recorder::{Recorder, Window};
use crate::load::report::median;
use crate::load::scenario::{Goal, Scene, Story};
use crate::output::{grouped, table};

/// The database is at most this far behind, in ms, at p99.
const LAG_GOAL_MS: f64 = 1_000.0;
/// The p99 with the pump over that without it.
const RATIO_GOAL: f64 = 1.1;
/// How long the pump may take to come level after a side without it.
const LEVEL_WAIT: Duration = Duration::from_secs(900);

/// What to do.
#[derive(Clone, Debug)]
pub(crate) struct LagPlan {
    /// Each side of each round.
    pub(crate) side: Duration,
    /// Rounds.
    pub(crate) rounds: u32,
    /// Where the pump writes.
    pub(crate) database_url: String,
}

impl LagPlan {
    /// About how long it takes, for the sale's tempo.
    pub(crate) fn expected(&self) -> Duration {
        self.side * self.rounds * 3
    }
}

/// One round.
#[derive(Debug, Serialize)]
struct Round {
    with: Window,
    lag: Lags,
    without: Window,
}

/// What was seen.
#[derive(Debug, Serialize)]
pub(crate) struct PumpLag {
    rounds: Vec<Round>,
    /// Of all rounds together.
    lag: Lags,
    /// Medians over the rounds.
    p50_with_ms: f64,
    p50_without_ms: f64,
    p99_with_ms: f64,
    p99_without_ms: f64,
    p99_ratio: f64,
    ratio_goal: f64,
    ratio_met: bool,
    goal: Goal,
}

async fn operator(plan: &LagPlan) -> anyhow::Result<PumpOperator> {
    Ok(PumpOperator::connect(&plan.database_url)
        .await
        .map_err(Failure::from)?)
}

async fn resume(plan: &LagPlan) -> anyhow::Result<()> {
    let mut operator = operator(plan).await?;
    operator.resume(None).await.map_err(Failure::from)?;
    operator.close().await;
    Ok(())
}

/// Looks at the lanes for the length of a side.
async fn watch(scene: Scene<'_>, side: Duration) -> anyhow::Result<Vec<Lanes>> {
    let until = Instant::now() + side;
    let mut looks = Vec::new();
    let mut ticks = tokio::time::interval(LOOK_PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    while Instant::now() < until {
        ticks.tick().await;
        looks.push(Lanes::look(scene.api).await?);
    }
    Ok(looks)
}

async fn with_pump(
    scene: Scene<'_>,
    plan: &LagPlan,
    recorder: &Recorder,
) -> anyhow::Result<(Window, Vec<Lanes>)> {
    await_level(scene.api, LEVEL_WAIT).await?;
    tokio::time::sleep(scene.calm).await;
    recorder.take_window()?;
    let looks = watch(scene, plan.side).await?;
    Ok((recorder.take_window()?, looks))
}

async fn without_pump(
    scene: Scene<'_>,
    plan: &LagPlan,
    recorder: &Recorder,
) -> anyhow::Result<Window> {
    let mut operator = operator(plan).await?;
    let paused = operator.pause(None, "grid load", "measured without the pump");
    paused.await.map_err(Failure::from)?;
    operator.close().await;
    tokio::time::sleep(scene.calm).await;
    recorder.take_window()?;
    // The same looks, so that they cost both sides alike.
    watch(scene, plan.side).await?;
    let window = recorder.take_window();
    resume(plan).await?;
    window
}

/// Measures both sides by turns. The pump runs again in the end, whatever happens.
pub(crate) async fn script(
    scene: Scene<'_>,
    plan: &LagPlan,
    recorder: &Recorder,
    _start: Instant,
) -> anyhow::Result<PumpLag> {
    let measured = measure(scene, plan, recorder).await;
    if measured.is_err() {
        resume(plan).await?;
    }
    measured
}

async fn measure(scene: Scene<'_>, plan: &LagPlan, recorder: &Recorder) -> anyhow::Result<PumpLag> {
    let bar = scene.output.bar(plan.rounds.into(), "rounds");
    let (mut rounds, mut all) = (Vec::new(), Vec::new());
    for number in 0..plan.rounds {
        let (with, looks, without) = if number % 2 == 0 {
            let (with, looks) = with_pump(scene, plan, recorder).await?;
            (with, looks, without_pump(scene, plan, recorder).await?)
        } else {
            await_level(scene.api, LEVEL_WAIT).await?;
            let without = without_pump(scene, plan, recorder).await?;
            let (with, looks) = with_pump(scene, plan, recorder).await?;
            (with, looks, without)
        };
        rounds.push(Round {
            with,
            lag: Lags::of(&looks),
            without,
        });
        all.extend(looks);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let of = |value: fn(&Round) -> f64| median(rounds.iter().map(value));
    let p99_with_ms = of(|round| round.with.latency.p99_ms);
    let p99_without_ms = of(|round| round.without.latency.p99_ms);
    let p99_ratio = p99_with_ms / p99_without_ms.max(1e-3);
    let lag = Lags::of(&all);
    Ok(PumpLag {
        p50_with_ms: of(|round| round.with.latency.p50_ms),
        p50_without_ms: of(|round| round.without.latency.p50_ms),
        p99_with_ms,
        p99_without_ms,
        p99_ratio,
        ratio_goal: RATIO_GOAL,
        ratio_met: p99_ratio <= RATIO_GOAL,
        goal: Goal::new(
            "the database is behind, p99",
            LAG_GOAL_MS,
            lag.p99_ms as f64,
        ),
        lag,
        rounds,
    })
}

impl Story for PumpLag {
    fn text(&self) -> String {
        let mut rows = table([
            "round",
            "done/s",
            "lag p50, ms",
            "lag p99, ms",
            "lag max, ms",
            "entries",
            "p99 with, ms",
            "p99 without, ms",
            "failed",
        ]);
        for (number, round) in (1..).zip(&self.rounds) {
            let lag = &round.lag;
            rows.add_row([
                format!("{number}"),
                grouped((round.with.succeeded as f64 / round.with.seconds.max(1e-3)) as u64),
                lag.p50_ms.to_string(),
                lag.p99_ms.to_string(),
                lag.max_ms.to_string(),
                grouped(lag.entries_max),
                format!("{:.2}", round.with.latency.p99_ms),
                format!("{:.2}", round.without.latency.p99_ms),
                (round.with.failed + round.without.failed).to_string(),
            ]);
        }
        format!(
            "{rows}\n\nlag over {}\n{}sale's latency with the pump: p50 {:.2} ms, p99 {:.2} ms; without: \
             p50 {:.2} ms, p99 {:.2} ms (medians of {} rounds)\np99 with over without: {:.2} (at most \
             {:.2} wanted): {}\n",
            self.lag.text(),
            self.goal.text(),
            self.p50_with_ms,
            self.p99_with_ms,
            self.p50_without_ms,
            self.p99_without_ms,
            self.rounds.len(),
            self.p99_ratio,
            self.ratio_goal,
            if self.ratio_met { "reached" } else { "MISSED" }
        )
    }
}
