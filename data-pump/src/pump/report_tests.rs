//! Every report on data small enough to be worked out by hand.

use std::collections::BTreeMap;

use sqlx::{Connection, Executor};
use uuid::Uuid;

use super::fixtures::{TestDatabase, id};
use super::planner::placed;
use super::report_fixtures::{NINE_MS, history};
use super::writer::Place;
use crate::reports::{REPORTS, ReportError, Selection, run, write_csv};

/// A database with the tables, the views and the whole history. Its connection is closed again, since
/// some databases have one only.
pub(super) async fn filled() -> Option<TestDatabase> {
    let database = TestDatabase::start().await?;
    let mut connection = database.migrated().await;
    let mut place = Place::open(&mut connection, id(77), 0, 3)
        .await
        .expect("first");
    // In two transactions, so that some rows are updated after they were written.
    let history = history();
    for entries in history.chunks(history.len() / 2 + 1) {
        let changes: Vec<_> = entries.iter().flat_map(|batch| placed(batch)).collect();
        let upto = entries.last().expect("chunks are not empty").index;
        let written = place
            .write(
                &mut connection,
                &changes,
                upto,
                &crate::archive::Passage::NONE,
            )
            .await
            .expect("written");
        assert_eq!((written.parked, written.missing), (0, 0));
    }
    connection
        .execute(
            "INSERT INTO dead_letter (partition, log_index, seq, at, kind, entity, reason, error, payload)
             VALUES (0, 1, 9, now(), 'seats_sold', gen_random_uuid(), 'rejected', 'why', '{}')",
        )
        .await
        .expect("parked");
    connection.close().await.expect("closed");
    Some(database)
}

/// A value as the expected rows below have it: `#5` for the id 5, `09:00:40` for a time of the day of
/// the history, nothing for none.
fn short(value: Option<&str>) -> String {
    let text = value.unwrap_or_default();
    if let Ok(id) = Uuid::parse_str(text) {
        return format!("#{}", id.as_u128());
    }
    match text.strip_prefix("2025-10-09 ") {
        Some(time) => time.trim_end_matches("+00").to_owned(),
        None => text.to_owned(),
    }
}

async fn rows(database: &TestDatabase, name: &str, selection: &Selection) -> Vec<String> {
    let table = run(&database.database.url, name, selection)
        .await
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(!table.is_cut, "{name}");
    table
        .rows
        .iter()
        .map(|row| {
            let values: Vec<String> = row.iter().map(|value| short(value.as_deref())).collect();
            values.join("|")
        })
        .collect()
}

/// Every row of every report but `pump_lag`, in order, columns in the view's order.
pub(super) fn expected() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut rows = expected_sales();
    rows.append(&mut expected_auctions());
    rows
}

