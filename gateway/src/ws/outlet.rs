//! Where the hub's events leave for one connection: written at once where that is possible, otherwise in a
//! bounded queue that the connection's own task empties.
//!
//! ```text
//!   hub ── push ──► nothing waits, socket takes it ──────────────► socket   (no task is woken)
//!             └───► queue (bids, results) or "behind" (seats) ──► connection's task ──► socket
//! ```
//!
//! The hub never waits for a connection: where the queue is full, the connection is marked as a slow
//! consumer and its queue emptied at once, so that memory does not grow with a slow client. What merges
//! (seat updates) is not queued at all: the connection is noted to be behind, and gets one update about
//! everything since, when it takes messages again.
//!
//! Invariant: bytes of two messages never mix. The hub writes only while the connection's task has nothing
//! in hand ([`State::task_writes`]), and what the socket takes a part of is finished before anything else
//! is written ([`State::rest`]). Both are looked at and changed under one lock, with the write itself.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use futures_util::task::AtomicWaker;
use grid_core::Cursor;
use parking_lot::Mutex;
use tokio::net::TcpStream;

use super::subscription::{Subscriptions, Verdict};
use crate::protocol::event::Encoded;
use crate::protocol::message::Topic;

/// An empty queue that once held more than this many events gives its memory back.
const IDLE_CAPACITY_MAX: usize = 32;

/// One event for the subscribers of a topic: serialised once, shared by all.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) topic: Topic,
    pub(crate) cursor: Cursor,
    pub(crate) message: Encoded,
    /// Whether a later one says all that it says, so that it need not be kept for a slow client.
    pub(crate) merges: bool,
}

/// Why the server ends a connection that did nothing wrong by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// The gateway stops.
    Draining,
    /// The client takes its events too slowly.
    SlowConsumer,
    /// The node's own feed has a gap; the client resumes from its cursor.
    Resync,
    /// The session was taken back.
    Revoked,
}

#[derive(Debug)]
struct State {
    subscriptions: Subscriptions,
    queue: VecDeque<Arc<Delivery>>,
    /// What the socket has not taken yet of a message that the hub wrote.
    rest: Bytes,
    /// The connection's task has something to write, or is writing it.
    task_writes: bool,
    ended: Option<EndReason>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Outlet {
    state: Mutex<State>,
    waker: AtomicWaker,
    queue_max: usize,
    /// `None` where only the connection's task may write, so that everything waits in the queue.
    stream: Option<TcpStream>,
}

impl Outlet {
    /// The outlet of a connection. Its task begins with the pen in hand, until [`Self::rest_pen`].
    pub(crate) fn new(stream: TcpStream, subscriptions_max: usize, queue_max: usize) -> Self {
        Self::over(Some(stream), subscriptions_max, queue_max)
    }

    /// The same without the socket, which is the task's alone.
    pub(crate) fn apart(subscriptions_max: usize, queue_max: usize) -> Self {
        Self::over(None, subscriptions_max, queue_max)
    }

    #[cfg(test)]
    pub(crate) fn detached(queue_max: usize) -> Self {
        Self::apart(16, queue_max)
    }

    fn over(stream: Option<TcpStream>, subscriptions_max: usize, queue_max: usize) -> Self {
        Self {
            state: Mutex::new(State {
                subscriptions: Subscriptions::new(subscriptions_max, queue_max),
                queue: VecDeque::new(),
                rest: Bytes::new(),
                task_writes: true,
                ended: None,
            }),
            waker: AtomicWaker::new(),
            queue_max,
            stream,
        }
    }

    /// Writes or queues an event, or gives the connection up.
    pub(crate) fn push(&self, delivery: &Arc<Delivery>) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.ended.is_some() {
            return;
        }
        let is_free = !state.task_writes && state.queue.is_empty() && state.rest.is_empty();
        match state.subscriptions.judge(delivery, is_free) {
            Verdict::Nothing => return,
            Verdict::TooSlow => state.give_up(EndReason::SlowConsumer),
            Verdict::Behind => {}
            Verdict::Send => match &self.stream {
                Some(stream) if is_free => {
                    let wire = delivery.message.wire();
                    match stream.try_write(wire) {
                        Ok(bytes) if bytes == wire.len() => return,
                        Ok(bytes) => state.rest = wire.slice(bytes..),
                        // Nothing of it has gone: the task waits until it can, or finds out why it cannot.
                        Err(_) => state.rest = wire.clone(),
                    }
                    state.task_writes = true;
                }
                _ if state.queue.len() >= self.queue_max => {
                    state.give_up(EndReason::SlowConsumer);
                }
                _ => state.queue.push_back(Arc::clone(delivery)),
            },
        }
        // A longer queue was announced by its first event, which is still there.
        let is_news = state.queue.len() <= 1 || state.ended.is_some();
        drop(guard);
        if is_news {
            self.waker.wake();
        }
    }

