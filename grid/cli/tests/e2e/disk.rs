//! Disks that are full, slow, failing or forgetful: the grid goes on, says which one it is, and nothing is
//! lost in silence.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use grid_core::SlotLayout;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::faulty_disk::{FaultySync, SmallDisk};
use crate::nodes::Nodes;
use crate::support::{person, sample, text, wait_for};

const ALL: [u64; 3] = [1, 2, 3];
/// Between two holds: often enough for a disk to be judged by its syncs, and the seats last.
const BUYER_PAUSE: Duration = Duration::from_millis(30);
/// Input/output error.
const EIO: i32 = 5;

/// A directory whose syncs cost nothing, so that only what a test makes slow is slow.
fn quick_directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("temporary directory")
}

fn import(nodes: &Nodes) -> String {
    let event = nodes.run(&ALL, &["import", "venue", &sample("arena.json")]);
    text(&event.done()["event_id"]).to_owned()
}

fn partition_of(event_id: &str) -> u64 {
    let id: Uuid = event_id.parse().expect("an id");
    let layout = SlotLayout::new(4).expect("in range");
    u64::from(layout.partition_of(id).0)
}

/// What a node says of itself.
fn status(nodes: &Nodes, node: u64) -> Option<Value> {
    let answer = nodes.run(&[node], &["status"]).json;
    let all = answer["nodes"].as_array()?;
    let found = all.iter().find(|found| found["node_id"] == node)?;
    (!found["status"].is_null()).then(|| found["status"].clone())
}

fn replicas(status: &Value) -> impl Iterator<Item = &Value> {
    status["replicas"].as_array().into_iter().flatten()
}

fn led_by(nodes: &Nodes, node: u64) -> Option<Vec<u64>> {
    let status = status(nodes, node)?;
    let led = replicas(&status).filter(|replica| replica["role"] == "leader");
    Some(
        led.filter_map(|replica| replica["partition"].as_u64())
            .collect(),
    )
}

async fn leader_of(nodes: &Nodes, partition: u64) -> u64 {
    wait_for("the partition is led", async || {
        ALL.into_iter()
            .find(|node| led_by(nodes, *node).is_some_and(|led| led.contains(&partition)))
    })
    .await
}

/// The terms of all partitions, as a node knows them.
fn terms(nodes: &Nodes, node: u64) -> Option<BTreeMap<u64, u64>> {
    let status = status(nodes, node)?;
    let term = |replica: &Value| Some((replica["partition"].as_u64()?, replica["term"].as_u64()?));
    Some(replicas(&status).filter_map(term).collect())
}

/// Somebody who holds seats, one after another; ends when it is dropped.
struct Buyer {
    held: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Buyer {
    /// Begins at the gateway of a node. Refusals are asked again under the same key.
    fn start(nodes: &Nodes, node: u64, event_id: &str, first_person: u128) -> Self {
        let url = format!("{}/v1/events/{event_id}/holds", nodes.url(node));
        let held = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&held);
        let task = tokio::spawn(async move {
            for number in first_person.. {
                while hold(&url, number).await != 201 {
                    tokio::time::sleep(BUYER_PAUSE).await;
                }
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(BUYER_PAUSE).await;
            }
        });
        Self { held, task }
    }

    /// Waits for so many more holds.
    async fn holds(&self, more: u64) {
        let before = self.held.load(Ordering::Relaxed);
        wait_for("seats are held", async || {
            (self.held.load(Ordering::Relaxed) >= before + more).then_some(())
        })
        .await;
    }
}

impl Drop for Buyer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn ask_hold(url: &str, number: u128) -> Option<(u16, Value)> {
    let sent = reqwest::Client::new()
        .post(url)
        .header("x-user-id", person(number).to_string())
        .header("idempotency-key", format!("hold-{number}"))
        .header("content-type", "application/json")
        .body(json!({"quantity": 1, "best_available": true}).to_string())
        .send()
        .await;
    let response = sent.ok()?;
    let status = response.status().as_u16();
    let body = response.text().await.ok()?;
    Some((status, serde_json::from_str(&body).ok()?))
}

async fn hold(url: &str, number: u128) -> u16 {
    ask_hold(url, number).await.map_or(0, |(status, _)| status)
}

