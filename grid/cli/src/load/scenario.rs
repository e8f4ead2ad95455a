//! Sales under way while something is done to the grid: what `grid load faults`, `restart`, `scale`,
//! `snapshot` and `recovery` have in common.
//!
//! ```text
//!   copies of an event ─► buyers at a fixed rate ──────────────────────────► accounts ─► check
//!                              └ recorder ─► a window for each step of the script ─► report
//!                                   script: kill, restart, join, remove ...
//! ```
//!
//! The sales last as long as the script does. A part of the seats is sold over the expected time, the
//! rest is held and let go over and over, so that there is always something to write.
//!
//! What decides `ok`: no request failed, and the check afterwards found nothing lost and nothing twice.
//! How long things took is compared with the goals, and reported; it depends on the machine.

use std::time::{Duration, Instant};

use grid::NodeId;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::check::Check;
use super::ledger::Account;
use super::machine::Machine;
use super::onsale::{Offer, Selling, Tempo};
use super::recorder::{Figures, Recorder, Window};
use super::report::Stopwatch;
use super::venue::{EventView, SeatMap, create};
use super::{DRAIN_WAIT, Plan};
use crate::api::Api;
use crate::cluster::ClusterStatus;
use crate::data_dir::{DataDir, GridFile};
use crate::failure::Failure;
use crate::output::{Output, grouped, table};

/// The longest that a script may take.
pub(crate) const SCRIPT_TIME_MAX: Duration = Duration::from_secs(6 * 3_600);
/// The part of the seats that is sold.
const SOLD_SHARE: f64 = 0.5;

/// What every script finds around it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene<'a> {
    /// Where progress goes.
    pub(crate) output: Output,
    /// The gateways.
    pub(crate) api: &'a Api,
    /// Of a grid on this machine.
    pub(crate) data_dir: &'a DataDir,
    /// How long the grid is left alone between two deeds.
    pub(crate) calm: Duration,
}

impl Scene<'_> {
    /// The grid, where `grid up` runs every node of it: it alone starts a node again whose process has
    /// ended.
    pub(super) async fn supervised_grid(&self) -> anyhow::Result<GridFile> {
        let grid = self.data_dir.read()?.ok_or_else(|| {
            let path = self.data_dir.path().display();
            let text = format!("there is no grid in {path}, and its processes must be known here");
            Failure::DataDirectory(text)
        })?;
        let cluster = ClusterStatus::ask(self.api).await?;
        let known: Vec<NodeId> = grid.nodes.iter().map(|node| node.id).collect();
        let others = cluster.nodes.iter().map(|node| node.node_id);
        let others: Vec<NodeId> = others.filter(|node| !known.contains(node)).collect();
        if others.is_empty() {
            Ok(grid)
        } else {
            Err(not_supervised(&others).into())
        }
    }
}

/// Why nodes that `grid node join` started are not killed or restarted.
pub(super) fn not_supervised(nodes: &[NodeId]) -> Failure {
    let names: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    let names = names.join(", ");
    Failure::Refused {
        code: "not_supervised".to_owned(),
        message: format!(
            "`grid up` did not start node {names} and would not start it again after its process has \
             ended; let it go first: `grid node remove --drain {}`",
            nodes.first().copied().unwrap_or_default()
        ),
    }
}

/// A part of the run.
#[derive(Debug, Serialize)]
pub(crate) struct Phase {
    /// What was done to the grid in it.
    pub(crate) name: String,
    /// What clients saw of it.
    #[serde(flatten)]
    pub(crate) window: Window,
}

impl Phase {
    /// Everything since the last phase.
    pub(super) fn close(recorder: &Recorder, name: impl Into<String>) -> anyhow::Result<Self> {
        Ok(Self {
            name: name.into(),
            window: recorder.take_window()?,
        })
    }
}

/// For people.
pub(super) fn phases_text(phases: &[Phase]) -> String {
    let mut rows = table([
        "phase",
        "seconds",
        "done/s",
        "failed",
        "sent again",
        "goodbyes",
        "p50 ms",
        "p99 ms",
        "max ms",
        "longest gap, ms",
    ]);
    for phase in phases {
        let window = &phase.window;
        rows.add_row([
            phase.name.clone(),
            format!("{:.1}", window.seconds),
            grouped((window.succeeded as f64 / window.seconds.max(1e-3)).round() as u64),
            grouped(window.failed),
            grouped(window.retries),
            grouped(window.goodbyes),
            format!("{:.1}", window.latency.p50_ms),
            format!("{:.1}", window.latency.p99_ms),
            format!("{:.1}", window.latency.max_ms),
            format!("{:.0}", window.longest_gap_ms),
        ]);
    }
    format!("{rows}\n")
}

/// A time that should not be exceeded. Missing it is told, and is no failure of the run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Goal {
    /// What is measured.
    pub(crate) what: &'static str,
    /// The most that is wanted.
    pub(crate) wanted_ms: f64,
    /// What it was.
    pub(crate) was_ms: f64,
    /// Whether it was reached.
    pub(crate) met: bool,
}

