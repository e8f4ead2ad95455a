//! A process full of watchers: it connects them from one local address, reads what they are sent, and says
//! what it has seen whenever it is asked.
//!
//! One process may have some 20,000 files open, so `grid load watch` starts several. Each connects from
//! several local addresses: an address has some 28,000 ports, those of ended connections rest for a minute,
//! and looking for a free one takes the system ever longer when half of them are gone. They are told what to do over standard input, a line each, and
//! answer each line with one line of JSON:
//!
//! ```text
//!   connect ─► {"connected": …}      report ─► what was seen since the last report      cut ─► {"resumed": …}
//! ```
//!
//! A watcher reads its frames itself: what counts is how little it costs beside the gateway it measures.

use std::collections::BTreeMap;
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

/// Watchers that connect from one local address.
const WATCHERS_PER_ADDRESS_MAX: usize = 3_000;
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

/// What a watcher says first, and what tells it that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Greeting {
    /// A gateway: upgrade, subscription.
    Gateway,
    /// Somebody who just writes: nothing.
    Nothing,
    /// A WebSocket server that sends everything to everybody: upgrade.
    Websocket,
    /// The WebSocket of `nats-server`: upgrade, subscription in its own protocol.
    Nats,
}

/// What the process is to do.
#[derive(Clone, Debug)]
pub(crate) struct Watching {
    /// Where to connect, by turns.
    pub(crate) gateways: Vec<SocketAddr>,
    /// Where from; the next addresses are taken too, one every [`WATCHERS_PER_ADDRESS_MAX`].
    pub(crate) local: Ipv4Addr,
    /// Whom.
    pub(crate) greeting: Greeting,
    /// What to watch at a gateway.
    pub(crate) auction: Uuid,
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
    /// Why, as far as anybody said so.
    pub(crate) ends: BTreeMap<String, u64>,
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

impl Seen {
    /// Adds what others have seen, or the same ones later.
    pub(super) fn add(&mut self, other: Self) {
        self.delivered += other.delivered;
        self.bytes += other.bytes;
        self.missed += other.missed;
        self.doubled += other.doubled;
        self.lost += other.lost;
        for (reason, count) in other.ends {
            *self.ends.entry(reason).or_default() += count;
        }
        self.replayed += other.replayed;
        self.snapshots += other.snapshots;
        self.first_us = match (self.first_us, other.first_us) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.last_us = self.last_us.max(other.last_us);
        self.latencies.extend(other.latencies);
    }
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

/// Who got in.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Connected {
    /// How many are open and subscribed.
    pub(crate) connected: usize,
    /// Why the others are not.
    pub(crate) failures: BTreeMap<String, u64>,
}

/// The local address of the process's watcher of that number.
fn local_of(first: Ipv4Addr, number: usize) -> Ipv4Addr {
    let further = u32::try_from(number / WATCHERS_PER_ADDRESS_MAX).unwrap_or(0);
    Ipv4Addr::from_bits(first.to_bits().wrapping_add(further))
}

/// How many local addresses so many watchers take.
pub(crate) fn addresses_of(watchers: usize) -> usize {
    watchers.div_ceil(WATCHERS_PER_ADDRESS_MAX)
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
                output.result(&connected, String::new)?;
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

/// Opens every connection.
async fn connect_all(shared: &Arc<Shared>) -> Connected {
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
            let stream = watcher.open(&shared).await?;
            tokio::spawn(watcher.watch(shared, stream, cut));
            Ok(())
        }
    });
    let opened = stream::iter(opening).buffer_unordered(CONNECTING_MAX);
    let count = async |mut all: Connected, opened: io::Result<()>| {
        match opened {
            Ok(()) => all.connected += 1,
            Err(error) => *all.failures.entry(error.to_string()).or_default() += 1,
        }
        all
    };
    opened.fold(Connected::default(), count).await
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
        socket.bind((local_of(watching.local, self.number), 0).into())?;
        let mut stream = socket.connect(gateway).await?;
        let (path, first) = match watching.greeting {
            Greeting::Nothing => return Ok(stream),
            Greeting::Gateway => self.gateway_greeting(watching),
            Greeting::Websocket => ("/v1/ws".to_owned(), String::new()),
            Greeting::Nats => {
                let text = "CONNECT {\"verbose\":false}\r\nSUB updates 1\r\nPING\r\n";
                ("/".to_owned(), text.to_owned())
            }
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {gateway}\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        self.frames = Frames::after_upgrade();
        if !first.is_empty() {
            let first = super::frames::masked(first.as_bytes());
            stream.write_all(&first).await?;
        }
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

    /// Where a gateway's WebSocket is, and the subscription.
    fn gateway_greeting(&self, watching: &Watching) -> (String, String) {
        let user = Uuid::from_u128(
            (0xf4_u128 << 96) | u128::from(watching.local.to_bits()) << 64 | self.number as u128,
        );
        let from = match self.cursor.as_str() {
            "" => String::new(),
            cursor => format!(r#","from":"{cursor}""#),
        };
        let auction = watching.auction;
        let subscribe = format!(r#"{{"type":"subscribe","auction_id":"{auction}"{from}}}"#);
        (format!("/v1/ws?user_id={user}"), subscribe)
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
        let mut refused = None;
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
                Heard::Switched => opened |= shared.watching.greeting == Greeting::Websocket,
                Heard::Refused(status) => refused = Some(status.to_owned()),
                Heard::Goodbye(reason) => *seen.ends.entry(reason.to_owned()).or_default() += 1,
                Heard::Other => {}
            }
        };
        self.frames.take(&buffer[..bytes], heard);
        match refused {
            Some(status) => Err(io::Error::other(status)),
            None => Ok(opened),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchers_are_spread_over_local_addresses() {
        let first = Ipv4Addr::new(127, 0, 0, 254);
        assert_eq!(local_of(first, 0), first);
        assert_eq!(local_of(first, WATCHERS_PER_ADDRESS_MAX - 1), first);
        let last = local_of(first, 2 * WATCHERS_PER_ADDRESS_MAX);
        assert_eq!(last, Ipv4Addr::new(127, 0, 1, 0));
        assert_eq!(addresses_of(2 * WATCHERS_PER_ADDRESS_MAX), 2);
        assert_eq!(addresses_of(2 * WATCHERS_PER_ADDRESS_MAX + 1), 3);
    }
}
