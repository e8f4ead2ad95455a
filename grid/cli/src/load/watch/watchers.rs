//! A process full of watchers: it connects them from one local address, reads what they are sent, and says
//! what it has seen whenever it is asked.
//!
//! One process may have some 20,000 files open and one local address some 28,000 connections to a gateway,
//! so `grid load watch` starts several. They are told what to do over standard input, a line each, and
//! answer each line with one line of JSON:
//!
//! ```text
//!   connect ─► {"connected": …}      report ─► what was seen since the last report      cut ─► {"resumed": …}
//! ```
//!
//! A watcher reads its frames itself: what counts is how little it costs beside the gateway it measures.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use futures_util::{StreamExt, stream};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use uuid::Uuid;

use super::frames::{Frames, Heard};
use crate::output::Output;

/// Connections that a process opens at a time.
const CONNECTING_MAX: usize = 64;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const CONNECT_ATTEMPTS_MAX: u32 = 8;
const CONNECT_PAUSE: Duration = Duration::from_millis(250);
/// How long a process waits for all its watchers to be back.
const RESUME_WAIT: Duration = Duration::from_secs(60);
const READ_BYTES: usize = 16 << 10;
/// The longest latency told apart from longer ones, in µs.
const LATENCY_US_MAX: u64 = 120_000_000;

/// What the process is to do.
#[derive(Clone, Debug)]
pub(crate) struct Watching {
    /// Where to connect, by turns.
    pub(crate) gateways: Vec<SocketAddr>,
    /// Where from.
    pub(crate) local: Ipv4Addr,
    /// What to watch; `None` where the other side just writes.
    pub(crate) auction: Option<Uuid>,
    /// How many watch.
    pub(crate) watchers: usize,
    /// The moment that amounts count from, in ms since 1970.
    pub(crate) epoch_ms: u64,
    /// Those who come back all do so within this time.
    pub(crate) spread_ms: u64,
}

/// What was seen since the last report.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Seen {
    /// Events.
    pub(crate) delivered: u64,
    /// Their bytes with their frames.
    pub(crate) bytes: u64,
    /// Events that came though an earlier one had not.
    pub(crate) missed: u64,
    /// Events that came twice.
    pub(crate) doubled: u64,
    /// Connections that ended by themselves.
    pub(crate) lost: u64,
    /// Resumed from the recent past.
    pub(crate) replayed: u64,
    /// Resumed by a snapshot.
    pub(crate) snapshots: u64,
    /// When the first and the last event came, in µs since the epoch of the run.
    pub(crate) first_us: Option<u64>,
    pub(crate) last_us: u64,
    /// Latencies in µs, with how often each.
    pub(crate) latencies: Vec<(u64, u64)>,
}

struct Counts {
    seen: Seen,
    latencies: Histogram<u64>,
    back: usize,
}

struct Shared {
    watching: Watching,
    counts: Mutex<Counts>,
    /// Grows with every cut.
    cut: watch::Sender<u64>,
}

impl Shared {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_us(&self) -> u64 {
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let epoch = Duration::from_millis(self.watching.epoch_ms);
        u64::try_from(since.saturating_sub(epoch).as_micros()).unwrap_or(u64::MAX)
    }
}

#[derive(Serialize)]
struct Connected {
    connected: usize,
}

/// Back after a cut.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Resumed {
    /// How many.
    pub(crate) resumed: usize,
    /// From the cut until the last of them was.
    pub(crate) took_ms: u64,
}

/// Does as it is told until standard input ends.
pub(crate) async fn run(watching: Watching) -> anyhow::Result<()> {
    // Whoever started it reads it, whatever that was asked to print.
    let output = Output { json: true };
    let shared = Arc::new(Shared {
        counts: Mutex::new(Counts {
            seen: Seen::default(),
            latencies: Histogram::new_with_max(LATENCY_US_MAX, 3)?,
            back: 0,
        }),
        cut: watch::Sender::new(0),
        watching,
    });
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match line.as_str() {
            "connect" => {
                let connected = connect_all(&shared).await;
                output.result(&Connected { connected }, String::new)?;
            }
            "report" => {
                let seen = {
                    let mut counts = shared.counts();
                    let mut seen = std::mem::take(&mut counts.seen);
                    let recorded = counts.latencies.iter_recorded();
                    seen.latencies = recorded
                        .map(|value| (value.value_iterated_to(), value.count_at_value()))
                        .collect();
                    counts.latencies.reset();
                    seen
                };
                output.result(&seen, String::new)?;
            }
            "cut" => {
                let resumed = cut(&shared).await;
                output.result(&resumed, String::new)?;
            }
            _ => anyhow::bail!("an unknown order: {line}"),
        }
    }
    Ok(())
}

/// Opens every connection; returns how many are open and subscribed.
async fn connect_all(shared: &Arc<Shared>) -> usize {
    let opening = (0..shared.watching.watchers).map(|number| {
        let shared = Arc::clone(shared);
        async move {
            let mut watcher = Watcher {
                number,
                frames: Frames::default(),
                cursor: String::new(),
                last: None,
            };
            let cut = shared.cut.subscribe();
            let opened = watcher.open(&shared).await;
            let is_open = opened.is_ok();
            if let Ok(stream) = opened {
                tokio::spawn(watcher.watch(shared, stream, cut));
            }
            usize::from(is_open)
        }
    });
    let opened = stream::iter(opening).buffer_unordered(CONNECTING_MAX);
    opened.fold(0, async |sum, opened| sum + opened).await
}

