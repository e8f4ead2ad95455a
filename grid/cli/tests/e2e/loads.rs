//! The measurements of `grid load` that do something to the grid meanwhile, with small numbers: that they
//! work, and that nothing fails or is lost under them.

use serde_json::Value;

use crate::support::{Grid, Outcome, kill_at_once, sample};

/// Runs a measurement with small numbers; it must say that all is well.
pub(crate) fn measure_small(grid: &Grid, arguments: &[&str]) -> Value {
    grid.run(&["import", "venue", &sample("arena.json")]).done();
    let small = [
        "--rate=120",
        "--connections=24",
        "--events=2",
        "--calm=500ms",
    ];
    let mut all = vec!["load"];
    all.extend(arguments);
    all.extend(small);
    // It waits, and the grid's supervisor needs the thread.
    let outcome: Outcome = tokio::task::block_in_place(|| grid.run(&all));
    let report = outcome.done();
    assert_eq!(report["ok"], true, "{report:#}");
    report
}

/// Runs one against a new grid of three.
async fn measure(arguments: &[&str]) -> (tempfile::TempDir, Grid, Value) {
    let folder = tempfile::tempdir().expect("temporary directory");
    let grid = Grid::up_with(folder.path(), &["--no-database"]);
    let report = measure_small(&grid, arguments);
    assert_eq!(report["figures"]["failed"], 0, "{report:#}");
    let check = &report["check"];
    assert!(check["acknowledged"].as_u64() > Some(0), "{check}");
    for wrong in ["sold_twice", "held_twice", "acknowledged_but_missing"] {
        assert_eq!(check[wrong], 0, "{check}");
    }
    (folder, grid, report)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_killed_again_and_again_lose_nothing() {
    let (_folder, grid, report) = measure(&["faults", "--kills=2"]).await;
    let story = &report["story"];
    let kills = story["kills"].as_array().expect("kills");
    assert_eq!(kills.len(), 2, "{story:#}");
    assert_ne!(kills[0]["pid"], kills[1]["pid"]);
    let longest = kills.iter().filter_map(|kill| kill["gap_ms"].as_f64());
    let longest = longest.fold(0.0, f64::max);
    assert_eq!(story["gaps"]["max_ms"].as_f64(), Some(longest), "{story:#}");
    assert!(longest > 0.0, "a killed leader is noticed: {story:#}");
    println!("MEASURED kills: {}", story["gaps"]);
    grid.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_restarted_under_a_measured_load_fails_no_request() {
    let (_folder, grid, report) = measure(&["restart"]).await;
    let story = &report["story"];
    let phases = story["phases"].as_array().expect("phases");
    assert_eq!(
        phases.len(),
        5,
        "before, three nodes, afterwards: {story:#}"
    );
    let restarted = story["restarted"].as_array().expect("nodes");
    for (node, restarted) in (1..).zip(restarted) {
        assert_eq!(restarted["pid"], grid.node_pid(node), "{story:#}");
    }
    assert!(report["figures"]["goodbyes"].as_u64() > Some(0));
    grid.stop().await;
}

/// The process of a node that outlives the command which started it.
struct Joined(i32);

impl Drop for Joined {
    fn drop(&mut self) {
        kill_at_once(self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_added_and_one_removed_under_a_measured_load_fail_no_request() {
    let (_folder, grid, report) = measure(&["scale"]).await;
    let story = &report["story"];
    let pid = story["pid"]
        .as_i64()
        .and_then(|pid| i32::try_from(pid).ok());
    let _joined = Joined(pid.expect("a process"));
    assert_eq!(
        (&story["joined"], &story["removed"]),
        (&4.into(), &1.into())
    );
    // The removed node said goodbye to whoever was connected, while the others still carried out what its
    // clients asked. Who came back to it afterwards found nobody, which is no cut.
    let left = report["figures"]["goodbyes"].as_u64();
    assert!(left.is_some_and(|left| left > 0), "{report}");
    assert_eq!(report["figures"]["disconnects"], 0, "{report}");
    let list = grid.run(&["node", "list"]).done();
    let states: Vec<&Value> = list["nodes"]
        .as_array()
        .expect("nodes")
        .iter()
        .map(|node| &node["state"])
        .collect();
    assert_eq!(states, ["removed", "active", "active", "active"], "{list}");
    assert_eq!(list["moves"], serde_json::json!([]));
    // The node that joined is nobody's child: killed, it would not come back.
    let refused = grid.run(&["load", "faults", "--kills=1", "--rate=10"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    let error = &refused.json["error"];
    assert_eq!(error["code"], "not_supervised", "{error}");
    let text = error["message"].as_str().unwrap_or_default();
    assert!(text.contains("grid node remove --drain 4"), "{text}");
    println!("MEASURED scale: {}", story["goal"]);
    grid.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_shed_and_passes() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let grid = Grid::up_with(folder.path(), &["--no-database"]);
    grid.run(&["import", "venue", &sample("arena.json")]).done();
    let flood = [
        "load",
        "overload",
        "--connections=48",
        "--in-flight=16",
        "--events=2",
        "--duration=4s",
        "--calm=3s",
    ];
    let outcome = tokio::task::block_in_place(|| grid.run(&flood));
    // Whether it met its goals depends on the machine; that something was done in every phase does not.
    let report = &outcome.json;
    let phases = report["phases"].as_array();
    let phases = phases.unwrap_or_else(|| panic!("{outcome:?}"));
    assert_eq!(phases.len(), 4, "{report:#}");
    for phase in phases {
        let done = phase["figures"]["goodput_per_s"].as_f64();
        assert!(done > Some(0.0), "{phase:#}");
    }
    println!(
        "MEASURED flood: {} of the peak, as before after {} s",
        report["goodput_ratio"], report["recovered_in_s"]
    );
    let verdict = grid.run(&["verify", "--no-database"]).done();
    assert_eq!(verdict["ok"], true, "{verdict}");
    grid.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_idle_grid_costs_is_measured_and_whether_it_was_idle() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let grid = Grid::up_with(folder.path(), &["--no-database"]);
    let measure = || grid.run(&["load", "idle", "--duration=2s"]).done();
    let report = measure();
    assert_eq!(report["entries"], 0, "{report:#}");
    assert_eq!(report["partitions"], 4, "{report:#}");
    let nodes = report["nodes"].as_array().expect("nodes");
    assert_eq!(nodes.len(), 3, "{report:#}");
    for (node, cost) in (1..).zip(nodes) {
        assert_eq!(cost["pid"], grid.node_pid(node), "{report:#}");
        for figure in ["core_percent", "resident_mb", "wakeups_per_s"] {
            assert!(cost[figure].as_f64() > Some(0.0), "{report:#}");
        }
    }
    println!("MEASURED idle, four partitions: {}", report["nodes"]);
    // Somebody uses the grid meanwhile, which the measurement notices.
    let used = std::thread::scope(|scope| {
        let measuring = scope.spawn(measure);
        while !measuring.is_finished() {
            grid.run(&["import", "venue", &sample("arena.json")]).done();
        }
        measuring.join().expect("measured")
    });
    assert!(used["entries"].as_u64() > Some(0), "{used:#}");
    grid.stop().await;
}