impl Goal {
    pub(super) fn new(what: &'static str, wanted_ms: f64, was_ms: f64) -> Self {
        Self {
            what,
            wanted_ms,
            was_ms,
            met: was_ms <= wanted_ms,
        }
    }

    pub(super) fn text(&self) -> String {
        format!(
            "{}: {:.0} ms (at most {:.0} ms wanted): {}\n",
            self.what,
            self.was_ms,
            self.wanted_ms,
            if self.met { "reached" } else { "MISSED" }
        )
    }
}

/// What a script saw.
pub(crate) trait Story: Serialize {
    /// For people.
    fn text(&self) -> String;
}

/// Copies of an event, ready to be sold.
pub(crate) async fn offers(api: &Api, event_id: Uuid, count: u32) -> anyhow::Result<Vec<Offer>> {
    let event = EventView::read(api, event_id).await?;
    let seats = SeatMap::read(api, event_id).await?;
    let mut offers = Vec::new();
    for number in 1..=count {
        let event_id = create(api, &event.copy(&seats, number, true)).await?;
        offers.push(Offer {
            event_id,
            limit: event.max_seats_per_buyer,
            map: SeatMap::read(api, event_id).await?,
        });
    }
    Ok(offers)
}

/// What came of it all.
#[derive(Debug, Serialize)]
pub(crate) struct Played<T> {
    /// Whether no request failed, and nothing was lost or done twice.
    pub(crate) ok: bool,
    machine: Machine,
    rate_per_s: Option<f64>,
    connections: usize,
    sales: usize,
    /// What was done to the grid, and what clients saw of it.
    pub(crate) story: T,
    /// The whole run.
    figures: Figures,
    own_cpu_us_per_request: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<Check>,
    #[serde(skip)]
    accounts: Vec<(Uuid, Account)>,
}

/// Lets buyers buy for as long as `script` takes, which is given the counters and the first request's
/// time.
pub(crate) async fn play<T>(
    plan: &Plan,
    offers: Vec<Offer>,
    expected: Duration,
    script: impl AsyncFnOnce(&Recorder, Instant) -> anyhow::Result<T>,
) -> anyhow::Result<Played<T>> {
    let sales = offers.len();
    let tempo = Tempo {
        over: expected,
        share: SOLD_SHARE,
    };
    let mut selling = Selling::open(plan, offers, tempo).await?;
    let watch = Stopwatch::start();
    tokio::time::sleep_until(selling.start.into()).await;
    let story = script(&selling.recorder, selling.start).await;
    plan.ending.end();
    let drained = tokio::time::timeout(DRAIN_WAIT, selling.ended()).await;
    let story = story?;
    match drained {
        Ok(ended) => ended?,
        Err(_) => anyhow::bail!("some requests were never answered"),
    }
    let run = watch.stop(&selling.recorder, plan)?;
    Ok(Played {
        ok: run.figures.failed == 0,
        machine: Machine::read(),
        rate_per_s: plan.rate,
        connections: plan.connections,
        sales,
        story,
        figures: run.figures,
        own_cpu_us_per_request: run.own_cpu_us_per_request,
        check: None,
        accounts: selling.close(),
    })
}

impl<T: Story> Played<T> {
    /// What was acknowledged, by event, for the check.
    pub(crate) fn accounts(&self) -> &[(Uuid, Account)] {
        &self.accounts
    }

    /// Takes up what the checks found.
    pub(crate) fn checked(&mut self, checks: Vec<Check>) {
        let check = Check::all_of(checks);
        self.ok &= check.ok;
        self.check = Some(check);
    }

    /// Prints everything.
    pub(crate) fn print(&self, output: Output) -> anyhow::Result<()> {
        output.result(&json!(self), || self.text())
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let figures = &self.figures;
        let mut text = format!(
            "{}\n{} requests in {:.1} s, {:.0}/s wanted, {} connections, {} sales\n\n{}\n",
            self.machine.text(),
            grouped(figures.requests),
            figures.seconds,
            self.rate_per_s.unwrap_or_default(),
            self.connections,
            self.sales,
            self.story.text(),
        );
        text.push_str(&format!(
            "over all: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms; sent again {}, connections lost {}, \
             closed by a gateway {}, gateways not reached {}\nrequests that failed: {}\n",
            figures.latency.p50_ms,
            figures.latency.p99_ms,
            figures.latency.max_ms,
            grouped(figures.retries),
            figures.disconnects,
            figures.goodbyes,
            figures.unreachable,
            figures.failed,
        ));
        match &self.check {
            Some(check) => text.push_str(&check.text("tickets")),
            None => text.push_str("not checked\n"),
        }
        text.push_str(if self.ok { "OK\n" } else { "NOT OK\n" });
        text
    }
}
