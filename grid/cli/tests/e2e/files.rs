//! Wrong files and wrong commands: no grid is needed to be told.

use crate::support::{grid, sample, text};

fn file(content: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("temporary file");
    std::fs::write(file.path(), content).expect("written");
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().expect("a plain path")
}

#[test]
fn every_wrong_line_of_a_catalogue_is_named_and_nothing_is_sent() {
    let lots = file(
        "lot,title,starting_price,currency\n1,Clock,10.00,EUR\n2,Vase,10.5,EUR\n1,Desk,x,JPY\n",
    );
    // Nobody listens there: a request would be noticed.
    let outcome = grid(&["--url", "http://127.0.0.1:1", "import", "lots", path(&lots)]);
    assert_eq!(outcome.code, 4, "{outcome:?}");
    let message = text(&outcome.json["error"]["message"]);
    for expected in [
        "2 mistakes",
        "line 3, starting_price",
        "line 4, starting_price",
    ] {
        assert!(message.contains(expected), "{expected} in {message}");
    }
}

#[test]
fn a_wrong_venue_is_named_by_line_column_and_path() {
    let venue = file(
        "{\"name\":\"A\",\"currency\":\"EUR\",\n\"sections\":[{\"name\":\"S\",\"price\":\"1\",\"rows\":[{\"name\":\"1\",\"seats\":-3}]}]}",
    );
    let outcome = grid(&[
        "--url",
        "http://127.0.0.1:1",
        "import",
        "venue",
        path(&venue),
    ]);
    assert_eq!(outcome.code, 4, "{outcome:?}");
    let message = text(&outcome.json["error"]["message"]);
    assert!(message.contains("line 2, column"), "{message}");
    assert!(message.contains("sections[0].rows[0].seats"), "{message}");

    let broken = file("{\"name\": ");
    let outcome = grid(&[
        "--url",
        "http://127.0.0.1:1",
        "event",
        "create",
        path(&broken),
    ]);
    assert_eq!(outcome.code, 4, "{outcome:?}");
}

#[test]
fn failures_have_their_exit_codes() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let empty = folder.path().to_str().expect("a plain path");
    assert_eq!(
        grid(&["--data-dir", empty, "status"]).code,
        3,
        "no grid there"
    );
    assert_eq!(
        grid(&["--url", "http://127.0.0.1:1", "status"]).code,
        3,
        "nobody listens"
    );
    assert_eq!(grid(&["--url", "ftp://here", "status"]).code, 2);
    assert_eq!(grid(&["no-such-command"]).code, 2);
    assert_eq!(grid(&["import", "venue", "nowhere.json"]).code, 4);
    let report = grid(&["--data-dir", empty, "report", "sales_by_event"]);
    assert_eq!(report.code, 5, "{report:?}");
    assert!(
        grid(&["report"]).done()["reports"]
            .as_array()
            .is_some_and(|all| all.len() >= 15)
    );
    // What a report cannot do is said before a database is looked for.
    let event = "00000000-0000-4000-8000-000000000001";
    for refused in [
        &["pump_lag", "--event", event][..],
        &["sales_by_event", "--auction", event],
        &["sales_by_event", "--since", "1h"],
        &["sales_by_event", "--since", "yesterday"],
        &["pump_lag", "--chart", "lag.svg"],
        &["sales_by_event", "--chart", "sales.png"],
        &["sales_by_event", "--csv"],
        &["no_such_report"],
        &["--event", event],
    ] {
        let report = grid(&[&["--data-dir", empty, "report"], refused].concat());
        assert_eq!(report.code, 2, "{refused:?}: {report:?}");
    }

    std::fs::write(folder.path().join("grid.json"), "{\"format\":9}").expect("written");
    let newer = grid(&["--data-dir", empty, "up"]);
    assert_eq!(newer.code, 6, "{newer:?}");
    assert!(
        text(&newer.json["error"]["message"]).contains("newer"),
        "{newer:?}"
    );
}

#[test]
fn the_samples_are_right() {
    for (kind, name) in [("venue", "arena.json"), ("lots", "lots.csv")] {
        let outcome = grid(&["--url", "http://127.0.0.1:1", "import", kind, &sample(name)]);
        assert_eq!(outcome.code, 3, "only the grid is missing: {outcome:?}");
    }
}
