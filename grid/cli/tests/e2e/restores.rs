//! `grid restore`: a grid is gone with all its disks, and is made anew from the database alone.

use std::path::Path;

use data_pump::database::{Database, DatabaseChoice, DatabaseError, DatabaseOptions, provide};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::{
    Grid, Outcome, grid as grid_alone, kill_at_once, person, sample, sold, text, wait_for,
};

/// A server beside the grid, as a database has it that outlives the nodes.
async fn server(folder: &Path) -> Option<Database> {
    let mut options = DatabaseOptions::new(folder.join("sql"));
    options.choice = DatabaseChoice::Supervised;
    match provide(options).await {
        Ok(database) => Some(database),
        Err(DatabaseError::NotInstalled) => {
            println!("NOT TESTED: no PostgreSQL is installed on this machine");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn restore(database: &Database, data_dir: &Path, arguments: &[&str]) -> Outcome {
    let path = data_dir.to_str().expect("a plain path");
    let mut all = vec![
        "--data-dir",
        path,
        "restore",
        "--database-url",
        &database.url,
    ];
    all.extend(arguments);
    grid_alone(&all)
}

async fn buy(grid: &Grid, event_id: &str, buyer: u128, seats: u32) {
    let holds = format!("/v1/events/{event_id}/holds");
    let hold = json!({"quantity": seats, "best_available": true});
    let hold = grid.post(&holds, person(buyer), hold).await;
    let confirm = format!("{holds}/{}/confirm", text(&hold["hold_id"]));
    let payment = json!({"payment_reference": format!("p-{buyer}")});
    grid.post(&confirm, person(buyer), payment).await;
}

/// A sale with four seats sold, and an auction with two bids.
async fn sell_and_bid(grid: &Grid) -> (String, String) {
    let event = grid.run(&["import", "venue", &sample("arena.json")]).done();
    let event_id = text(&event["event_id"]).to_owned();
    buy(grid, &event_id, 1, 4).await;
    let auction = ["auction", "create", "Clock", "--starting-price", "10.00"];
    let auction = grid.run(&auction).done();
    let auction_id = text(&auction["auction_id"]).to_owned();
    for (bidder, amount) in [(3, "10.00"), (4, "12.00")] {
        bid(grid, &auction_id, bidder, amount).await;
    }
    (event_id, auction_id)
}

async fn bid(grid: &Grid, auction_id: &str, bidder: u128, amount: &str) {
    let bids = format!("/v1/auctions/{auction_id}/bids");
    grid.post(&bids, person(bidder), json!({"amount": amount}))
        .await;
}

fn seats_sold(grid: &Grid, event_id: &str) -> u64 {
    sold(&grid.run(&["event", "show", event_id]).done())
}

fn bids(grid: &Grid, auction_id: &str) -> Value {
    grid.run(&["auction", "show", auction_id]).done()["bids"].clone()
}

/// Kills a whole grid before any of it can notice that the rest is gone.
fn kill_all(grid: Grid) {
    let nodes: Vec<i32> = (1..=3).map(|node| grid.node_pid(node)).collect();
    for node in &nodes {
        kill(Pid::from_raw(*node), Signal::SIGSTOP).expect("running");
    }
    drop(grid);
    for node in nodes {
        kill_at_once(node);
    }
}

/// Waits until the tables say what the grid says.
fn verify(grid: &Grid) {
    let verdict = grid.run(&["verify"]).done();
    assert_eq!(verdict["ok"], true, "{verdict}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grid_that_was_stopped_comes_back_from_the_database_alone() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let Some(database) = server(folder.path()).await else {
        return;
    };
    let with_database = ["--database-url", database.url.as_str()];
    let first = folder.path().join("first");
    let grid = Grid::up_with(&first, &with_database);
    let (event_id, auction_id) = sell_and_bid(&grid).await;
    let tickets = grid.get("/v1/me/tickets", person(1)).await;
    let key = grid.get("/v1/ticket-key", person(1)).await;
    let grid_id = grid.ready["grid_id"].clone();
    verify(&grid);
    let running = restore(&database, &folder.path().join("second"), &[]);
    assert_eq!(running.json["error"]["code"], "data_loss", "{running:?}");
    let status = grid.run(&["pump", "status"]).done();
    let partitions = status["partitions"].as_array().expect("partitions");
    // A partition without a stamped entry has no earliest time to go back to.
    let is_archived = |status: &Value| status["archive"]["earliest"].is_string();
    assert!(partitions.iter().any(is_archived), "{status}");
    grid.stop().await;
    std::fs::copy(first.join("ticket.key"), folder.path().join("ticket.key")).expect("copied");
    std::fs::remove_dir_all(&first).expect("removed");

    let second = folder.path().join("second");
    let kept = folder.path().join("ticket.key");
    let kept = ["--ticket-key", kept.to_str().expect("plain")];
    let restored = restore(&database, &second, &kept).done();
    assert_eq!(restored["from_grid"], grid_id, "{restored}");
    assert_eq!(restored["continued"], true);
    assert_eq!(restored["accepted_data_loss"], false);
    let partitions = restored["partitions"].as_array().expect("a list");
    assert_eq!(partitions.len(), 4, "{restored}");
    for partition in partitions {
        let (proven, index) = (&partition["proven_index"], &partition["index"]);
        assert_eq!(proven, index, "{partition}");
    }
    let again = restore(&database, &second, &[]);
    assert_eq!(again.code, 6, "a directory in use is refused: {again:?}");

    let grid = Grid::up_with(&second, &with_database);
    assert_eq!(grid.ready["grid_id"], restored["grid_id"]);
    let mine = grid.get("/v1/me/tickets", person(1)).await;
    assert_eq!(mine, tickets);
    assert_eq!(grid.get("/v1/ticket-key", person(1)).await, key);
    assert_eq!(bids(&grid, &auction_id), 2);
    buy(&grid, &event_id, 2, 3).await;
    bid(&grid, &auction_id, 3, "13.00").await;
    assert_eq!(seats_sold(&grid, &event_id), 7);
    verify(&grid);
    grid.stop().await;
    database.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_lost_must_be_accepted_and_the_old_grid_is_locked_out() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let Some(database) = server(folder.path()).await else {
        return;
    };
    let with_database = ["--database-url", database.url.as_str()];
    let place = |name: &str| folder.path().join(name);
    let grid = Grid::up_with(&place("first"), &with_database);
    let (event_id, auction_id) = sell_and_bid(&grid).await;
    let between = jiff::Timestamp::now();
    wait_for("the next moment", async || {
        (jiff::Timestamp::now().as_millisecond() > between.as_millisecond()).then_some(())
    })
    .await;
    buy(&grid, &event_id, 2, 3).await;
    bid(&grid, &auction_id, 3, "13.00").await;
    verify(&grid);
    kill_all(grid);

    let refused = restore(&database, &place("second"), &[]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert_eq!(refused.json["error"]["code"], "data_loss", "{refused:?}");
    let accepted = restore(&database, &place("second"), &["--accept-data-loss"]).done();
    assert_eq!(accepted["accepted_data_loss"], true);
    let grid = Grid::up_with(&place("second"), &with_database);
    assert_eq!(seats_sold(&grid, &event_id), 7);
    assert_eq!(bids(&grid, &auction_id), 3);
    verify(&grid);
    grid.stop().await;

    // What was thought lost turns up again.
    let old = Grid::up_with(&place("first"), &with_database);
    buy(&old, &event_id, 5, 1).await;
    wait_for("the old grid's pumps are refused", async || {
        let status = old.run(&["pump", "status"]).done();
        let lanes = status["partitions"].as_array().expect("a list").clone();
        let refused = |lane: &Value| {
            let error = lane["last_error"].as_str().unwrap_or_default();
            lane["state"] == "stopped" && error.contains("belongs to grid")
        };
        lanes.iter().all(refused).then_some(())
    })
    .await;
    drop(old);

    let until = between.to_string();
    let past = restore(&database, &place("past"), &["--until", &until]).done();
    assert_eq!(past["continued"], false, "{past}");
    let grid = Grid::up_with(&place("past"), &["--no-database"]);
    assert_eq!(seats_sold(&grid, &event_id), 4);
    assert_eq!(bids(&grid, &auction_id), 2);
    buy(&grid, &event_id, 6, 2).await;
    grid.stop().await;
    // The database was left to whom it belongs.
    let grid = Grid::up_with(&place("second"), &with_database);
    assert_eq!(seats_sold(&grid, &event_id), 7);
    buy(&grid, &event_id, 7, 1).await;
    verify(&grid);
    grid.stop().await;
    database.stop().await.expect("stops");
}
