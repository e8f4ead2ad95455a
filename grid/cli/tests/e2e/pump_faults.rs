//! The pump under kills, lost answers and a restored database: SQL says what the grid says, each fact once.

use std::path::PathBuf;

use data_pump::database::{Database, DatabaseChoice, DatabaseError, DatabaseOptions, provide};
use data_pump::verify::Verifier;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use crate::sql_proxy::{Caught, Point, SqlProxy};
use crate::support::{Grid, PATIENCE, kill_at_once, person, sample, text, wait_for};

const USER: &str = "spacegrid";
const LIVE: &str = "live";

/// A server of the test's own with a database in it, a proxy before it, and a grid that writes there.
struct Rig {
    grid: Grid,
    proxy: SqlProxy,
    /// Past the proxy.
    server_url: String,
    event_id: String,
    holds: u64,
    database: Database,
    _folder: tempfile::TempDir,
}

/// The folder of a private server's socket, by its address.
fn socket_folder(url: &str) -> PathBuf {
    let (_, host) = url.split_once("?host=").expect("a socket file");
    PathBuf::from(host)
}

impl Rig {
    /// `None`, loudly, where PostgreSQL is not installed.
    async fn start() -> Option<Self> {
        let folder = tempfile::tempdir().expect("temporary directory");
        let mut options = DatabaseOptions::new(folder.path().join("sql"));
        options.choice = DatabaseChoice::Supervised;
        let database = match provide(options).await {
            Ok(database) => database,
            Err(DatabaseError::NotInstalled) => {
                println!("NOT TESTED: the pump's faults, for PostgreSQL is not installed");
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let proxy = SqlProxy::before(&socket_folder(&database.url));
        let server_url = database.url.clone();
        execute(&server_url, &format!("CREATE DATABASE {LIVE}")).await;
        let address = proxy.url(USER, LIVE);
        let arguments = ["--database-url", &address];
        let data_dir = folder.path().join("grid");
        let grid = tokio::task::block_in_place(|| Grid::up_with(&data_dir, &arguments));
        let event = grid.run(&["import", "venue", &sample("arena.json")]).done();
        let event_id = text(&event["event_id"]).to_owned();
        let rig = Self {
            grid,
            proxy,
            server_url,
            event_id,
            holds: 0,
            database,
            _folder: folder,
        };
        wait_for("every pump runs", async || {
            let running = rig.pumps().iter().all(|pump| pump["state"] == "running");
            (running && rig.written().await == Some(0)).then_some(())
        })
        .await;
        Some(rig)
    }

    fn live_url(&self) -> String {
        self.server_url.replace("/postgres?", &format!("/{LIVE}?"))
    }

    fn pumps(&self) -> Vec<Value> {
        let status = self.grid.run(&["pump", "status"]);
        let pumps = status.json["partitions"].as_array().cloned();
        pumps.filter(|pumps| pumps.len() == 4).unwrap_or_default()
    }

    /// A buyer holds two seats.
    async fn hold(&mut self) {
        self.holds += 1;
        let path = format!("/v1/events/{}/holds", self.event_id);
        let body = json!({"quantity": 2, "best_available": true});
        self.grid.post(&path, person(self.holds.into()), body).await;
    }

    /// Holds whose facts are in the database; `None` before the event is.
    async fn written(&self) -> Option<u64> {
        let mut sql = PgConnection::connect(&self.live_url()).await.ok()?;
        let counted: Result<Option<i64>, _> = sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM changes WHERE kind = 'seats_held')
             FROM events LIMIT 1",
        )
        .fetch_optional(&mut sql)
        .await;
        u64::try_from(counted.ok()??).ok()
    }

    async fn await_written(&self) {
        wait_for("every hold is written", async || {
            (self.written().await == Some(self.holds)).then_some(())
        })
        .await;
    }

    /// Kills the process whose transaction is stopped, and waits until the grid is as before.
    async fn kill(&self, caught: Caught) {
        let killed = caught.pid;
        let node = (1..=3).find(|node| self.grid.node_pid(*node) == killed);
        let node = node.expect("a node's transaction");
        kill_at_once(killed);
        drop(caught);
        wait_for("the node is back", async || {
            (self.grid.node_pid(node) != killed).then_some(())
        })
        .await;
        for gateway in 0..3 {
            wait_for("every gateway is ready", async || {
                let address = format!("{}/ready", self.grid.gateway(gateway));
                let answer = reqwest::get(address).await.ok()?;
                answer.status().is_success().then_some(())
            })
            .await;
        }
    }

