//! `grid replay`: what it tells is what the clients were told, byte for byte, wherever it is read.

use std::collections::BTreeMap;
use std::process::Stdio;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Grid, grid_command, kill_at_once, person, sample, text, wait_for};

/// What a command wrote, and whether it succeeded.
struct Written {
    code: i32,
    lines: Vec<String>,
    errors: String,
}

/// Runs `grid replay` against a grid, without `--json`.
fn replay(folder: &std::path::Path, arguments: &[&str]) -> Written {
    let output = grid_command()
        .arg("--data-dir")
        .arg(folder)
        .arg("replay")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the binary is built");
    Written {
        code: output.status.code().expect("not killed"),
        lines: String::from_utf8(output.stdout)
            .expect("text")
            .lines()
            .map(str::to_owned)
            .collect(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn lines(folder: &std::path::Path, arguments: &[&str]) -> Vec<String> {
    let written = replay(folder, arguments);
    assert_eq!(written.code, 0, "{}", written.errors);
    written.lines
}

/// A subscriber who keeps the texts of the events, and comes back after each cut.
struct Watcher {
    gateway: usize,
    number: u128,
    auction_id: String,
    client: Client,
    events: Vec<String>,
}

impl Watcher {
    async fn begin(grid: &Grid, gateway: usize, number: u128, auction_id: &str) -> Self {
        let mut client = grid.connect(gateway, person(number)).await;
        client
            .send(&json!({"type": "subscribe", "id": 1, "auction_id": auction_id}))
            .await;
        client.next_of("snapshot").await;
        Self {
            gateway,
            number,
            auction_id: auction_id.to_owned(),
            client,
            events: Vec::new(),
        }
    }

    /// Reads up to an event of this kind. A connection that is cut is made again, with another gateway,
    /// from the last cursor.
    async fn until(&mut self, grid: &Grid, kind: &str) -> Value {
        loop {
            let Some(text) = self.client.next_text().await else {
                self.come_back(grid).await;
                continue;
            };
            let message: Value = serde_json::from_str(&text).expect("JSON");
            if message["cursor"].is_string() {
                self.events.push(text);
            }
            if message["type"] == kind {
                return message;
            }
        }
    }

    async fn come_back(&mut self, grid: &Grid) {
        self.gateway = (self.gateway + 1) % 3;
        let last = self.events.last().expect("saw something before the cut");
        let last: Value = serde_json::from_str(last).expect("JSON");
        let resume = json!({"type": "subscribe", "id": 2, "auction_id": self.auction_id,
            "from": last["cursor"]});
        self.client = grid.connect(self.gateway, person(self.number)).await;
        self.client.send(&resume).await;
        let resumed = self.client.next().await;
        assert_eq!(resumed["data"]["mode"], "replayed", "{resumed}");
    }
}

/// The node that leads an auction's partition.
fn leader_of(grid: &Grid, partition: u64) -> u64 {
    let leaders = grid.run(&["leaders"]).done();
    let nodes = leaders["nodes"].as_array().expect("a list");
    let leads = |node: &&Value| {
        let partitions = node["partitions"].as_array().expect("a list");
        partitions.iter().any(|led| led.as_u64() == Some(partition))
    };
    let leader = nodes.iter().find(leads).map(|node| &node["node_id"]);
    leader
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("{leaders}"))
}

async fn bid(grid: &Grid, gateway: usize, auction_id: &str, bidder: u128, amount: &str) -> Value {
    let path = format!("/v1/auctions/{auction_id}/bids");
    let body = json!({"amount": amount});
    let (status, answer) = grid
        .call(gateway, Method::POST, &path, person(bidder), body)
        .await;
    assert!(status < 300, "{status} {answer}");
    answer
}

async fn create_auction(grid: &Grid) -> String {
    let now = jiff::Timestamp::now();
    let later = |seconds| (now + jiff::SignedDuration::from_secs(seconds)).to_string();
    let created = grid
        .post(
            "/v1/auctions",
            person(1),
            json!({
                "item": {"name": "Clock \u{201e}with chimes\u{201c}"}, "currency": "EUR",
                "starting_price": "100.00", "reserve_price": "120.00", "increment": "5.00",
                "start_time": later(3590), "end_time": later(3595), "withdrawal": "while_open",
                "soft_close": {"window_s": 3600, "extend_s": 7200, "max_extensions": 2},
            }),
        )
        .await;
    text(&created["auction_id"]).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_auction_is_told_byte_for_byte_as_to_its_watchers() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let grid = Grid::up(folder.path());
    let id = create_auction(&grid).await;
    // Both see everything from before the opening; one of them bids.
    let mut watcher = Watcher::begin(&grid, 1, 50, &id).await;
    let mut bidder = Watcher::begin(&grid, 2, 3, &id).await;
    let start = format!("/v1/auctions/{id}/start");
    grid.post(&start, person(1), json!({})).await;
    bid(&grid, 0, &id, 2, "100.00").await;
    bid(&grid, 0, &id, 3, "110.00").await;
    let withdrawn = bid(&grid, 0, &id, 4, "150.00").await;
    let path = format!("/v1/auctions/{id}/bids/{}", text(&withdrawn["bid_id"]));
    let taken_back = grid
        .call(0, Method::DELETE, &path, person(4), json!({}))
        .await;
    assert!(taken_back.0 < 300, "{taken_back:?}");
    let last = watcher.until(&grid, "bid_withdrawn").await;
    bidder.until(&grid, "bid_withdrawn").await;

    // The leader dies in between; whoever was connected to its gateway comes back.
    let cursor: grid_core::Cursor = text(&last["cursor"]).parse().expect("a cursor");
    let leader = leader_of(&grid, cursor.partition.0.into());
    kill_at_once(grid.node_pid(leader));
    let alive = usize::from(leader == 1);
    wait_for("another leads", async || {
        let answer = reqwest::get(format!("{}/ready", grid.gateway(alive))).await;
        answer.ok()?.status().is_success().then_some(())
    })
    .await;
    bid(&grid, alive, &id, 2, "125.00").await;
    bid(&grid, alive, &id, 3, "130.00").await;
    let close = format!("/v1/auctions/{id}/close");
    let (status, closed) = grid
        .call(alive, Method::POST, &close, person(1), json!({}))
        .await;
    assert!(status < 300, "{closed}");
    watcher.until(&grid, "auction_ended").await;
    bidder.until(&grid, "auction_ended").await;
    let kinds: Vec<String> = watcher
        .events
        .iter()
        .map(|event| text(&serde_json::from_str::<Value>(event).expect("JSON")["type"]).to_owned())
        .collect();
    for kind in [
        "auction_started",
        "bid_placed",
        "auction_extended",
        "bid_withdrawn",
        "auction_ended",
    ] {
        assert!(kinds.iter().any(|seen| seen == kind), "{kind}: {kinds:?}");
    }
    assert!(
        bidder
            .events
            .iter()
            .any(|event| event.contains(r#""own":true"#))
    );

    let from_grid = lines(folder.path(), &[&id, "--format", "json", "--from", "grid"]);
    assert_eq!(from_grid, watcher.events);
    let own = person(3).to_string();
    let as_bidder = [&id, "--format", "json", "--from", "grid", "--as", &own];
    assert_eq!(lines(folder.path(), &as_bidder), bidder.events);
    it_is_cut_where_it_is_told_to(&folder, &id, &watcher.events);
    if grid.has_database() {
        the_database_tells_the_same(&folder, &id, &watcher.events).await;
        let both = ["--format", "json", "--as", &own, &id];
        assert_eq!(lines(folder.path(), &both), bidder.events);
    }
    pictures_and_files(&folder, &id, watcher.events.len());
    grid.stop().await;
}

/// `--until` and `--since` take the entries of that very moment in.
fn it_is_cut_where_it_is_told_to(folder: &tempfile::TempDir, id: &str, events: &[String]) {
    let time = |event: &String| {
        let event: Value = serde_json::from_str(event).expect("JSON");
        event["timestamp"].as_i64().expect("milliseconds")
    };
    let at = |ms: i64| {
        jiff::Timestamp::from_millisecond(ms)
            .expect("a time")
            .to_string()
    };
    let place = events.len() / 2;
    let moment = time(&events[place]);
    let up_to: Vec<_> = events
        .iter()
        .filter(|event| time(event) <= moment)
        .collect();
    let until = [
        "--format",
        "json",
        "--from",
        "grid",
        "--until",
        &at(moment),
        id,
    ];
    assert_eq!(
        lines(folder.path(), &until),
        up_to.into_iter().cloned().collect::<Vec<_>>()
    );
    let before: Vec<_> = events
        .iter()
        .filter(|event| time(event) < moment)
        .cloned()
        .collect();
    let until = [
        "--format",
        "json",
        "--from",
        "grid",
        "--until",
        &at(moment - 1),
        id,
    ];
    assert_eq!(lines(folder.path(), &until), before);
    let since: Vec<_> = events
        .iter()
        .filter(|event| time(event) >= moment)
        .cloned()
        .collect();
    let since_then = [
        "--format",
        "json",
        "--from",
        "grid",
        "--since",
        &at(moment),
        id,
    ];
    assert_eq!(lines(folder.path(), &since_then), since);
}

/// From SQL alone: as soon as the pump has written the end, the same lines.
async fn the_database_tells_the_same(folder: &tempfile::TempDir, id: &str, events: &[String]) {
    wait_for("the end is written", async || {
        let written = replay(
            folder.path(),
            &[id, "--format", "json", "--from", "database"],
        );
        let is_whole = written.code == 0 && written.lines.len() == events.len();
        is_whole.then_some(written.lines)
    })
    .await
    .iter()
    .zip(events)
    .for_each(|(told, seen)| assert_eq!(told, seen));
    // Another directory knows no grid, and needs none.
    let elsewhere = tempfile::tempdir().expect("temporary directory");
    let file = std::fs::read_to_string(folder.path().join("grid.json")).expect("written");
    let file: Value = serde_json::from_str(&file).expect("JSON");
    let url = text(&file["database_url"]);
    let alone = lines(
        elsewhere.path(),
        &[id, "--format", "json", "--database-url", url],
    );
    assert_eq!(alone, events);
}

fn pictures_and_files(folder: &tempfile::TempDir, id: &str, events: usize) {
    let shown = lines(folder.path(), &[id, "--private"]);
    assert!(shown[0].contains("with chimes"), "{shown:?}");
    let all = shown.join("\n");
    for part in [
        "reserve 120.00",
        "bidder-2",
        "withdraws",
        "the hammer falls",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
    assert!(all.contains(&person(3).to_string()), "{all}");
    let public = lines(folder.path(), &[id]).join("\n");
    assert!(!public.contains(&person(3).to_string()), "{public}");

    let file = folder.path().join("clock.svg");
    let file_name = file.to_str().expect("a plain path");
    let drawn = lines(folder.path(), &[id, "--out", file_name]);
    assert!(drawn[0].contains("are drawn in"), "{drawn:?}");
    let svg = std::fs::read_to_string(&file).expect("drawn");
    assert!(
        svg.starts_with("<svg") && svg.contains("hammer 130.00"),
        "{svg}"
    );

    let file = folder.path().join("clock.ndjson");
    let out = [
        "--format",
        "json",
        "--out",
        file.to_str().expect("a plain path"),
        id,
    ];
    lines(folder.path(), &out);
    let written = std::fs::read_to_string(&file).expect("written");
    assert_eq!(written.lines().count(), events);

    let nobody = replay(folder.path(), &[&person(99).to_string()]);
    assert_eq!(nobody.code, 1, "{}", nobody.errors);
    assert!(
        nobody.errors.contains("no such auction or event"),
        "{}",
        nobody.errors
    );
    let no_file = replay(folder.path(), &[id, "--format", "svg"]);
    assert_eq!(no_file.code, 2, "{}", no_file.errors);
}

/// A client's picture of the seats, and what it was told to make it.
#[derive(Default)]
struct Seats {
    states: BTreeMap<String, Value>,
    sections: BTreeMap<String, Value>,
}

impl Seats {
    fn take(&mut self, update: &Value) {
        for seat in update["data"]["seats"].as_array().expect("a list") {
            self.states
                .insert(text(&seat[0]).to_owned(), seat[1].clone());
        }
        for section in update["data"]["sections"].as_array().expect("a list") {
            let name = text(&section["name"]).to_owned();
            self.sections.insert(name, section.clone());
        }
    }
}

/// The log entry in a cursor.
fn entry_of(update: &Value) -> u64 {
    let cursor: grid_core::Cursor = text(&update["cursor"]).parse().expect("a cursor");
    cursor.index
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sale_is_told_entry_by_entry_and_adds_up_to_what_clients_saw() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let grid = Grid::up(folder.path());
    let event = grid.run(&["import", "venue", &sample("arena.json")]).done();
    let id = text(&event["event_id"]).to_owned();
    let mut client = grid.connect(1, person(9)).await;
    client
        .send(&json!({"type": "subscribe", "id": 1, "event_id": id}))
        .await;
    client.next_of("snapshot").await;
    let holds = format!("/v1/events/{id}/holds");
    for buyer in 20..32 {
        let body = json!({"quantity": 2, "best_available": true});
        let hold = grid.post(&holds, person(buyer), body).await;
        let hold = format!("{holds}/{}", text(&hold["hold_id"]));
        if buyer % 3 == 0 {
            let (status, answer) = grid
                .call(0, Method::DELETE, &hold, person(buyer), json!({}))
                .await;
            assert_eq!(status, 200, "{answer}");
        } else {
            let body = json!({"payment_reference": format!("pay-{buyer}")});
            grid.post(&format!("{hold}/confirm"), person(buyer), body)
                .await;
        }
    }
    let told: Vec<Value> = lines(folder.path(), &[&id, "--format", "json", "--from", "grid"])
        .iter()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let end = told.last().map(entry_of).expect("something happened");

    // Whatever was merged for the client is what the entries in between add up to.
    let mut steps = told.iter().peekable();
    let mut covered = 0;
    while covered < end {
        let seen = client.next_of("seats_changed").await;
        covered = entry_of(&seen);
        let mut merged = Seats::default();
        while let Some(step) = steps.next_if(|step| entry_of(step) <= covered) {
            merged.take(step);
        }
        let mut expected = Seats::default();
        expected.take(&seen);
        assert_eq!(merged.states, expected.states, "up to {covered}");
        assert_eq!(merged.sections, expected.sections, "up to {covered}");
    }
    assert!(steps.next().is_none());

    let shown = lines(folder.path(), &[&id]);
    let sold = shown
        .iter()
        .filter(|line| line.contains(" buys 2:"))
        .count();
    let returned = shown
        .iter()
        .filter(|line| line.contains(" lets go of 2:"))
        .count();
    assert_eq!((sold, returned), (8, 4), "{shown:?}");
    let file = folder.path().join("sale.svg");
    lines(
        folder.path(),
        &[&id, "--out", file.to_str().expect("a plain path")],
    );
    assert!(
        std::fs::read_to_string(&file)
            .expect("drawn")
            .contains("16 of")
    );
    if grid.has_database() {
        let from_grid = lines(folder.path(), &[&id, "--format", "json", "--from", "grid"]);
        wait_for("all is written", async || {
            let written = replay(
                folder.path(),
                &[&id, "--format", "json", "--from", "database"],
            );
            (written.code == 0 && written.lines == from_grid).then_some(())
        })
        .await;
        let both = lines(folder.path(), &[&id, "--format", "json"]);
        assert_eq!(both, from_grid);
    }
    grid.stop().await;
}
