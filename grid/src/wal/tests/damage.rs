//! Torn tails, damage, and logs that must not be opened.

use std::fs;

use super::super::record::{Kind, lay_out};
use super::super::segment::{FORMAT, HEADER_BYTES, Header};
use super::super::{Recovered, TornTail, Wal, WalError};
use super::*;

fn patch(directory: &Path, segment: u64, change: impl FnOnce(&mut Vec<u8>)) {
    let path = segment_path(directory, segment);
    let mut bytes = fs::read(&path).expect("a segment");
    change(&mut bytes);
    fs::write(&path, bytes).expect("written");
}

fn filled(segments: u64) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let (wal, _) = open(directory.path());
    vote(&wal, 1, b"vote");
    let mut index = 1;
    while wal.stats().segments < segments {
        append(&wal, 1, entries(index..index + 2, 100));
        index += 2;
    }
    append(&wal, 1, entries(index..index + 1, 100));
    append(&wal, 1, entries(index + 1..index + 2, 100));
    wal.close();
    directory
}

#[test]
fn a_batch_torn_at_any_byte_loses_only_what_was_not_synced() {
    let directory = tempfile::tempdir().expect("a directory");
    let (wal, _) = open(directory.path());
    vote(&wal, 1, b"old");
    append(&wal, 1, entries(1..4, 20));
    wal.close();
    drop(wal);
    let laid_out = records(directory.path(), 1);
    let &(number, offset, span) = laid_out.last().expect("records");
    let start = offset + span;
    let path = segment_path(directory.path(), 1);
    let mut bytes = fs::read(&path).expect("a segment");
    let header = Header::decode(&path, &bytes)
        .expect("a header")
        .expect("a header");
    let mut batch = Vec::new();
    let body = |range| record::encode_entries(&entries(range, 30));
    lay_out(
        &mut batch,
        header.salt,
        number + 1,
        number,
        (Kind::Entries, 1),
        &body(4..6),
    );
    lay_out(
        &mut batch,
        header.salt,
        number + 2,
        number,
        (Kind::Vote, 1),
        b"new",
    );
    lay_out(
        &mut batch,
        header.salt,
        number + 3,
        number,
        (Kind::Entries, 1),
        &body(6..7),
    );
    bytes[start..start + batch.len()].copy_from_slice(&batch);

    for torn_at in 0..=batch.len() {
        for is_prefix_lost in [false, true] {
            let mut torn = bytes.clone();
            let lost = if is_prefix_lost {
                start..start + torn_at
            } else {
                start + torn_at..start + batch.len()
            };
            torn[lost].fill(0);
            let is_whole = torn == bytes;
            let copy = tempfile::tempdir().expect("a directory");
            fs::write(segment_path(copy.path(), 1), &torn).expect("written");
            let (wal, recovered) = open(copy.path());
            let found = read_all(&wal, 1, 1);
            assert!((3..=6).contains(&found.len()), "{torn_at}: {}", found.len());
            assert_eq!(found[..3], entries(1..4, 20)[..]);
            assert_eq!(found.len() == 6, is_whole);
            let is_torn = torn[start..].iter().any(|byte| *byte != 0) && !is_whole;
            if let Some(tail) = &recovered.torn_tail {
                assert!(is_torn && tail.offset >= start as u64);
            } else if is_torn {
                // Torn exactly between two records.
                assert!(!is_prefix_lost);
            }
            // The cut is for good, and the log goes on after it.
            let next = found.len() as u64 + 1;
            append(&wal, 1, entries(next..next + 1, 30));
            drop(wal);
            let (wal, recovered) = open(copy.path());
            assert_eq!(recovered.torn_tail, None);
            assert_eq!(read_all(&wal, 1, 1).len() as u64, next);
        }
    }
}

#[test]
fn a_flipped_bit_in_any_byte_of_an_earlier_record_is_damage() {
    let directory = filled(1);
    let laid_out = records(directory.path(), 1);
    let (_, offset, span) = laid_out[laid_out.len() - 2];
    for at in offset..offset + span {
        let copy = copy(directory.path());
        patch(copy.path(), 1, |bytes| bytes[at] ^= 1 << (at % 8));
        assert_corrupt(copy.path(), 1, offset);
    }
}

