//! The rules of the code map, checked: who may depend on whom, what the pure crates may not touch,
//! where openraft may be named, how long a file may grow.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Files longer than this, tests not counted, hold more than one idea.
const FILE_LINES_MAX: usize = 620;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the workspace")
}

fn dependencies(manifest: &Path) -> Vec<String> {
    let text = fs::read_to_string(manifest).expect("a manifest");
    let manifest: toml::Table = text.parse().expect("valid TOML");
    let table = manifest.get("dependencies").and_then(toml::Value::as_table);
    table
        .map(|table| table.keys().cloned().collect())
        .unwrap_or_default()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn crates_depend_only_downwards() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("config", &[][..]),
        ("grid/core", &[][..]),
        ("grid", &["grid-core", "grid-config"][..]),
        ("processing-unit", &["grid-core"][..]),
        (
            "data-pump",
            &["grid", "grid-core", "grid-config", "processing-unit"][..],
        ),
        (
            "gateway",
            &["grid", "grid-core", "grid-config", "processing-unit"][..],
        ),
    ]);
    let own = [
        "grid-config",
        "grid-core",
        "grid",
        "processing-unit",
        "data-pump",
        "gateway",
    ];
    for (folder, allowed) in allowed {
        for dependency in dependencies(&root().join(folder).join("Cargo.toml")) {
            let is_own = own.contains(&dependency.as_str());
            assert!(
                !is_own || allowed.contains(&dependency.as_str()),
                "{folder} may not depend on {dependency}"
            );
        }
    }
}

#[test]
fn the_pure_crates_have_no_way_to_the_outside() {
    let harmless = [
        "bincode",
        "blake3",
        "bytes",
        "grid-core",
        "hashbrown",
        "rustc-hash",
        "serde",
        "serde_bytes",
        "sha2",
        "smallvec",
        "thiserror",
        "uuid",
        "xxhash-rust",
    ];
    let forbidden = [
        "SystemTime",
        "Instant::now",
        "std::fs",
        "std::net",
        "std::env",
        "std::thread",
        "f64",
    ];
    for folder in ["grid/core", "processing-unit"] {
        for dependency in dependencies(&root().join(folder).join("Cargo.toml")) {
            assert!(
                harmless.contains(&dependency.as_str()),
                "{folder} uses {dependency}"
            );
        }
        for path in sources(&root().join(folder).join("src")) {
            let text = fs::read_to_string(&path).expect("a source file");
            for word in forbidden {
                assert!(!text.contains(word), "{} names {word}", path.display());
            }
        }
    }
}

#[test]
fn openraft_is_named_in_one_folder_only() {
    let raft = root().join("grid/src/raft");
    // The runtime that it runs on is a part of the machine.
    let platform = root().join("grid/src/platform");
    for folder in ["grid", "gateway", "data-pump", "processing-unit", "config"] {
        for path in sources(&root().join(folder).join("src")) {
            let text = fs::read_to_string(&path).expect("a source file");
            let named = text
                .lines()
                .any(|line| line.contains("openraft") && !line.trim_start().starts_with("//"));
            assert!(
                !named || path.starts_with(&raft) || path.starts_with(&platform),
                "{} names openraft",
                path.display()
            );
        }
    }
}

#[test]
fn a_file_holds_one_idea_and_says_which() {
    for folder in [
        "config",
        "grid",
        "gateway",
        "data-pump",
        "processing-unit",
        "benches",
    ] {
        for path in sources(&root().join(folder).join("src")) {
            let text = fs::read_to_string(&path).expect("a source file");
            let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            let lines = code.lines().count();
            assert!(
                lines <= FILE_LINES_MAX,
                "{} has {lines} lines",
                path.display()
            );
            assert!(
                text.starts_with("//!"),
                "{} does not open with its purpose",
                path.display()
            );
        }
    }
}

#[test]
fn tests_that_the_documents_name_exist() {
    let text = fs::read_to_string(root().join("docs/consistency.md")).expect("a document");
    let table = text.split("\n## Faults, and the tests").nth(1);
    let quoted = table
        .expect("the table of faults")
        .split('`')
        .skip(1)
        .step_by(2);
    let is_a_name =
        |word: &&str| word.matches('_').count() > 2 && !word.contains([' ', '-', '/', '.']);
    let names: Vec<&str> = quoted.filter(is_a_name).collect();
    assert!(names.len() > 30, "{names:?}");
    let own = ["grid", "gateway", "data-pump", "processing-unit"].map(|part| root().join(part));
    let code: String = own
        .iter()
        .flat_map(|folder| sources(folder))
        .map(|file| fs::read_to_string(file).expect("text"))
        .collect();
    for name in names {
        assert!(
            code.contains(&format!("fn {name}(")),
            "there is no test {name}"
        );
    }
}
