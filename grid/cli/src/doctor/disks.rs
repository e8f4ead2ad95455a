//! Disks: full, nearly full, slow, forgetful; and logs that cannot shrink.

use grid::{DiskTrouble, WalStatus};

use super::facts::Facts;
use super::{Finding, Severity};

/// A node that does not say what it keeps free is taken to keep so many segments of its log.
const SEGMENTS_RESERVED: u64 = 4;
/// With less room than so many times what the node keeps free the disk is nearly full.
const RESERVES_LEFT_MIN: u64 = 2;
/// A sync slower than this, in microseconds, is felt by everybody who buys from that leader.
const SLOW_SYNC_US: u64 = 200_000;
/// And one slower than this gets near the leaders' leases.
const VERY_SLOW_SYNC_US: u64 = 600_000;
/// A log larger than this does not shrink as it should.
const LOG_BYTES_MAX: u64 = 8 << 30;

pub(super) fn check(facts: &Facts, findings: &mut Vec<Finding>) {
    for (id, status) in facts.statuses() {
        let wal = &status.wal;
        findings.extend(room(id, wal).or_else(|| failed(id, wal)));
        findings.extend(slow(id, wal));
        findings.extend(growing(id, wal));
        findings.extend(damaged(id, wal));
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

fn room(id: u64, wal: &WalStatus) -> Option<Finding> {
    let free = wal.disk_free_bytes?;
    let reserve = match wal.disk_reserve_bytes {
        0 => SEGMENTS_RESERVED * wal.segment_bytes,
        reserve => reserve,
    };
    // Without a spare there is nothing to write to when the present segment ends.
    let is_full = (!wal.spare_ready && free < wal.segment_bytes)
        || (!wal.writable && free < reserve)
        || wal.trouble == Some(DiskTrouble::Full);
    let is_low = free < RESERVES_LEFT_MIN * reserve;
    if !is_full && !is_low {
        return None;
    }
    let mut evidence = vec![format!(
        "{} free of {}; writes are refused below {}, and the log needs {} for its next segment",
        mebibytes(free),
        mebibytes(wal.disk_total_bytes.unwrap_or(0)),
        mebibytes(reserve),
        mebibytes(wal.segment_bytes)
    )];
    if !wal.spare_ready {
        evidence.push("the log's next segment could not be made".to_owned());
    }
    if !wal.writable {
        evidence.push("the node refuses writes, and clients are told `overloaded`".to_owned());
    }
    Some(Finding {
        code: if is_full { "disk_full" } else { "disk_low" },
        severity: match is_full {
            true => Severity::Critical,
            false => Severity::Warning,
        },
        subject: format!("node {id}"),
        cause: match is_full {
            true => "the disk of its log is full".to_owned(),
            false => "the disk of its log is nearly full".to_owned(),
        },
        evidence,
        action: format!(
            "make room on the disk of node-{id} (`df`, `du`); writes are taken again by themselves, \
             without a restart. If the database is behind, see to that first: the log is kept for it"
        ),
    })
}

fn failed(id: u64, wal: &WalStatus) -> Option<Finding> {
    // A segment that is being changed has no spare for a moment, but room.
    (!wal.writable).then(|| Finding {
        code: "log_failed",
        severity: Severity::Critical,
        subject: format!("node {id}"),
        cause: "its log takes no writes although the disk has room".to_owned(),
        evidence: vec![format!("the spare segment is ready: {}", wal.spare_ready)],
        action: format!(
            "read node-{id}/node.log for the disk's error; a node whose log failed stops by itself"
        ),
    })
}

fn slow(id: u64, wal: &WalStatus) -> Option<Finding> {
    let is_set_back = wal.trouble == Some(DiskTrouble::Slow);
    (is_set_back || wal.slowest_sync_us > SLOW_SYNC_US).then(|| Finding {
        code: "slow_disk",
        severity: match wal.slowest_sync_us > VERY_SLOW_SYNC_US {
            true => Severity::Critical,
            false => Severity::Warning,
        },
        subject: format!("node {id}"),
        cause: match is_set_back {
            true => {
                "its disk takes much longer to sync the log than the others', so it leads nothing \
                     while they can"
                    .to_owned()
            }
            false => "its disk takes long to sync the log, and every write it leads waits for that"
                .to_owned(),
        },
        evidence: vec![format!(
            "the slowest sync of the last seconds took {} ms, the last one {} ms, half of them at \
             most {} ms",
            wal.slowest_sync_us / 1_000,
            wal.last_sync_us / 1_000,
            wal.usual_sync_us.unwrap_or(wal.last_sync_us) / 1_000
        )],
        action:
            "see what else writes to that disk (`iostat -x 1`); move the node's directory to a \
                 faster one"
                .to_owned(),
    })
}

fn damaged(id: u64, wal: &WalStatus) -> Option<Finding> {
    let scrub = &wal.scrub;
    let is_open = scrub
        .damaged
        .iter()
        .any(|found| found.repaired_at_ms.is_none());
    (!scrub.damaged.is_empty()).then(|| Finding {
        code: "damaged_files",
        severity: match is_open {
            true => Severity::Critical,
            false => Severity::Warning,
        },
        subject: format!("node {id}"),
        cause: match is_open {
            true => {
                "its disk has lost or changed stored files, and they are still needed".to_owned()
            }
            false => {
                "its disk has lost or changed stored files; newer ones took their place".to_owned()
            }
        },
        evidence: scrub
            .damaged
            .iter()
            .map(|found| match found.repaired_at_ms {
                Some(_) => format!("{}: {}; not needed any more", found.file, found.what),
                None => format!("{}: {}", found.file, found.what),
            })
            .collect(),
        action: match is_open {
            true => format!(
                "see why it takes no snapshots: most often the database is behind (`pump` in `grid \
                 status`). Do not stop node {id} before: it could not start with that file; if it \
                 has to, empty its directory, and it comes back from its peers"
            ),
            false => format!(
                "nothing is lost; replace the disk of node {id} if it happens again (`smartctl`); \
                 this is told until the node is started again"
            ),
        },
    })
}

fn growing(id: u64, wal: &WalStatus) -> Option<Finding> {
    (wal.bytes > LOG_BYTES_MAX).then(|| Finding {
        code: "log_growing",
        severity: Severity::Warning,
        subject: format!("node {id}"),
        cause: "its log does not shrink: a partition's old entries are still needed".to_owned(),
        evidence: vec![format!(
            "{} in {} segments, kept by {}",
            mebibytes(wal.bytes),
            wal.segments,
            wal.pinned_by
                .map_or("nobody".to_owned(), |partition| format!(
                    "partition {partition}"
                ))
        )],
        action: "most often the database is behind: see `pump` in `grid status`".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use grid::DamagedFile;

    use super::super::examine;
    use super::super::fixtures::{by_code, healthy, node, reassess};
    use super::*;

    #[test]
    fn a_full_disk_is_named_before_and_after_writes_are_refused() {
        let mut facts = healthy();
        node(&mut facts, 2).wal.disk_free_bytes = Some(1 << 20);
        node(&mut facts, 2).wal.spare_ready = false;
        let finding = by_code(&facts, "disk_full");
        assert_eq!(
            (finding.subject.as_str(), finding.severity),
            ("node 2", Severity::Critical)
        );

        node(&mut facts, 2).wal.writable = false;
        reassess(&mut facts);
        let findings = examine(&facts);
        assert_eq!(findings.len(), 1, "{findings:#?}");
        assert_eq!(findings[0].code, "disk_full");
    }

    #[test]
    fn a_disk_that_is_nearly_full_is_a_warning() {
        let mut facts = healthy();
        node(&mut facts, 1).wal.disk_free_bytes = Some(300 << 20);
        assert_eq!(by_code(&facts, "disk_low").severity, Severity::Warning);
        node(&mut facts, 1).wal.trouble = Some(DiskTrouble::Full);
        assert_eq!(by_code(&facts, "disk_full").severity, Severity::Critical);
        node(&mut facts, 1).wal.trouble = None;
        node(&mut facts, 1).wal.disk_reserve_bytes = 64 << 20;
        assert_eq!(examine(&facts), []);
    }

    #[test]
    fn damaged_files_are_told_as_long_as_they_are_needed_and_after() {
        let mut facts = healthy();
        node(&mut facts, 2).wal.scrub.damaged = vec![DamagedFile {
            file: "wal/wal-1.seg".to_owned(),
            what: "a record fails its checksum".to_owned(),
            found_at_ms: 1,
            repaired_at_ms: None,
        }];
        reassess(&mut facts);
        let findings = examine(&facts);
        assert_eq!(findings.len(), 1, "{findings:#?}");
        assert_eq!(findings[0].code, "damaged_files");
        assert_eq!(findings[0].severity, Severity::Critical);
        assert!(findings[0].evidence[0].contains("wal-1.seg"));
        node(&mut facts, 2).wal.scrub.damaged[0].repaired_at_ms = Some(2);
        reassess(&mut facts);
        assert_eq!(by_code(&facts, "damaged_files").severity, Severity::Warning);
    }

    #[test]
    fn a_log_that_fails_with_room_left_is_not_called_a_full_disk() {
        let mut facts = healthy();
        node(&mut facts, 1).wal.writable = false;
        reassess(&mut facts);
        assert_eq!(by_code(&facts, "log_failed").subject, "node 1");
    }

    #[test]
    fn slow_syncs_and_a_growing_log_are_told() {
        let mut facts = healthy();
        node(&mut facts, 3).wal.slowest_sync_us = 250_000;
        assert_eq!(by_code(&facts, "slow_disk").severity, Severity::Warning);
        node(&mut facts, 3).wal.trouble = Some(DiskTrouble::Slow);
        reassess(&mut facts);
        let findings = examine(&facts);
        assert_eq!(findings.len(), 1, "{findings:#?}");
        assert!(findings[0].cause.contains("leads nothing"));
        node(&mut facts, 3).wal.slowest_sync_us = 900_000;
        assert_eq!(by_code(&facts, "slow_disk").severity, Severity::Critical);

        let mut facts = healthy();
        node(&mut facts, 3).wal.bytes = 9 << 30;
        node(&mut facts, 3).wal.pinned_by = Some(2);
        assert!(by_code(&facts, "log_growing").evidence[0].contains("partition 2"));
    }
}
