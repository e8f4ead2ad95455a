//! A proxy between the nodes and PostgreSQL that understands enough of the protocol to stop a transaction
//! of the pump at a chosen point, and to say which process it belongs to.
//!
//! It listens on a socket file, so that the kernel names the process at the other end of a connection.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{oneshot, watch};

/// The number in the names of PostgreSQL's sockets.
const PORT: u16 = 5432;
/// What begins a connection that asks for TLS.
const SSL_REQUEST: u32 = 80_877_103;
/// Longer messages are a mistake of the reader's.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// Where a transaction is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// `BEGIN` has not reached the server.
    BeforeBegin,
    /// The rows have, `COMMIT` has not.
    AfterRows,
    /// The server has committed, and its answer has not reached the node.
    AfterCommit,
}

/// A transaction that is stopped. Dropping it ends its connection.
#[derive(Debug)]
pub(crate) struct Caught {
    /// The process whose transaction it is.
    pub(crate) pid: i32,
    /// Kept for its end.
    _connection: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Trap {
    point: Point,
    caught: oneshot::Sender<Caught>,
}

#[derive(Debug)]
struct Shared {
    upstream: PathBuf,
    trap: Mutex<Option<Trap>>,
    /// Whether connections are let through.
    open: watch::Sender<bool>,
}

impl Shared {
    /// Springs the trap if it is set for this point, and waits until the connection is to end.
    async fn pass(&self, point: Point, pid: i32) -> bool {
        let trap = {
            let mut trap = self.trap.lock().expect("not poisoned");
            trap.take_if(|trap| trap.point == point)
        };
        let Some(trap) = trap else { return true };
        let (connection, ended) = oneshot::channel();
        let caught = Caught {
            pid,
            _connection: connection,
        };
        if trap.caught.send(caught).is_ok() {
            // It ends by being dropped.
            let _ = ended.await;
        }
        false
    }

    fn is_set(&self, point: Point) -> bool {
        let trap = self.trap.lock().expect("not poisoned");
        trap.as_ref().is_some_and(|trap| trap.point == point)
    }
}

/// The proxy, and its folder.
pub(crate) struct SqlProxy {
    folder: tempfile::TempDir,
    shared: Arc<Shared>,
}

impl SqlProxy {
    /// Stands before the server whose socket lies in `upstream`.
    pub(crate) fn before(upstream: &Path) -> Self {
        let folder = tempfile::tempdir().expect("temporary directory");
        let shared = Arc::new(Shared {
            upstream: upstream.join(format!(".s.PGSQL.{PORT}")),
            trap: Mutex::default(),
            open: watch::Sender::new(true),
        });
        let socket = folder.path().join(format!(".s.PGSQL.{PORT}"));
        let listener = UnixListener::bind(socket).expect("a socket");
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, Arc::clone(&serving)));
            }
        });
        Self { folder, shared }
    }

    /// The address of a database behind it.
    pub(crate) fn url(&self, user: &str, database: &str) -> String {
        let host = self.folder.path().display();
        format!("postgres://{user}@localhost:{PORT}/{database}?host={host}")
    }

    /// Stops the next transaction of a pump that comes to a point.
    pub(crate) fn stop_at(&self, point: Point) -> oneshot::Receiver<Caught> {
        let (caught, receiver) = oneshot::channel();
        *self.shared.trap.lock().expect("not poisoned") = Some(Trap { point, caught });
        receiver
    }

    /// Ends all connections, and lets none through until it is open again.
    pub(crate) fn set_open(&self, open: bool) {
        self.shared.open.send_replace(open);
    }
}

async fn serve(client: UnixStream, shared: Arc<Shared>) {
    let mut open = shared.open.subscribe();
    if !*open.borrow() {
        return;
    }
    let peer = client.peer_cred().ok().and_then(|peer| peer.pid());
    let Ok(server) = UnixStream::connect(&shared.upstream).await else {
        return;
    };
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let (expected, expecting) = watch::channel(false);
    let pid = peer.unwrap_or(0);
    tokio::select! {
        // Either end, and the proxy itself, ends both ways.
        _ = forth(client_read, server_write, &shared, pid, expected) => {}
        _ = back(server_read, client_write, &shared, pid, expecting) => {}
        _ = open.wait_for(|open| !open) => {}
    }
}

