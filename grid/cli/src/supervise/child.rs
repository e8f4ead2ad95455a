//! One node's process: started, started again when it dies, stopped.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Order;
use super::node_log::{LOG_LOOK_PAUSE, NodeLog};
use crate::failure::NODE_REMOVED;
use crate::private_file;

/// The pause before a node that died is started again, doubled each time up to the second.
const RESTART_PAUSE_MIN: Duration = Duration::from_millis(200);
/// See [`RESTART_PAUSE_MIN`].
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(5);
/// A node that ran this long begins anew with the shortest pause.
const STEADY_AFTER: Duration = Duration::from_secs(20);
/// The allocator gives memory back after ten seconds instead of ten milliseconds: under load the
/// kernel otherwise spends some 7 % of the machine on zeroing the same pages again and again.
const ALLOCATOR_PURGE: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "10000");
/// How long a node may take to stop before it is killed.
const STOP_WAIT: Duration = Duration::from_secs(20);

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct NodeSpec {
    /// What it is: `node`, or `gateway` for one of its own. Its files are named so.
    pub(crate) kind: &'static str,
    /// Its number among its kind.
    pub(crate) id: u64,
    /// Everything after the program's name.
    pub(crate) arguments: Vec<String>,
    /// The node's directory, for its log and the number of its process.
    pub(crate) directory: PathBuf,
}

/// How a node's process stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChildState {
    /// The running process.
    pub(crate) pid: Option<u32>,
    /// How often it ended by itself.
    pub(crate) deaths: u32,
    /// Whether the grid has removed the node: it is not started again.
    pub(crate) was_removed: bool,
    /// How it ended last.
    pub(crate) last_end: Option<String>,
}

/// A node that is kept running. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct NodeProcess {
    spec: NodeSpec,
    state: watch::Receiver<ChildState>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl NodeProcess {
    /// Starts it, and again whenever it ends. `orders` is told to every process that is started.
    pub(crate) fn start(
        spec: NodeSpec,
        orders: watch::Receiver<Option<Order>>,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&spec.directory)
            .with_context(|| format!("cannot make {}", spec.directory.display()))?;
        let (sender, state) = watch::channel(ChildState::default());
        let stop = CancellationToken::new();
        let keeper = Keeper {
            spec: spec.clone(),
            log: NodeLog::in_directory(&spec.directory, spec.kind),
            state: sender,
            orders,
            stop: stop.clone(),
        };
        let task = tokio::spawn(keeper.run());
        Ok(Self {
            spec,
            state,
            stop,
            task,
        })
    }

    /// What it is and its number, in words.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.spec.kind, self.spec.id)
    }

    /// How it stands.
    pub(crate) fn state(&self) -> ChildState {
        self.state.borrow().clone()
    }

    /// Where it logs.
    pub(crate) fn log(&self) -> PathBuf {
        NodeLog::in_directory(&self.spec.directory, self.spec.kind)
            .path()
            .to_owned()
    }

    /// Asks it to stop and waits until it has.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        if self.task.await.is_err() {
            tracing::error!(node = self.spec.id, "the node's keeper ended early");
        }
    }
}

struct Keeper {
    spec: NodeSpec,
    log: NodeLog,
    state: watch::Sender<ChildState>,
    orders: watch::Receiver<Option<Order>>,
    stop: CancellationToken,
}

