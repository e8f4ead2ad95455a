//! A simulation that finds nothing proves nothing: each bug planted on purpose is found, by the property
//! that it breaks. Between them they need most kinds of faults: crashes and power cuts, failing disks,
//! splits of the network, requests that come twice, clocks that jump, disks that are lost.

use std::process::Command;

/// Within so many seeds each is found.
const SEEDS_MAX: &str = "0..60";

fn is_found(bug: &str, invariants: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_grid-sim"))
        .args(["run", "--seeds", SEEDS_MAX, "--first-failure", "--bug", bug])
        .output()
        .expect("the binary was built with this test");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{bug} was not found: {text}");
    let by = invariants
        .iter()
        .any(|name| text.contains(&format!("FAILED: {name}: ")));
    assert!(
        by,
        "{bug} was found by another property than {invariants:?}: {text}"
    );
}

#[test]
fn a_skipped_fsync_is_found() {
    is_found(
        "skip-fsync",
        &[
            "accepted_is_kept",
            "replicas_agree",
            "one_leader",
            "nodes_stand",
        ],
    );
}

#[test]
fn an_ignored_disk_error_is_found() {
    is_found(
        "ignore-sync-error",
        &[
            "accepted_is_kept",
            "replicas_agree",
            "one_leader",
            "nodes_stand",
        ],
    );
}

#[test]
fn a_reply_before_its_commit_is_found() {
    is_found(
        "reply-before-commit",
        &["accepted_is_kept", "replicas_agree", "no_panic"],
    );
}

#[test]
fn a_dropped_dedup_record_is_found() {
    is_found("drop-dedup-record", &["once"]);
}

#[test]
fn a_lease_that_never_ends_is_found() {
    is_found("endless-lease", &["linearizable"]);
}

#[test]
fn a_leader_that_believes_its_own_clock_is_found() {
    is_found("believe-own-clock", &["time_is_kept"]);
}

#[test]
fn a_lost_disk_taken_for_the_old_one_is_found() {
    is_found(
        "same-disk",
        &[
            "accepted_is_kept",
            "replicas_agree",
            "one_leader",
            "nodes_stand",
        ],
    );
}

#[test]
fn a_partition_with_two_sets_of_holders_in_one_epoch_is_found() {
    is_found("same-epoch", &["one_owner"]);
}
