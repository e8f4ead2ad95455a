//! A private cluster: its folder, its making, its command line.
//!
//! ```text
//!   data_dir/postgres/data           the cluster, made by initdb under another name and then renamed
//!   data_dir/postgres/run            the socket; elsewhere when the path is too long for one
//!   data_dir/postgres/postgres.log   what the server says, the previous one beside it
//! ```

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::DatabaseError;
use super::binaries::{Installation, installed};
use super::given::major_of;
use super::run_as::{Identity, Tie};
use super::socket::{SOCKET_PORT, private_folder, socket_dir, url};
use super::supervisor::{ServerSpec, Supervisor};

/// The superuser of a private cluster, and the database that every cluster has.
const SUPERUSER: &str = "spacegrid";
const DATABASE_NAME: &str = "postgres";

/// What a private cluster is set to. Every commit is synced: a row that is in the database stays
/// there. The write-ahead log is kept short, since recovery after a crash reads it from the last
/// checkpoint on (about 4 s a GiB).
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", ""),
    ("unix_socket_permissions", "0700"),
    ("max_connections", "32"),
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("shared_buffers", "128MB"),
    ("max_wal_size", "1GB"),
    ("autovacuum", "on"),
    ("jit", "off"),
    ("log_line_prefix", "%m [%p] "),
    ("cluster_name", "spacegrid"),
];

/// A running private cluster.
pub(super) struct Started {
    pub(super) url: String,
    pub(super) version: String,
    pub(super) supervisor: Supervisor,
}

/// Makes the cluster under `data_dir` if there is none, and starts it.
pub(super) fn start(data_dir: &Path) -> Result<Started, DatabaseError> {
    let installations = installed();
    if installations.is_empty() {
        return Err(DatabaseError::NotInstalled);
    }
    let home = std::path::absolute(data_dir)
        .map_err(DatabaseError::io("the current directory"))?
        .join("postgres");
    private_folder(&home)?;
    let data = home.join("data");
    let socket_dir = socket_dir(&home);
    private_folder(&socket_dir)?;
    let identity = Identity::choose(&[&home, &socket_dir])?;
    let installation = match version_of(&data)? {
        Some(needed) => choose(&installations, &needed, &data)?,
        None => {
            let newest = &installations[0];
            make(newest, &identity, &home, &data)?;
            newest
        }
    };
    identity.take_over(&data)?;
    let mut arguments: Vec<OsString> = vec!["-D".into(), data.clone().into()];
    let mut set = |name: &str, value: &std::ffi::OsStr| {
        let mut setting = OsString::from(format!("{name}="));
        setting.push(value);
        arguments.extend(["-c".into(), setting]);
    };
    for (name, value) in SETTINGS {
        set(name, value.as_ref());
    }
    set("port", SOCKET_PORT.to_string().as_ref());
    set("unix_socket_directories", socket_dir.as_os_str());
    let supervisor = Supervisor::start(ServerSpec {
        program: installation.program("postgres"),
        arguments,
        identity,
        data,
        log: home.join("postgres.log"),
    })?;
    Ok(Started {
        url: url(SUPERUSER, DATABASE_NAME, &socket_dir),
        version: installation.version.clone(),
        supervisor,
    })
}

fn choose<'a>(
    installations: &'a [Installation],
    needed: &str,
    data: &Path,
) -> Result<&'a Installation, DatabaseError> {
    installations
        .iter()
        .find(|installation| Some(installation.major) == major_of(needed))
        .ok_or_else(|| DatabaseError::OtherVersion {
            path: data.to_owned(),
            needed: needed.to_owned(),
            installed: installations
                .iter()
                .map(|installation| installation.version.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        })
}

/// The major version that made the cluster; `None` when there is no cluster yet.
fn version_of(data: &Path) -> Result<Option<String>, DatabaseError> {
    match fs::read_to_string(data.join("PG_VERSION")) {
        Ok(version) => Ok(Some(version.trim().to_owned())),
        Err(_) if !data.exists() => Ok(None),
        Err(error) => Err(DatabaseError::Start(format!(
            "{} is there but is no cluster ({error}); move it away",
            data.display()
        ))),
    }
}

/// Makes a cluster beside its place and moves it there when it is whole.
fn make(
    installation: &Installation,
    identity: &Identity,
    home: &Path,
    data: &Path,
) -> Result<(), DatabaseError> {
    let unfinished = home.join("data.unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(DatabaseError::io(format!(
            "remove {}",
            unfinished.display()
        )))?;
    }
    let mut command = identity.command(&installation.program("initdb"), Tie::Loose);
    command
        .arg("-D")
        .arg(&unfinished)
        .args(["-U", SUPERUSER, "-E", "UTF8", "--locale=C", "--auth=trust"])
        .current_dir(home);
    let output = command.output().map_err(DatabaseError::io("run initdb"))?;
    if !output.status.success() {
        return Err(DatabaseError::Start(format!(
            "initdb: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    }
    fs::rename(&unfinished, data)
        .map_err(DatabaseError::io(format!("rename to {}", data.display())))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn another_version_is_refused_with_both_named() {
        let installations = [Installation {
            folder: PathBuf::from("/x"),
            version: "15.18".to_owned(),
            major: 15,
        }];
        let error = choose(&installations, "17", Path::new("/d")).expect_err("refused");
        let text = error.to_string();
        assert!(text.contains("17") && text.contains("15.18"), "{text}");
        assert!(choose(&installations, "15", Path::new("/d")).is_ok());
    }
}
