//! A simulation that finds nothing proves nothing: each bug planted on purpose is found.

use std::process::Command;

/// Within so many seeds each is found.
const SEEDS_MAX: &str = "0..40";

fn is_found(bug: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_grid-sim"))
        .args(["run", "--seeds", SEEDS_MAX, "--first-failure", "--bug", bug])
        .output()
        .expect("the binary was built with this test");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{bug} was not found: {text}");
    text
}

#[test]
fn a_skipped_fsync_is_found() {
    is_found("skip-fsync");
}

#[test]
fn a_reply_before_its_commit_is_found() {
    is_found("reply-before-commit");
}

#[test]
fn a_dropped_dedup_record_is_found() {
    let text = is_found("drop-dedup-record");
    assert!(text.contains("once: "), "{text}");
}
