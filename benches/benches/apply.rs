//! What one replica spends on a command: decoding, the rules, the reply, the idempotency record and
//! the running hash, over entries of 256 single-seat holds; and the search for two seats side by side in
//! a house that has only single ones left.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use grid_core::entry::{ENTRY_FORMAT, RULES_FIRST};
use grid_core::{
    CommandRecord, Entry, IdempotencyKey, PartitionId, PartitionState, Timestamp, codec,
};
use processing_unit::box_office::{self, NewEvent, Row, RowSeats, Section};
use processing_unit::{Command, Currency, EventId, Unit, UserId};
use uuid::Uuid;

const ENTRY_COMMANDS: u32 = 256;
const ROWS: u32 = 200;
const SEATS_IN_ROW: u32 = 100;

fn entry(first_key: u32, commands: &[Vec<u8>]) -> Vec<u8> {
    let commands = commands
        .iter()
        .enumerate()
        .map(|(number, body)| CommandRecord {
            key: IdempotencyKey(u128::from(first_key) + number as u128),
            fingerprint: 0,
            body,
        })
        .collect();
    let entry = Entry {
        format: ENTRY_FORMAT,
        rules: RULES_FIRST,
        now: Timestamp::from_millis(1_000),
        entropy: 7,
        pumped_index: None,
        commands,
    };
    entry.encode().expect("plain values encode")
}

fn encoded(command: box_office::Command) -> Vec<u8> {
    codec::encode(&Command::BoxOffice(command)).expect("plain values encode")
}

fn hall(event_id: EventId) -> box_office::Command {
    let row = |number: u32| Row {
        name: number.to_string(),
        seats: RowSeats::Count(SEATS_IN_ROW),
    };
    box_office::Command::CreateEvent {
        host: UserId(Uuid::nil()),
        event: Box::new(NewEvent {
            event_id,
            name: "bench".to_owned(),
            artist: String::new(),
            venue: String::new(),
            starts_at: Timestamp::from_millis(10_000_000),
            on_sale_at: Timestamp::ZERO,
            currency: Currency::from_code("EUR").expect("known"),
            max_seats_per_buyer: 1_000_000,
            hold_ms: 300_000,
            sections: vec![Section {
                name: "A".to_owned(),
                price: 5_000,
                rows: (1..=ROWS).map(row).collect(),
            }],
        }),
    }
}

fn holds(criterion: &mut Criterion) {
    let event_id = EventId(Uuid::from_u128(1));
    let create = entry(1_000_000, &[encoded(hall(event_id))]);
    let entries: Vec<Vec<u8>> = (0..ROWS * SEATS_IN_ROW / ENTRY_COMMANDS)
        .map(|batch| {
            let commands: Vec<Vec<u8>> = (0..ENTRY_COMMANDS)
                .map(|number| {
                    let seat = batch * ENTRY_COMMANDS + number;
                    let (row, seat) = (seat / SEATS_IN_ROW + 1, seat % SEATS_IN_ROW + 1);
                    encoded(box_office::Command::HoldSeats {
                        event_id,
                        buyer: UserId(Uuid::from_u128(u128::from(number))),
                        seats: [format!("A-{row}-{seat}")].into_iter().collect(),
                    })
                })
                .collect();
            entry(batch * ENTRY_COMMANDS, &commands)
        })
        .collect();
    let mut group = criterion.benchmark_group("apply");
    group.throughput(Throughput::Elements(
        u64::from(ENTRY_COMMANDS) * entries.len() as u64,
    ));
    group.bench_function("single-seat holds", |bencher| {
        bencher.iter_batched(
            || {
                let mut state = PartitionState::<Unit>::new(PartitionId(0));
                state.apply(1, &create).expect("created");
                state
            },
            |mut state| {
                for (index, entry) in (2..).zip(&entries) {
                    state.apply(index, entry).expect("applied");
                }
                state
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn scattered_house(criterion: &mut Criterion) {
    let event_id = EventId(Uuid::from_u128(1));
    let buyer = UserId(Uuid::from_u128(7));
    let take_every_second: Vec<Vec<u8>> = (1..=ROWS)
        .map(|row| {
            let seats = (2..=SEATS_IN_ROW).step_by(2);
            encoded(box_office::Command::HoldSeats {
                event_id,
                buyer,
                seats: seats.map(|seat| format!("A-{row}-{seat}")).collect(),
            })
        })
        .collect();
    let ask: Vec<Vec<u8>> = (0..ENTRY_COMMANDS)
        .map(|_| {
            encoded(box_office::Command::HoldBestAvailable {
                event_id,
                buyer,
                section: None,
                quantity: 2,
            })
        })
        .collect();
    let prepare = [
        entry(1_000_000, &[encoded(hall(event_id))]),
        entry(2_000_000, &take_every_second),
    ];
    let ask = entry(3_000_000, &ask);
    let mut group = criterion.benchmark_group("apply");
    group.throughput(Throughput::Elements(u64::from(ENTRY_COMMANDS)));
    group.bench_function("best available, single seats left", |bencher| {
        bencher.iter_batched(
            || {
                let mut state = PartitionState::<Unit>::new(PartitionId(0));
                for (index, entry) in (1..).zip(&prepare) {
                    state.apply(index, entry).expect("applied");
                }
                state
            },
            |mut state| {
                state.apply(3, &ask).expect("applied");
                state
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, holds, scattered_house);
criterion_main!(benches);
