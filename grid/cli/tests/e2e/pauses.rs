//! Nodes that stand still without being dead, and nodes that are dead while the others have nothing to do.

use nix::sys::signal::Signal;

use crate::nodes::{NODES, Nodes};
use crate::partitions::Scene;
use crate::support::wait_for;

/// Reads that wait in the stopped node's socket when it wakes up.
const READS_WAITING: usize = 40;
/// Holds that show that the others go on.
const ENOUGH: usize = 25;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_stopped_wakes_up_and_tells_nothing_old() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let mut scene = Scene::open(folder.path()).await;
    let (leader, others) = (scene.leader, scene.others());
    scene.nodes.signal(leader, Signal::SIGSTOP);
    scene.crowd.holds(&others, ENOUGH).await;
    // Its connections are given up after some six seconds, and it knows nothing of that either.
    wait_for("the others have given it up", async || {
        let status = scene.nodes.status(others[0]).await?;
        let unreachable = status["nodes"][others[0] as usize - 1]["status"]["unreachable"].clone();
        unreachable
            .as_array()?
            .contains(&leader.into())
            .then_some(())
    })
    .await;
    scene.crowd.holds(&others, ENOUGH).await;
    // Asked after all those holds, and answered by a process for which no time has passed.
    scene.crowd.read_later(leader, READS_WAITING);
    scene.crowd.holds(&others, 5).await;
    scene.nodes.signal(leader, Signal::SIGCONT);
    scene.crowd.holds(&[leader], ENOUGH).await;
    let history = scene.close().await;
    println!(
        "MEASURED stopped leader: longest time without a hold {:.1} s",
        history.longest_gap().as_secs_f64()
    );
}

/// The processor time of a process so far, in ticks of 10 ms.
fn ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
    let fields: Vec<&str> = fields.split(' ').collect();
    let read = |place: usize| fields[place].parse::<u64>().expect("a number");
    read(11) + read(12)
}

/// How many connections a node has lost and begun so far, by its own account.
async fn disconnects(nodes: &Nodes, node: u64) -> f64 {
    let url = format!("{}/metrics", nodes.url(node));
    let text = reqwest::get(url).await.expect("it answers").text().await;
    let text = text.expect("text");
    let line = text
        .lines()
        .find(|line| line.starts_with("grid_transport_disconnects_total"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or(0.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_node_costs_the_idle_others_nothing() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let mut nodes = Nodes::start(folder.path(), "--no-database").await;
    nodes.is("healthy").await;
    let survivors = [1, 2];
    let window = std::time::Duration::from_secs(3);
    let measure = async |nodes: &Nodes| {
        let before: u64 = survivors.iter().map(|node| ticks(nodes.pid(*node))).sum();
        tokio::time::sleep(window).await;
        let after: u64 = survivors.iter().map(|node| ticks(nodes.pid(*node))).sum();
        (after - before) as f64 / 100.0 / window.as_secs_f64() / 2.0 * 100.0
    };
    let whole = measure(&nodes).await;
    nodes.kill(3);
    wait_for("every partition is led by one of the others", async || {
        for partition in 0..4 {
            let leader = nodes.leader(1, partition).await?;
            if leader == 3 {
                return None;
            }
        }
        Some(())
    })
    .await;
    let lost = disconnects(&nodes, 1).await;
    let degraded = measure(&nodes).await;
    assert!(
        disconnects(&nodes, 1).await <= lost,
        "dialling a dead node disturbs no other connection"
    );
    println!(
        "MEASURED idle groups: {whole:.1} % of a core each with all nodes, {degraded:.1} % each with one \
         dead (other tests run meanwhile)"
    );
    nodes.run_node(3);
    nodes.is("healthy").await;
    let verdict = nodes.run(&NODES, &["verify", "--no-database"]).done();
    assert_eq!(verdict["ok"], true, "{verdict}");
}
