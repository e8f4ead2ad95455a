//! As whom, and tied to whom, a private cluster runs.
//!
//! PostgreSQL refuses to run as root. Started by root it runs as the user `postgres`, else `nobody`;
//! where that user may not enter the data directory, it runs in a user namespace in which root's files
//! belong to that user. All of it is done by small programs of the base system (`setpriv`, `unshare`,
//! `nice`), each of which replaces itself by the next, so the process we start *is* PostgreSQL:
//!
//! ```text
//!   nice -n 19 [unshare --user …] setpriv --pdeathsig INT [--reuid …] postgres …
//! ```
//!
//! `--pdeathsig INT` asks the kernel to stop it in an orderly way when the thread that started it
//! ends, which it also does when our process is killed. Where there is no `setpriv`, a shell holds one
//! end of a pipe to us and passes the end of that pipe on as SIGINT.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::{Gid, Uid, User, chown};

use super::DatabaseError;

/// How much the database steps back for the sale: 0 is equal rights, 19 is whatever is left.
pub(super) const SERVER_NICENESS: u8 = 19;

/// The users that a cluster started by root runs as: the first that exists.
const UNPRIVILEGED_USERS: &[&str] = &["postgres", "nobody"];

/// Starts its arguments, waits for the end of the pipe on its input, then stops what it started; used
/// without `setpriv`.
const PIPE_WATCHER: &str = r#"exec 3<&0
"$@" </dev/null 3<&- & child=$!
( read _ <&3; kill -INT $child ) 2>/dev/null & watcher=$!
wait $child; status=$?
kill $watcher 2>/dev/null; exit $status"#;

/// As whom the cluster's programs run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// As ourselves, who are not root.
    Own,
    /// As an unprivileged user.
    Other { uid: u32, gid: u32 },
    /// As an unprivileged user of a namespace in which that user is we.
    Namespace { uid: u32, gid: u32 },
}

/// Whether the program ends with us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tie {
    /// It runs to its end.
    Loose,
    /// It is stopped when the calling thread ends.
    ToThisThread,
}

impl Identity {
    /// Chooses an identity that can write to `folders` (which exist, and are ours), and gives them to
    /// it.
    pub(super) fn choose(folders: &[&Path]) -> Result<Self, DatabaseError> {
        if !Uid::effective().is_root() {
            return Ok(Self::Own);
        }
        let user = UNPRIVILEGED_USERS
            .iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .filter(|user| !user.uid.is_root());
        let unreachable = |name: &str| DatabaseError::Unreachable {
            path: folders.first().map_or_else(Default::default, Into::into),
            user: name.to_owned(),
        };
        let Some(user) = user else {
            return Err(unreachable("nobody"));
        };
        let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
        let other = Self::Other { uid, gid };
        let as_other = folders
            .iter()
            .all(|folder| give(folder, user.uid, user.gid).is_ok() && other.can_write_to(folder));
        if as_other {
            return Ok(other);
        }
        for folder in folders {
            give(folder, Uid::from_raw(0), Gid::from_raw(0))
                .map_err(DatabaseError::io(format!("chown {}", folder.display())))?;
        }
        let namespace = Self::Namespace { uid, gid };
        if folders.iter().all(|folder| namespace.can_write_to(folder)) {
            return Ok(namespace);
        }
        Err(unreachable(&user.name))
    }

    /// Gives everything below `folder` to this identity, if it belongs to another: the cluster was last
    /// run in another way.
    pub(super) fn take_over(&self, folder: &Path) -> Result<(), DatabaseError> {
        let (uid, gid) = match self {
            Self::Own => return Ok(()),
            Self::Other { uid, gid } => (Uid::from_raw(*uid), Gid::from_raw(*gid)),
            Self::Namespace { .. } => (Uid::from_raw(0), Gid::from_raw(0)),
        };
        let io = || DatabaseError::io(format!("give {} to its user", folder.display()));
        if std::fs::metadata(folder).map_err(io())?.uid() == uid.as_raw() {
            return Ok(());
        }
        give_tree(folder, uid, gid).map_err(io())
    }

    fn can_write_to(&self, folder: &Path) -> bool {
        let mut command = self.command(Path::new("test"), Tie::Loose);
        command.arg("-w").arg(folder).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// A command that runs `program` under this identity; arguments are to be added.
    pub(super) fn command(&self, program: &Path, tie: Tie) -> Command {
        let has_setpriv = is_on_path("setpriv");
        let mut words: Vec<String> = Vec::new();
        if tie == Tie::ToThisThread && is_on_path("nice") {
            words.extend(["nice", "-n"].map(str::to_owned));
            words.push(SERVER_NICENESS.to_string());
        }
        if let Self::Namespace { uid, gid } = self {
            words.extend(["unshare".to_owned(), "--user".to_owned()]);
            words.push(format!("--map-user={uid}"));
            words.push(format!("--map-group={gid}"));
        }
        if has_setpriv {
            let mut setpriv = Vec::new();
            if tie == Tie::ToThisThread {
                setpriv.extend(["--pdeathsig", "INT"].map(str::to_owned));
            }
            if let Self::Other { uid, gid } = self {
                setpriv.push(format!("--reuid={uid}"));
                setpriv.push(format!("--regid={gid}"));
                setpriv.push("--clear-groups".to_owned());
            }
            if !setpriv.is_empty() {
                words.push("setpriv".to_owned());
                words.extend(setpriv);
                words.push("--".to_owned());
            }
        } else if tie == Tie::ToThisThread {
            words.extend(["sh", "-c", PIPE_WATCHER, "sh"].map(str::to_owned));
        }
        let mut command = match words.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            None => Command::new(program),
        };
        if let (Self::Other { uid, gid }, false) = (self, has_setpriv) {
            command.uid(*uid).gid(*gid);
        }
        if tie == Tie::ToThisThread && !has_setpriv {
            command.stdin(Stdio::piped());
        } else {
            command.stdin(Stdio::null());
        }
        // A terminal's Ctrl-C goes to the whole group; the cluster is to outlive the pump's last flush.
        command.process_group(0);
        command
    }
}

/// Gives a folder to a user, when it is not theirs already.
fn give(folder: &Path, uid: Uid, gid: Gid) -> std::io::Result<()> {
    let metadata = std::fs::metadata(folder)?;
    if metadata.uid() == uid.as_raw() && metadata.gid() == gid.as_raw() {
        return Ok(());
    }
    chown(folder, Some(uid), Some(gid))?;
    Ok(())
}

/// The folder itself comes last: it is what tells whether the work is done.
fn give_tree(folder: &Path, uid: Uid, gid: Gid) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            give_tree(&entry.path(), uid, gid)?;
        } else {
            std::os::unix::fs::lchown(entry.path(), Some(uid.as_raw()), Some(gid.as_raw()))?;
        }
    }
    chown(folder, Some(uid), Some(gid))?;
    Ok(())
}

fn is_on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    })
}
