//! A few seeds, and the same one twice: that the machinery works. Many seeds are `scripts/simulate`'s.

use std::process::Command;

fn simulate(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_grid-sim"))
        .args(arguments)
        .output()
        .expect("the binary was built with this test");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), text)
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in ["1", "23", "69"] {
        let (same, text) = simulate(&["same", "--seed", seed]);
        assert!(same, "{text}");
    }
}

#[test]
fn different_seeds_give_different_runs() {
    let (_, first) = simulate(&["run", "--seed", "4", "--json"]);
    let (_, second) = simulate(&["run", "--seed", "5", "--json"]);
    let trace = |text: &str| text.split("\"trace\":").nth(1).map(str::to_owned);
    assert!(trace(&first).is_some() && trace(&first) != trace(&second));
}

#[test]
fn seeds_that_once_failed_pass() {
    let (passed, text) = simulate(&["run", "--seeds", "6..10"]);
    assert!(passed, "{text}");
}
