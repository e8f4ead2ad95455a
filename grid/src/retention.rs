//! Decides when a replica takes a snapshot and how much of its log may go.
//!
//! A reconciler: it runs every second, looks at each replica, and does at most one snapshot a node at
//! a time. A snapshot is due when enough entries were applied since the last, when a restart of the node
//! would apply too much of its log again (then the replica with the most of it takes one), or when the
//! group keeps old segments of the log from being freed: earlier when the disk has little room, and at
//! once when such a segment is damaged. The replicas of a partition apply the same entries, and would
//! all take theirs in the same second; each node has its turn instead (see [`Turn`]).
//!
//! The log is purged up to the *replay base*: the newest snapshot that the pump has passed by as much log as
//! is kept for a database that goes back in time, or, where a group keeps old segments from being freed,
//! just passed. The purged part is freed a little later.

use std::sync::Arc;
use std::time::Duration;

use grid_core::Space;
use tokio_util::sync::CancellationToken;

use crate::cluster::META;
use crate::members::{Member, Members};
use crate::node::NodeId;
use crate::platform;
use crate::snapshot::Reach;
use crate::wal::RoomLevel;

/// How often it looks.
const PERIOD: Duration = Duration::from_millis(1_000);
/// How long a snapshot may take before the next replica gets its turn.
const SNAPSHOT_WAIT: Duration = Duration::from_secs(60);
/// Two snapshots of a replica are at least this part of the usual distance apart.
const SNAPSHOT_DISTANCE_DIVISOR: u64 = 4;
/// From this many segments on, a group that keeps the oldest one takes a snapshot although few
/// entries were applied.
const SEGMENTS_BEFORE_UNPINNING: u64 = 8;

/// What retention goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetentionPolicy {
    /// A snapshot is due after this many entries.
    pub(crate) snapshot_every_entries: u64,
    /// What a restart may apply again, of all replicas together; see `ReplayCost`.
    pub(crate) replay_bytes_max: u64,
    /// Whether a pump reads the changes, so that the log must be kept for it.
    pub(crate) keep_for_pump: bool,
    /// Log of a partition that is kept although the pump has passed it, should the database go back.
    pub(crate) keep_behind_bytes: u64,
}

/// A node's place among those that hold the same, by which they do the same at different times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turn {
    place: u64,
    of: u64,
}

impl Turn {
    fn of(node: NodeId, holders: &[NodeId]) -> Self {
        let place = holders.iter().filter(|holder| **holder < node).count() as u64;
        Self {
            place,
            of: (holders.len() as u64).max(place + 1),
        }
    }

    /// Whether a snapshot is due at `applied`, the newest being at `newest`: when the log has passed a
    /// multiple of `every`, which lies elsewhere for each turn. Never later than `every` entries after
    /// the newest, and not soon after one that was taken for another reason.
    fn is_due(self, applied: u64, newest: u64, every: u64) -> bool {
        let shift = every / self.of * self.place;
        let multiple = |index: u64| index.saturating_add(shift) / every;
        multiple(applied) > multiple(newest)
            && applied - newest >= every / SNAPSHOT_DISTANCE_DIVISOR
    }

    /// This node's part of a bound: no two have the same, so that those who fill it alike do not reach it
    /// together for long. At least half of it.
    fn part(self, bound: u64) -> u64 {
        bound - bound / (2 * self.of) * self.place
    }
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
            let turn = Turn::of(members.node, &members.holders(partition));
            reconcile(&member, policy, turn, unpin.contains(&partition.0)).await;
        }
        bound_replay(&members, policy.replay_bytes_max, &stop).await;
        if let Some(meta) = members.meta() {
            // No pump reads the cluster map.
            let policy = RetentionPolicy {
                keep_for_pump: false,
                ..policy
            };
            let turn = Turn::of(members.node, &members.holders(META));
            reconcile(&meta, policy, turn, unpin.contains(&META.0)).await;
        }
    }
}

