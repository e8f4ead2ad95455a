//! The archive on a real database, with a log made here: what is written is what comes back, and what is
//! missing, altered or moved is named.

use bytes::Bytes;
use grid::LoggedEntry;
use grid_core::snapshot::SnapshotSummary;
use grid_core::{CommandRecord, Entry, IdempotencyKey, PartitionId, PartitionState, StateHash};
use grid_core::{Timestamp, codec};
use processing_unit::Unit;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::bases::{self, BasePolicy, Owner};
use super::drained::{DrainedPlaces, unmark_drained};
use super::passage::Writing;
use super::{ArchiveError, ArchiveReader, PartitionReadiness, RestoreRecord, TakeOver, Target};
use super::{rebuild, sql_index};
use crate::pump::fixtures::{GRID, START_MS, TestDatabase, number, opens};

const PARTITION: PartitionId = PartitionId(0);

/// A log in which somebody asks for what is not there, once a second; every seventh entry is blank.
fn log(last: u64) -> Vec<LoggedEntry> {
    let command =
        processing_unit::Command::BoxOffice(processing_unit::box_office::Command::Release {
            event_id: processing_unit::EventId(Uuid::from_u128(5)),
            hold_id: processing_unit::HoldId(Uuid::from_u128(6)),
            buyer: processing_unit::UserId(Uuid::from_u128(7)),
        });
    let body = codec::encode(&command).expect("plain");
    (0..=last)
        .map(|index| {
            let mut entry = Entry::tick(at(index), u128::from(index));
            entry.commands.push(CommandRecord {
                key: IdempotencyKey(u128::from(index)),
                fingerprint: 0,
                body: &body,
            });
            let payload = Bytes::from(entry.encode().expect("plain"));
            LoggedEntry {
                index,
                payload: (index % 7 != 0).then_some(payload),
            }
        })
        .collect()
}

fn at(index: u64) -> Timestamp {
    Timestamp::from_millis(START_MS + index * 1_000)
}

/// The state after every entry of a log.
fn states(log: &[LoggedEntry]) -> (Vec<StateHash>, PartitionState<Unit>) {
    let mut state = PartitionState::new(PARTITION);
    let mut hashes = Vec::new();
    for entry in log {
        match &entry.payload {
            Some(bytes) => drop(state.apply(entry.index, bytes).expect("applies")),
            None => state.apply_blank(entry.index).expect("applies"),
        }
        hashes.push(state.hash());
    }
    (hashes, state)
}

struct Archive {
    database: TestDatabase,
    connection: PgConnection,
    log: Vec<LoggedEntry>,
    hashes: Vec<StateHash>,
    state: PartitionState<Unit>,
}

impl Archive {
    /// With the log up to an index in it, ten entries a block.
    async fn with_log(last: u64) -> Option<Self> {
        let database = TestDatabase::start_for_several().await?;
        let mut connection = database.migrated().await;
        let log = log(last);
        let (hashes, state) = states(&log);
        assert!(opens(&mut connection, 3).await);
        let mut archive = Self {
            database,
            connection,
            log,
            hashes,
            state,
        };
        archive.write(0, last).await;
        Some(archive)
    }

    async fn write(&mut self, first: u64, last: u64) {
        let entries = &self.log[first as usize..=last as usize];
        for block in entries.chunks(10) {
            let last = block.last().expect("some").index;
            let writing = Writing {
                partition: PARTITION,
                partitions: 1,
                known_index: last + 4,
            };
            let hash = Some((last, self.hashes[last as usize]));
            writing
                .block(&mut self.connection, block, hash)
                .await
                .expect("written");
            sqlx::query("UPDATE pump_checkpoint SET applied_index = $1")
                .bind(sql_index(last))
                .execute(&mut self.connection)
                .await
                .expect("moved");
        }
    }

    async fn change(&mut self, sql: &'static str) {
        let changed = sqlx::query(sql).execute(&mut self.connection).await;
        assert!(changed.expect("changed").rows_affected() > 0, "{sql}");
    }

    async fn reader(&self) -> ArchiveReader {
        ArchiveReader::connect(&self.database.database.url)
            .await
            .expect("an archive")
    }