/// Cuts every connection at once and waits until all are back.
async fn cut(shared: &Arc<Shared>) -> Resumed {
    shared.counts().back = 0;
    let began = Instant::now();
    shared.cut.send_modify(|cut| *cut += 1);
    let back = || shared.counts().back;
    while back() < shared.watching.watchers && began.elapsed() < RESUME_WAIT {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Resumed {
        resumed: back(),
        took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

struct Watcher {
    number: usize,
    frames: Frames,
    cursor: String,
    /// The number of the last bid that was seen.
    last: Option<u64>,
}

impl Watcher {
    /// Connects and subscribes, with the cursor where there is one.
    async fn open(&mut self, shared: &Shared) -> io::Result<TcpStream> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let opened =
                tokio::time::timeout(CONNECT_TIMEOUT, self.try_open(shared, attempt)).await;
            match opened {
                Ok(Ok(stream)) => return Ok(stream),
                _ if attempt < CONNECT_ATTEMPTS_MAX => tokio::time::sleep(CONNECT_PAUSE).await,
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
    }

    async fn try_open(&mut self, shared: &Shared, attempt: u32) -> io::Result<TcpStream> {
        let watching = &shared.watching;
        let turn = self.number + attempt as usize - 1;
        let gateway = watching.gateways[turn % watching.gateways.len()];
        let socket = TcpSocket::new_v4()?;
        socket.bind((watching.local, 0).into())?;
        let mut stream = socket.connect(gateway).await?;
        let Some(auction) = watching.auction else {
            return Ok(stream);
        };
        let user = Uuid::from_u128(
            (0xf4_u128 << 96) | u128::from(watching.local.to_bits()) << 64 | self.number as u128,
        );
        let request = format!(
            "GET /v1/ws?user_id={user} HTTP/1.1\r\nhost: {gateway}\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-protocol: {}\r\n\r\n",
            gateway::SUBPROTOCOL
        );
        stream.write_all(request.as_bytes()).await?;
        self.frames = Frames::after_upgrade();
        let from = match self.cursor.as_str() {
            "" => String::new(),
            cursor => format!(r#","from":"{cursor}""#),
        };
        let subscribe = format!(r#"{{"type":"subscribe","auction_id":"{auction}"{from}}}"#);
        stream
            .write_all(&super::frames::masked(subscribe.as_bytes()))
            .await?;
        // Until the snapshot, or the word that the past follows, nothing is open.
        loop {
            stream.readable().await?;
            match self.read(shared, &stream) {
                Ok(true) => return Ok(stream),
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn watch(
        mut self,
        shared: Arc<Shared>,
        mut stream: TcpStream,
        mut cut: watch::Receiver<u64>,
    ) {
        cut.borrow_and_update();
        loop {
            let ended = tokio::select! {
                biased;
                changed = cut.changed() => match changed {
                    Ok(()) => true,
                    Err(_) => return,
                },
                ready = stream.readable() => match ready.and_then(|()| self.read(&shared, &stream)) {
                    Ok(_) => false,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
                    Err(_) => {
                        shared.counts().seen.lost += 1;
                        true
                    }
                },
            };
            if !ended {
                continue;
            }
            drop(stream);
            let place = self.number as u64 * 7_919 % shared.watching.watchers.max(1) as u64;
            let pause_ms =
                shared.watching.spread_ms * place / shared.watching.watchers.max(1) as u64;
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            match self.open(&shared).await {
                Ok(opened) => stream = opened,
                Err(_) => return,
            }
            shared.counts().back += 1;
        }
    }

    /// Reads what is there. Returns whether a subscription was opened by it.
    fn read(&mut self, shared: &Shared, stream: &TcpStream) -> io::Result<bool> {
        let mut buffer = [0; READ_BYTES];
        let bytes = stream.try_read(&mut buffer)?;
        if bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let now_us = shared.now_us();
        let mut counts = shared.counts();
        let mut opened = false;
        let (cursor, last) = (&mut self.cursor, &mut self.last);
        let heard = |heard: Heard<'_>| {
            let seen = &mut counts.seen;
            match heard {
                Heard::Ping => {
                    // A socket that takes no six bytes has other troubles.
                    let _ = stream.try_write(&super::frames::PONG);
                }
                Heard::Opened {
                    cursor: at,
                    replayed,
                } => {
                    opened = true;
                    match replayed {
                        Some(true) => seen.replayed += 1,
                        Some(false) => {
                            seen.snapshots += 1;
                            *last = None;
                        }
                        None => {}
                    }
                    if let Some(at) = at {
                        at.clone_into(cursor);
                    }
                }
                Heard::Bid {
                    number,
                    offset_ms,
                    cursor: at,
                    bytes,
                } => {
                    seen.delivered += 1;
                    seen.bytes += bytes as u64;
                    seen.first_us.get_or_insert(now_us);
                    seen.last_us = now_us;
                    match last.map(|last| number.cmp(&(last + 1))) {
                        Some(std::cmp::Ordering::Less) => seen.doubled += 1,
                        Some(std::cmp::Ordering::Greater) => seen.missed += 1,
                        _ => {}
                    }
                    *last = Some(number.max(last.unwrap_or(0)));
                    at.clone_into(cursor);
                    let latency_us = now_us.saturating_sub(offset_ms * 1_000);
                    counts.latencies.saturating_record(latency_us);
                }
                Heard::Other => {}
            }
        };
        self.frames.take(&buffer[..bytes], heard);
        Ok(opened)
    }
}
