//! Networks that fail: nodes that lose each other in both directions or in one, again and again, or only
//! partly; lines that are slow and lossy. Buyers are at every gateway all the time.

use std::path::Path;
use std::time::{Duration, Instant};

use grid_core::SlotLayout;

use crate::buyers::{Crowd, History};
use crate::link::Way;
use crate::namespaces::Namespaces;
use crate::nodes::{NODES, Nodes};
use crate::support::{sample, text, wait_for};

/// Holds that show that a side goes on.
const ENOUGH: usize = 25;

/// Three nodes with buyers at each.
pub(crate) struct Scene {
    pub(crate) nodes: Nodes,
    pub(crate) crowd: Crowd,
    /// The partition that they write to, and who led it at first.
    pub(crate) partition: u32,
    pub(crate) leader: u64,
}

impl Scene {
    pub(crate) async fn open(directory: &Path) -> Self {
        Self::of(Nodes::start(directory, "--no-database").await).await
    }

    pub(crate) async fn of(nodes: Nodes) -> Self {
        let event = nodes
            .run(&NODES, &["import", "venue", &sample("arena.json")])
            .done();
        let event_id = text(&event["event_id"]);
        let id = event_id.parse().expect("an id");
        let partition = SlotLayout::new(4).expect("in range").partition_of(id).0;
        let crowd = Crowd::come(nodes.urls(), event_id);
        crowd.holds(&NODES, ENOUGH).await;
        let leader = wait_for("the partition is led", async || {
            nodes.leader(1, partition).await
        })
        .await;
        Self {
            nodes,
            crowd,
            partition,
            leader,
        }
    }

    /// The nodes beside the leader of the beginning.
    pub(crate) fn others(&self) -> [u64; 2] {
        others(self.leader)
    }

    /// Waits until all is well, and judges.
    pub(crate) async fn close(self) -> History {
        self.crowd.holds(&NODES, ENOUGH).await;
        for node in NODES {
            self.crowd.holds(&[node], 1).await;
        }
        self.nodes.is("healthy").await;
        let history = self.crowd.close().await;
        let verdict = self.nodes.run(&NODES, &["verify", "--no-database"]).done();
        assert_eq!(verdict["ok"], true, "{verdict}");
        history
    }
}

fn others(leader: u64) -> [u64; 2] {
    let others: Vec<u64> = NODES.into_iter().filter(|node| *node != leader).collect();
    others.try_into().expect("two")
}

