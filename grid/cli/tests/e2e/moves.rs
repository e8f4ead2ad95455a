//! Replicas that are being moved while the node they leave, or the one they go to, is killed; buyers are
//! at every gateway all the time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::buyers::Crowd;
use crate::support::{Grid, kill_at_once, sample, text, wait_for};

/// Rounds of the short test: in each every replica of a node goes and comes back, with a kill on each way.
const ROUNDS: u64 = 2;
/// The same of the long one.
const ROUNDS_LONG: u64 = 50;
const NODES: [u64; 4] = [1, 2, 3, 4];
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// What was seen of who owns and leads what.
#[derive(Default)]
struct Owners {
    /// The replicas of a group in one of its epochs.
    replicas: BTreeMap<(String, u64), Value>,
    /// The leader of a partition in one term.
    leaders: BTreeMap<(u64, u64), u64>,
    /// Which slots belong to which partition has one number for ever.
    slots_epochs: BTreeSet<u64>,
}

impl Owners {
    fn see_members(&mut self, members: &Value) {
        let Some(groups) = members["groups"].as_array() else {
            return;
        };
        self.slots_epochs.extend(members["slots_epoch"].as_u64());
        for group in groups {
            let epoch = group["epoch"].as_u64().expect("a number");
            let key = (group["partition"].to_string(), epoch);
            let known = self
                .replicas
                .entry(key)
                .or_insert_with(|| group["replicas"].clone());
            assert_eq!(*known, group["replicas"], "one owner an epoch: {group}");
        }
    }

    fn see_status(&mut self, status: &Value) {
        for node in status["nodes"].as_array().into_iter().flatten() {
            let replicas = node["status"]["replicas"].as_array().into_iter().flatten();
            for replica in replicas.filter(|replica| replica["role"] == "leader") {
                let number = |name: &str| replica[name].as_u64().expect("a number");
                let key = (number("partition"), number("term"));
                let leader = node["node_id"].as_u64().expect("a number");
                let known = *self.leaders.entry(key).or_insert(leader);
                assert_eq!(known, leader, "one leader a term: {replica}");
            }
        }
    }
}

/// Asks every gateway, over and over, who owns and leads what.
struct Observer {
    owners: Arc<Mutex<Owners>>,
    task: tokio::task::JoinHandle<()>,
}

