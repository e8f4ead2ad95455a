//! `grid pump`: a pause that outlives its leader, and changes that the database refuses.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::{Grid, kill_at_once, person, sample, text, wait_for};

async fn database(folder: &std::path::Path) -> PgConnection {
    let file = std::fs::read_to_string(folder.join("grid.json")).expect("written");
    let file: Value = serde_json::from_str(&file).expect("JSON");
    PgConnection::connect(text(&file["database_url"]))
        .await
        .expect("answers")
}

async fn execute(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .expect("done");
}

async fn number(connection: &mut PgConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql)
        .fetch_one(connection)
        .await
        .expect("a number")
}

/// The partitions of `grid pump status` when each is in this state.
fn all_in_state(grid: &Grid, state: &str) -> Option<Vec<Value>> {
    let status = grid.run(&["pump", "status"]).done();
    let partitions = status["partitions"].as_array().expect("a list").clone();
    let are = partitions.len() == 4 && partitions.iter().all(|entry| entry["state"] == state);
    are.then_some(partitions)
}

/// The codes that the doctor finds.
fn findings(grid: &Grid) -> Vec<String> {
    let report = grid.run(&["doctor"]).json;
    let findings = report["findings"].as_array().expect("a list").iter();
    findings
        .map(|finding| text(&finding["code"]).to_owned())
        .collect()
}

async fn hold(grid: &Grid, event_id: &str, buyer: u128, seats: u32) {
    let holds = format!("/v1/events/{event_id}/holds");
    let body = json!({"quantity": seats, "best_available": true});
    grid.post(&holds, person(buyer), body).await;
}

/// Waits until the event is in the database, which is new.
async fn await_event(sql: &mut PgConnection) {
    wait_for("the event is written", async || {
        let made = number(
            sql,
            "SELECT (to_regclass('events') IS NOT NULL)::integer::bigint",
        );
        if made.await == 0 {
            return None;
        }
        (number(sql, "SELECT count(*) FROM events").await == 1).then_some(())
    })
    .await;
}

/// What names a parked change.
fn place_of(parked: &Value) -> String {
    let part = |name: &str| parked[name].to_string();
    [part("partition"), part("log_index"), part("seq")].join(":")
}