fn expected_sales() -> BTreeMap<&'static str, Vec<&'static str>> {
    BTreeMap::from([
        (
            "sales_by_event",
            vec![
                // 4 of 7 seats; 2 x 89.50 + 2 x 45.00 by two people.
                "Autumn concert|The Sextet|Old Hall|19:05:00|7|4|1|2|57.1|2|269.00|EUR|#5",
                "Zen evening|The Sextet|Old Hall|19:06:00|2|0|0|2|0.0|0|0|JPY|#6",
            ],
        ),
        (
            "sales_by_section",
            vec![
                "Autumn concert|A|89.50|4|2|0|2|50.0|179.00|EUR|#5",
                "Autumn concert|B|45.00|3|2|1|0|66.7|90.00|EUR|#5",
                "Zen evening|Floor|3000|2|0|0|2|0.0|0|JPY|#6",
            ],
        ),
        (
            "sales_by_minute",
            vec![
                "Autumn concert|09:00:00|2|1|179.00|2|179.00|EUR|#5",
                "Autumn concert|09:01:00|1|1|45.00|3|224.00|EUR|#5",
                "Autumn concert|09:07:00|1|1|45.00|4|269.00|EUR|#5",
            ],
        ),
        (
            "revenue_by_price",
            vec![
                // 179 and 90 of 269.
                "Autumn concert|A|89.50|2|1|179.00|66.5|EUR|#5",
                "Autumn concert|B|45.00|2|2|90.00|33.5|EUR|#5",
            ],
        ),
        (
            "hold_to_sale",
            vec![
                // 3 of the 5 that ended; 2 + 1 + 2 + 1 + 1 + 1 seats; 30, 60 and 10 seconds.
                "Autumn concert|6|3|1|1|1|60.0|8|4|30.0|60.0|#5",
                "Zen evening|0|0|0|0|0||0|0|||#6",
            ],
        ),
        (
            "unsold_seats",
            vec![
                "Autumn concert|A|2|A-2-1|89.50|EUR|available||19:05:00|#5",
                "Autumn concert|A|2|A-2-2|89.50|EUR|available||19:05:00|#5",
                "Autumn concert|B|X|B-X-3|45.00|EUR|held|09:12:20|19:05:00|#5",
                "Zen evening|Floor|1|Floor-1-1|3000|JPY|available||19:06:00|#6",
                "Zen evening|Floor|1|Floor-1-2|3000|JPY|available||19:06:00|#6",
            ],
        ),
        (
            "seat_occupancy",
            vec![
                "Autumn concert|A|1|2|##|0|#5",
                "Autumn concert|A|2|2|..|2|#5",
                "Autumn concert|B|X|3|##+|0|#5",
                "Zen evening|Floor|1|2|..|2|#6",
            ],
        ),
        ("waiting_rooms", vec!["Autumn concert|||3|1|2|1|0|1|#5"]),
        (
            "waiting_room_minutes",
            vec![
                "Autumn concert|10:23:00|3|1|0|0|0|0|#5",
                "Autumn concert|10:25:00|0|0|2|1|0|0|#5",
                "Autumn concert|10:26:00|0|0|0|0|0|1|#5",
            ],
        ),
        (
            "purchase_log",
            vec![
                "09:07:10|Autumn concert|B|X|B-X-2|45.00|EUR|#901|pay-3|#2401|#24|#5",
                "09:01:12|Autumn concert|B|X|B-X-1|45.00|EUR|#902|pay-2|#2101|#21|#5",
                "09:00:40|Autumn concert|A|1|A-1-1|89.50|EUR|#901|pay-1|#2001|#20|#5",
                "09:00:40|Autumn concert|A|1|A-1-2|89.50|EUR|#901|pay-1|#2002|#20|#5",
            ],
        ),
    ])
}

