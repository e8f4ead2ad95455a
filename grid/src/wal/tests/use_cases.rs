//! What callers rely on while the log is open.

use std::sync::Arc;

use super::*;

#[test]
fn reads_cross_from_disk_to_cache_and_truncated_entries_stay_gone() {
    let directory = tempfile::tempdir().expect("a directory");
    let (wal, _) = open(directory.path());
    for first in (1..60).step_by(3) {
        append(&wal, 1, entries(first..first + 3, 50));
    }
    assert_eq!(read_all(&wal, 1, 1), entries(1..61, 50));
    assert_eq!(
        wal.read(1, 5..9, usize::MAX).expect("readable"),
        entries(5..9, 50)
    );
    assert_eq!(wal.read(1, 5..60, 1).expect("readable").len(), 1);
    wait(|done| wal.truncate_after(1, Some(19), done)).expect("truncated");
    assert_eq!(read_all(&wal, 1, 1), entries(1..20, 50));
    append(&wal, 1, entries(20..22, 7));
    let mut expected = entries(1..20, 50);
    expected.extend(entries(20..22, 7));
    assert_eq!(read_all(&wal, 1, 1), expected);
    drop(wal);
    let (wal, _) = open(directory.path());
    assert_eq!(read_all(&wal, 1, 1), expected);
    assert_eq!(
        wal.last_entry(1).expect("readable").map(|last| last.0),
        Some(21)
    );
}

#[test]
fn purging_frees_segments_and_keeps_votes() {
    let directory = tempfile::tempdir().expect("a directory");
    let (wal, _) = open(directory.path());
    vote(&wal, 1, b"one");
    wal.save_committed(1, Bytes::from_static(b"committed"));
    append(&wal, 2, entries(1..2, 10));
    for index in 1..200 {
        append(&wal, 1, entries(index..index + 1, 100));
    }
    assert_eq!(wal.pinned_by(), Some((1, 1)));
    purge(&wal, 1, 150);
    assert_eq!(wal.pinned_by(), Some((1, 2)));
    let before = wal.stats().segments;
    purge(&wal, 2, 1);
    let (oldest, group) = wal.pinned_by().expect("entries are left");
    assert!(oldest > 1 && group == 1);
    assert!(matches!(
        wal.read(1, 150..160, 1),
        Err(WalError::Purged { purged: 150 })
    ));
    // The next operation is answered after the freeing of the one before.
    vote(&wal, 3, b"three");
    assert!(wal.stats().segments < before);
    assert!(!segment_path(directory.path(), 1).exists());
    drop(wal);
    let (wal, recovered) = open(directory.path());
    let one = &recovered.groups[&1];
    assert_eq!(one.vote.as_deref(), Some(&b"one"[..]));
    assert_eq!(one.committed.as_deref(), Some(&b"committed"[..]));
    assert_eq!(one.purged, Some((150, Bytes::from_static(b"meta"))));
    assert_eq!(
        recovered.groups[&2].purged,
        Some((1, Bytes::from_static(b"meta")))
    );
    assert_eq!(recovered.groups[&3].vote.as_deref(), Some(&b"three"[..]));
    assert_eq!(read_all(&wal, 1, 151), entries(151..200, 100));
}