    /// Asks the connection to end; the first reason counts. Nothing is pushed any more.
    pub(crate) fn end(&self, reason: EndReason) {
        self.state.lock().ended.get_or_insert(reason);
        self.waker.wake();
    }

    pub(crate) fn ended(&self) -> Option<EndReason> {
        self.state.lock().ended
    }

    /// The connection's task wants to know of the next event.
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// The next queued event, for the task to write.
    pub(crate) fn take(&self) -> Option<Arc<Delivery>> {
        let mut state = self.state.lock();
        let delivery = state.queue.pop_front()?;
        state.task_writes = true;
        if state.queue.is_empty() && state.queue.capacity() > IDLE_CAPACITY_MAX {
            state.queue = VecDeque::new();
        }
        Some(delivery)
    }

    /// The task has written and flushed all it had: the hub may write again, unless something waits.
    /// Returns whether it may.
    pub(crate) fn rest_pen(&self) -> bool {
        let mut state = self.state.lock();
        let is_free = state.queue.is_empty()
            && state.rest.is_empty()
            && !state.subscriptions.is_behind()
            && state.ended.is_none();
        state.task_writes = !is_free;
        is_free
    }

    /// Begins to open a subscription; `None` when there are too many.
    pub(crate) fn begin(&self, topic: Topic) -> Option<u64> {
        self.state.lock().subscriptions.begin(topic)
    }

    /// See [`Subscriptions::opened`]. What is returned is the task's to write, before anything else about
    /// the topic.
    pub(crate) fn opened(
        &self,
        topic: Topic,
        generation: u64,
        live_after: Cursor,
    ) -> Option<Vec<Arc<Delivery>>> {
        let mut state = self.state.lock();
        let due = state.subscriptions.opened(topic, generation, live_after)?;
        state.task_writes = true;
        Some(due)
    }

    /// See [`Subscriptions::failed`].
    pub(crate) fn failed(&self, topic: Topic, generation: u64) {
        self.state.lock().subscriptions.failed(topic, generation);
    }

    pub(crate) fn remove(&self, topic: Topic) {
        self.state.lock().subscriptions.remove(topic);
    }

    pub(crate) fn contains(&self, topic: Topic) -> bool {
        self.state.lock().subscriptions.contains(topic)
    }

    /// Every subscription with the cursor to resume it from, unless something waits that will not be sent:
    /// then the client knows better than this side what it has got.
    pub(crate) fn cursors(&self) -> Vec<(Topic, Option<Cursor>)> {
        let state = self.state.lock();
        let mut cursors = state.subscriptions.cursors();
        if !state.queue.is_empty() || state.ended == Some(EndReason::SlowConsumer) {
            for (_, cursor) in &mut cursors {
                *cursor = None;
            }
        }
        cursors
    }

    /// A topic with updates that this client was too slow for, if there is one.
    pub(crate) fn behind(&self) -> Option<Topic> {
        self.state.lock().subscriptions.behind()
    }

    /// The topic's updates after the returned index are made up for by what the task writes next, up to
    /// `cursor`. To be called under the lock that dispatches the topic.
    pub(crate) fn catch_up(&self, topic: Topic, cursor: Cursor) -> Option<u64> {
        let mut state = self.state.lock();
        let since = state.subscriptions.catch_up(topic, cursor)?;
        state.task_writes = true;
        Some(since)
    }

