//! Decides when a replica takes a snapshot and how much of its log may go.
//!
//! A reconciler: it runs every second, looks at each replica, and does at most one snapshot a node at
//! a time. A snapshot is due when enough entries were applied since the last, or when the group keeps
//! old segments of the log from being freed: earlier when the disk has little room, and at once when
//! such a segment is damaged. The log is purged up to the *replay base*: the newest snapshot that the
//! pump has passed; the purged part is freed a little later.

use std::sync::Arc;
use std::time::Duration;

use grid_core::Space;
use tokio_util::sync::CancellationToken;

use crate::cluster::META;
use crate::members::{Member, Members};
use crate::platform;
use crate::wal::RoomLevel;

/// How often it looks.
const PERIOD: Duration = Duration::from_millis(1_000);
/// How long a snapshot may take before the next replica gets its turn.
const SNAPSHOT_WAIT: Duration = Duration::from_secs(60);
/// From this many segments on, a group that keeps the oldest one takes a snapshot although few
/// entries were applied.
const SEGMENTS_BEFORE_UNPINNING: u64 = 8;

/// What retention goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetentionPolicy {
    /// A snapshot is due after this many entries.
    pub(crate) snapshot_every_entries: u64,
    /// Whether a pump reads the changes, so that the log must be kept for it.
    pub(crate) keep_for_pump: bool,
}

/// Works until stopped.
pub(crate) async fn run<S: Space>(
    members: Arc<Members<S>>,
    policy: RetentionPolicy,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = platform::pause(PERIOD) => {}
        }
        let mut unpin = members.wal.must_unpin();
        let is_short_of_room = members.wal.room() > RoomLevel::Plenty;
        if is_short_of_room || members.wal.stats().segments >= SEGMENTS_BEFORE_UNPINNING {
            unpin.extend(members.wal.pinned_by().map(|(_, group)| group));
        }
        for (partition, member) in members.replicas() {
            if stop.is_cancelled() {
                return;
            }
            reconcile(&member, policy, unpin.contains(&partition.0)).await;
        }
        if let Some(meta) = members.meta() {
            // No pump reads the cluster map.
            let policy = RetentionPolicy {
                keep_for_pump: false,
                ..policy
            };
            reconcile(&meta, policy, unpin.contains(&META.0)).await;
        }
    }
}

async fn reconcile<S: Space>(member: &Member<S>, policy: RetentionPolicy, unpin: bool) {
    if member.replica.has_diverged() {
        // A snapshot of it would be wrong too, and the log is what it is rebuilt with.
        return;
    }
    let (applied, pumped) = member
        .replica
        .read(|state| (state.applied_index(), state.pumped_index()));
    let pumped = if policy.keep_for_pump {
        pumped
    } else {
        applied
    };
    let newest = member.snapshots.newest_index().unwrap_or(0);
    let due = applied.saturating_sub(newest) >= policy.snapshot_every_entries;
    member.group.free_purged();
    // To let go of an old segment the pump must have passed the new snapshot too. What was let go of
    // already may be all that it takes.
    let unpin = unpin && !member.group.is_freeing();
    if due || (unpin && applied > newest && pumped > newest) {
        take(member, newest).await;
    }
    if let Some(base) = member.snapshots.retain(pumped)
        && base > member.group.state().purged_index
    {
        member.group.purge_log(base).await;
    }
}

/// Takes a snapshot newer than `newest`. `false` when it cannot be written, or takes too long; then it
/// may still come.
pub(crate) async fn take<S: Space>(member: &Member<S>, newest: u64) -> bool {
    let started = platform::monotonic_now();
    let failures = member.snapshots.failures();
    // From before it is asked for, so that its end is not missed.
    let mut ended = member.group.snapshots_ended();
    member.group.take_snapshot().await;
    let taken = async {
        loop {
            if member.snapshots.newest_index().unwrap_or(0) > newest {
                return true;
            }
            if member.snapshots.failures() > failures || ended.changed().await.is_err() {
                return false;
            }
        }
    };
    let waiting = tokio::time::timeout(SNAPSHOT_WAIT, taken);
    match member.stop.run_until_cancelled(waiting).await {
        Some(Ok(is_taken)) => {
            let took = platform::monotonic_now().saturating_duration_since(started);
            if is_taken {
                metrics::histogram!("grid_snapshot_seconds").record(took.as_secs_f64());
            }
            is_taken
        }
        Some(Err(_)) => {
            tracing::warn!(partition = %member.replica.partition(), "a snapshot takes very long");
            false
        }
        None => false,
    }
}
