//! What every long-running process of the grid has, whether it is a node or a gateway of its own: a socket,
//! a directory that is locked, and somebody who asks it to stop.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::failure::Failure;
use crate::supervise::{DatabaseAddress, Order};

/// How long a predecessor of a killed `grid up` may take to let go of the ports and the log.
const PREDECESSOR_WAIT: Duration = Duration::from_secs(20);
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Orders that wait to be carried out.
pub(crate) const ORDERS_MAX: usize = 8;

/// Why a process stops.
pub(super) enum End {
    /// By a signal: the others go on, and get what this node leads.
    Planned(&'static str),
    /// With the whole grid, or because its supervisor is gone: nobody is left to lead.
    Ordered(&'static str),
    /// The grid has emptied the node and wants it gone.
    Leaving,
    Failed(String),
}

/// What this process is asked to do, by signals and by its supervisor.
pub(super) struct Requests {
    terminate: Signal,
    interrupt: Signal,
    pub(super) orders: Option<mpsc::Receiver<Order>>,
    /// The database that was named last and is not used yet.
    pub(super) database: Option<DatabaseAddress>,
}

impl Requests {
    /// Listens to signals from now on, and to standard input when supervised.
    pub(super) fn listen(supervised: bool) -> anyhow::Result<Self> {
        let orders = supervised.then(|| {
            let (sender, orders) = mpsc::channel(ORDERS_MAX);
            tokio::spawn(read_orders(sender));
            orders
        });
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            orders,
            database: None,
        })
    }

    /// Waits for a signal.
    pub(super) async fn next_signal(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Waits until it is asked to stop; a database that is named meanwhile is kept for later.
    pub(super) async fn next_stop(&mut self) -> End {
        loop {
            if let Some(end) = self.next_stop_or_database().await {
                return end;
            }
        }
    }

    /// Waits until it is asked to stop, or until a database is named.
    pub(super) async fn next_stop_or_database(&mut self) -> Option<End> {
        let order = async {
            match &mut self.orders {
                Some(orders) => orders.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            order = order => match order {
                Some(Order::Database(database)) => {
                    self.database = Some(database);
                    None
                }
                Some(Order::Stop) => Some(End::Ordered("the whole grid stops")),
                None => Some(End::Ordered("grid up has ended")),
            },
            _ = self.terminate.recv() => Some(End::Planned("SIGTERM")),
            _ = self.interrupt.recv() => Some(End::Planned("SIGINT")),
        }
    }
}

/// Reads orders until standard input ends.
async fn read_orders(sender: mpsc::Sender<Order>) {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(order) => {
                if sender.send(order).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::warn!(%error, "an order cannot be read"),
        }
    }
}

/// Binds a socket, waiting for a predecessor that is still stopping.
pub(super) async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let patience = Instant::now() + PREDECESSOR_WAIT;
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error)
                if error.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < patience =>
            {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot listen on {address}"));
            }
        }
    }
}

/// Makes sure that no other process uses this directory; `kind` is what such a process is.
pub(super) async fn lock(directory: &Path, kind: &str) -> anyhow::Result<File> {
    let unusable = |error: std::io::Error| {
        Failure::DataDirectory(format!("{} cannot be used: {error}", directory.display()))
    };
    std::fs::create_dir_all(directory).map_err(unusable)?;
    let file = File::create(directory.join(format!("{kind}.lock"))).map_err(unusable)?;
    let patience = Instant::now() + PREDECESSOR_WAIT;
    while file.try_lock().is_err() {
        if Instant::now() > patience {
            let text = format!(
                "{} is used by another {kind}; stop that one",
                directory.display()
            );
            return Err(Failure::DataDirectory(text).into());
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    Ok(file)
}
