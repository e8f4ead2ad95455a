//! `docs/security.md` names what is tested, and nothing else.

use std::path::Path;

/// Rows of the table.
const ITEMS: usize = 25;

#[test]
fn every_row_of_the_table_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("../docs/security.md")).expect("the document");
    let rows: Vec<Vec<&str>> = document
        .lines()
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .filter(|cells: &Vec<&str>| cells.len() == 5 && cells[0].parse::<usize>().is_ok())
        .collect();
    let numbers: Vec<usize> = rows.iter().filter_map(|row| row[0].parse().ok()).collect();
    assert_eq!(numbers, (1..=ITEMS).collect::<Vec<_>>());
    for row in rows {
        let tests: Vec<&str> = row[4].split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{row:?} names no test");
        for test in tests {
            let (module, name) = test.rsplit_once("::").expect("module::name");
            let file = format!("tests/e2e/{}.rs", module.replace("::", "/"));
            let source = std::fs::read_to_string(root.join(&file)).unwrap_or_default();
            assert!(
                source.contains(&format!("fn {name}()")),
                "{test} of row {} is not in {file}",
                row[0]
            );
        }
    }
}