/// What is listed once one change is parked.
async fn one_parked(grid: &Grid) -> Value {
    wait_for("the hold is parked", async || {
        let list = grid.run(&["pump", "dlq", "list"]).done();
        (list["parked"] == 1).then_some(list)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_pump_stays_paused_when_its_leader_dies() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let grid = Grid::up(folder.path());
    if !grid.has_database() {
        return;
    }
    let event = grid.run(&["import", "venue", &sample("arena.json")]).done();
    let event_id = text(&event["event_id"]).to_owned();
    wait_for("every pump runs", async || all_in_state(&grid, "running")).await;
    let mut sql = database(folder.path()).await;
    await_event(&mut sql).await;

    let unknown = grid.run(&["pump", "pause", "--partition", "77"]);
    assert_eq!(unknown.code, 2, "{unknown:?}");
    let paused = grid.run(&["pump", "pause", "--reason", "a dump"]).done();
    assert_eq!(paused["paused"], json!([0, 1, 2, 3]));
    hold(&grid, &event_id, 1, 2).await;
    wait_for("every lane has noticed", async || {
        findings(&grid)
            .contains(&"pump_paused".to_owned())
            .then_some(())
    })
    .await;
    let partitions = wait_for("paused", async || all_in_state(&grid, "paused")).await;
    assert_eq!(partitions[0]["pause_reason"], "a dump");

    // Another node leads then, and finds the pause.
    let leader = partitions[0]["node_id"].as_u64().expect("a leader");
    let before = grid.node_pid(leader);
    kill_at_once(before);
    wait_for("paused under another leader", async || {
        let partitions = all_in_state(&grid, "paused")?;
        let moved =
            partitions[0]["node_id"].as_u64() != Some(leader) || grid.node_pid(leader) != before;
        moved.then_some(())
    })
    .await;
    // The gateway that is asked may be the killed node's.
    wait_for("the gateway answers", async || {
        let answer = reqwest::get(format!("{}/ready", grid.gateway(0))).await;
        answer.ok()?.status().is_success().then_some(())
    })
    .await;
    hold(&grid, &event_id, 2, 2).await;
    assert_eq!(number(&mut sql, "SELECT count(*) FROM holds").await, 0);

    let resumed = grid.run(&["pump", "resume"]).done();
    assert_eq!(resumed["changed"], json!([0, 1, 2, 3]));
    wait_for("both holds are written", async || {
        (number(&mut sql, "SELECT count(*) FROM holds").await == 2).then_some(())
    })
    .await;
    wait_for("every pump runs", async || all_in_state(&grid, "running")).await;
    let verdict = grid.run(&["verify"]).done();
    assert_eq!(verdict["ok"], true, "{verdict}");

    execute(
        &mut sql,
        "UPDATE seats SET state = 'sold' WHERE seat_index < 3",
    )
    .await;
    let found = grid.run(&["pump", "resync"]);
    assert_eq!(found.code, 1, "{found:?}");
    let mended = grid.run(&["pump", "resync", "--repair"]).done();
    assert_eq!(mended["differences"][0]["left"], 0, "{mended}");
    let again = grid.run(&["pump", "resync"]).done();
    assert_eq!(again["differences"], json!([]));
    drop(sql);
    grid.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_database_refuses_is_listed_retried_and_dropped() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let grid = Grid::up(folder.path());
    if !grid.has_database() {
        return;
    }
    let event = grid.run(&["import", "venue", &sample("arena.json")]).done();
    let event_id = text(&event["event_id"]).to_owned();
    let mut sql = database(folder.path()).await;
    await_event(&mut sql).await;
    execute(
        &mut sql,
        "ALTER TABLE holds ADD CONSTRAINT few CHECK (seats < 4)",
    )
    .await;
    hold(&grid, &event_id, 1, 4).await;
    let list = one_parked(&grid).await;
    let parked = &list["changes"][0];
    assert_eq!(
        (&parked["sqlstate"], &parked["reason"]),
        (&json!("23514"), &json!("rejected"))
    );
    assert_eq!(parked["entity"], event["event_id"]);
    // A later change of the same event waits behind it, though nothing is wrong with it.
    hold(&grid, &event_id, 2, 1).await;
    wait_for("the next is parked", async || {
        (grid.run(&["pump", "dlq", "list"]).done()["parked"] == 2).then_some(())
    })
    .await;
    assert!(findings(&grid).contains(&"parked_changes".to_owned()));

    let place = place_of(parked);
    let shown = grid.run(&["pump", "dlq", "show", &place]).done();
    let held = &shown["payload"]["BoxOffice"]["SeatsHeld"];
    assert_eq!(held["event_id"], event["event_id"], "{shown}");
    let nowhere = grid.run(&["pump", "dlq", "show", "0:999999:0"]);
    assert_eq!(nowhere.code, 1, "{nowhere:?}");

    let retried = grid.run(&["pump", "dlq", "retry", "--all"]);
    assert_eq!(retried.code, 1, "{retried:?}");
    assert_eq!(retried.json["entities"][0]["left"], 2, "{retried:?}");
    execute(&mut sql, "ALTER TABLE holds DROP CONSTRAINT few").await;
    let retried = grid
        .run(&["pump", "dlq", "retry", "--entity", &event_id])
        .done();
    assert_eq!(retried["entities"][0]["written"], 2, "{retried}");
    assert_eq!(number(&mut sql, "SELECT count(*) FROM holds").await, 2);
    let verdict = grid.run(&["verify"]).done();
    assert_eq!(verdict["ok"], true, "{verdict}");

    execute(
        &mut sql,
        "ALTER TABLE holds ADD CONSTRAINT few CHECK (seats < 4) NOT VALID",
    )
    .await;
    hold(&grid, &event_id, 3, 4).await;
    let list = one_parked(&grid).await;
    let parked = &list["changes"][0];
    let place = place_of(parked);
    let refused = grid.run(&["pump", "dlq", "drop", &place, "--reason", "tried"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    let dropped = grid.run(&[
        "pump",
        "dlq",
        "drop",
        &place,
        "--reason",
        "tried",
        "--accept-data-loss",
    ]);
    assert_eq!(dropped.done()["dropped"], 1);
    assert_eq!(grid.run(&["pump", "dlq", "list"]).done()["parked"], 0);
    let recorded = number(
        &mut sql,
        "SELECT count(*) FROM dead_letter_dropped WHERE drop_reason = 'tried'",
    );
    assert_eq!(recorded.await, 1);
    // What was dropped is missing; what is only edited is mended.
    let compared = grid.run(&["pump", "resync"]);
    assert_eq!(compared.code, 1, "{compared:?}");
    let difference = &compared.json["differences"][0];
    assert_eq!(
        (&difference["facts"], &difference["parked"]),
        (&json!(4), &json!(false))
    );
    drop(sql);
    grid.stop().await;
}