    /// The socket, where this has it.
    pub(super) fn stream(&self) -> io::Result<&TcpStream> {
        self.stream
            .as_ref()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))
    }

    /// Writes what is left of the hub's last message.
    pub(super) fn poll_rest(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Without the socket the hub has written nothing.
        let Some(stream) = &self.stream else {
            return Poll::Ready(Ok(()));
        };
        loop {
            {
                let mut state = self.state.lock();
                if state.rest.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                match stream.try_write(&state.rest) {
                    Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Ok(bytes) => {
                        state.rest.advance(bytes);
                        continue;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            ready!(stream.poll_write_ready(cx))?;
        }
    }

    /// Writes for the task, after what is left of the hub's last message.
    pub(super) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let stream = self.stream()?;
        self.state.lock().task_writes = true;
        ready!(self.poll_rest(cx))?;
        loop {
            match stream.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
            ready!(stream.poll_write_ready(cx))?;
        }
    }
}

impl State {
    fn give_up(&mut self, reason: EndReason) {
        self.queue = VecDeque::new();
        self.ended = Some(reason);
    }
}

#[cfg(test)]
mod tests {
    use grid_core::PartitionId;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use uuid::Uuid;

    use super::*;

    const TOPIC: Topic = Topic::Auction(Uuid::nil());

    fn at(index: u64) -> Cursor {
        Cursor::after_entry(PartitionId(0), index)
    }

    fn delivery(index: u64, text: &str) -> Arc<Delivery> {
        Arc::new(Delivery {
            topic: TOPIC,
            cursor: at(index),
            message: Encoded::text(text.as_bytes()),
            merges: false,
        })
    }

    fn subscribe(outlet: &Outlet) {
        let generation = outlet.begin(TOPIC).expect("room");
        outlet.opened(TOPIC, generation, at(0)).expect("current");
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (near, far) = tokio::join!(listener.accept(), TcpStream::connect(address));
        (near.expect("accepted").0, far.expect("connected"))
    }

    #[test]
    fn a_full_queue_ends_the_connection_and_holds_nothing() {
        let outlet = Outlet::detached(2);
        subscribe(&outlet);
        for index in 1..4 {
            assert_eq!(outlet.ended(), None);
            outlet.push(&delivery(index, ""));
        }
        assert_eq!(outlet.ended(), Some(EndReason::SlowConsumer));
        assert!(outlet.take().is_none());
        outlet.end(EndReason::Draining);
        assert_eq!(outlet.ended(), Some(EndReason::SlowConsumer));
    }

    #[tokio::test]
    async fn an_event_goes_straight_to_a_socket_that_takes_it() {
        let (near, mut far) = pair().await;
        near.writable().await.expect("open");
        let outlet = Outlet::new(near, 16, 16);
        subscribe(&outlet);
        outlet.push(&delivery(1, "first"));
        assert_eq!(
            outlet.take().expect("queued").cursor,
            at(1),
            "the task has the pen"
        );
        assert!(outlet.rest_pen());
        outlet.push(&delivery(2, "second"));
        assert!(outlet.take().is_none());
        let mut frame = [0; 8];
        far.read_exact(&mut frame).await.expect("a frame");
        assert_eq!(&frame, b"\x81\x06second");
    }

    #[tokio::test]
    async fn messages_of_the_hub_and_of_the_task_do_not_mix() {
        let (near, mut far) = pair().await;
        near.writable().await.expect("open");
        let outlet = Arc::new(Outlet::new(near, 16, 64));
        subscribe(&outlet);
        assert!(outlet.rest_pen());
        // Far more than a socket's buffers take: the hub is cut short in the middle of a message.
        let text = "x".repeat(8 << 20);
        outlet.push(&delivery(1, &text));
        outlet.push(&delivery(2, "queued"));
        assert!(!outlet.rest_pen(), "something waits");
        let writer = Arc::clone(&outlet);
        let written =
            tokio::spawn(
                async move { std::future::poll_fn(|cx| writer.poll_write(cx, b"task")).await },
            );
        let mut all = vec![0; 10 + text.len() + 4];
        far.read_exact(&mut all).await.expect("all of it");
        assert_eq!(written.await.expect("ended").expect("written"), 4);
        assert!(all[10..10 + text.len()].iter().all(|byte| *byte == b'x'));
        assert_eq!(&all[10 + text.len()..], b"task");
        assert_eq!(outlet.take().expect("still there").cursor, at(2));
    }
}
