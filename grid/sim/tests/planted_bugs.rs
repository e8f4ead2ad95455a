//! A simulation that finds nothing proves nothing: each bug planted on purpose is found. Between them
//! they need most kinds of faults: crashes and power cuts, failing disks, splits of the network, requests
//! that come twice, clocks that jump, disks that are lost, members that come and go.

use std::process::Command;

/// Within so many seeds each is found.
const SEEDS_MAX: &str = "0..60";

fn find(bug: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_grid-sim"))
        .args(["run", "--seeds", SEEDS_MAX, "--first-failure", "--bug", bug])
        .output()
        .expect("the binary was built with this test");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{bug} was not found: {text}");
    text
}

/// The bug is found by the one property that it breaks.
fn is_found_by(invariant: &str, bug: &str) {
    let text = find(bug);
    assert!(text.contains(&format!("FAILED: {invariant}: ")), "{text}");
}

/// What is lost with a disk or a leader shows in more ways than one: as a log that is damaged or
/// differs, a reply that is not kept, replicas that never agree, consensus that says so itself.
#[test]
fn a_skipped_fsync_is_found() {
    find("skip-fsync");
}

#[test]
fn an_ignored_disk_error_is_found() {
    find("ignore-sync-error");
}

#[test]
fn a_reply_before_its_commit_is_found() {
    find("reply-before-commit");
}

#[test]
fn a_lost_disk_taken_for_the_old_one_is_found() {
    find("same-disk");
}

#[test]
fn a_dropped_dedup_record_is_found() {
    is_found_by("once", "drop-dedup-record");
}

#[test]
fn a_lease_that_never_ends_is_found() {
    is_found_by("linearizable", "endless-lease");
}

#[test]
fn a_leader_that_believes_its_own_clock_is_found() {
    is_found_by("time_is_kept", "believe-own-clock");
}

#[test]
fn a_partition_with_two_sets_of_holders_in_one_epoch_is_found() {
    is_found_by("one_owner", "same-epoch");
}
