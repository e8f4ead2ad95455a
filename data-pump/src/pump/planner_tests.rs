//! The planner's output, whole, for every kind of change.

use processing_unit::Change;

use super::fixtures::{
    auction_created, auction_extended, auction_sold, auction_started, bid_placed, bid_withdrawn,
    entry, event_created, id, item_created, seats_expired, seats_held, seats_sold,
};
use super::planner::{PlacedChange, placed, plan};

fn golden(name: &str, entries: &[(u64, Vec<Change>)]) {
    let batches: Vec<_> = entries
        .iter()
        .map(|(index, changes)| entry(*index, changes.clone()))
        .collect();
    let changes: Vec<PlacedChange<'_>> = batches.iter().flat_map(|batch| placed(batch)).collect();
    insta::assert_debug_snapshot!(name, plan(&changes));
}

#[test]
fn an_auction_from_item_to_sale() {
    golden(
        "auction",
        &[
            (1, vec![item_created(2, "Chair"), auction_created(3, 2)]),
            (2, vec![auction_started(3), bid_placed(3, 11, 10_000, 1)]),
            (4, vec![bid_placed(3, 12, 15_000, 2), auction_extended(3)]),
            (5, vec![bid_withdrawn(3, 11, Some(15_000), 1)]),
            (9, vec![auction_sold(3, 12, 15_000)]),
        ],
    );
}

#[test]
fn seats_are_numbered_held_returned_and_sold() {
    golden(
        "box_office",
        &[
            (1, vec![event_created(5, 2)]),
            (2, vec![seats_held(5, 21, &[0, 1]), seats_held(5, 22, &[4])]),
            (3, vec![seats_expired(5, 22, &[4])]),
            (4, vec![seats_sold(5, 21, &[0, 1], "pay-1")]),
        ],
    );
}

#[test]
fn one_row_has_one_update_however_often_it_changed() {
    let changes: Vec<Change> = (0..100)
        .map(|number| seats_held(5, 30 + number, &[7]))
        .chain((0..100).map(|number| bid_placed(3, 50 + number, 1, 1)))
        .collect();
    let batch = entry(1, changes);
    let changes: Vec<_> = placed(&batch).collect();
    let rows = plan(&changes);
    assert_eq!(rows.changes.len(), 200);
    assert_eq!(rows.seat_updates.len(), 1);
    assert_eq!(rows.seat_updates[&(id(5), 7)].hold_id, Some(id(129)));
    assert_eq!(rows.auction_updates.len(), 1);
}

#[test]
fn a_seat_that_is_held_and_let_go_within_a_batch_keeps_its_row() {
    let rows = |changes: Vec<Change>| {
        let batch = entry(1, changes);
        plan(&placed(&batch).collect::<Vec<_>>())
    };
    let let_go = rows(vec![seats_held(5, 30, &[7]), seats_expired(5, 30, &[7])]);
    assert_eq!((let_go.seat_updates.len(), let_go.holds.len()), (0, 1));
    let again = rows(vec![
        seats_held(5, 30, &[7]),
        seats_expired(5, 30, &[7]),
        seats_held(5, 31, &[7]),
    ]);
    assert_eq!(again.seat_updates[&(id(5), 7)].hold_id, Some(id(31)));
    // It was held before: that it is free now is news.
    let returned = rows(vec![
        seats_expired(5, 29, &[7]),
        seats_held(5, 30, &[7]),
        seats_expired(5, 30, &[7]),
    ]);
    assert_eq!(returned.seat_updates[&(id(5), 7)].state, "available");
}

#[test]
fn a_payload_reads_back_as_the_change() {
    let changes = vec![
        event_created(5, 2),
        seats_sold(5, 21, &[0, 1], "pay-1"),
        auction_created(3, 2),
        bid_withdrawn(3, 11, None, 0),
    ];
    let batch = entry(1, changes.clone());
    let placed: Vec<_> = placed(&batch).collect();
    for (row, change) in plan(&placed).changes.iter().zip(changes) {
        let read: Change = serde_json::from_str(&row.payload).expect("the change's own JSON");
        assert_eq!(read, change);
    }
}

#[test]
fn what_the_database_cannot_hold_is_replaced() {
    let batch = entry(1, vec![item_created(2, "a\0b\\u0000c")]);
    let placed: Vec<_> = placed(&batch).collect();
    let rows = plan(&placed);
    assert_eq!(rows.items[0].name, "a\u{fffd}b\\u0000c");
    let payload: serde_json::Value = serde_json::from_str(&rows.changes[0].payload).expect("JSON");
    let name = &payload["Auction"]["ItemCreated"]["item"]["name"];
    assert_eq!(name, "a\u{fffd}b\\u0000c");
}