#[test]
fn a_forgotten_group_is_gone_and_may_begin_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let (wal, _) = open(directory.path());
    vote(&wal, 1, b"one");
    append(&wal, 2, entries(1..2, 10));
    append(&wal, 1, entries(1..200, 100));
    purge(&wal, 1, 150);
    let remains = RecoveredGroup {
        vote: Some(Bytes::from_static(b"one")),
        floor: Some(Bytes::from_static(b"199")),
        ..RecoveredGroup::default()
    };
    wait(|done| wal.forget(1, &remains, done)).expect("forgotten");
    assert_eq!(wal.last_entry(1).expect("readable"), None);
    drop(wal);
    let (wal, recovered) = open(directory.path());
    assert_eq!(recovered.groups[&1], remains);
    assert_eq!(read_all(&wal, 2, 1), entries(1..2, 10));
    // As a learner that gets everything from the beginning.
    append(&wal, 1, entries(1..5, 10));
    drop(wal);
    let (wal, recovered) = open(directory.path());
    assert_eq!(recovered.groups[&1], remains);
    assert_eq!(read_all(&wal, 1, 1), entries(1..5, 10));
    // The segments with the record of it go, and checkpoints say it instead.
    for index in 2..200 {
        append(&wal, 2, entries(index..index + 1, 1_000));
    }
    purge(&wal, 2, 190);
    purge(&wal, 1, 4);
    vote(&wal, 1, b"two");
    drop(wal);
    let (wal, recovered) = open(directory.path());
    assert!(wal.stats().segments < 10, "{:?}", wal.stats());
    assert_eq!(recovered.groups[&1].vote.as_deref(), Some(&b"two"[..]));
    assert_eq!(recovered.groups[&1].floor, remains.floor);
}

#[test]
fn many_threads_share_syncs() {
    const THREADS: u32 = 16;
    const APPENDS: u64 = 100;
    let directory = tempfile::tempdir().expect("a directory");
    let (wal, _) = open(directory.path());
    let wal = Arc::new(wal);
    std::thread::scope(|scope| {
        for group in 0..THREADS {
            let wal = &wal;
            scope.spawn(move || {
                let mut waiting = Vec::new();
                for index in 1..=APPENDS {
                    let (done, result) = completion();
                    wal.append(group, entries(index..index + 1, 40), done);
                    waiting.push(result);
                    assert_eq!(read_all(wal, group, 1).len() as u64, index);
                }
                for result in waiting {
                    result.recv().expect("answered").expect("appended");
                }
            });
        }
    });
    assert!(wal.stats().syncs < u64::from(THREADS) * APPENDS);
    drop(wal);
    let (wal, _) = open(directory.path());
    for group in 0..THREADS {
        assert_eq!(read_all(&wal, group, 1), entries(1..APPENDS + 1, 40));
    }
}

#[test]
fn what_cannot_be_kept_is_refused_and_the_log_goes_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let (wal, _) = open(directory.path());
    append(&wal, 1, entries(1..2, 10));
    for refused in [entries(3..4, 1), entries(1..2, 1), entries(2..3, 4000)] {
        let error = wait(|done| wal.append(1, refused, done)).expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    // Larger than a segment together, but not one by one.
    append(&wal, 1, entries(2..50, 300));
    let mut expected = entries(1..2, 10);
    expected.extend(entries(2..50, 300));
    assert_eq!(read_all(&wal, 1, 1), expected);
}

#[test]
fn a_close_finishes_what_is_queued_and_later_operations_fail() {
    let directory = tempfile::tempdir().expect("a directory");
    let (wal, _) = open(directory.path());
    let (waiting, mut results) = (1..50_u64, Vec::new());
    for index in waiting {
        let (done, result) = completion();
        wal.append(1, entries(index..index + 1, 10), done);
        results.push(result);
    }
    wal.close();
    for result in results {
        result
            .try_recv()
            .expect("answered before the close returned")
            .expect("appended");
    }
    wait(|done| wal.append(1, entries(50..51, 10), done)).expect_err("closed");
    assert_eq!(
        wal.last_entry(1).expect("readable").map(|last| last.0),
        Some(49)
    );
}

#[test]
fn a_failure_poisons_the_log() {
    let directory = tempfile::tempdir().expect("a directory");
    let (wal, _) = open(directory.path());
    // The next segment cannot be opened any more.
    std::fs::remove_dir_all(directory.path()).expect("removed");
    let mut index = 1;
    while wait(|done| wal.append(1, entries(index..index + 1, 500), done)).is_ok() {
        index += 1;
        assert!(index < 100, "the segment is full by now");
    }
    wait(|done| wal.save_vote(1, Bytes::new(), done)).expect_err("poisoned");
    assert!(!wal.writable());
}
