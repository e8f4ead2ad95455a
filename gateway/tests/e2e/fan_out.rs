//! Events: once, in order, without a gap, across cuts; merged where they may be.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{Client, Grid, person, text};

async fn bid(client: &mut Client, auction: &str, amount: u64) {
    let bid = json!({"type": "place_bid", "auction_id": auction, "amount": amount.to_string()});
    client.data(bid).await;
}

/// Two bidders raise each other from `from` to `to`, which needs no subscription.
async fn raise(grid: &Grid, auction: &str, from: u64, to: u64) {
    let mut bidders = [grid.connect(person(1)).await, grid.connect(person(2)).await];
    for amount in from..to {
        bid(&mut bidders[(amount % 2) as usize], auction, amount).await;
    }
}

/// An auction that has begun, on a grid of its own.
async fn open() -> (Grid, String) {
    let grid = Grid::start().await;
    let auction = grid.open_auction(person(9)).await;
    (grid, auction)
}

fn subscribe(auction: &str) -> Value {
    json!({"type": "subscribe", "auction_id": auction})
}

/// Somebody who watches an auction, and the snapshot that began it.
async fn watch(grid: &Grid, number: u128, auction: &str) -> (Client, Value) {
    let mut watcher = grid.connect(person(number)).await;
    let snapshot = watcher.ask(subscribe(auction)).await;
    assert_eq!(snapshot["type"], "snapshot", "{snapshot}");
    (watcher, snapshot)
}

/// Goes on from a cursor, and says how: `replayed` or `snapshot`.
async fn resume(watcher: &mut Client, auction: &str, from: &str) -> Value {
    let resume = json!({"type": "subscribe", "auction_id": auction, "from": from});
    let resumed = watcher.ask(resume).await;
    assert_eq!(resumed["type"], "resumed", "{resumed}");
    resumed["data"]["mode"].clone()
}

fn amount(event: &Value) -> u64 {
    assert_eq!(event["type"], "bid_placed", "{event}");
    let text = text(&event["data"]["amount"]["amount"]);
    text.trim_end_matches(".00").parse().expect("a number")
}

#[tokio::test]
async fn a_watcher_that_is_cut_resumes_exactly_where_it_was() {
    let (grid, auction) = open().await;
    let (mut watcher, snapshot) = watch(&grid, 3, &auction).await;

    raise(&grid, &auction, 100, 110).await;
    let mut seen = Vec::new();
    let mut cursor = text(&snapshot["cursor"]);
    for _ in 0..4 {
        let event = watcher.expect().await;
        cursor = text(&event["cursor"]);
        seen.push(amount(&event));
    }
    drop(watcher);
    raise(&grid, &auction, 110, 120).await;

    let mut watcher = grid.connect(person(3)).await;
    assert_eq!(resume(&mut watcher, &auction, &cursor).await, "replayed");
    let live = raise(&grid, &auction, 120, 130);
    let read = async {
        while seen.len() < 30 {
            let event = watcher.expect().await;
            cursor = text(&event["cursor"]);
            seen.push(amount(&event));
        }
    };
    tokio::join!(live, read);
    assert_eq!(seen, (100..130).collect::<Vec<_>>());

    // Nothing happened since: resuming at the end replays nothing.
    assert_eq!(resume(&mut watcher, &auction, &cursor).await, "replayed");
    raise(&grid, &auction, 130, 131).await;
    assert_eq!(amount(&watcher.expect().await), 130);
    grid.stop().await;
}

#[tokio::test]
async fn watchers_that_come_at_any_moment_miss_nothing() {
    let (grid, auction) = open().await;
    let last = 160;
    let follow = async |number: u128| {
        let (mut watcher, snapshot) = watch(&grid, 10 + number, &auction).await;
        let current = &snapshot["data"]["current_price"]["amount"];
        let mut next = current.as_str().map_or(100, |price| {
            1 + price
                .trim_end_matches(".00")
                .parse::<u64>()
                .expect("a number")
        });
        while next < last {
            assert_eq!(amount(&watcher.expect().await), next);
            next += 1;
        }
    };
    let watchers = async {
        for number in 0..12 {
            follow(number).await;
        }
    };
    let others = async { tokio::join!(follow(50), follow(51), follow(52)) };
    // The last bid waits until everybody has come, else a late watcher would see it in its snapshot.
    let bids = raise(&grid, &auction, 100, last);
    tokio::join!(bids, watchers, others);
    grid.stop().await;
}

#[tokio::test]
async fn cursors_of_another_history_get_a_snapshot() {
    let (grid, auction) = open().await;
    let (mut watcher, snapshot) = watch(&grid, 3, &auction).await;
    let cursor = text(&snapshot["cursor"]);
    let partition = cursor.split(':').next().expect("a partition");
    let from = format!("{partition}:999999:0");
    assert_eq!(resume(&mut watcher, &auction, &from).await, "snapshot");
    assert_eq!(watcher.expect().await["type"], "snapshot");
    grid.stop().await;
}

/// Applies seat updates to a map of what is not available.
fn apply(board: &mut BTreeMap<String, String>, update: &Value) {
    for change in update["data"]["seats"].as_array().expect("seats") {
        let (seat, state) = (text(&change[0]), text(&change[1]));
        if state == "available" {
            board.remove(&seat);
        } else {
            board.insert(seat, state);
        }
    }
}