    async fn rebuild(&self, target: Target) -> Result<super::RebuiltPartition, ArchiveError> {
        rebuild(&mut self.reader().await, PARTITION, target, |_| {}).await
    }

    /// Archives the state after entry `index` as a node's snapshot file has it.
    async fn base(&mut self, index: u64) {
        let (_, state) = states(&self.log[..=index as usize]);
        let folder = tempfile::tempdir().expect("a folder");
        let planting = grid::backup::Planting {
            from_grid: GRID.as_u128(),
            grid_id: GRID.as_u128(),
            partition: PARTITION,
            voters: &[1],
        };
        let file = grid::backup::plant_state(&state, folder.path(), planting).expect("planted");
        let bytes = std::fs::read(file).expect("a file");
        let connection = &mut self.connection;
        let mut chunks = 0;
        for part in bytes.chunks(100) {
            let chunk = zstd::bulk::compress(part, 1).expect("compressed");
            bases::write_chunk(connection, PARTITION, index, chunks, &chunk)
                .await
                .expect("written");
            chunks += 1;
        }
        let owner = Owner {
            grid_id: GRID,
            partition: PARTITION,
            epoch: 3,
        };
        let summary = SnapshotSummary {
            index,
            at: state.clock(),
            state_hash: state.hash(),
        };
        let deposed = Owner { epoch: 2, ..owner };
        let finished = bases::finish(connection, deposed, summary, chunks).await;
        assert!(!finished.expect("asked"), "a deposed leader's");
        let finished = bases::finish(connection, owner, summary, chunks).await;
        assert!(finished.expect("asked"));
    }
}

fn upto(upto_index: u64) -> Target {
    Target {
        upto_index,
        until: None,
    }
}

#[tokio::test]
async fn every_place_in_the_log_can_be_reached_again() {
    let Some(mut archive) = Archive::with_log(95).await else {
        return;
    };
    for round in 0..2 {
        for index in [1, 9, 10, 48, 95] {
            let rebuilt = archive.rebuild(upto(index)).await.expect("rebuilt");
            assert_eq!(rebuilt.state.hash(), archive.hashes[index as usize]);
            let base_index = if round == 1 && index >= 33 { 33 } else { 0 };
            assert_eq!(rebuilt.base_index, base_index, "{index}");
        }
        // Entry 49 is blank and bears no time, so it comes with what was before it.
        let until = Target {
            upto_index: 95,
            until: Some(at(48) + 999),
        };
        let rebuilt = archive.rebuild(until).await.expect("rebuilt");
        assert_eq!(rebuilt.state.applied_index(), 49);
        assert_eq!(rebuilt.state.clock(), at(48));
        if round == 0 {
            archive.base(33).await;
            archive.change("DELETE FROM log_snapshots").await;
            bases::clear_unfinished(&mut archive.connection, PARTITION)
                .await
                .expect("cleared");
            archive.base(33).await;
        }
    }
}

#[tokio::test]
async fn the_whole_state_comes_back_and_is_proven() {
    let Some(archive) = Archive::with_log(60).await else {
        return;
    };
    let mut pages = Vec::new();
    let mut reader = archive.reader().await;
    let rebuilt = rebuild(&mut reader, PARTITION, upto(60), |progress| {
        pages.push(progress);
    });
    let rebuilt = rebuilt.await.expect("rebuilt");
    let digest = |state: &PartitionState<Unit>| state.view().digest().expect("encodes");
    assert_eq!(digest(&rebuilt.state), digest(&archive.state));
    assert_eq!(rebuilt.proven_index, 60);
    assert_eq!(rebuilt.progress.entries, 61);
    assert_eq!(pages.last(), Some(&rebuilt.progress));
}

