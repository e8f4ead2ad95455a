//! Reads the node's stored files again, slowly, and checks them: every record of the log, every section of
//! every snapshot. A disk that forgets does so in old files that nobody reads, and a second copy is lost
//! before the first is missed.
//!
//! ```text
//!   log segment damaged ─► condemned: its groups take snapshots, purge past it, and it goes
//!   snapshot damaged ───► set aside, another one is taken from the state in memory
//! ```
//!
//! What is damaged was stored to be read after a restart; the state in memory was made when the bytes were
//! right. So a running node repairs itself from its own state, once the pump has passed it, without
//! fetching anything; a node that finds the damage at its start refuses to vote with it.
//!
//! Invariants: a file that is no longer needed is no finding; a finding stays open until the file is gone.
//!
//! What it deliberately does not do: read faster when nobody else reads, check the state in memory (see
//! `divergence`).

use std::sync::Arc;
use std::time::Duration;

use grid_core::Space;
use tokio_util::sync::CancellationToken;

use crate::members::{Member, Members};
use crate::platform::{self, wall_now};
use crate::retention;
use crate::snapshot::SnapshotCheck;
use crate::status::DamagedFile;
use crate::wal::{ScrubTarget, SegmentCheck};

/// The first pass begins so long after the node's start.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// How often it is looked whether what was damaged has gone.
const SETTLE_PERIOD: Duration = Duration::from_secs(1);
/// Findings that are kept for the status.
const FINDINGS_MAX: usize = 16;

/// How it works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScrubPolicy {
    /// How fast files are read; 0 for not at all.
    pub(crate) bytes_per_s: u64,
    /// The pause between two passes.
    pub(crate) interval: Duration,
}

/// Works until stopped.
pub(crate) async fn run<S: Space>(
    members: Arc<Members<S>>,
    policy: ScrubPolicy,
    stop: CancellationToken,
) {
    if policy.bytes_per_s == 0 {
        return;
    }
    let scrubber = Scrubber { members, policy };
    let working = async {
        tokio::time::sleep(FIRST_PAUSE).await;
        loop {
            scrubber.pass().await;
            scrubber.rest().await;
        }
    };
    let _: Option<()> = stop.run_until_cancelled(working).await;
}

struct Scrubber<S: Space> {
    members: Arc<Members<S>>,
    policy: ScrubPolicy,
}

impl<S: Space> Scrubber<S> {
    async fn pass(&self) {
        for target in self.members.wal.scrub_targets() {
            self.check_segment(target).await;
            self.settle();
        }
        for (_, member) in self.members.replicas() {
            self.check_snapshots(&member).await;
        }
        if let Some(meta) = self.members.meta() {
            self.check_snapshots(&meta).await;
        }
        let mut status = self.members.scrub.lock();
        status.passes += 1;
        status.last_pass_at_ms = Some(wall_now().as_millis());
    }

    /// Waits for the next pass.
    async fn rest(&self) {
        let mut left = self.policy.interval;
        while !left.is_zero() {
            let nap = left.min(SETTLE_PERIOD);
            platform::pause(nap).await;
            left -= nap;
            self.settle();
        }
    }

    /// Counts what was read and waits as long as it may take.
    async fn pace(&self, bytes: u64) {
        self.members.scrub.lock().checked_bytes += bytes;
        let share = bytes as f64 / self.policy.bytes_per_s as f64;
        tokio::time::sleep(Duration::from_secs_f64(share)).await;
    }

    async fn check_segment(&self, target: ScrubTarget) {
        let (number, path) = (target.segment(), target.path());
        let result = self.read_segment(target).await;
        // A segment that was freed meanwhile is zeroed, renamed or removed.
        let Err(what) = result else { return };
        if self.members.wal.has_segment(number) {
            self.members.wal.condemn(number);
            self.note(&path.display().to_string(), &what, "log");
        }
    }

    async fn read_segment(&self, target: ScrubTarget) -> Result<(), String> {
        let opened = platform::blocking(move || SegmentCheck::open(target)).await;
        let opened = opened.map_err(|error| error.to_string())?;
        let mut check = opened.map_err(|error| error.to_string())?;
        loop {
            let stepped = platform::blocking(move || {
                let read = check.step();
                (check, read)
            });
            let (next, read) = stepped.await.map_err(|error| error.to_string())?;
            check = next;
            match read.map_err(|error| error.to_string())? {
                Some(bytes) => self.pace(bytes).await,
                None => return Ok(()),
            }
        }
    }

    async fn check_snapshots<T: Space>(&self, member: &Member<T>) {
        for index in member.snapshots.indexes() {
            let Some(check) = member.snapshots.begin_check(index) else {
                continue;
            };
            let path = check.path().to_owned();
            let Err(what) = self.read_snapshot(check).await else {
                continue;
            };
            // One that was removed meanwhile is not missed.
            if !member.snapshots.set_aside(index, &what) {
                continue;
            }
            self.note(&path.display().to_string(), &what.to_string(), "snapshot");
            if !member.replica.has_diverged() {
                let newest = member.snapshots.newest_index().unwrap_or(0);
                retention::take(member, newest).await;
            }
            self.settle();
        }
    }

    async fn read_snapshot(&self, mut check: SnapshotCheck) -> std::io::Result<()> {
        loop {
            let stepped = platform::blocking(move || {
                let read = check.step();
                (check, read)
            });
            let (next, read) = stepped.await.map_err(std::io::Error::other)?;
            check = next;
            match read? {
                Some(bytes) => self.pace(bytes).await,
                None => return Ok(()),
            }
        }
    }

    fn note(&self, file: &str, what: &str, kind: &'static str) {
        let mut status = self.members.scrub.lock();
        let is_known = |found: &DamagedFile| found.file == file && found.repaired_at_ms.is_none();
        if status.damaged.iter().any(is_known) {
            return;
        }
        tracing::error!(file, what, "a stored file is damaged");
        metrics::counter!("grid_scrub_damaged_total", "kind" => kind).increment(1);
        status.damaged_total += 1;
        if status.damaged.len() == FINDINGS_MAX {
            status.damaged.remove(0);
        }
        status.damaged.push(DamagedFile {
            file: file.to_owned(),
            what: what.to_owned(),
            found_at_ms: wall_now().as_millis(),
            repaired_at_ms: None,
        });
    }

    /// Closes the findings whose files are needed no more.
    fn settle(&self) {
        let needed = self.needed_files();
        let mut status = self.members.scrub.lock();
        let open = status
            .damaged
            .iter_mut()
            .filter(|found| found.repaired_at_ms.is_none() && !needed.contains(&found.file));
        for found in open {
            found.repaired_at_ms = Some(wall_now().as_millis());
            tracing::info!(file = found.file, "a damaged file is needed no more");
        }
    }

    /// Files of the log; and those of snapshots that are gone with nothing in their place.
    fn needed_files(&self) -> Vec<String> {
        let mut needed: Vec<String> = self
            .members
            .wal
            .scrub_targets()
            .iter()
            .map(|target| target.path().display().to_string())
            .collect();
        for (_, member) in self.members.replicas() {
            needed.extend(member.snapshots.missed());
        }
        if let Some(meta) = self.members.meta() {
            needed.extend(meta.snapshots.missed());
        }
        needed
    }
}