fn expected_auctions() -> BTreeMap<&'static str, Vec<&'static str>> {
    BTreeMap::from([
        (
            "auction_results",
            vec![
                "Lot 6|things|open||1|EUR|10.00|50.00||11:30:00|0||#36",
                "Lot 5|things|ended|no_bids|0|EUR|10.00|||10:28:20|0||#35",
                "Lot 4|things|ended|reserve_not_met|2|EUR|10.00|120.00||10:11:40|0||#34",
                "Lot 3|things|ended|sold|8|EUR|10.00|160.00|160.00|09:51:10|0|#104|#33",
                "Lot 2|things|ended|sold|6|EUR|10.00|180.00|180.00|09:35:20|0|#103|#32",
                "Lot 1|things|ended|sold|5|EUR|10.00|140.00|140.00|09:21:40|1|#101|#31",
            ],
        ),
        (
            "hammer_against_estimate",
            vec![
                // 180 of 200; 160 of 160; 140 of 105.
                "Lot 5|things|10.00|20.00||EUR|not sold||no_bids|10:28:20|#35",
                "Lot 3|things|150.00|170.00|160.00|EUR|within|100.0|sold|09:51:10|#33",
                "Lot 2|things|200.00|200.00|180.00|EUR|below|90.0|sold|09:35:20|#32",
                "Lot 1|things|90.00|120.00|140.00|EUR|above|133.3|sold|09:21:40|#31",
            ],
        ),
        (
            "bid_history",
            vec![
                "Lot 1|1|09:16:40|bidder 1|100.00|EUR|outbid|#31|#101",
                "Lot 1|2|09:16:50|bidder 2|110.00|EUR|outbid|#31|#102",
                "Lot 1|3|09:17:00|bidder 1|120.00|EUR|outbid|#31|#101",
                "Lot 1|4|09:17:50|bidder 2|130.00|EUR|outbid|#31|#102",
                "Lot 1|5|09:18:00|bidder 1|140.00|EUR|won|#31|#101",
                "Lot 2|1|09:33:20|bidder 2|100.00|EUR|outbid|#32|#102",
                "Lot 2|2|09:33:50|bidder 1|150.00|EUR|outbid|#32|#101",
                "Lot 2|3|09:34:50|bidder 2|160.00|EUR|outbid|#32|#102",
                "Lot 2|4|09:35:00|bidder 1|170.00|EUR|outbid|#32|#101",
                "Lot 2|5|09:35:10|bidder 2|175.00|EUR|outbid|#32|#102",
                "Lot 2|6|09:35:15|bidder 3|180.00|EUR|won|#32|#103",
                "Lot 3|1|09:50:40|bidder 2|100.00|EUR|outbid|#33|#102",
                "Lot 3|2|09:50:41|bidder 4|110.00|EUR|outbid|#33|#104",
                "Lot 3|3|09:50:43|bidder 2|120.00|EUR|outbid|#33|#102",
                "Lot 3|4|09:50:45|bidder 4|130.00|EUR|outbid|#33|#104",
                "Lot 3|5|09:50:47|bidder 2|140.00|EUR|outbid|#33|#102",
                "Lot 3|6|09:50:50|bidder 4|150.00|EUR|outbid|#33|#104",
                "Lot 3|7|09:50:55|bidder 2|155.00|EUR|outbid|#33|#102",
                "Lot 3|8|09:51:00|bidder 4|160.00|EUR|won|#33|#104",
                "Lot 4|1|10:06:40|bidder 3|100.00|EUR|outbid|#34|#103",
                "Lot 4|2|10:06:50|bidder 2|120.00|EUR|not sold|#34|#102",
                "Lot 4|3|10:07:00|bidder 1|150.00|EUR|withdrawn|#34|#101",
                "Lot 5|1|10:23:20|bidder 4|10.00|EUR|withdrawn|#35|#104",
                "Lot 5|2|10:23:40|bidder 3|10.00|EUR|withdrawn|#35|#103",
                "Lot 6|1|10:40:00|bidder 4|50.00|EUR|leads|#36|#104",
            ],
        ),
        (
            "bids_by_minute",
            vec![
                "Lot 1|09:16:00|2|2|0|110.00|EUR|2|#31",
                "Lot 1|09:17:00|2|2|0|130.00|EUR|4|#31",
                "Lot 1|09:18:00|1|1|0|140.00|EUR|5|#31",
                "Lot 2|09:33:00|2|2|0|150.00|EUR|2|#32",
                "Lot 2|09:34:00|1|1|0|160.00|EUR|3|#32",
                "Lot 2|09:35:00|3|3|0|180.00|EUR|6|#32",
                "Lot 3|09:50:00|7|2|0|155.00|EUR|7|#33",
                "Lot 3|09:51:00|1|1|0|160.00|EUR|8|#33",
                "Lot 4|10:06:00|2|2|0|120.00|EUR|2|#34",
                "Lot 4|10:07:00|1|1|1|150.00|EUR|3|#34",
                "Lot 5|10:23:00|2|2|2|10.00|EUR|2|#35",
                "Lot 6|10:40:00|1|1|0|50.00|EUR|1|#36",
            ],
        ),
        (
            "bidder_activity",
            vec![
                // Last minutes begin at 09:20:40, 09:34:20, 09:50:10, 10:10:40, 10:27:20 and 11:29:00.
                "#102|EUR|4|2|10|0|6|0|3|175.00|0.00|09:16:50|10:06:50",
                "#101|EUR|3|2|6|1|1|1|1|170.00|140.00|09:16:40|10:07:00",
                "#104|EUR|3|2|6|1|4|1|0|160.00|160.00|09:50:41|10:40:00",
                "#103|EUR|3|2|3|1|1|1|0|180.00|180.00|09:35:15|10:23:40",
            ],
        ),
        (
            "suspicious_bidding",
            vec![
                "withdrew_after_outbidding|outbid another bidder's 120.00 with 150.00 EUR and withdrew \
                 35.0 seconds later|10:07:35|Lot 4|#101|#102|#2|#34",
                "late_burst|4 bids of one bidder in the last 30 seconds|09:51:00|Lot 3|#104||#1|#33",
                "never_wins|bid 9 times in 3 auctions of this host, of which 3 sold, and won none; this \
                 bidder bid in 4 auctions in all|09:50:55|Lot 3|#102||#1|#33",
                "pushing_pair|these two bidders answered each other 4 times here, and 8 times in 2 \
                 auctions of this host|09:35:10|Lot 2|#101|#102|#1|#32",
                "pushing_pair|these two bidders answered each other 4 times here, and 8 times in 2 \
                 auctions of this host|09:18:00|Lot 1|#101|#102|#1|#31",
            ],
        ),
    ])
}

