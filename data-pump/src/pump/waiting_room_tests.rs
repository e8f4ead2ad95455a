//! The views of waiting rooms against a real database.

use grid_core::Timestamp;
use processing_unit::waiting_room::{Change as Room, PassEnd};
use processing_unit::{Change, EventId, UserId};

use super::fixtures::{START_MS, TestDatabase, entry, id, number, open, write};

const EVENT: EventId = EventId(uuid::Uuid::from_u128(7));

fn user(number: u128) -> UserId {
    UserId(id(number))
}

fn joined(number: u32) -> Change {
    Change::WaitingRoom(Room::Joined {
        event_id: EVENT,
        user: user(u128::from(number)),
        number,
    })
}

#[tokio::test]
async fn a_rooms_facts_are_counted_by_event_and_by_minute() {
    let Some(database) = TestDatabase::start().await else {
        return;
    };
    let mut connection = database.migrated().await;
    let mut place = open(&mut connection, 1).await.expect("opened");
    let event_id = EVENT;
    let admitted = Change::WaitingRoom(Room::Admitted {
        event_id,
        first_rank: 0,
        end_rank: 4,
        passes: 3,
        expires_at: Timestamp::from_millis(START_MS + 90_000),
    });
    let left = Change::WaitingRoom(Room::Left {
        event_id,
        user: user(1),
        number: 1,
    });
    let bought = Change::WaitingRoom(Room::PassEnded {
        event_id,
        user: user(0),
        number: 0,
        reason: PassEnd::Bought,
    });
    let expired = Change::WaitingRoom(Room::PassesExpired {
        event_id,
        numbers: [2, 3].into(),
    });
    let entries = [
        entry(1, (0..4).map(joined).collect()),
        entry(2, vec![left, admitted]),
        entry(3, vec![bought]),
        entry(95, vec![expired]),
    ];
    write(&mut place, &mut connection, &entries)
        .await
        .expect("written");
    for (column, expected) in [
        ("SELECT joined FROM report_waiting_rooms", 4),
        ("SELECT left_waiting FROM report_waiting_rooms", 1),
        ("SELECT admitted FROM report_waiting_rooms", 3),
        ("SELECT bought FROM report_waiting_rooms", 1),
        ("SELECT given_back FROM report_waiting_rooms", 0),
        ("SELECT expired FROM report_waiting_rooms", 2),
        (
            "SELECT count(*) FROM report_waiting_room_minutes WHERE admitted = 3",
            1,
        ),
        (
            "SELECT count(*) FROM report_waiting_room_minutes WHERE expired = 2 AND joined = 0",
            1,
        ),
    ] {
        assert_eq!(number(&mut connection, column).await, expected, "{column}");
    }
}