impl Keeper {
    async fn run(mut self) {
        let mut pause = RESTART_PAUSE_MIN;
        loop {
            let started = Instant::now();
            let end = match self.spawn() {
                Ok(child) => match self.live(child).await {
                    Some(End::Removed) => {
                        tracing::info!(node = self.spec.id, "a node was removed from the grid");
                        self.state.send_modify(|state| {
                            state.pid = None;
                            state.was_removed = true;
                        });
                        return;
                    }
                    Some(end) => end,
                    None => return,
                },
                Err(error) => End::Died(format!("{error:#}")),
            };
            let is_planned = matches!(end, End::AsAsked);
            if is_planned || started.elapsed() > STEADY_AFTER {
                pause = RESTART_PAUSE_MIN;
            }
            let end = end.to_string();
            tracing::warn!(kind = self.spec.kind, id = self.spec.id, %end, "a process ended and is started again");
            self.state.send_modify(|state| {
                state.pid = None;
                state.deaths += u32::from(!is_planned);
                state.last_end = Some(end);
            });
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(RESTART_PAUSE_MAX);
        }
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        let log = self.log.open()?;
        let program = std::env::current_exe().context("cannot find this program's file")?;
        let child = Command::new(program)
            .args(&self.spec.arguments)
            .env(ALLOCATOR_PURGE.0, ALLOCATOR_PURGE.1)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            // The terminal's Ctrl-C is for `grid up` alone, which then stops its nodes in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a node")?;
        let pid = child.id();
        if let Some(pid) = pid {
            let path = self.spec.directory.join(format!("{}.pid", self.spec.kind));
            // Whoever reads it meanwhile finds the old number or the new one.
            private_file::replace(&path, pid.to_string().as_bytes())?;
        }
        self.state.send_modify(|state| state.pid = pid);
        Ok(child)
    }

    /// Sets the log aside when it is too long. A log that cannot be bounded does not end its node.
    async fn bound_log(&self) {
        let log = self.log.clone();
        let bounding = tokio::task::spawn_blocking(move || log.bound());
        if let Ok(Err(error)) = bounding.await {
            tracing::warn!(node = self.spec.id, %error, "a node's log cannot be bounded");
        }
    }

    /// Looks after a running process. Returns how it ended, or `None` when it was asked to.
    async fn live(&mut self, mut child: Child) -> Option<End> {
        let mut input = child.stdin.take();
        let mut told: Option<Order> = None;
        loop {
            let order = self.orders.borrow_and_update().clone();
            if order != told
                && let (Some(order), Some(pipe)) = (&order, &mut input)
                && let Ok(mut line) = serde_json::to_vec(order)
            {
                line.push(b'\n');
                // A node that no longer reads has ended, which is noticed below.
                let _ = pipe.write_all(&line).await;
                told = Some(order.clone());
            }
            tokio::select! {
                ended = child.wait() => return Some(describe(ended)),
                () = self.stop.cancelled() => {
                    if let Some(mut pipe) = input.take()
                        && let Ok(mut line) = serde_json::to_vec(&Order::Stop)
                    {
                        line.push(b'\n');
                        // A node that no longer reads has ended, which is what is wanted.
                        let _ = pipe.write_all(&line).await;
                    }
                    await_end(self.spec.id, &mut child).await;
                    return None;
                }
                Ok(()) = self.orders.changed() => {}
                () = tokio::time::sleep(LOG_LOOK_PAUSE) => self.bound_log().await,
            }
        }
    }
}

/// How a node's process ended.
enum End {
    /// It was asked to, by a signal, to be started anew.
    AsAsked,
    /// The grid has removed the node.
    Removed,
    Died(String),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AsAsked => f.write_str("it was asked to"),
            Self::Removed => f.write_str("it was removed from the grid"),
            Self::Died(how) => f.write_str(how),
        }
    }
}

async fn await_end(id: u64, child: &mut Child) {
    if tokio::time::timeout(STOP_WAIT, child.wait()).await.is_err() {
        tracing::warn!(node = id, "a node did not stop in time and is killed");
        // It may have ended just now, which is what is wanted.
        let _ = child.kill().await;
    }
}

fn describe(ended: std::io::Result<ExitStatus>) -> End {
    match ended {
        Ok(status) if status.success() => End::AsAsked,
        Ok(status) if status.code() == Some(i32::from(NODE_REMOVED)) => End::Removed,
        Ok(status) => End::Died(status.to_string()),
        Err(error) => End::Died(error.to_string()),
    }
}