#[tokio::test]
async fn every_report_says_what_was_worked_out_by_hand() {
    let Some(database) = filled().await else {
        return;
    };
    let expected = expected();
    for report in REPORTS {
        let found = rows(&database, report.name, &Selection::default()).await;
        match expected.get(report.name) {
            Some(expected) => assert_eq!(&found, expected, "{}", report.name),
            None => {
                assert_eq!(report.name, "pump_lag", "no rows are expected of it");
                lag_is_right(&database, &found);
            }
        }
    }
    narrowed(&database, &expected).await;
    as_csv(&database).await;
}

/// The rest of the row are the moment of writing and the time since.
fn lag_is_right(_: &TestDatabase, found: &[String]) {
    let [row] = found else {
        panic!("a row a partition: {found:?}");
    };
    let values: Vec<&str> = row.split('|').collect();
    let upto = history().len().to_string();
    assert_eq!(values[..3], ["0", &upto, "3"]);
    let seconds: f64 = values[4].parse().expect("a number");
    assert!((0.0..3_600.0).contains(&seconds), "{row}");
    assert_eq!(values[5..], ["1", "#77"]);
}

/// Each narrowing that a report takes, against the rows of the whole.
async fn narrowed(database: &TestDatabase, expected: &BTreeMap<&str, Vec<&str>>) {
    let by_event = Selection {
        event_id: Some(id(5)),
        ..Selection::default()
    };
    let by_auction = Selection {
        auction_id: Some(id(33)),
        ..Selection::default()
    };
    let never = Selection {
        since_ms: Some(i64::try_from(NINE_MS).expect("this millennium") + 86_400_000),
        ..Selection::default()
    };
    for report in REPORTS {
        let all = expected.get(report.name).into_iter().flatten();
        if report.by_event {
            let of_event: Vec<&str> = all
                .clone()
                .copied()
                .filter(|row| row.ends_with("|#5"))
                .collect();
            assert!(!of_event.is_empty(), "{}", report.name);
            assert_eq!(rows(database, report.name, &by_event).await, of_event);
        }
        if report.by_auction {
            let of_auction: Vec<&str> = all.copied().filter(|row| row.contains("|#33")).collect();
            assert!(!of_auction.is_empty(), "{}", report.name);
            assert_eq!(rows(database, report.name, &by_auction).await, of_auction);
        }
        if report.time_column.is_some() {
            let none = rows(database, report.name, &never).await;
            assert!(none.is_empty(), "{}: {none:?}", report.name);
        }
    }
    // Exactly from the given moment on; sums up to a minute still count what was before.
    let since = |seconds: i64| Selection {
        since_ms: Some(i64::try_from(NINE_MS).expect("this millennium") + seconds * 1_000),
        ..Selection::default()
    };
    let late = rows(database, "purchase_log", &since(72)).await;
    assert_eq!(late, expected["purchase_log"][..2]);
    let late = rows(database, "sales_by_minute", &since(61)).await;
    assert_eq!(late, expected["sales_by_minute"][2..]);

    let cut = Selection {
        limit: Some(3),
        ..Selection::default()
    };
    let table = run(&database.database.url, "purchase_log", &cut)
        .await
        .expect("read");
    assert_eq!((table.rows.len(), table.is_cut), (3, true));
    let refused = run(&database.database.url, "pump_lag", &by_event).await;
    assert!(matches!(refused, Err(ReportError::FilterNotTaken { .. })));
    let unknown = run(&database.database.url, "nothing", &cut).await;
    assert!(matches!(unknown, Err(ReportError::Unknown(_))));
}

async fn as_csv(database: &TestDatabase) {
    let mut csv = Vec::new();
    let by_event = Selection {
        event_id: Some(id(6)),
        ..Selection::default()
    };
    write_csv(&database.database.url, "hold_to_sale", &by_event, &mut csv)
        .await
        .expect("written");
    assert_eq!(
        String::from_utf8(csv).expect("UTF-8"),
        "event,holds,confirmed,released,expired,running,confirmed_percent,seats_held,seats_sold,\
         median_seconds_to_sale,longest_seconds_to_sale,event_id\n\
         Zen evening,0,0,0,0,0,,0,0,,,00000000-0000-0000-0000-000000000006\n"
    );
}