#[test]
fn damage_in_a_middle_segment_and_a_missing_segment_are_refused() {
    let directory = filled(3);
    for &(_, offset, span) in &records(directory.path(), 2) {
        let copy = copy(directory.path());
        patch(copy.path(), 2, |bytes| bytes[offset + span / 2] ^= 4);
        assert_corrupt(copy.path(), 2, offset);
    }
    for (missing, blamed) in [(1, 2), (2, 3)] {
        let copy = copy(directory.path());
        fs::remove_file(segment_path(copy.path(), missing)).expect("removed");
        assert_corrupt(copy.path(), blamed, 0);
    }
    // The last records of a middle segment, lost whole.
    let copy = copy(directory.path());
    let (_, offset, _) = *records(directory.path(), 2).last().expect("records");
    patch(copy.path(), 2, |bytes| bytes[offset..].fill(0));
    assert_corrupt(copy.path(), 3, 0);
}

#[test]
fn a_stop_at_any_moment_of_a_rotation_loses_nothing() {
    let directory = filled(1);
    let (wal, _) = open(directory.path());
    let before = read_all(&wal, 1, 1);
    wal.close();
    drop(wal);
    let salted = Header {
        grid_id: GRID,
        node_id: NODE,
        segment: 2,
        salt: 9,
        first_number: 0,
    };
    let first_number = records(directory.path(), 1).last().expect("records").0 + 1;
    let header = Header {
        first_number,
        ..salted
    }
    .encode();
    for header_bytes in 0..=header.len() {
        let copy = copy(directory.path());
        let mut bytes = header[..header_bytes].to_vec();
        bytes.resize(4096, 0);
        fs::write(segment_path(copy.path(), 2), bytes).expect("written");
        fs::write(copy.path().join("wal-0000000000000001.free"), b"left over").expect("written");
        let (wal, _) = open(copy.path());
        assert_eq!(read_all(&wal, 1, 1), before);
        assert!(!copy.path().join("wal-0000000000000001.free").exists());
        // Segment 1 goes, and the vote must have moved on.
        let last = before.last().expect("entries").index;
        append(&wal, 1, entries(last + 1..last + 40, 100));
        purge(&wal, 1, last + 39);
        // The next operation is answered after the freeing of the one before.
        append(&wal, 1, entries(last + 40..last + 41, 1));
        assert!(wal.stats().segments < 3);
        assert!(!segment_path(copy.path(), 1).exists());
        drop(wal);
        let (_, recovered) = open(copy.path());
        assert_eq!(recovered.groups[&1].vote.as_deref(), Some(&b"vote"[..]));
    }
}

#[test]
fn a_lost_header_before_records_is_damage() {
    let directory = filled(2);
    for segment in [1, 2] {
        let copy = copy(directory.path());
        patch(copy.path(), segment, |bytes| {
            bytes[..HEADER_BYTES as usize].fill(0)
        });
        assert_corrupt(copy.path(), segment, 0);
    }
}

#[test]
fn foreign_newer_and_open_logs_are_refused() {
    let directory = filled(1);
    let path = directory.path();
    for (grid_id, node_id) in [(GRID + 1, NODE), (GRID, NODE + 1)] {
        let refused = Wal::open(WalOptions {
            grid_id,
            node_id,
            ..options(path)
        });
        assert!(matches!(
            refused,
            Err(WalError::ForeignLog { node_id: NODE, .. })
        ));
    }
    let (wal, _) = open(path);
    assert!(matches!(Wal::open(options(path)), Err(WalError::InUse(_))));
    drop(wal);
    patch(path, 1, |bytes| {
        bytes[8..12].copy_from_slice(&(FORMAT + 1).to_le_bytes())
    });
    let refused = Wal::open(options(path));
    assert!(matches!(
        refused,
        Err(WalError::NewerFormat {
            found,
            supported: FORMAT,
            ..
        }) if found == FORMAT + 1
    ));
}

#[test]
fn stale_records_of_a_used_segment_never_validate() {
    let directory = filled(1);
    let laid_out = records(directory.path(), 1);
    let (_, offset, span) = laid_out[laid_out.len() - 1];
    // The same bytes under another salt, as if the file had been used again and not zeroed.
    patch(directory.path(), 1, |bytes| {
        let path = segment_path(Path::new(""), 1);
        let header = Header::decode(&path, bytes)
            .expect("a header")
            .expect("a header");
        let header = Header {
            salt: header.salt ^ 1,
            ..header
        };
        bytes[..HEADER_BYTES as usize].copy_from_slice(&header.encode());
    });
    let (wal, recovered): (Wal, Recovered) = open(directory.path());
    assert!(read_all(&wal, 1, 1).is_empty());
    let first = HEADER_BYTES;
    let tail = recovered.torn_tail.expect("cut");
    assert_eq!(
        (tail.offset, &tail.file),
        (first, &segment_path(directory.path(), 1))
    );
    assert!(tail.bytes <= (offset + span) as u64 - first);
    let TornTail { bytes, .. } = tail;
    assert!(bytes > span as u64);
}