#[tokio::test]
async fn a_gap_is_named_and_a_state_after_it_leads_on() {
    let Some(mut archive) = Archive::with_log(95).await else {
        return;
    };
    archive
        .change("DELETE FROM log_entries WHERE first_index IN (30, 40)")
        .await;
    let gap = archive.rebuild(upto(95)).await.expect_err("a gap");
    assert!(
        matches!(
            gap,
            ArchiveError::Gap {
                first_missing: 30,
                last_missing: 49,
                ..
            }
        ),
        "{gap}"
    );
    archive.rebuild(upto(29)).await.expect("before it");
    archive.base(52).await;
    let after = archive.rebuild(upto(95)).await.expect("after it");
    assert_eq!(after.state.hash(), archive.hashes[95]);
    let end = archive.rebuild(upto(99)).await.expect_err("the end");
    assert!(
        matches!(
            end,
            ArchiveError::Gap {
                first_missing: 96,
                last_missing: 99,
                ..
            }
        ),
        "{end}"
    );
    archive
        .change("DELETE FROM log_entries WHERE first_index < 30")
        .await;
    let early = archive.rebuild(upto(40)).await.expect_err("too early");
    assert!(matches!(early, ArchiveError::TooEarly { .. }), "{early}");
    archive
        .change("DELETE FROM log_entries WHERE first_index >= 60")
        .await;
    let until = Target {
        upto_index: 95,
        until: Some(at(80)),
    };
    let cut = archive.rebuild(until).await.expect_err("cut off");
    assert!(
        matches!(
            cut,
            ArchiveError::Gap {
                first_missing: 60,
                ..
            }
        ),
        "{cut}"
    );
    for nothing in ["DELETE FROM log_entries", "DELETE FROM log_snapshots"] {
        archive.change(nothing).await;
    }
    let nothing = archive.rebuild(until).await.expect_err("nothing is left");
    assert!(
        matches!(nothing, ArchiveError::TooEarly { .. }),
        "{nothing}"
    );
}