    /// How often lanes found the database ahead of where they left it, and behind.
    fn fences(&self) -> (u64, u64) {
        let sum = |name: &str| {
            let pumps = self.pumps();
            let counts = pumps.iter().filter_map(|pump| pump["fence"][name].as_u64());
            counts.sum::<u64>()
        };
        (sum("ahead"), sum("behind"))
    }

    /// Everything is in SQL, once and in order.
    async fn verify(&self) {
        self.await_written().await;
        let mut verifier = Verifier::connect(&self.live_url()).await.expect("answers");
        let event_id: Uuid = self.event_id.parse().expect("an id");
        let facts = verifier.sale_facts(event_id).await.expect("read");
        assert!(facts.is_whole(), "{facts:?}");
        assert_eq!(facts.holds, self.holds);
        assert_eq!(verifier.torn_entries().await.expect("read"), 0);
        let verdict = self.grid.run(&["verify"]).done();
        assert_eq!(verdict["ok"], true, "{verdict}");
    }

    async fn stop(self) {
        self.grid.stop().await;
        self.database.stop().await.expect("stops");
    }
}

async fn execute(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.expect("answers");
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&mut connection)
        .await
        .expect("done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_pump_killed_at_any_point_of_a_transaction_loses_and_repeats_nothing() {
    let Some(mut rig) = Rig::start().await else {
        return;
    };
    for point in [Point::BeforeBegin, Point::AfterRows, Point::AfterCommit] {
        let stopped = rig.proxy.stop_at(point);
        rig.hold().await;
        let caught = tokio::time::timeout(PATIENCE, stopped).await;
        let caught = caught.expect("a transaction in time").expect("caught");
        // What the killed pump had reached is known, not only hoped for.
        let expected = rig.holds - u64::from(point != Point::AfterCommit);
        if point != Point::BeforeBegin {
            assert_eq!(rig.written().await, Some(expected), "{point:?}");
        }
        rig.kill(caught).await;
        rig.hold().await;
        rig.await_written().await;
    }
    rig.verify().await;

    // The answer is lost, and nobody is killed: the same pump finds the database ahead.
    let before = rig.fences();
    let stopped = rig.proxy.stop_at(Point::AfterCommit);
    rig.hold().await;
    let caught = tokio::time::timeout(PATIENCE, stopped).await;
    drop(caught.expect("a transaction in time").expect("caught"));
    wait_for("the database was found ahead", async || {
        (rig.fences().0 > before.0).then_some(())
    })
    .await;
    rig.hold().await;
    rig.verify().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_database_that_goes_back_in_time_is_noticed_while_nobody_buys_and_filled_again() {
    let Some(mut rig) = Rig::start().await else {
        return;
    };
    for _ in 0..3 {
        rig.hold().await;
    }
    rig.await_written().await;
    // A copy takes a database that nobody is connected to.
    rig.proxy.set_open(false);
    let copy = format!("CREATE DATABASE backup TEMPLATE {LIVE}");
    wait_for("a backup is made", async || {
        let mut sql = PgConnection::connect(&rig.server_url).await.ok()?;
        let sql_text = AssertSqlSafe(copy.clone());
        sqlx::raw_sql(sql_text).execute(&mut sql).await.ok()
    })
    .await;
    rig.proxy.set_open(true);
    for _ in 0..5 {
        rig.hold().await;
    }
    rig.await_written().await;
    let before = rig.fences();

    rig.proxy.set_open(false);
    let restore =
        format!("ALTER DATABASE {LIVE} RENAME TO lost; ALTER DATABASE backup RENAME TO {LIVE}");
    wait_for("the backup is restored", async || {
        let mut sql = PgConnection::connect(&rig.server_url).await.ok()?;
        let sql_text = AssertSqlSafe(restore.clone());
        sqlx::raw_sql(sql_text).execute(&mut sql).await.ok()
    })
    .await;
    assert_eq!(rig.written().await, Some(3), "it is the older one");
    rig.proxy.set_open(true);
    // Nobody buys anything: the pump notices by itself.
    rig.verify().await;
    assert!(rig.fences().1 > before.1, "counted as behind");
    rig.hold().await;
    rig.verify().await;
    rig.stop().await;
}
