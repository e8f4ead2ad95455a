//! The load generator of `grid load`, and the check that follows it.
//!
//! ```text
//!   pace ──when──► buyer or bidder, one task a connection ──► session ──WebSocket──► gateways
//!                        │                                       └ reconnects, retries under the same key
//!                        └──► recorder (latency, refusals, errors, gaps) ──► report
//!   afterwards: check ──HTTP──► what the grid holds,  ──SQL──► what the database holds
//! ```
//!
//! *Open loop* (`--rate`): the schedule is fixed in advance and latency counts from the intended time, so a
//! slow grid is not asked less. *Closed loop*: every connection asks again as soon as it is answered.
//!
//! It shares the machine with the grid it measures, so a request costs it a few microseconds: no threads
//! of its own, JSON written by hand, replies read only as far as they are needed.
//!
//! What it deliberately does not do: judge. Business refusals are counted, not errors.

pub(crate) mod bidding;
pub(crate) mod check;
pub(crate) mod compare;
pub(crate) mod crowd;
pub(crate) mod facts;
pub(crate) mod fault;
pub(crate) mod idle;
pub(crate) mod kills;
mod ledger;
mod machine;
pub(crate) mod onsale;
pub(crate) mod overload;
mod pace;
pub(crate) mod pump;
mod recorder;
pub(crate) mod recovery;
pub(crate) mod report;
pub(crate) mod restarts;
pub(crate) mod rush;
pub(crate) mod scale;
pub(crate) mod scenario;
mod session;
pub(crate) mod snapshots;
mod socket;
mod usage;
pub(crate) mod venue;
pub(crate) mod watch;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinSet;

use crate::failure::Failure;
use crate::output::Output;
use crate::sequence::Sequence;
use fault::Fault;
pub(crate) use pace::Ending;
use pace::Pace;
pub(crate) use recorder::Recorder;
use session::{Session, Target};

/// Connections that are being opened at a time.
const CONNECTING_MAX: usize = 64;
/// Between the last connection's opening and the first request.
const START_PAUSE: Duration = Duration::from_millis(200);
const BAR_PAUSE: Duration = Duration::from_millis(250);
/// How long after the end the last answers are awaited.
const DRAIN_WAIT: Duration = Duration::from_secs(90);

/// How to load.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The gateways' addresses.
    pub(crate) gateways: Vec<String>,
    /// Connections, spread over the gateways.
    pub(crate) connections: usize,
    /// Requests a second in all; `None` for the closed loop.
    pub(crate) rate: Option<f64>,
    /// How long requests are begun.
    pub(crate) duration: Duration,
    /// Makes people and choices differ from run to run.
    pub(crate) seed: u64,
    /// A node to kill meanwhile.
    pub(crate) fault: Option<Arc<Fault>>,
    /// Ends the run before its time.
    pub(crate) ending: Ending,
}

impl Plan {
    /// Opens every connection. Nobody's request waits for a handshake later.
    async fn connect(&self, recorder: &Arc<Recorder>) -> anyhow::Result<Vec<Session>> {
        let target = Arc::new(Target::new(&self.gateways)?);
        let sessions = (0..self.connections).map(|number| {
            let (target, recorder) = (Arc::clone(&target), Arc::clone(recorder));
            let mut sequence = Sequence::new(self.seed ^ ((number as u64) << 32));
            async move {
                let mut session = Session::new(target, recorder, number, sequence.uuid());
                session.open().await.map(|()| session)
            }
        });
        stream::iter(sessions)
            .buffered(CONNECTING_MAX)
            .try_collect()
            .await
            .map_err(|error| {
                let text = format!(
                    "a connection could not be opened: {error}; is the grid up, and does it allow \
                     {} connections (`ulimit -n`)?",
                    self.connections
                );
                Failure::Unreachable(text).into()
            })
    }

    fn pace(&self, number: usize, start: Instant) -> Pace {
        let pace = match self.rate {
            Some(rate) => Pace::open(start, self.duration, rate, number, self.connections),
            None => Pace::closed(start, self.duration),
        };
        pace.until(self.ending.clone())
    }

    /// Waits until every task has ended, showing the time.
    async fn watch(
        &self,
        output: Output,
        what: &str,
        start: Instant,
        mut tasks: JoinSet<()>,
    ) -> anyhow::Result<()> {
        let bar = output.bar(self.duration.as_secs().max(1), what);
        let mut ticks = tokio::time::interval(BAR_PAUSE);
        let end = start + self.duration + DRAIN_WAIT;
        let fault = async {
            match &self.fault {
                Some(fault) => fault.strike(start).await,
                None => Ok(()),
            }
        };
        let mut fault = std::pin::pin!(fault);
        let mut is_struck = false;
        loop {
            tokio::select! {
                struck = &mut fault, if !is_struck => {
                    struck?;
                    is_struck = true;
                }
                ended = tasks.join_next() => match ended {
                    None => break,
                    Some(Ok(())) => {}
                    Some(Err(error)) => anyhow::bail!("a connection's task ended early: {error}"),
                },
                _ = ticks.tick() => bar.set_position(start.elapsed().as_secs()),
                () = tokio::time::sleep_until(end.into()) => {
                    tasks.abort_all();
                    anyhow::bail!("some requests were never answered");
                }
            }
        }
        bar.finish_and_clear();
        Ok(())
    }
}