async fn leads_nothing(nodes: &Nodes, node: u64) {
    wait_for("its leaderships are elsewhere", async || {
        led_by(nodes, node).filter(Vec::is_empty).map(drop)
    })
    .await;
}

async fn is_whole(nodes: &Nodes) {
    nodes.is("healthy").await;
    let verdict = nodes.run(&ALL, &["verify", "--no-database"]).done();
    assert_eq!(verdict["ok"], true, "{verdict}");
}

fn faulty_sync(folder: &Path) -> Option<FaultySync> {
    let built = FaultySync::build(folder);
    if built.is_none() {
        println!("NOT TESTED: slow and failing disks, for there is no C compiler here");
    }
    built
}

async fn start_under(folder: &Path, faulty: &FaultySync) -> Nodes {
    let environment = faulty.environment();
    let environment = environment
        .each_ref()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    Nodes::start_with(folder, "--no-database", &environment).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_stops_the_node_which_says_so_and_comes_back() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let Some(faulty) = faulty_sync(folder.path()) else {
        return;
    };
    let mut nodes = start_under(folder.path(), &faulty).await;
    let event_id = import(&nodes);
    let victim = leader_of(&nodes, partition_of(&event_id)).await;
    let other = victim % 3 + 1;
    let buyer = Buyer::start(&nodes, other, &event_id, 1);
    buyer.holds(3).await;
    faulty.set(victim, 0, EIO);
    assert_eq!(nodes.ends(victim).await, Some(7));
    let log = nodes.log(victim);
    assert!(log.contains("the log failed at"), "{log}");
    assert!(log.contains("Input/output error"), "{log}");
    buyer.holds(3).await;
    faulty.set(victim, 0, 0);
    nodes.run_node(victim);
    nodes.becomes_ready(victim).await;
    buyer.holds(3).await;
    drop(buyer);
    is_whole(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_leave_a_slow_disk_without_an_election_storm_and_may_come_back() {
    let folder = quick_directory();
    let Some(faulty) = faulty_sync(folder.path()) else {
        return;
    };
    let nodes = start_under(folder.path(), &faulty).await;
    let event_id = import(&nodes);
    let slow = leader_of(&nodes, partition_of(&event_id)).await;
    let other = slow % 3 + 1;
    let buyer = Buyer::start(&nodes, other, &event_id, 1);
    buyer.holds(3).await;
    let led = led_by(&nodes, slow).expect("it answers");
    let before = terms(&nodes, other).expect("it answers");

    faulty.set(slow, 500, 0);
    let began = Instant::now();
    leads_nothing(&nodes, slow).await;
    let took = began.elapsed().as_millis();
    println!(
        "{} leaderships left a disk with syncs of 500 ms in {took} ms",
        led.len()
    );
    let finding = nodes
        .finding(&ALL, "slow_disk", &format!("node {slow}"), &["dead_node"])
        .await;
    assert!(
        text(&finding["cause"]).contains("leads nothing"),
        "{finding}"
    );
    let after = terms(&nodes, other).expect("it answers");
    for (partition, term) in &after {
        // One handover each, and no election.
        let most = before[partition] + u64::from(led.contains(partition));
        assert!(
            *term <= most,
            "partition {partition}: {before:?}, {after:?}"
        );
    }

    // Now it is a slow follower.
    for _ in 0..5 {
        buyer.holds(20).await;
        assert_eq!(led_by(&nodes, slow), Some(Vec::new()));
    }
    assert_eq!(terms(&nodes, other), Some(after));

    faulty.set(slow, 0, 0);
    nodes.passes("slow_disk").await;
    wait_for("it leads again", async || {
        led_by(&nodes, slow).filter(|led| !led.is_empty())
    })
    .await;
    drop(buyer);
    is_whole(&nodes).await;
}

/// Three nodes on small disks of their own.
async fn on_small_disks(folder: &Path) -> Option<(Vec<SmallDisk>, Nodes)> {
    let directory = |node: u64| folder.join(format!("node-{node}"));
    let disks: Option<Vec<SmallDisk>> = ALL
        .into_iter()
        .map(|node| SmallDisk::mount(&directory(node), "300m"))
        .collect();
    let Some(disks) = disks else {
        println!("NOT TESTED: full disks, for nothing can be mounted here");
        return None;
    };
    // Two segments of the log, and a reserve of 64 MiB, of which a half is the last resort.
    let reserve = [("SPACEGRID_NODE__DISK_RESERVE_BYTES", "67108864")];
    let nodes = Nodes::start_with(folder, "--no-database", &reserve).await;
    Some((disks, nodes))
}

/// Takes all the room there is on a node's disk.
fn fill(nodes: &Nodes, node: u64) -> PathBuf {
    let path = nodes.node_directory(node).join("something-else");
    let file = std::fs::File::create(&path).expect("made");
    let block = vec![1; 1 << 16];
    let mut offset = 0;
    while file.write_all_at(&block, offset).is_ok() {
        offset += block.len() as u64;
    }
    path
}

fn is_writable(nodes: &Nodes, node: u64) -> Option<bool> {
    status(nodes, node)?["wal"]["writable"].as_bool()
}

async fn becomes_writable(nodes: &Nodes, node: u64, writable: bool) {
    wait_for(
        &format!("node {node} is writable: {writable}"),
        async || (is_writable(nodes, node) == Some(writable)).then_some(()),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disks_refuse_lose_nothing_and_recover_by_themselves() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let Some((_disks, mut nodes)) = on_small_disks(folder.path()).await else {
        return;
    };
    let event_id = import(&nodes);
    for node in ALL {
        becomes_writable(&nodes, node, true).await;
    }
    let full = leader_of(&nodes, partition_of(&event_id)).await;
    let other = full % 3 + 1;
    let buyer = Buyer::start(&nodes, other, &event_id, 1);
    buyer.holds(3).await;

    // One of three: others lead, and the sale goes on without it.
    let eaten = fill(&nodes, full);
    let began = Instant::now();
    becomes_writable(&nodes, full, false).await;
    leads_nothing(&nodes, full).await;
    println!(
        "leaderships left a full disk in {} ms",
        began.elapsed().as_millis()
    );
    let subject = format!("node {full}");
    let finding = nodes
        .finding(&ALL, "disk_full", &subject, &["dead_node", "log_failed"])
        .await;
    assert_eq!(finding["severity"], "critical", "{finding}");
    buyer.holds(50).await;
    assert!(nodes.runs(full), "{}", nodes.log(full));

    // All of them: new work is refused, with a time to come back.
    let rest: Vec<PathBuf> = ALL
        .into_iter()
        .filter(|node| *node != full)
        .map(|node| fill(&nodes, node))
        .collect();
    for node in ALL {
        becomes_writable(&nodes, node, false).await;
    }
    let url = format!("{}/v1/events/{event_id}/holds", nodes.url(other));
    let refused = wait_for("new work is refused", async || {
        let (_, answer) = ask_hold(&url, 1_000_000).await?;
        (answer["code"] == "overloaded" || answer["error"]["code"] == "overloaded")
            .then_some(answer)
    })
    .await;
    assert!(refused.to_string().contains("retry_after_ms"), "{refused}");
    for node in ALL {
        assert!(nodes.runs(node), "{}", nodes.log(node));
    }

    for path in rest.into_iter().chain([eaten]) {
        std::fs::remove_file(path).expect("ours");
    }
    let began = Instant::now();
    for node in ALL {
        becomes_writable(&nodes, node, true).await;
    }
    println!(
        "writes were taken again {} ms after there was room",
        began.elapsed().as_millis()
    );
    buyer.holds(20).await;
    drop(buyer);
    nodes.passes("disk_full").await;
    is_whole(&nodes).await;
    for node in ALL {
        assert!(nodes.runs(node), "{}", nodes.log(node));
    }
}

/// Flips a bit of a file.
fn flip(path: &Path, offset: u64) {
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("a file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("long enough");
    byte[0] ^= 1;
    file.write_all_at(&byte, offset).expect("written");
}

/// The first file with an ending in a directory.
fn oldest(directory: &Path, ending: &str) -> Option<PathBuf> {
    let files = std::fs::read_dir(directory).ok()?.flatten();
    let paths = files.map(|file| file.path());
    paths
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .min()
}

fn segment(nodes: &Nodes, node: u64) -> PathBuf {
    oldest(&nodes.node_directory(node).join("wal"), "seg").expect("a segment")
}

/// In the second record of a log's first segment: after the header of 64 bytes and an empty checkpoint.
const IN_A_RECORD: u64 = 64 + 32 + 8;

/// Waits until a node has found a file damaged, and until it needs it no more.
async fn is_found_and_repaired(nodes: &Nodes, node: u64, path: &Path) {
    let file = path.display().to_string();
    let found = async || {
        let status = status(nodes, node)?;
        let all = status["wal"]["scrub"]["damaged"].as_array()?.clone();
        all.into_iter().find(|found| found["file"] == file.as_str())
    };
    wait_for("the damage is found", found).await;
    let finding = nodes
        .finding(&ALL, "damaged_files", &format!("node {node}"), &[])
        .await;
    assert!(finding["evidence"].to_string().contains(&file), "{finding}");
    wait_for("the damage is repaired", async || {
        found()
            .await
            .filter(|found| !found["repaired_at_ms"].is_null())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_on_a_running_node_is_found_and_repaired() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let often = [
        ("SPACEGRID_NODE__SCRUB_INTERVAL_S", "1"),
        ("SPACEGRID_NODE__SCRUB_BYTES_PER_S", "1000000000"),
    ];
    let mut nodes = Nodes::start_with(folder.path(), "--no-database", &often).await;
    let event_id = import(&nodes);
    let buyer = Buyer::start(&nodes, 1, &event_id, 1);
    buyer.holds(10).await;
    nodes.run(&ALL, &["snapshot", "take"]).done();

    let partition = partition_of(&event_id);
    let store = nodes
        .node_directory(3)
        .join(format!("snapshots/p{partition}"));
    let flipped = oldest(&store, "snap").expect("a snapshot");
    let middle = std::fs::metadata(&flipped).expect("a snapshot").len() / 2;
    flip(&flipped, middle);
    is_found_and_repaired(&nodes, 3, &flipped).await;
    assert!(oldest(&store, "snap").is_some(), "another one was taken");
    assert!(oldest(&store, "damaged").is_some(), "it was set aside");

    let cut = oldest(
        &nodes
            .node_directory(2)
            .join(format!("snapshots/p{partition}")),
        "snap",
    );
    let cut = cut.expect("a snapshot");
    let file = std::fs::File::options()
        .write(true)
        .open(&cut)
        .expect("ours");
    file.set_len(middle).expect("cut");
    is_found_and_repaired(&nodes, 2, &cut).await;

    let flipped = segment(&nodes, 3);
    flip(&flipped, IN_A_RECORD);
    is_found_and_repaired(&nodes, 3, &flipped).await;
    let lost = segment(&nodes, 2);
    std::fs::remove_file(&lost).expect("ours");
    is_found_and_repaired(&nodes, 2, &lost).await;

    // What is there now is sound: they start with it.
    for node in [2, 3] {
        nodes.kill(node);
        nodes.run_node(node);
        nodes.becomes_ready(node).await;
    }
    buyer.holds(10).await;
    drop(buyer);
    is_whole(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_found_at_the_start_and_the_node_does_not_vote_with_it() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let mut nodes = Nodes::start(folder.path(), "--no-database").await;
    let event_id = import(&nodes);
    let buyer = Buyer::start(&nodes, 1, &event_id, 1);
    buyer.holds(10).await;
    nodes.kill(3);
    let path = segment(&nodes, 3);
    let sound = std::fs::read(&path).expect("a segment");

    flip(&path, IN_A_RECORD);
    nodes.run_node(3);
    assert_eq!(nodes.ends(3).await, Some(7));
    let log = nodes.log(3);
    assert!(log.contains("is damaged at offset 96"), "{log}");
    assert!(log.contains(&path.display().to_string()), "{log}");

    std::fs::write(&path, &sound[..10]).expect("written");
    nodes.run_node(3);
    assert_eq!(nodes.ends(3).await, Some(7));
    assert!(nodes.log(3).contains("the end of the file is missing"));

    // Another one in its place does not hide that it is lost.
    std::fs::rename(&path, path.with_file_name("wal-0000000000000002.seg")).expect("renamed");
    nodes.run_node(3);
    assert_eq!(nodes.ends(3).await, Some(7));
    assert!(nodes.log(3).contains("the segment is missing"));

    buyer.holds(10).await;
    std::fs::remove_file(path.with_file_name("wal-0000000000000002.seg")).expect("ours");
    std::fs::write(&path, &sound).expect("written");
    nodes.run_node(3);
    nodes.becomes_ready(3).await;
    drop(buyer);
    is_whole(&nodes).await;
}