/// A message: its tag and what follows the length.
async fn read_message(from: &mut OwnedReadHalf) -> Option<(u8, Vec<u8>)> {
    let tag = from.read_u8().await.ok()?;
    let body = read_body(from).await?;
    Some((tag, body))
}

async fn read_body(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let length = usize::try_from(from.read_u32().await.ok()?).ok()?;
    assert!((4..MESSAGE_BYTES_MAX).contains(&length), "{length} bytes");
    let mut body = vec![0; length - 4];
    from.read_exact(&mut body).await.ok()?;
    Some(body)
}

async fn write_message(to: &mut OwnedWriteHalf, tag: Option<u8>, body: &[u8]) -> Option<()> {
    let mut message = Vec::with_capacity(body.len() + 5);
    message.extend(tag);
    let length = u32::try_from(body.len() + 4).expect("read with a length");
    message.extend(length.to_be_bytes());
    message.extend(body);
    to.write_all(&message).await.ok()
}

/// A text up to its NUL, and what follows.
fn split_text(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0);
    let end = end.unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

/// What a node has said in its transaction.
#[derive(Default)]
struct Transaction {
    /// Whether the prepared statement of a name writes changes.
    statements: BTreeMap<Vec<u8>, bool>,
    writes_changes: bool,
}

impl Transaction {
    fn read(&mut self, tag: u8, body: &[u8]) {
        match tag {
            b'P' => {
                let (name, rest) = split_text(body);
                let (sql, _) = split_text(rest);
                let writes = contains(sql, "INSERT INTO changes");
                self.statements.insert(name.to_vec(), writes);
            }
            b'B' => {
                let (_, rest) = split_text(body);
                let (name, _) = split_text(rest);
                self.writes_changes |= self.statements.get(name).copied().unwrap_or(false);
            }
            b'Q' if contains(body, "COPY changes") => self.writes_changes = true,
            _ => {}
        }
    }
}

/// From the node to the server.
async fn forth(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    pid: i32,
    expected: watch::Sender<bool>,
) -> Option<()> {
    let mut startup = read_body(&mut from).await?;
    let code = startup
        .first_chunk::<4>()
        .map(|code| u32::from_be_bytes(*code));
    assert_ne!(
        code,
        Some(SSL_REQUEST),
        "nobody asks for TLS over a socket file"
    );
    let is_pump = contains(&startup, "spacegrid-pump");
    write_message(&mut to, None, &startup).await?;
    startup.clear();
    let mut transaction = Transaction::default();
    loop {
        let (tag, body) = read_message(&mut from).await?;
        transaction.read(tag, &body);
        let query = (tag == b'Q').then(|| split_text(&body).0);
        if is_pump && query == Some(b"BEGIN") {
            transaction.writes_changes = false;
            if !shared.pass(Point::BeforeBegin, pid).await {
                return None;
            }
        }
        if is_pump && query == Some(b"COMMIT") && transaction.writes_changes {
            if !shared.pass(Point::AfterRows, pid).await {
                return None;
            }
            if shared.is_set(Point::AfterCommit) {
                expected.send_replace(true);
            }
        }
        write_message(&mut to, Some(tag), &body).await?;
    }
}

/// From the server to the node.
async fn back(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    pid: i32,
    expecting: watch::Receiver<bool>,
) -> Option<()> {
    loop {
        let (tag, body) = read_message(&mut from).await?;
        let is_committed = tag == b'C' && split_text(&body).0 == b"COMMIT";
        if is_committed && *expecting.borrow() && !shared.pass(Point::AfterCommit, pid).await {
            return None;
        }
        write_message(&mut to, Some(tag), &body).await?;
    }
}
