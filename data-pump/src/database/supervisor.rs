//! The thread that starts a private server, restarts it when it dies, and stops it.
//!
//! The server is asked to end with the *thread* that started it, so this thread lives exactly as long
//! as the server is wanted. It is an ordinary thread because the async runtime's come and go.
//!
//! Readiness is the server's own word in `postmaster.pid`; whoever starts it then connects as well.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::DatabaseError;
use super::autogroup::Autogroups;
use super::run_as::{Identity, Tie};

/// How long a server may take to be ready; recovery after a crash reads up to 1 GiB of log.
const READY_WAIT: Duration = Duration::from_secs(120);
/// How often readiness is looked at.
const READY_PAUSE: Duration = Duration::from_millis(10);
/// How long an orderly stop may take, checkpoint included.
const STOP_WAIT: Duration = Duration::from_secs(30);
/// How long an immediate stop may take before the server is killed.
const QUIT_WAIT: Duration = Duration::from_secs(5);
/// How often a running server is looked at.
const WATCH_PAUSE: Duration = Duration::from_millis(200);
/// The pause before a server that died is started again.
const RESTART_PAUSE: Duration = Duration::from_millis(300);
/// How often a first start is tried: the processes of a killed server may need a moment to go.
const START_ATTEMPTS_MAX: u32 = 20;
/// How long the server of a killed predecessor may take to go.
const PREDECESSOR_WAIT: Duration = Duration::from_secs(10);
/// A log beyond this is set aside at the next start, replacing the one before.
const LOG_BYTES_MAX: u64 = 16 << 20;
/// How much of the log an error quotes.
const LOG_TAIL_BYTES: u64 = 1_000;
/// A process number that no process has: beyond the kernel's highest.
const NO_PROCESS: &str = "4194304";

/// What to run.
#[derive(Debug)]
pub(super) struct ServerSpec {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) identity: Identity,
    pub(super) data: PathBuf,
    pub(super) log: PathBuf,
}

/// A running server and the thread that looks after it. Dropping it stops the server.
#[derive(Debug)]
pub(super) struct Supervisor {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<Result<(), DatabaseError>>>,
}

impl Supervisor {
    /// Starts the server and returns when it is ready.
    pub(super) fn start(spec: ServerSpec) -> Result<Self, DatabaseError> {
        let (stop, orders) = sync_channel(1);
        let (ready, outcome) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("postgres".to_owned())
            .spawn(move || match start_patiently(&spec) {
                Ok(child) => {
                    // The caller waits for exactly this message.
                    let _ = ready.send(Ok(()));
                    watch(&spec, child, &orders)
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                    Ok(())
                }
            })
            .map_err(DatabaseError::io("start a thread"))?;
        match outcome.recv() {
            Ok(Ok(())) => Ok(Self {
                stop: Some(stop),
                thread: Some(thread),
            }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(DatabaseError::Start("the starting thread ended".to_owned())),
        }
    }

    /// Stops the server and waits for it.
    pub(super) fn stop(mut self) -> Result<(), DatabaseError> {
        self.finish()
    }

    fn finish(&mut self) -> Result<(), DatabaseError> {
        drop(self.stop.take());
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) => Err(DatabaseError::Stop),
            None => Ok(()),
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            tracing::warn!(%error, "the private database was not stopped in an orderly way");
        }
    }
}

