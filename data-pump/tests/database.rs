//! Private clusters, with the PostgreSQL that is installed on this machine.

#![expect(clippy::print_stdout, reason = "a test that tests nothing says so")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use data_pump::database::{Database, DatabaseChoice, DatabaseError, DatabaseOptions, provide};
use sqlx::{Connection, PgConnection};

/// `None`, loudly, where PostgreSQL is not installed.
async fn start(data_dir: &Path) -> Option<Database> {
    let mut options = DatabaseOptions::new(data_dir);
    options.choice = DatabaseChoice::Supervised;
    match provide(options).await {
        Ok(database) => Some(database),
        Err(DatabaseError::NotInstalled) => {
            println!("NOT TESTED: no PostgreSQL is installed on this machine");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// A data directory that other users may enter, as a test's temporary folder is not.
fn data_dir() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    open_to_all(folder.path());
    folder
}

fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).expect("our folder");
}

fn server_pid(data_dir: &Path) -> i32 {
    let record = std::fs::read_to_string(data_dir.join("postgres/data/postmaster.pid"))
        .expect("a running server has a record");
    record
        .lines()
        .next()
        .and_then(|line| line.parse().ok())
        .expect("its first line is a number")
}

fn is_running(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    // A killed server that nobody waited for yet is a zombie.
    status.is_ok_and(|text| !text.contains(") Z "))
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "waiting until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

async fn connect(database: &Database) -> PgConnection {
    PgConnection::connect(&database.url).await.expect("answers")
}

#[tokio::test]
async fn a_cluster_is_made_kept_and_stopped() {
    let folder = data_dir();
    let Some(database) = start(folder.path()).await else {
        return;
    };
    assert!(database.durable && !database.single_connection);
    let mut connection = connect(&database).await;
    for (setting, expected) in [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("listen_addresses", ""),
        ("server_encoding", "UTF8"),
    ] {
        let value: String = sqlx::query_scalar("SELECT current_setting($1)")
            .bind(setting)
            .fetch_one(&mut connection)
            .await
            .expect("a setting");
        assert_eq!(value, expected, "{setting}");
    }
    sqlx::query("CREATE TABLE kept AS SELECT 1 AS n")
        .execute(&mut connection)
        .await
        .expect("created");
    drop(connection);
    let pid = server_pid(folder.path());
    database.stop().await.expect("stops by itself");
    assert!(!is_running(pid));

    let database = start(folder.path()).await.expect("installed");
    let kept: i32 = sqlx::query_scalar("SELECT n FROM kept")
        .fetch_one(&mut connect(&database).await)
        .await
        .expect("kept");
    assert_eq!(kept, 1);
    let pid = server_pid(folder.path());
    drop(database);
    assert!(!is_running(pid), "dropping stops it too");
}

#[tokio::test]
async fn a_folder_that_only_root_may_enter_will_do() {
    // A temporary folder is 0700: root's own when run as root.
    let folder = tempfile::tempdir().expect("folder");
    let deep = folder.path().join("a".repeat(100));
    let Some(database) = start(&deep).await else {
        return;
    };
    connect(&database).await;
    database.stop().await.expect("stops by itself");
}

/// Beside nodes that sell, a report must not cost a sale.
#[tokio::test]
async fn its_sessions_step_back_where_the_kernel_schedules_by_session() {
    if std::fs::read_to_string("/proc/sys/kernel/sched_autogroup_enabled")
        .is_ok_and(|text| text.trim() != "1")
        || !Path::new("/proc/self/autogroup").exists()
    {
        println!("NOT TESTED: this kernel does not schedule by session");
        return;
    }
    let folder = data_dir();
    let Some(database) = start(folder.path()).await else {
        return;
    };
    let mut connection = connect(&database).await;
    let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut connection)
        .await
        .expect("a number");
    let group = || std::fs::read_to_string(format!("/proc/{backend}/autogroup"));
    if group().is_ok_and(|line| line.trim().is_empty()) {
        println!("NOT TESTED: sessions have no groups of their own here");
        return;
    }
    wait_until("the backend's session steps back", || {
        group().is_ok_and(|line| line.trim().ends_with("nice 19"))
    });
    drop(connection);
    database.stop().await.expect("stops by itself");
}

#[tokio::test]
async fn a_killed_server_is_started_again() {
    let folder = data_dir();
    let Some(database) = start(folder.path()).await else {
        return;
    };
    let first = server_pid(folder.path());
    kill(first);
    wait_until("another server runs", || {
        let record = folder.path().join("postgres/data/postmaster.pid");
        std::fs::read_to_string(record).is_ok_and(|text| !text.starts_with(&first.to_string()))
    });
    let deadline = Instant::now() + Duration::from_secs(60);
    while PgConnection::connect(&database.url).await.is_err() {
        assert!(Instant::now() < deadline, "it answers again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    database.stop().await.expect("stops by itself");
}

#[tokio::test]
async fn a_server_goes_with_its_killed_parent() {
    let folder = data_dir();
    if start(folder.path()).await.is_none() {
        return;
    }
    // The test binary runs itself as the parent that is killed.
    let mut parent = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "parent_that_waits", "--ignored", "--nocapture"])
        .env("DATA_PUMP_TEST_DATA_DIR", folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("runs");
    let ready = folder.path().join("ready");
    wait_until("the parent has a server", || ready.exists());
    let pid = server_pid(folder.path());
    assert!(is_running(pid));
    parent.kill().expect("our child");
    parent.wait().expect("our child");
    wait_until("the server is gone", || !is_running(pid));
    let database = start(folder.path()).await.expect("its folder is free");
    database.stop().await.expect("stops by itself");
}

/// Not a test: the parent of [`a_server_goes_with_its_killed_parent`].
#[tokio::test]
#[ignore = "run by another test"]
async fn parent_that_waits() {
    let Some(folder) = std::env::var_os("DATA_PUMP_TEST_DATA_DIR") else {
        return;
    };
    let _database = start(Path::new(&folder)).await;
    std::fs::write(Path::new(&folder).join("ready"), "").expect("our folder");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn another_major_version_is_refused() {
    let folder = data_dir();
    let Some(database) = start(folder.path()).await else {
        return;
    };
    database.stop().await.expect("stops by itself");
    std::fs::write(folder.path().join("postgres/data/PG_VERSION"), "12\n").expect("our folder");
    let mut options = DatabaseOptions::new(folder.path());
    options.choice = DatabaseChoice::Supervised;
    let error = provide(options).await.expect_err("refused");
    assert!(
        matches!(error, DatabaseError::OtherVersion { .. }),
        "{error}"
    );
}

fn kill(pid: i32) {
    let killed = Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()
        .expect("kill runs");
    assert!(killed.success());
}