/// The leader can do nothing any more, the others go on, and afterwards all are well again.
async fn cut_off_the_leader(name: &str, scene: Scene, outwards: Way, inwards: Way) {
    let (leader, others) = (scene.leader, scene.others());
    let set = |outwards: Way, inwards: Way| {
        for other in others {
            scene.nodes.set_way(leader, other, outwards);
            scene.nodes.set_way(other, leader, inwards);
        }
    };
    let cut = Instant::now();
    set(outwards, inwards);
    // Whoever asks the others is served, by another leader: the old one has nobody to agree with it.
    let goes_on = scene.crowd.holds(&others, ENOUGH).await;
    scene.crowd.refusal(leader).await;
    scene.crowd.holds(&others, ENOUGH).await;
    wait_for("another node leads", async || {
        let now = scene.nodes.leader(others[0], scene.partition).await?;
        (now != leader).then_some(())
    })
    .await;
    let mended = Instant::now();
    set(Way::Open, Way::Open);
    scene.crowd.holds(&[leader], ENOUGH).await;
    let history = scene.close().await;
    let answered = history.answered(leader, goes_on, mended);
    assert_eq!(answered, 0, "a leader that is cut off answers nothing");
    println!(
        "MEASURED {name}: the majority had taken {ENOUGH} holds {:.1} s after the cut; longest time \
         without one: {:.1} s",
        (goes_on - cut).as_secs_f64(),
        history.longest_gap().as_secs_f64()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_refuses_and_the_majority_goes_on() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let scene = Scene::open(folder.path()).await;
    cut_off_the_leader("symmetric partition", scene, Way::Silent, Way::Silent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_only_hears_refuses_and_the_majority_goes_on() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let scene = Scene::open(folder.path()).await;
    cut_off_the_leader("leader only hears", scene, Way::Silent, Way::Open).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_only_speaks_refuses_and_the_majority_goes_on() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let scene = Scene::open(folder.path()).await;
    cut_off_the_leader("leader only speaks", scene, Way::Open, Way::Silent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_loses_the_leader_only_disturbs_nobody() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let scene = Scene::open(folder.path()).await;
    let (leader, [other, lonely]) = (scene.leader, scene.others());
    let term = |status: &serde_json::Value, node: u64| {
        let node = &status["nodes"][node as usize - 1];
        let replicas = node["status"]["replicas"].as_array()?;
        let mut found = replicas
            .iter()
            .filter(|replica| replica["partition"] == scene.partition);
        found.next()?["term"].as_u64()
    };
    scene.nodes.set_way(leader, lonely, Way::Silent);
    scene.nodes.set_way(lonely, leader, Way::Silent);
    wait_for("both miss each other", async || {
        let status = scene.nodes.status(other).await?;
        let misses = |one: u64, missed: u64| {
            let unreachable = status["nodes"][one as usize - 1]["status"]["unreachable"].as_array();
            unreachable.is_some_and(|all| all.contains(&missed.into()))
        };
        (misses(leader, lonely) && misses(lonely, leader)).then_some(())
    })
    .await;
    scene.crowd.holds(&[leader, other], ENOUGH).await;
    let status = scene.nodes.status(other).await.expect("it answers");
    let (lonely_term, term) = (term(&status, lonely), term(&status, leader));
    assert!(
        lonely_term.is_some() && lonely_term <= term,
        "it asks before it stands, and never overtakes: {lonely_term:?}, {term:?}"
    );
    scene.nodes.set_all_ways(Way::Open);
    scene.crowd.holds(&[lonely], ENOUGH).await;
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_comes_and_goes_loses_nothing() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let scene = Scene::open(folder.path()).await;
    // Every node is cut off in turn, one way or the other, for a part of an election and for longer.
    for turn in 0..18_u64 {
        let node = NODES[turn as usize % NODES.len()];
        for other in others(node) {
            scene.nodes.set_way(node, other, Way::Silent);
            if turn % 2 == 0 {
                scene.nodes.set_way(other, node, Way::Silent);
            }
        }
        tokio::time::sleep(Duration::from_millis(100 + turn * 53 % 700)).await;
        scene.nodes.set_all_ways(Way::Open);
        tokio::time::sleep(Duration::from_millis(50 + turn * 31 % 300)).await;
    }
    let history = scene.close().await;
    println!(
        "MEASURED flapping network: longest time without a hold {:.1} s",
        history.longest_gap().as_secs_f64()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_and_lossy_network_is_borne() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let scene = Scene::open(folder.path()).await;
    scene.nodes.set_all_ways(Way::Bad {
        delay: Duration::from_millis(15),
        lost_one_in: 25,
    });
    for node in NODES {
        scene.crowd.holds(&[node], ENOUGH).await;
    }
    scene.nodes.set_all_ways(Way::Open);
    let history = scene.close().await;
    println!(
        "MEASURED slow and lossy network: longest time without a hold {:.1} s",
        history.longest_gap().as_secs_f64()
    );
}

/// Three nodes in namespaces, or why there are none.
async fn in_namespaces(name: &str, directory: &Path) -> Option<Scene> {
    match Namespaces::make(name, &NODES) {
        Ok(namespaces) => Some(Scene::of(Nodes::start_in(namespaces, directory).await).await),
        Err(why) => {
            println!("NOT TESTED: real packets, for there are no network namespaces: {why}");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_packets_are_dropped_refuses_and_the_majority_goes_on() {
    let folder = tempfile::tempdir().expect("temporary directory");
    if let Some(scene) = in_namespaces("a", folder.path()).await {
        cut_off_the_leader("packets dropped", scene, Way::Silent, Way::Silent).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_packets_are_dropped_one_way_refuses_and_the_majority_goes_on() {
    let folder = tempfile::tempdir().expect("temporary directory");
    if let Some(scene) = in_namespaces("b", folder.path()).await {
        cut_off_the_leader("packets dropped one way", scene, Way::Open, Way::Silent).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_packets_are_borne() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let Some(scene) = in_namespaces("c", folder.path()).await else {
        return;
    };
    let namespaces = scene.nodes.namespaces();
    let how = match namespaces.lose_packets() {
        Ok(how) => how,
        Err(why) => return println!("NOT TESTED: lost packets: {why}"),
    };
    for node in NODES {
        scene.crowd.holds(&[node], ENOUGH).await;
    }
    let lost: u64 = NODES
        .iter()
        .map(|node| namespaces.lost_packets(*node))
        .sum();
    namespaces.lose_none();
    if lost == 0 {
        println!("NOT TESTED: lost packets: {how}, none was lost");
    }
    let history = scene.close().await;
    println!(
        "MEASURED packets lost {how}: longest time without a hold {:.1} s",
        history.longest_gap().as_secs_f64()
    );
}