#[tokio::test]
async fn what_was_altered_or_moved_is_named() {
    let Some(mut archive) = Archive::with_log(60).await else {
        return;
    };
    archive
        .change(
            "UPDATE log_entries SET entries = set_byte(entries, 20, get_byte(entries, 20) # 1)
             WHERE first_index = 20",
        )
        .await;
    let altered = archive.rebuild(upto(60)).await.expect_err("altered");
    assert!(
        matches!(
            altered,
            ArchiveError::Block {
                first_index: 20,
                last_index: 29,
                ..
            }
        ),
        "{altered}"
    );
    archive.rebuild(upto(19)).await.expect("not reached");
    archive
        .change(
            "UPDATE log_entries a SET entries = b.entries FROM log_entries b
                 WHERE a.first_index = 20 AND b.first_index = 30",
        )
        .await;
    archive.rebuild(upto(60)).await.expect_err("swapped");
    archive.write(0, 60).await;
    archive
        .change("DELETE FROM log_entries WHERE first_index = 20")
        .await;
    archive.write(20, 60).await;
    archive.rebuild(upto(60)).await.expect("written anew");
    archive
        .change("UPDATE log_entries SET state_hash = set_byte(state_hash, 0, get_byte(state_hash, 0) # 1)
                 WHERE first_index = 40")
        .await;
    let differs = archive.rebuild(upto(60)).await.expect_err("another hash");
    assert!(
        matches!(differs, ArchiveError::Differs { index: 49, .. }),
        "{differs}"
    );
    archive.base(52).await;
    archive.rebuild(upto(60)).await.expect("from after it");
    archive
        .change(
            "UPDATE log_snapshot_chunks SET bytes = set_byte(bytes, 12, get_byte(bytes, 12) # 1)
                 WHERE number = 1",
        )
        .await;
    let base = archive.rebuild(upto(60)).await.expect_err("damaged");
    assert!(
        matches!(base, ArchiveError::Base { index: 52, .. }),
        "{base}"
    );
}

#[tokio::test]
async fn a_gap_asks_for_a_state_and_what_is_too_old_goes() {
    let Some(mut archive) = Archive::with_log(30).await else {
        return;
    };
    let policy = BasePolicy {
        entry_bytes_max: u64::MAX,
        blocks_max: u64::MAX,
    };
    let due = bases::due(&mut archive.connection, PARTITION, policy).await;
    assert_eq!(due.expect("asked"), None, "the log begins there");
    archive.log = log(95);
    archive.hashes = states(&archive.log).0;
    archive.write(50, 79).await;
    let due = bases::due(&mut archive.connection, PARTITION, policy).await;
    assert_eq!(due.expect("asked"), Some(49));
    let broken = archive.reader().await.reach().await.expect("a reach");
    assert_eq!(broken.reach[0].readiness(), PartitionReadiness::Broken);
    archive.base(60).await;
    let due = bases::due(&mut archive.connection, PARTITION, policy).await;
    assert_eq!(due.expect("asked"), None);
    archive.write(80, 95).await;
    let reach = archive.reader().await.reach().await.expect("a reach");
    let readiness = reach.reach[0].readiness();
    assert_eq!(readiness, PartitionReadiness::Behind { known_entries: 4 });
    assert_eq!(reach.reach[0].first_index, Some(50));
    assert_eq!((reach.partitions, reach.grid_id), (1, GRID));

    let prune = async |archive: &mut Archive, keep_from| {
        bases::prune(&mut archive.connection, PARTITION, keep_from)
            .await
            .expect("pruned")
    };
    assert_eq!(prune(&mut archive, at(59)).await, 0);
    archive.base(70).await;
    archive.base(75).await;
    assert!(prune(&mut archive, at(72)).await > 0);
    assert_eq!(prune(&mut archive, at(72)).await, 0, "all of it");
    let oldest = number(
        &mut archive.connection,
        "SELECT min(last_index) FROM log_entries",
    )
    .await;
    assert_eq!(oldest, 79);
    let states = number(
        &mut archive.connection,
        "SELECT min(log_index) FROM log_snapshots",
    )
    .await;
    assert_eq!(states, 70);
    let since = Target {
        upto_index: 95,
        until: Some(at(72)),
    };
    let rebuilt = archive.rebuild(since).await.expect("still there");
    assert_eq!(rebuilt.state.hash(), archive.hashes[72]);
    archive.rebuild(upto(69)).await.expect_err("gone");
}

#[tokio::test]
async fn a_database_changes_hands_once_and_only_where_it_stood() {
    let Some(mut archive) = Archive::with_log(30).await else {
        return;
    };
    let record = RestoreRecord {
        by: "a test".to_owned(),
        from_grid: GRID,
        to_grid: Uuid::from_u128(78),
        until: None,
        accepted_data_loss: true,
        missing_entries: 4,
        indexes: [(PARTITION, 29)].into(),
    };
    let mut reader = archive.reader().await;
    let moved = reader.record_restore(&record, TakeOver::Continue).await;
    assert!(matches!(moved, Err(ArchiveError::Moved(PARTITION))));
    let count = "SELECT count(*) FROM grid_restores";
    assert_eq!(number(&mut archive.connection, count).await, 0);
    let record = RestoreRecord {
        indexes: [(PARTITION, 30)].into(),
        ..record
    };
    reader
        .record_restore(&record, TakeOver::Leave)
        .await
        .expect("written down");
    assert!(
        opens(&mut archive.connection, 3).await,
        "still the old grid's"
    );
    reader
        .record_restore(&record, TakeOver::Continue)
        .await
        .expect("taken over");
    let is_open = opens(&mut archive.connection, 900).await;
    assert!(!is_open, "the old grid is fenced off, whatever its term");
    let again = reader.record_restore(&record, TakeOver::Continue).await;
    assert!(matches!(again, Err(ArchiveError::Moved(PARTITION))));
    assert_eq!(number(&mut archive.connection, count).await, 2);
    archive.connection.close().await.expect("said goodbye");
}

#[tokio::test]
async fn a_mark_of_a_clean_end_holds_until_something_is_written_or_opened() {
    let Some(mut archive) = Archive::with_log(30).await else {
        return;
    };
    assert!(DrainedPlaces::default().is_empty());
    let mark = "UPDATE log_archive SET drained_index = 30";
    let readiness = async |archive: &Archive| {
        let reach = archive.reader().await.reach().await.expect("a reach");
        reach.reach[0].readiness()
    };
    let behind = PartitionReadiness::Behind { known_entries: 4 };
    assert_eq!(readiness(&archive).await, behind);
    archive.change(mark).await;
    assert_eq!(readiness(&archive).await, PartitionReadiness::Complete);
    unmark_drained(&mut archive.connection, PARTITION)
        .await
        .expect("unmarked");
    assert_eq!(readiness(&archive).await, behind);
    archive.change(mark).await;
    archive.log = log(40);
    archive.hashes = states(&archive.log).0;
    archive.write(31, 40).await;
    assert_eq!(readiness(&archive).await, behind);
}
