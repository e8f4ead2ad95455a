//! `grid audit`: a sale and an auction verify; what is edited in SQL is named; a bid is proved to others.

use std::process::Command;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::{Grid, grid, person, sample, text, wait_for};

async fn database(folder: &std::path::Path) -> PgConnection {
    let file = std::fs::read_to_string(folder.join("grid.json")).expect("written");
    let file: Value = serde_json::from_str(&file).expect("JSON");
    PgConnection::connect(text(&file["database_url"]))
        .await
        .expect("answers")
}

async fn execute(connection: &mut PgConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await
        .expect("done");
}

/// The verdict of the verifier in the documents; `None`, loudly, where there is no Python.
fn by_python(proof: &str, key: &str) -> Option<(bool, String)> {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/audit/verify_proof.py"
    );
    let ran = Command::new("python3")
        .args(["-B", script, proof, key])
        .output();
    match ran {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            Some((output.status.success(), said))
        }
        Err(error) => {
            println!("NOT TESTED: the verifier in Python, for python3 does not run: {error}");
            None
        }
    }
}

/// Makes an auction and bids once. Returns the bid's id.
async fn bid(grid: &Grid) -> String {
    let created = grid
        .run(&["auction", "create", "Clock", "--starting-price", "10.00"])
        .done();
    let bids = format!("/v1/auctions/{}/bids", text(&created["auction_id"]));
    let placed = grid
        .post(&bids, person(7), json!({ "amount": "10.00" }))
        .await;
    text(&placed["bid_id"]).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_edited_in_sql_is_found_and_a_bid_is_proved() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let config = folder.path().join("audit.toml");
    std::fs::write(&config, "[pump]\naudit_root_interval_s = 1\n").expect("written");
    let config = config.display().to_string();
    let grid_up = Grid::up_with(folder.path(), &["--config", &config]);
    if !grid_up.has_database() {
        return;
    }
    let event = grid_up
        .run(&["import", "venue", &sample("arena.json")])
        .done();
    let holds = format!("/v1/events/{}/holds", text(&event["event_id"]));
    let held = json!({"quantity": 2, "best_available": true});
    grid_up.post(&holds, person(1), held).await;
    let bid_id = bid(&grid_up).await;

    let proof = folder.path().join("bid.json").display().to_string();
    wait_for("the bid is under a signed root", async || {
        let made = grid_up.run(&["audit", "proof", "--bid", &bid_id, "--out", &proof]);
        (made.code == 0).then_some(())
    })
    .await;
    let key = grid_up.run(&["audit", "key"]).done();
    let key = text(&key["public_key"]);
    let roots = folder.path().join("roots.json").display().to_string();
    grid_up.run(&["audit", "root", "--out", &roots]).done();
    let verified = grid_up
        .run(&["audit", "verify", "--since-root", &roots])
        .done();
    assert_eq!(
        (&verified["ok"], &verified["keys"]),
        (&json!(true), &json!([key]))
    );

    // Somebody else, with nothing but the file and the key.
    let checked = grid(&["audit", "check", &proof, "--key", key]).done();
    assert_eq!(
        checked["payload"]["Auction"]["BidPlaced"]["bid_id"],
        json!(bid_id)
    );
    let document = std::fs::read_to_string(&proof).expect("written");
    let forged = folder.path().join("forged.json").display().to_string();
    std::fs::write(&forged, document.replacen("BidPlaced", "BidPlacee", 1)).expect("written");
    assert_eq!(grid(&["audit", "check", &forged, "--key", key]).code, 1);
    let other_key = "11".repeat(32);
    assert_eq!(
        grid(&["audit", "check", &proof, "--key", &other_key]).code,
        1
    );
    if let Some((is_right, said)) = by_python(&proof, key) {
        assert!(is_right && said.contains(&bid_id), "{said}");
        let (is_right, said) = by_python(&forged, key).expect("it ran before");
        assert!(!is_right && said.contains("not under the root"), "{said}");
        let (is_right, said) = by_python(&proof, &other_key).expect("it ran before");
        assert!(!is_right && said.contains("another key"), "{said}");
    }

    let mut sql = database(folder.path()).await;
    let edit = format!(
        "UPDATE changes SET payload = jsonb_set(payload, '{{Auction,BidPlaced,amount}}', '1')
         WHERE payload #>> '{{Auction,BidPlaced,bid_id}}' = '{bid_id}'"
    );
    execute(&mut sql, edit).await;
    let found = grid_up.run(&["audit", "verify"]);
    assert_eq!(found.code, 1, "{found:?}");
    let partitions = found.json["partitions"].as_array().expect("a list").iter();
    let findings: Vec<&Value> = partitions
        .flat_map(|partition| partition["findings"].as_array().expect("a list"))
        .collect();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(
        (&findings[0]["fault"], &findings[0]["kind"]),
        (&json!("altered"), &json!("bid_placed"))
    );
    drop(sql);
    grid_up.stop().await;
}