impl Observer {
    fn begin(grid: &Grid) -> Self {
        let owners = Arc::new(Mutex::new(Owners::default()));
        let gateways: Vec<String> = (0..NODES.len())
            .map(|place| grid.gateway(place).to_owned())
            .collect();
        let token = grid.admin_token();
        let seen = Arc::clone(&owners);
        let task = tokio::spawn(async move {
            let http = reqwest::Client::builder()
                .no_proxy()
                .timeout(Duration::from_secs(3))
                .build()
                .expect("a client");
            let get = async |url: String| -> Option<Value> {
                let sent = http
                    .get(url)
                    .header("x-user-id", uuid::Uuid::from_u128(1).to_string())
                    .header("x-roles", "manager")
                    .bearer_auth(&token)
                    .send();
                serde_json::from_slice(&sent.await.ok()?.bytes().await.ok()?).ok()
            };
            loop {
                for gateway in &gateways {
                    let members = get(format!("{gateway}/admin/v1/members")).await;
                    let status = get(format!("{gateway}/admin/v1/status")).await;
                    let mut owners = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(members) = members {
                        owners.see_members(&members);
                    }
                    if let Some(status) = status {
                        owners.see_status(&status);
                    }
                }
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        });
        Self { owners, task }
    }

    /// Ends it; fails the test if it saw anything that must not be.
    async fn end(self) -> Owners {
        self.task.abort();
        if let Err(error) = self.task.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
        std::mem::take(&mut *self.owners.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn at_rest(grid: &Grid) -> Value {
    wait_for("nothing moves", async || {
        let list = grid.run(&["node", "list"]).json;
        let rests = list["moving"].is_null() && list["moves"] == json!([]);
        let all_answer = list["nodes"].as_array()?.iter().all(|node| {
            let is_up = node["reachable"] == true;
            is_up || node["state"] == "removed"
        });
        (rests && all_answer).then_some(list)
    })
    .await
}

/// Who is to hold each group.
fn replicas(list: &Value) -> BTreeMap<String, BTreeSet<u64>> {
    let groups = list["groups"].as_array().into_iter().flatten();
    let holders = |group: &Value| -> Option<BTreeSet<u64>> {
        group["replicas"]
            .as_array()?
            .iter()
            .map(Value::as_u64)
            .collect()
    };
    groups
        .filter_map(|group| Some((group["partition"].to_string(), holders(group)?)))
        .collect()
}

/// Gives an order that moves replicas, and kills a node of the grid as soon as one is being moved: the
/// one that it leaves, or the one it goes to.
async fn kill_amid_moves(grid: &Grid, order: &str, node: u64, kills_source: bool, after: Duration) {
    let number = node.to_string();
    let before = replicas(&grid.run(&["node", "list"]).done());
    grid.run(&["node", order, &number, "--no-wait"]).done();
    let (source, target) = wait_for("a replica is being moved", async || {
        let list = grid.run(&["node", "list"]).json;
        let group = list["moving"].to_string();
        let now = replicas(&list);
        let (old, new) = (before.get(&group)?, now.get(&group)?);
        let source = old.difference(new).next()?;
        let target = new.difference(old).next()?;
        Some((*source, *target))
    })
    .await;
    let victim = if kills_source { source } else { target };
    // A different moment of the move each time.
    tokio::time::sleep(after).await;
    let before = grid.node_pid(victim);
    kill_at_once(before);
    wait_for("the node is started again", async || {
        (grid.node_pid(victim) != before).then_some(())
    })
    .await;
}

/// Every partition is held by those that the map says, all of whom vote, and by nobody else.
async fn everything_is_in_its_place(grid: &Grid) {
    wait_for("all replicas are where the map says", async || {
        let list = grid.run(&["node", "list"]).json;
        let status = grid.run(&["status"]).json;
        let nodes = status["nodes"].as_array()?;
        for group in list["groups"].as_array()? {
            if group["partition"] == "meta" {
                continue;
            }
            let sorted = |list: &Value| -> Option<BTreeSet<u64>> {
                list.as_array()?.iter().map(Value::as_u64).collect()
            };
            let wanted = sorted(&group["replicas"])?;
            let mut held = BTreeSet::new();
            for node in nodes {
                let replicas = node["status"]["replicas"].as_array()?;
                let of_group = |replica: &&Value| replica["partition"] == group["partition"];
                if let Some(replica) = replicas.iter().find(of_group) {
                    held.insert(node["node_id"].as_u64()?);
                    if replica["role"] == "leader" && sorted(&replica["voters"])? != wanted {
                        return None;
                    }
                }
            }
            if held != wanted {
                return None;
            }
        }
        Some(())
    })
    .await;
}

async fn move_and_kill(rounds: u64) {
    let folder = tempfile::tempdir().expect("temporary directory");
    let grid = Grid::up_with(folder.path(), &["--nodes", "4", "--no-database"]);
    let event = grid.run(&["import", "venue", &sample("arena.json")]).done();
    let urls: BTreeMap<u64, String> = NODES
        .into_iter()
        .zip(0..)
        .map(|(node, place)| (node, grid.gateway(place).to_owned()))
        .collect();
    let crowd = Crowd::come(&urls, text(&event["event_id"]));
    let observer = Observer::begin(&grid);
    crowd.holds(&NODES, 10).await;
    for round in 0..rounds {
        let node = NODES[round as usize % NODES.len()];
        let after = Duration::from_millis(round * 97 % 400);
        kill_amid_moves(&grid, "drain", node, round % 2 == 0, after).await;
        let list = at_rest(&grid).await;
        let drained = &list["nodes"][node as usize - 1];
        assert_eq!(drained["replicas"], 0, "{list}");
        kill_amid_moves(&grid, "activate", node, round % 2 == 1, after).await;
        at_rest(&grid).await;
        everything_is_in_its_place(&grid).await;
        crowd.holds(&NODES, 10).await;
    }
    for node in NODES {
        crowd.holds(&[node], 1).await;
    }
    let owners = observer.end().await;
    assert_eq!(owners.slots_epochs.len(), 1, "slots stay where they are");
    assert!(!owners.leaders.is_empty());
    crowd.close().await;
    let verdict = grid.run(&["verify", "--no-database"]).done();
    assert_eq!(verdict["ok"], true, "{verdict}");
    println!(
        "MEASURED {} kills amid moves: {} placements and {} leaderships seen, each with one owner",
        2 * rounds,
        owners.replicas.len(),
        owners.leaders.len()
    );
    grid.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_and_targets_killed_amid_moves_leave_one_owner() {
    move_and_kill(ROUNDS).await;
}

/// Some ten minutes: `cargo test -p grid-cli --test e2e -- --ignored a_hundred_kills`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes some ten minutes"]
async fn a_hundred_kills_amid_moves_leave_one_owner() {
    move_and_kill(ROUNDS_LONG).await;
}
