//! Lost files, disks without room, and reading again what is stored.

use std::fs;
use std::time::{Duration, Instant};

use super::super::{RoomLevel, SegmentCheck};
use super::*;

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

fn copy_with_manifest(directory: &Path) -> tempfile::TempDir {
    let copied = copy(directory);
    fs::copy(directory.join("manifest"), copied.path().join("manifest")).expect("a manifest");
    copied
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn last_index(wal: &Wal) -> u64 {
    let last = wal.last_entry(1).expect("readable").expect("an entry");
    last.0
}

/// Three segments; all of group 9 is in the first one, group 1 begins in the second.
fn with_a_group_in_the_first_segment() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let (wal, _) = open(directory.path());
    append(&wal, 9, entries(1..4, 50));
    vote(&wal, 9, b"vote");
    let mut index = 1;
    while wal.stats().segments < 2 {
        append(&wal, 1, entries(index..index + 1, 100));
        index += 1;
    }
    let purged = index;
    while wal.stats().segments < 3 {
        append(&wal, 1, entries(index..index + 1, 100));
        index += 1;
    }
    purge(&wal, 1, purged);
    wal.close();
    directory
}

#[test]
fn a_lost_first_segment_is_noticed_though_the_others_fit_together() {
    let directory = with_a_group_in_the_first_segment();
    let copied = copy_with_manifest(directory.path());
    let (wal, _) = open(copied.path());
    assert_eq!(read_all(&wal, 9, 1), entries(1..4, 50));
    drop(wal);
    fs::remove_file(segment_path(copied.path(), 1)).expect("removed");
    assert_corrupt(copied.path(), 1, 0);
    // Nothing else tells.
    fs::remove_file(copied.path().join("manifest")).expect("removed");
    let (wal, _) = open(copied.path());
    assert!(read_all(&wal, 9, 1).is_empty());
}

#[test]
fn a_lost_last_segment_is_noticed() {
    let directory = with_a_group_in_the_first_segment();
    let copied = copy_with_manifest(directory.path());
    fs::remove_file(segment_path(copied.path(), 3)).expect("removed");
    assert_corrupt(copied.path(), 3, 0);
}

#[test]
fn a_shortened_segment_is_damage() {
    let directory = with_a_group_in_the_first_segment();
    let shorten = |segment, bytes| {
        let copied = copy_with_manifest(directory.path());
        let file = fs::File::options()
            .write(true)
            .open(segment_path(copied.path(), segment))
            .expect("a segment");
        file.set_len(bytes).expect("shortened");
        copied
    };
    for segment in [1, 2] {
        assert_corrupt(shorten(segment, 10).path(), segment, 0);
        // Cut between two records, what is missing is noticed at the segment after it.
        let (_, third, _) = records(directory.path(), segment)[2];
        assert_corrupt(shorten(segment, third as u64).path(), segment + 1, 0);
    }
    // There is none after the last one: its end, or all of it, could be a stop in mid-write.
    let (_, second, _) = records(directory.path(), 3)[1];
    for bytes in [10, 100, second as u64, 4_095] {
        assert_corrupt(shorten(3, bytes).path(), 3, bytes as usize);
    }
}

#[test]
fn segments_that_a_crash_has_brought_back_are_no_damage() {
    let directory = with_a_group_in_the_first_segment();
    let before = copy(directory.path());
    let (wal, _) = open(directory.path());
    purge(&wal, 9, 3);
    // The next operation is answered after the freeing of the one before.
    vote(&wal, 9, b"another");
    assert!(!wal.has_segment(1));
    drop(wal);
    fs::copy(
        segment_path(before.path(), 1),
        segment_path(directory.path(), 1),
    )
    .expect("back");
    let (wal, recovered) = open(directory.path());
    assert!(read_all(&wal, 9, 4).is_empty());
    assert_eq!(recovered.groups[&9].vote.as_deref(), Some(&b"another"[..]));
}

/// An open log whose second spare segment cannot be made before the returned directory is removed.
fn short_of_room(directory: &Path) -> (Wal, PathBuf) {
    let (wal, _) = open(directory);
    wait_until("a spare", || wal.stats().spare_ready);
    let obstacle = directory.join("2.spare");
    fs::create_dir(&obstacle).expect("made");
    (wal, obstacle)
}

/// Appends until the segment after the last spare is full but for less than an eighth.
fn fill(wal: &Wal) -> u64 {
    let mut index = 1;
    while wal.room() < RoomLevel::Scarce {
        append(wal, 1, entries(index..index + 1, 60));
        index += 1;
        if wal.stats().segments < 2 {
            wait_until("the first spare", || {
                wal.stats().segments == 2 || wal.stats().spare_ready
            });
        }
    }
    index
}

#[test]
fn a_log_without_room_refuses_then_waits_and_goes_on_by_itself() {
    let directory = tempfile::tempdir().expect("a directory");
    let (wal, obstacle) = short_of_room(directory.path());
    let next = fill(&wal);
    assert!(!wal.writable() && !wal.takes_entries());
    // Who writes all the same waits: nothing is lost, and nothing has failed.
    let (done, result) = completion();
    wal.append(1, entries(next..next + 1, 1_500), done);
    let (done, voted) = completion();
    wal.save_vote(1, Bytes::from_static(b"vote"), done);
    assert!(result.recv_timeout(Duration::from_millis(300)).is_err());
    assert!(wal.failure().borrow().is_none());
    fs::remove_dir(&obstacle).expect("removed");
    result
        .recv_timeout(PATIENCE)
        .expect("answered")
        .expect("appended");
    voted.recv().expect("answered").expect("voted");
    wait_until("room", || wal.writable() && wal.takes_entries());
    drop(wal);
    let (wal, recovered) = open(directory.path());
    assert_eq!(read_all(&wal, 1, 1).len() as u64, next);
    assert_eq!(recovered.groups[&1].vote.as_deref(), Some(&b"vote"[..]));
}

