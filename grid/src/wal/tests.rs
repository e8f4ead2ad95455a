//! Tests of the whole log on small segments, so that rotation and freeing happen all the time.

mod damage;
mod disks;
mod model;
mod use_cases;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};

use bytes::Bytes;

use super::segment::{Header, Segment};
use super::{Done, Recovered, RecoveredGroup, Wal, WalEntry, WalError, WalOptions, record};

const GRID: u128 = 7;
const NODE: u64 = 3;

fn options(directory: &Path) -> WalOptions {
    WalOptions {
        directory: directory.to_owned(),
        grid_id: GRID,
        node_id: NODE,
        sync: true,
        segment_bytes: 4096,
        cache_bytes_max: 1024,
        keep_free_bytes: 0,
    }
}

fn open(directory: &Path) -> (Wal, Recovered) {
    Wal::open(options(directory)).expect("a sound log opens")
}

fn entry(index: u64, payload_bytes: usize) -> WalEntry {
    let payload = vec![index as u8 | 1; payload_bytes];
    WalEntry {
        index,
        meta: Bytes::copy_from_slice(&index.to_le_bytes()),
        payload: payload.into(),
    }
}

fn entries(indexes: std::ops::Range<u64>, payload_bytes: usize) -> Vec<WalEntry> {
    indexes.map(|index| entry(index, payload_bytes)).collect()
}

fn completion() -> (Done, Receiver<io::Result<()>>) {
    let (sender, receiver) = channel();
    let done = move |result| {
        // The test may have seen enough.
        let _ = sender.send(result);
    };
    (Box::new(done), receiver)
}

fn wait(start: impl FnOnce(Done)) -> io::Result<()> {
    let (done, result) = completion();
    start(done);
    result.recv().expect("every operation is answered")
}

fn append(wal: &Wal, group: u32, entries: Vec<WalEntry>) {
    wait(|done| wal.append(group, entries, done)).expect("appended");
}

fn purge(wal: &Wal, group: u32, index: u64) {
    wait(|done| wal.purge_to(group, index, b"meta", done)).expect("purged");
}

fn vote(wal: &Wal, group: u32, vote: &'static [u8]) {
    wait(|done| wal.save_vote(group, Bytes::from_static(vote), done)).expect("voted");
}

fn read_all(wal: &Wal, group: u32, first: u64) -> Vec<WalEntry> {
    wal.read(group, first..u64::MAX, usize::MAX)
        .expect("readable")
}

fn segment_path(directory: &Path, segment: u64) -> PathBuf {
    Segment::path(directory, segment)
}

/// A copy of the log's segments in a new directory.
fn copy(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a directory");
    for file in std::fs::read_dir(directory).expect("a directory").flatten() {
        if file
            .path()
            .extension()
            .is_some_and(|extension| extension == "seg")
        {
            std::fs::copy(file.path(), copy.path().join(file.file_name())).expect("copied");
        }
    }
    copy
}

/// The records of a segment: number, offset and span.
fn records(directory: &Path, segment: u64) -> Vec<(u64, usize, usize)> {
    let path = segment_path(directory, segment);
    let bytes = std::fs::read(&path).expect("a segment");
    let header = Header::decode(&path, &bytes)
        .expect("a header")
        .expect("a header");
    let mut offset = super::segment::HEADER_BYTES as usize;
    let mut records = Vec::new();
    while let record::Read::Record(found) = record::read(&bytes[offset..], header.salt) {
        records.push((found.number, offset, found.span));
        offset += found.span;
    }
    records
}

fn assert_corrupt(directory: &Path, segment: u64, at: usize) {
    match Wal::open(options(directory)) {
        Err(WalError::Corrupt { file, offset, .. }) => {
            assert_eq!(
                (file, offset),
                (segment_path(directory, segment), at as u64)
            );
        }
        other => panic!("expected damage at {at} of segment {segment}: {other:?}"),
    }
}

#[test]
fn the_size_of_a_part_of_the_log_is_told() {
    let folder = tempfile::tempdir().expect("folder");
    let (wal, _) = open(folder.path());
    assert_eq!(wal.bytes_after(1, 0), 0);
    for index in 1..=8 {
        append(&wal, 1, entries(index..index + 1, 100));
        append(&wal, 2, entries(index..index + 1, 300));
    }
    let all = wal.bytes_after(1, 0);
    assert!((800..1_600).contains(&all), "{all}");
    assert_eq!(wal.bytes_after(1, 4), all / 2);
    assert_eq!(wal.bytes_after(1, 8), 0);
    wal.close();
}
