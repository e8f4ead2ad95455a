//! What is measured by looking: set when somebody reads the metrics, so that nobody reading costs
//! nothing.
//!
//! Labels are partitions (at most 256) and nodes only. What is counted or timed as it happens is where
//! it happens; docs/operations.md lists all.

use grid_core::Space;
use metrics::gauge;

use crate::members::Members;
use crate::status::{BacklogState, NodeStatus, ReplicaRole, ReplicaStatus};

/// Sets this node's gauges.
pub(crate) fn publish<S: Space>(members: &Members<S>) {
    let status = members.status();
    publish_node(&status);
    for replica in &status.replicas {
        publish_replica(replica);
    }
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

fn publish_node(status: &NodeStatus) {
    gauge!("grid_uptime_seconds").set(status.uptime_ms as f64 / 1_000.0);
    gauge!("grid_peers_unreachable").set(status.unreachable.len() as f64);
    let wal = &status.wal;
    gauge!("grid_wal_segments").set(wal.segments as f64);
    gauge!("grid_wal_bytes").set(wal.bytes as f64);
    gauge!("grid_wal_writable").set(flag(wal.writable));
    if let Some(usual_us) = wal.usual_sync_us {
        gauge!("grid_wal_usual_fsync_seconds").set(usual_us as f64 / 1e6);
    }
    gauge!("grid_backlog_bytes").set(status.backlog.bytes as f64);
    gauge!("grid_backlog_drained_bytes_per_second").set(status.backlog.drained_bytes_per_s as f64);
    let is_open = status.backlog.state == BacklogState::Open;
    gauge!("grid_backlog_slows").set(flag(!is_open));
    gauge!("grid_disk_fit_to_lead").set(flag(wal.trouble.is_none()));
    gauge!("grid_scrub_passes").set(wal.scrub.passes as f64);
    gauge!("grid_scrub_checked_bytes").set(wal.scrub.checked_bytes as f64);
    let damaged = wal.scrub.damaged.iter();
    let unrepaired = damaged.filter(|found| found.repaired_at_ms.is_none());
    gauge!("grid_scrub_damaged_files").set(unrepaired.count() as f64);
    gauge!("grid_wal_slowest_fsync_seconds").set(wal.slowest_sync_us as f64 / 1e6);
    // The partition whose old entries keep the oldest segment; -1 for none.
    gauge!("grid_wal_pinning_partition").set(wal.pinned_by.map_or(-1.0, f64::from));
    if let Some(free) = wal.disk_free_bytes {
        gauge!("grid_disk_free_bytes").set(free as f64);
    }
    if let Some(total) = wal.disk_total_bytes {
        gauge!("grid_disk_bytes").set(total as f64);
    }
}

fn publish_replica(replica: &ReplicaStatus) {
    let partition = replica.partition.to_string();
    let set = |name: &'static str, value: f64| {
        gauge!(name, "partition" => partition.clone()).set(value);
    };
    set(
        "grid_replica_leader",
        flag(replica.role == ReplicaRole::Leader),
    );
    set("grid_replica_has_leader", flag(replica.leader.is_some()));
    set("grid_replica_term", replica.term as f64);
    set("grid_replica_log_index", replica.last_log_index as f64);
    set("grid_replica_applied_index", replica.applied_index as f64);
    set("grid_replica_pumped_index", replica.pumped_index as f64);
    set("grid_replica_diverged", flag(replica.divergence.is_some()));
    set("grid_replica_stopped", flag(replica.fault.is_some()));
    set("grid_replica_learners", replica.learners.len() as f64);
    set(
        "grid_remembered_commands",
        replica.remembered_commands as f64,
    );
    set(
        "grid_proposal_queue_commands",
        replica.proposal_queue as f64,
    );
    let snapshot = replica.snapshots.last();
    set(
        "grid_snapshot_bytes",
        snapshot.map_or(0.0, |newest| newest.bytes as f64),
    );
    for follower in &replica.followers {
        let lag = replica
            .last_log_index
            .saturating_sub(follower.matched_index);
        gauge!(
            "grid_replication_lag_entries",
            "partition" => partition.clone(),
            "node" => follower.node_id.to_string()
        )
        .set(lag as f64);
    }
}