/// Starts the server, again while the processes of a killed one are still going.
fn start_patiently(spec: &ServerSpec) -> Result<Child, DatabaseError> {
    await_predecessor(&spec.data)?;
    let mut attempt = 1;
    loop {
        match start_once(spec) {
            Ok(child) => return Ok(child),
            Err(DatabaseError::Start(text))
                if attempt < START_ATTEMPTS_MAX && text.contains("shared memory block") =>
            {
                attempt += 1;
                std::thread::sleep(RESTART_PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
}

fn start_once(spec: &ServerSpec) -> Result<Child, DatabaseError> {
    let stale = recorded_pid(&spec.data);
    let log = open_log(&spec.log)?;
    let log_start = log.metadata().map_or(0, |metadata| metadata.len());
    let errors = log
        .try_clone()
        .map_err(DatabaseError::io("the server's log"))?;
    let mut command = spec.identity.command(&spec.program, Tie::ToThisThread);
    command
        .args(&spec.arguments)
        .current_dir(spec.data.parent().unwrap_or(Path::new("/")))
        .stdout(log)
        .stderr(errors);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"PG") {
            command.env_remove(name);
        }
    }
    let mut child = command
        .spawn()
        .map_err(DatabaseError::io(format!("run {}", spec.program.display())))?;
    let deadline = Instant::now() + READY_WAIT;
    loop {
        if is_ready(&spec.data, child.id(), stale) {
            return Ok(child);
        }
        if let Ok(Some(status)) = child.try_wait() {
            let said = log_since(&spec.log, log_start);
            return Err(DatabaseError::Start(format!("{status}: {said}")));
        }
        if Instant::now() >= deadline {
            // Unready means unused: nothing is lost by ending it at once.
            let _ = child.kill();
            let _ = child.wait();
            let said = log_since(&spec.log, log_start);
            return Err(DatabaseError::Start(format!("not ready in time: {said}")));
        }
        std::thread::sleep(READY_PAUSE);
    }
}

/// Looks after the server until it is to stop.
fn watch(spec: &ServerSpec, mut child: Child, orders: &Receiver<()>) -> Result<(), DatabaseError> {
    let mut autogroups = Autogroups::default();
    loop {
        match orders.recv_timeout(WATCH_PAUSE) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return stop(spec, &mut child),
        }
        let Ok(Some(status)) = child.try_wait() else {
            if let Some(server) = recorded_pid(&spec.data) {
                autogroups.step_back(server);
            }
            continue;
        };
        tracing::warn!(%status, "the private database died; starting it again");
        child = loop {
            match start_patiently(spec) {
                Ok(child) => break child,
                Err(error) => tracing::error!(%error, "the private database does not start"),
            }
            match orders.recv_timeout(RESTART_PAUSE) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        };
    }
}

fn stop(spec: &ServerSpec, child: &mut Child) -> Result<(), DatabaseError> {
    let steps = [(Signal::SIGINT, STOP_WAIT), (Signal::SIGQUIT, QUIT_WAIT)];
    for (signal, wait) in steps {
        // The server may be a grandchild; its own record names it.
        if let Some(pid) = recorded_pid(&spec.data) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
        let deadline = Instant::now() + wait;
        while Instant::now() < deadline {
            if !matches!(child.try_wait(), Ok(None)) {
                return Ok(());
            }
            std::thread::sleep(READY_PAUSE);
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(DatabaseError::Stop)
}

/// Deals with the record that a killed predecessor left behind.
fn await_predecessor(data: &Path) -> Result<(), DatabaseError> {
    let deadline = Instant::now() + PREDECESSOR_WAIT;
    while let Some(pid) = recorded_pid(data) {
        if kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH) {
            return Ok(());
        }
        if !serves(pid, data) {
            return disown(data);
        }
        if Instant::now() >= deadline {
            return Err(DatabaseError::InUse {
                path: data.to_owned(),
                pid: pid.unsigned_abs(),
            });
        }
        std::thread::sleep(READY_PAUSE);
    }
    Ok(())
}

/// Whether a living process is a server on this folder, rather than one that got its number since.
fn serves(pid: i32, data: &Path) -> bool {
    let process = PathBuf::from(format!("/proc/{pid}"));
    if !process.exists() {
        return true;
    }
    // A dead process keeps its number until its parent asks for it; some containers never ask.
    let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest.trim_start());
    if state.starts_with(['Z', 'X']) {
        return false;
    }
    let is_postgres = fs::read_to_string(process.join("comm"))
        .is_ok_and(|name| matches!(name.trim(), "postgres" | "postmaster"));
    let is_here = match (fs::read_link(process.join("cwd")), data.canonicalize()) {
        (Ok(folder), Ok(data)) => folder == data,
        _ => true,
    };
    is_postgres && is_here
}

/// Replaces the process number in the record, and keeps the rest: by it the server finds out whether
/// processes of its predecessor still hold the shared memory.
fn disown(data: &Path) -> Result<(), DatabaseError> {
    let path = data.join("postmaster.pid");
    let io = || DatabaseError::io(format!("write {}", path.display()));
    let record = fs::read_to_string(&path).map_err(io())?;
    let rest = record.split_once('\n').map_or("", |(_, rest)| rest);
    fs::write(&path, format!("{NO_PROCESS}\n{rest}")).map_err(io())
}

/// The first line of `postmaster.pid`.
pub(super) fn recorded_pid(data: &Path) -> Option<i32> {
    let record = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let pid: i32 = record.lines().next()?.trim().parse().ok()?;
    (pid > 1).then_some(pid)
}

/// Whether the server that was just started says that it is ready, on line 8 of `postmaster.pid`.
fn is_ready(data: &Path, started: u32, stale: Option<i32>) -> bool {
    let Ok(record) = fs::read_to_string(data.join("postmaster.pid")) else {
        return false;
    };
    let mut lines = record.lines();
    let pid: Option<i32> = lines.next().and_then(|line| line.trim().parse().ok());
    let is_ours = pid.is_some_and(|pid| pid.unsigned_abs() == started) || pid != stale;
    is_ours && lines.nth(6).is_some_and(|line| line.trim() == "ready")
}

fn open_log(path: &Path) -> Result<File, DatabaseError> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
        fs::rename(path, path.with_extension("log.1"))
            .map_err(DatabaseError::io("set the server's log aside"))?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(DatabaseError::io(format!("open {}", path.display())))
}

/// The end of what the server said since `start`.
fn log_since(path: &Path, start: u64) -> String {
    let mut text = String::new();
    if let Ok(mut file) = File::open(path) {
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        let from = start.max(length.saturating_sub(LOG_TAIL_BYTES));
        if file.seek(SeekFrom::Start(from)).is_ok() {
            let mut bytes = Vec::new();
            let _ = file.read_to_end(&mut bytes);
            text = String::from_utf8_lossy(&bytes).trim().to_owned();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_believed_only_of_the_server_that_was_started() {
        let folder = tempfile::tempdir().expect("folder");
        let record = |pid: u32, word: &str| {
            let text = format!("{pid}\n/d\n1\n5432\n/s\n\n123 456\n{word}   \n");
            fs::write(folder.path().join("postmaster.pid"), text).expect("written");
        };
        record(77, "starting");
        assert!(!is_ready(folder.path(), 77, None));
        record(77, "ready");
        assert!(is_ready(folder.path(), 77, Some(77)));
        assert!(is_ready(folder.path(), 78, Some(76)), "started by a shell");
        assert!(
            !is_ready(folder.path(), 78, Some(77)),
            "the predecessor's word"
        );
    }

    #[test]
    fn a_number_taken_over_by_another_program_is_disowned() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("postmaster.pid");
        fs::write(&path, format!("{}\n/d\nrest\n", std::process::id())).expect("written");
        await_predecessor(folder.path()).expect("not a server");
        let record = fs::read_to_string(&path).expect("kept");
        assert_eq!(record, format!("{NO_PROCESS}\n/d\nrest\n"));
    }
}