#[test]
fn a_log_that_waits_for_room_can_be_closed() {
    let directory = tempfile::tempdir().expect("a directory");
    let (wal, obstacle) = short_of_room(directory.path());
    let next = fill(&wal);
    let (done, result) = completion();
    wal.append(1, entries(next..next + 1, 1_500), done);
    wal.close();
    let refused = result.recv().expect("answered").expect_err("no room");
    assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
    drop(wal);
    fs::remove_dir(&obstacle).expect("removed");
    let (wal, _) = open(directory.path());
    assert_eq!(read_all(&wal, 1, 1).len() as u64, next - 1);
}

#[test]
fn half_a_spare_does_not_keep_the_room() {
    let directory = tempfile::tempdir().expect("a directory");
    // No disk has that much room.
    let (wal, _) = Wal::open(WalOptions {
        keep_free_bytes: u64::MAX / 2,
        ..options(directory.path())
    })
    .expect("its first segment is made all the same");
    vote(&wal, 1, b"vote");
    wait_until("the spare is taken", || !wal.stats().spare_ready);
    let spares = fs::read_dir(directory.path()).expect("a directory");
    let spares = spares
        .flatten()
        .filter(|file| file.path().extension().is_some_and(|end| end == "spare"));
    assert_eq!(spares.count(), 0);
}

/// What reading everything again finds, by segment.
fn scrub(wal: &Wal) -> Vec<(u64, Option<WalError>)> {
    let check = |target: super::super::ScrubTarget| {
        let mut check = SegmentCheck::open(target)?;
        while check.step()?.is_some() {}
        Ok(())
    };
    let targets = wal.scrub_targets().into_iter();
    targets
        .map(|target| (target.segment(), check(target).err()))
        .collect()
}

fn damaged(wal: &Wal) -> Vec<u64> {
    let found = scrub(wal).into_iter();
    found
        .filter_map(|(segment, error)| error.map(|_| segment))
        .collect()
}

#[test]
fn reading_again_finds_a_flipped_bit_in_any_record_and_a_lost_or_shortened_file() {
    let directory = with_a_group_in_the_first_segment();
    let (wal, _) = open(directory.path());
    let last = last_index(&wal);
    append(&wal, 1, entries(last + 1..last + 3, 30));
    assert_eq!(scrub(&wal).len(), 3);
    assert_eq!(damaged(&wal), [0; 0]);
    for segment in [1, 2, 3] {
        let path = segment_path(directory.path(), segment);
        let sound = fs::read(&path).expect("a segment");
        for (_, offset, span) in records(directory.path(), segment) {
            let mut bytes = sound.clone();
            bytes[offset + span / 2] ^= 1;
            fs::write(&path, &bytes).expect("written");
            assert_eq!(damaged(&wal), [segment]);
        }
        let mut header = sound.clone();
        header[20] ^= 1;
        fs::write(&path, &header).expect("written");
        assert_eq!(damaged(&wal), [segment]);
        fs::write(&path, &sound[..100]).expect("written");
        assert_eq!(damaged(&wal), [segment]);
        fs::remove_file(&path).expect("removed");
        assert_eq!(damaged(&wal), [segment]);
        fs::write(&path, &sound).expect("written");
        assert_eq!(damaged(&wal), [0; 0]);
    }
}

#[test]
fn records_longer_than_what_is_read_at_a_time_are_read_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let (wal, _) = Wal::open(WalOptions {
        segment_bytes: 8 << 20,
        ..options(directory.path())
    })
    .expect("a log");
    append(&wal, 1, entries(1..2, 10));
    append(&wal, 1, entries(2..3, 3 << 20));
    append(&wal, 1, entries(3..4, 10));
    assert_eq!(damaged(&wal), [0; 0]);
    let path = segment_path(directory.path(), 1);
    let mut bytes = fs::read(&path).expect("a segment");
    bytes[2 << 20] ^= 1;
    fs::write(&path, &bytes).expect("written");
    assert_eq!(damaged(&wal), [1]);
}

#[test]
fn a_damaged_segment_goes_when_its_groups_have_let_go_of_it() {
    let directory = with_a_group_in_the_first_segment();
    let (wal, _) = open(directory.path());
    assert!(wal.must_unpin().is_empty());
    wal.condemn(2);
    assert_eq!(wal.must_unpin(), [1, 9]);
    let last = last_index(&wal);
    purge(&wal, 9, 3);
    purge(&wal, 1, last);
    vote(&wal, 1, b"vote");
    assert!(wal.must_unpin().is_empty());
    assert!(!wal.has_segment(1) && !wal.has_segment(2) && wal.has_segment(3));

    // The present segment ends, so that it can go as well.
    append(&wal, 1, entries(last + 1..last + 2, 10));
    wal.condemn(3);
    append(&wal, 1, entries(last + 2..last + 3, 10));
    purge(&wal, 1, last + 1);
    vote(&wal, 1, b"vote");
    assert!(!wal.has_segment(3) && wal.has_segment(4));
    drop(wal);
    let (wal, _) = open(directory.path());
    assert_eq!(read_all(&wal, 1, last + 2), entries(last + 2..last + 3, 10));
}