#[tokio::test]
async fn seat_updates_add_up_to_the_truth_across_a_cut() {
    let grid = Grid::with(|settings| settings.seat_update_interval_ms = 50).await;
    let event = grid.event(60).await;
    let mut watcher = grid.connect(person(3)).await;
    let snapshot = watcher
        .ask(json!({"type": "subscribe", "event_id": event}))
        .await;
    assert_eq!(snapshot["type"], "snapshot");
    assert_eq!(snapshot["data"]["sections"][0]["states"], "a".repeat(20));
    let mut buyer = grid.connect(person(1)).await;
    let mut hold = async |seat: &str| {
        let hold = json!({"type": "hold_seats", "event_id": event, "seats": [seat]});
        buyer.data(hold).await["hold_id"].clone()
    };
    let first = hold("A-1-1").await;
    hold("A-1-2").await;
    let mut board = BTreeMap::new();
    let mut cursor = String::new();
    while board.len() < 2 {
        let update = watcher.expect_type("seats_changed").await;
        cursor = text(&update["cursor"]);
        apply(&mut board, &update);
    }
    drop(watcher);
    hold("B-1-a").await;
    let release = json!({"type": "release_hold", "event_id": event, "hold_id": first});
    buyer.data(release).await;

    let mut watcher = grid.connect(person(3)).await;
    let resume = json!({"type": "subscribe", "event_id": event, "from": cursor});
    let resumed = watcher.ask(resume).await;
    assert_eq!(resumed["data"]["mode"], "replayed", "{resumed}");
    let expected = BTreeMap::from([
        ("A-1-2".to_owned(), "held".to_owned()),
        ("B-1-a".to_owned(), "held".to_owned()),
    ]);
    while board != expected {
        let update = watcher.expect_type("seats_changed").await;
        apply(&mut board, &update);
        let sections = update["data"]["sections"].as_array().expect("sections");
        assert!(!sections.is_empty());
    }
    grid.stop().await;
}

#[tokio::test]
async fn after_unsubscribing_no_event_comes() {
    let (grid, auction) = open().await;
    let (mut watcher, _) = watch(&grid, 3, &auction).await;
    watcher
        .data(json!({"type": "unsubscribe", "auction_id": auction}))
        .await;
    raise(&grid, &auction, 100, 105).await;
    watcher.send_text(r#"{"type":"ping","id":"end"}"#).await;
    assert_eq!(watcher.expect().await["id"], "end");
    grid.stop().await;
}

#[tokio::test]
async fn subscriptions_of_one_connection_are_bounded() {
    let grid = Grid::with(|settings| settings.subscriptions_max = 1).await;
    let one = grid.open_auction(person(9)).await;
    let two = grid.open_auction(person(9)).await;
    let mut watcher = grid.connect(person(3)).await;
    assert_eq!(watcher.ask(subscribe(&one)).await["type"], "snapshot");
    watcher.refused(subscribe(&two), "bad_request").await;
    watcher
        .data(json!({"type": "unsubscribe", "auction_id": one}))
        .await;
    assert_eq!(watcher.ask(subscribe(&two)).await["type"], "snapshot");
    grid.stop().await;
}

#[tokio::test]
async fn a_cursor_of_another_history_is_known_by_its_epoch() {
    let (grid, auction) = open().await;
    let (mut watcher, snapshot) = watch(&grid, 3, &auction).await;
    let (from, epoch) = (text(&snapshot["cursor"]), text(&snapshot["epoch"]));
    let resume = |epoch: &str| json!({"type": "subscribe", "auction_id": auction, "from": from, "epoch": epoch});
    let resumed = watcher.ask(resume(&epoch)).await;
    assert_eq!(resumed["data"]["mode"], "replayed", "{resumed}");
    let resumed = watcher.ask(resume("another")).await;
    assert_eq!(resumed["data"]["mode"], "snapshot", "{resumed}");
    assert_eq!(text(&resumed["epoch"]), epoch);
    assert_eq!(watcher.expect().await["type"], "snapshot");
    grid.stop().await;
}

#[tokio::test]
async fn a_goodbye_says_where_to_go_on() {
    let (mut grid, auction) = open().await;
    let (mut watcher, _) = watch(&grid, 3, &auction).await;
    raise(&grid, &auction, 100, 103).await;
    let mut cursor = String::new();
    for _ in 0..3 {
        cursor = text(&watcher.expect().await["cursor"]);
    }
    let gateway = grid.gateway.take().expect("running");
    let stopping = tokio::spawn(gateway.shutdown());
    let goodbye = watcher.expect_type("goodbye").await;
    let resume = &goodbye["data"]["resume"][0];
    assert_eq!(text(&resume["auction_id"]), auction, "{goodbye}");
    // Never less than what was seen; entries without events may have followed.
    let place = |cursor: &str| {
        let parts: Vec<u64> = cursor
            .split(':')
            .map(|part| part.parse().expect("a number"))
            .collect();
        (parts[1], parts[2])
    };
    assert!(place(&text(&resume["from"])) >= place(&cursor), "{goodbye}");
    stopping.await.expect("stopped");
    grid.stop().await;
}

#[tokio::test]
async fn those_who_do_not_read_cost_the_others_nothing() {
    let grid = Grid::with(|settings| settings.send_queue_max = 64).await;
    let auction = grid.open_auction(person(9)).await;
    let (mut idle, _) = watch(&grid, 3, &auction).await;
    let (mut reader, _) = watch(&grid, 4, &auction).await;
    let last = 400;
    let read = async {
        for expected in 100..last {
            assert_eq!(amount(&reader.expect().await), expected);
        }
    };
    tokio::join!(raise(&grid, &auction, 100, last), read);
    // What waited in the sockets is still whole and in order for the one who reads so late.
    for expected in 100..last {
        assert_eq!(amount(&idle.expect().await), expected);
    }
    grid.stop().await;
}