/// Takes snapshots until a restart would apply no more than `bytes_max` again.
async fn bound_replay<S: Space>(members: &Members<S>, bytes_max: u64, stop: &CancellationToken) {
    let bytes_max = Turn::of(members.node, &members.nodes()).part(bytes_max);
    while !stop.is_cancelled() {
        let mut all_bytes = 0;
        let mut largest: Option<(u64, Arc<Member<S>>)> = None;
        for (_, member) in members.replicas() {
            let bytes = member.replica.replay_cost().bytes();
            all_bytes += bytes;
            let is_larger = largest.as_ref().is_none_or(|(most, _)| bytes > *most);
            if is_larger && !member.replica.has_diverged() {
                largest = Some((bytes, member));
            }
        }
        let Some((bytes, member)) = largest.filter(|_| all_bytes > bytes_max) else {
            return;
        };
        let newest = member.snapshots.newest_index().unwrap_or(0);
        let taken = take(&member, newest).await;
        // Otherwise it is tried again a little later, when the log may be purged too.
        if !taken || member.replica.replay_cost().bytes() >= bytes {
            return;
        }
    }
}

async fn reconcile<S: Space>(member: &Member<S>, policy: RetentionPolicy, turn: Turn, unpin: bool) {
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
    let due = applied > newest && turn.is_due(applied, newest, policy.snapshot_every_entries);
    member.group.free_purged();
    let is_pinning = unpin;
    // To let go of an old segment the pump must have passed the new snapshot too. What was let go of
    // already may be all that it takes.
    let unpin = unpin && !member.group.is_freeing();
    if due || (unpin && applied > newest && pumped > newest) {
        take(member, newest).await;
    }
    let reach = Reach {
        bytes: match policy.keep_for_pump && !is_pinning {
            true => policy.keep_behind_bytes,
            false => 0,
        },
        bytes_after: &|index| member.wal.bytes_after(member.replica.partition().0, index),
    };
    if let Some(base) = member.snapshots.retain(pumped, reach)
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

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: u64 = 50_000;

    /// Where a replica that looks after every entry takes its snapshots.
    fn taken(turn: Turn, from: u64, upto: u64) -> Vec<u64> {
        let mut newest = from;
        let mut taken = Vec::new();
        for applied in from..upto {
            if applied > newest && turn.is_due(applied, newest, EVERY) {
                taken.push(applied);
                newest = applied;
            }
        }
        taken
    }

    #[test]
    fn replicas_take_their_snapshots_at_different_entries() {
        let holders = [2, 5, 9];
        let turns: Vec<Turn> = holders.map(|node| Turn::of(node, &holders)).to_vec();
        let all: Vec<Vec<u64>> = turns.iter().map(|turn| taken(*turn, 0, 400_000)).collect();
        for (place, mine) in all.iter().enumerate() {
            assert!(mine[0] <= EVERY, "{mine:?}");
            assert!(
                mine.windows(2).all(|pair| pair[1] - pair[0] <= EVERY),
                "{mine:?}"
            );
            for other in all.iter().skip(place + 1).flatten() {
                let nearest = mine.iter().map(|index| index.abs_diff(*other)).min();
                assert!(
                    nearest.is_some_and(|nearest| nearest > EVERY / 4),
                    "{all:?}"
                );
            }
        }
    }

    #[test]
    fn a_snapshot_taken_by_hand_is_not_followed_by_another_at_once() {
        let turn = Turn::of(1, &[1]);
        let taken = taken(turn, EVERY - 10, 3 * EVERY);
        assert_eq!(taken, [EVERY - 10 + EVERY / 4, 2 * EVERY]);
        assert!(!turn.is_due(u64::MAX, 0, u64::MAX) || turn.place == 0);
    }

    #[test]
    fn a_bound_is_shared_out_in_parts_that_differ() {
        let nodes = [1, 2, 3];
        let parts = nodes.map(|node| Turn::of(node, &nodes).part(600));
        assert_eq!(parts, [600, 500, 400]);
        assert_eq!(
            Turn::of(7, &[]).part(600),
            600,
            "a node that no map names yet"
        );
    }
}
