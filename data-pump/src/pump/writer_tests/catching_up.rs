//! How fast the writer is, and large loads for it.

use std::sync::Arc;
use std::time::Instant;

use processing_unit::Change;

use super::{Entry, GRID, write};
use crate::pump::connections::Connections;
use crate::pump::fixtures::{
    TestDatabase, auction_created, bid_placed, entry, event_created, seats_held, seats_sold,
};
use crate::pump::writer::Place;

/// How fast a pump that is behind catches up; run it alone, in a release build:
/// `cargo test --release -p data-pump catching_up -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn catching_up() {
    const WRITERS: u32 = 2;
    const BATCH: usize = 2_000;
    const CHANGES: u64 = 300_000;
    let Some(database) = TestDatabase::start().await else {
        return;
    };
    drop(database.migrated().await);
    let writers_max = if database.database.single_connection {
        1
    } else {
        WRITERS
    };
    let connections = Connections::new(
        &database.database.url,
        database.database.single_connection,
        writers_max,
    )
    .expect("a URL");
    for (name, load) in [
        ("bids", bids as fn(u64, u32) -> Vec<Entry>),
        ("seats held and sold", seat_sales),
    ] {
        for writers in 1..=writers_max {
            let loads: Vec<(u32, Vec<Entry>)> = (0..writers)
                .map(|writer| writer + 10 * writers + u32::from(name == "bids") * 100)
                .map(|partition| (partition, load(CHANGES / u64::from(writers), partition)))
                .collect();
            let total: usize = loads
                .iter()
                .flat_map(|(_, entries)| entries)
                .map(|entry| entry.changes.len())
                .sum();
            let mut lanes = tokio::task::JoinSet::new();
            let started = Instant::now();
            for (partition, entries) in loads {
                let connections = Arc::clone(&connections);
                lanes.spawn(async move {
                    let mut lease = connections.acquire().await.expect("answers");
                    let mut place = Place::open(&mut lease, GRID, partition, 1)
                        .await
                        .expect("opened");
                    let mut from = 0;
                    while from < entries.len() {
                        let mut upto = from;
                        let mut changes = 0;
                        while upto < entries.len() && changes < BATCH {
                            changes += entries[upto].changes.len();
                            upto += 1;
                        }
                        write(&mut place, &mut lease, &entries[from..upto])
                            .await
                            .expect("written");
                        from = upto;
                    }
                    lease.release().await;
                });
            }
            while let Some(lane) = lanes.join_next().await {
                lane.expect("no panic");
            }
            let seconds = started.elapsed().as_secs_f64();
            println!(
                "{name}, {writers} connection(s), batches of {BATCH}: {total} changes in {seconds:.1} s, {:.0} changes/s",
                total as f64 / seconds
            );
        }
    }
}

/// Bids on 100 auctions, 64 an entry.
pub(super) fn bids(changes: u64, partition: u32) -> Vec<Entry> {
    let base = u128::from(partition) << 64;
    let auctions: Vec<Change> = (0..100).map(|n| auction_created(base + n, 2)).collect();
    let mut entries = vec![entry(1, auctions)];
    for first in (0..changes).step_by(64) {
        let run = (first..first + 64).map(|bid| {
            let auction = base + u128::from(bid % 100);
            bid_placed(
                auction,
                base + 1_000 + u128::from(bid),
                bid as i64,
                bid as u32,
            )
        });
        entries.push(entry(2 + first / 64, run.collect()));
    }
    entries
}

/// Events of 100,003 seats, two seats a hold, each hold confirmed 64 holds later.
fn seat_sales(changes: u64, partition: u32) -> Vec<Entry> {
    const HOLDS_AN_EVENT: u64 = 50_000;
    let base = u128::from(partition) << 64;
    let mut entries = Vec::new();
    let mut index = 0;
    for first in (0..changes / 2).step_by(32) {
        let event = base + u128::from(first / HOLDS_AN_EVENT);
        let mut run = Vec::new();
        if first % HOLDS_AN_EVENT == 0 {
            run.push(event_created(event, 50_000));
        }
        let seats = |hold: u64| {
            let seat = (hold % HOLDS_AN_EVENT * 2) as u32;
            [seat, seat + 1]
        };
        let holds = first..first + 32;
        run.extend(
            holds
                .clone()
                .map(|hold| seats_held(event, base + u128::from(hold), &seats(hold))),
        );
        index += 1;
        entries.push(entry(index, run));
        let sold =
            holds.map(|hold| seats_sold(event, base + u128::from(hold), &seats(hold), "payment"));
        index += 1;
        entries.push(entry(index, sold.collect()));
    }
    entries
}
