//! One connection, one task: reads requests, works on them, writes replies and events.
//!
//! The task is one hand-written poll loop rather than a `select!`: each time it is woken it takes in all
//! messages that are there, collects all finished work and all queued events, and flushes once. While
//! the client does not take what is written, nothing more is read from it and nothing is taken from the
//! hub's queue; that queue is bounded, and a full one ends the connection.
//!
//! While the task has nothing to write, the hub writes events to the socket itself (see [`Outlet`]), and
//! the task sleeps on.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream::FuturesUnordered;
use futures_util::{Sink, StreamExt};
use tokio::io::AsyncWrite;
use tokio::time::{Instant, Sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::farewell::{self, Ending};
use super::outlet::{EndReason, Outlet};
use super::socket::{ConnectionSocket, Transport};
use super::work::{self, Done};
use crate::edge::Quota;
use crate::failure::{Detail, Failure};
use crate::hub::{AskedPast, Subscriber};
use crate::identity::Caller;
use crate::identity::authorisation::Action;
use crate::limits::{
    CONTROL_BUFFER_BYTES, READ_BUFFER_BYTES, TokenBucket, WRITE_BATCH_BYTES_MAX, WRITE_TIMEOUT_MS,
};
use crate::observe::RequestKind;
use crate::protocol::code::ErrorCode;
use crate::protocol::event::Encoded;
use crate::protocol::frame;
use crate::protocol::message::{Envelope, Request, Topic};
use crate::protocol::view::ReplyData;
use crate::state::Shared;
use crate::waiting::Queues;

type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

struct Connection {
    shared: Arc<Shared>,
    socket: WebSocketStream<ConnectionSocket>,
    caller: Caller,
    /// What its address and user still may.
    quota: Quota,
    number: u64,
    outlet: Arc<Outlet>,
    in_flight: FuturesUnordered<Work>,
    /// Whole frames to write; bounded by what is in flight and what one opening replays.
    out: VecDeque<Bytes>,
    /// What the socket has not taken yet of frames that are being written.
    writing: Bytes,
    bucket: TokenBucket,
    heard: Instant,
    pinged: Instant,
    queues: Queues,
    /// Since when the client takes nothing.
    blocked: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    /// When the client's token runs out.
    session_end: Option<Instant>,
}

/// When a session ends, by this machine's clock.
fn session_end(caller: &Caller, now: Instant) -> Option<Instant> {
    let end_ms = i64::try_from(caller.expires_at_s?.checked_mul(1_000)?).ok()?;
    let left_ms = end_ms.saturating_sub(jiff::Timestamp::now().as_millisecond());
    Some(now + Duration::from_millis(u64::try_from(left_ms).unwrap_or(0)))
}

/// Who writes to a connection: the hub as well, unless what is written must be sealed in order.
fn open(shared: &Shared, transport: Transport) -> (Arc<Outlet>, ConnectionSocket) {
    let subscriptions_max = shared.settings.subscriptions_max;
    let queue_max = shared.settings.send_queue_max;
    match transport {
        Transport::Plain(stream) => {
            let outlet = Arc::new(Outlet::new(stream, subscriptions_max, queue_max));
            (Arc::clone(&outlet), ConnectionSocket::Shared(outlet))
        }
        Transport::Sealed(stream) => (
            Arc::new(Outlet::apart(subscriptions_max, queue_max)),
            ConnectionSocket::Sealed(stream),
        ),
    }
}

/// Serves an upgraded connection until it ends.
pub(crate) async fn run(
    shared: Arc<Shared>,
    transport: Transport,
    read: Vec<u8>,
    (caller, quota): (Caller, Quota),
) {
    let (outlet, stream) = open(&shared, transport);
    let limits = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(CONTROL_BUFFER_BYTES)
        .max_message_size(Some(shared.settings.message_bytes_max))
        .max_frame_size(Some(shared.settings.message_bytes_max));
    let socket =
        WebSocketStream::from_partially_read(stream, read, Role::Server, Some(limits)).await;
    let number = shared.connections.open(Arc::clone(&outlet), caller);
    // Also where that came to be while the connection was made.
    if shared.identity.is_revoked(&caller) {
        outlet.end(EndReason::Revoked);
    }
    if shared.stopping.is_cancelled() {
        outlet.end(EndReason::Draining);
    }
    shared.metrics.connections.increment(1.0);
    let now = Instant::now();
    let mut connection = Connection {
        timer: Box::pin(tokio::time::sleep_until(now)),
        socket,
        caller,
        quota,
        number,
        outlet,
        in_flight: FuturesUnordered::new(),
        out: VecDeque::new(),
        writing: Bytes::new(),
        bucket: TokenBucket::full(now),
        heard: now,
        pinged: now,
        blocked: None,
        session_end: session_end(&caller, now),
        queues: Queues::default(),
        shared,
    };
    let ending = poll_fn(|cx| connection.poll_run(cx)).await;
    let unsent = connection.unsent(ending);
    let Connection {
        shared,
        socket,
        outlet,
        in_flight,
        queues,
        ..
    } = connection;
    drop(in_flight);
    queues.leave_all(&shared.lobby, (caller.user, number));
    // From here on nothing is written but what is in hand, unless the client is too slow for it, and the
    // goodbye.
    outlet.end(match ending {
        Ending::SlowConsumer => EndReason::SlowConsumer,
        _ => EndReason::Draining,
    });
    let cursors = outlet.cursors();
    for (topic, _) in &cursors {
        shared.hub.unregister(*topic, (caller.user, number));
    }
    shared.connections.close(number);
    shared.metrics.connections.decrement(1.0);
    if ending == Ending::SlowConsumer {
        shared.metrics.slow_disconnects.increment(1);
    }
    tracing::debug!(user = %caller.user, reason = ending.reason(), "a connection ends");
    let retry_after_ms = shared.reconnect_after_ms(ending);
    let goodbye = frame::goodbye(ending.reason(), retry_after_ms, &cursors);
    // Apart from the connection's own memory, which would hold the room for it all along.
    Box::pin(farewell::say(socket, ending, unsent, goodbye)).await;
}

impl Connection {
    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        self.outlet.register(cx.waker());
        loop {
            let ended = self.outlet.ended();
            if let Some(
                reason @ (EndReason::SlowConsumer | EndReason::Resync | EndReason::Revoked),
            ) = ended
            {
                return Poll::Ready(Ending::of_reason(reason));
            }
            let is_draining = ended.is_some();
            let mut moved = false;
            if let Poll::Ready(ending) = self.poll_timer(cx) {
                return Poll::Ready(ending);
            }
            if !is_draining {
                match self.poll_requests(cx) {
                    Ok(took) => moved |= took,
                    Err(ending) => return Poll::Ready(ending),
                }
            }
            while let Poll::Ready(Some(done)) = self.in_flight.poll_next_unpin(cx) {
                moved = true;
                self.finish(done);
            }
            self.queues.register(cx.waker());
            while self.blocked.is_none()
                && let Some(message) = self.queues.take()
            {
                moved = true;
                self.say(&message);
            }
            moved |= self.take_events();
            let was_blocked = self.blocked.is_some();
            match self.poll_write(cx) {
                Poll::Ready(Ok(())) => {
                    self.blocked = None;
                    // Whoever drains keeps the pen, and waits only for what is in flight.
                    let may_rest = self.outlet.rest_pen();
                    moved |= was_blocked || !(may_rest || is_draining);
                    if is_draining && self.in_flight.is_empty() && self.out.is_empty() {
                        return Poll::Ready(Ending::Draining);
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Ending::of_error(&error)),
                Poll::Pending => {
                    self.blocked.get_or_insert_with(Instant::now);
                }
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }

    /// Pings, and ends what is silent or stuck for too long.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let settings = &self.shared.settings;
            let now = Instant::now();
            let idle_end = self.heard + Duration::from_millis(settings.idle_timeout_ms);
            if now >= idle_end {
                return Poll::Ready(Ending::IdleTimeout);
            }
            if self.session_end.is_some_and(|end| now >= end) {
                return Poll::Ready(Ending::SessionExpired);
            }
            let write_timeout = Duration::from_millis(WRITE_TIMEOUT_MS);
            if self
                .blocked
                .is_some_and(|since| now >= since + write_timeout)
            {
                return Poll::Ready(Ending::SlowConsumer);
            }
            let ping_interval = Duration::from_millis(settings.ping_interval_ms.max(1));
            let mut ping_due = self.heard.max(self.pinged) + ping_interval;
            if now >= ping_due {
                self.pinged = now;
                ping_due = now + ping_interval;
                if self.blocked.is_none() {
                    let ping = Message::Ping(Bytes::new());
                    if Pin::new(&mut self.socket).start_send(ping).is_err() {
                        return Poll::Ready(Ending::Broken);
                    }
                }
            }
            let next = ping_due.min(idle_end).min(now + write_timeout);
            let next = self.session_end.map_or(next, |end| next.min(end));
            self.timer.as_mut().reset(next);
        }
        Poll::Pending
    }

    /// Takes in what the client sent, as far as there is room to work on it.
    fn poll_requests(&mut self, cx: &mut Context<'_>) -> Result<bool, Ending> {
        let mut took = false;
        let room = self.shared.settings.requests_in_flight_max;
        while self.blocked.is_none() && self.in_flight.len() < room && self.out.len() < room {
            let message = match self.socket.poll_next_unpin(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => return Err(Ending::Closed),
                Poll::Ready(Some(Err(error))) => return Err(Ending::of_error(&error)),
                Poll::Ready(Some(Ok(message))) => message,
            };
            took = true;
            self.heard = Instant::now();
            match message {
                Message::Text(text) => self.take_request(text.as_str()),
                Message::Binary(_) => {
                    let failure = Failure::bad_request("messages are JSON text, not binary");
                    self.refuse(RequestKind::Unreadable, None, failure);
                }
                Message::Close(_) => return Err(Ending::Closed),
                // They are answered without a request; too many of them are an attack on the processor.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {
                    if self.bucket.take(self.heard).is_err() {
                        return Err(Ending::Flood);
                    }
                }
            }
        }
        Ok(took)
    }

    fn take_request(&mut self, text: &str) {
        let allowed = self.bucket.take(self.heard);
        let envelope = match Envelope::read(text) {
            Ok(envelope) => envelope,
            Err(bad) => {
                let failure = Failure::bad_request(bad.reason);
                return self.refuse(RequestKind::Unreadable, bad.id.as_deref(), failure);
            }
        };
        if let Err(retry_after_ms) = allowed {
            let failure = Failure::new(ErrorCode::RateLimited, "too many messages")
                .with(Detail::RetryAfter { retry_after_ms });
            let kind = work::kind_of(&envelope.request);
            return self.refuse(kind, envelope.id.as_deref(), failure);
        }
        if let Err(failure) = self.shared.edge.message(&self.quota) {
            let kind = work::kind_of(&envelope.request);
            return self.refuse(kind, envelope.id.as_deref(), failure);
        }
        let action = Action::of(&envelope.request);
        let (caller, address) = (Some(&self.caller), self.caller.address);
        if let Err(failure) = self.shared.identity.authorise(caller, address, action) {
            let kind = work::kind_of(&envelope.request);
            return self.refuse(kind, envelope.id.as_deref(), failure);
        }
        match envelope.request {
            Request::Authenticate { token } => {
                let shared = Arc::clone(&self.shared);
                let work = work::renew(shared, self.caller, envelope.id, token);
                self.in_flight.push(Box::pin(work));
            }
            Request::Ping => {
                let timestamp = jiff::Timestamp::now().as_millisecond();
                let timestamp = u64::try_from(timestamp).unwrap_or(0);
                let data = ReplyData::Pong { timestamp };
                self.reply(RequestKind::Ping, envelope.id.as_deref(), &data);
            }
            Request::Subscribe { topic, from, epoch } => {
                let past = AskedPast { from, epoch };
                self.subscribe(envelope.id, topic, past);
            }
            Request::Unsubscribe { topic } => {
                if self.outlet.contains(topic) {
                    self.unsubscribe(topic);
                }
                // What was queued of the topic goes before the reply.
                self.drain_queue();
                let id = envelope.id.as_deref();
                self.reply(RequestKind::Unsubscribe, id, &ReplyData::Empty {});
            }
            _ => {
                let class = work::class_of(&envelope.request);
                let permit = match self.shared.admission.admit(class, text.len()) {
                    Ok(permit) => permit,
                    Err(failure) => {
                        let kind = work::kind_of(&envelope.request);
                        return self.refuse(kind, envelope.id.as_deref(), failure);
                    }
                };
                if let Request::JoinQueue { event_id } = envelope.request {
                    let key = (self.caller.user, self.number);
                    self.queues.enter(&self.shared.lobby, event_id, key);
                }
                let shared = Arc::clone(&self.shared);
                let work = work::command(shared, self.caller, envelope, permit);
                self.in_flight.push(Box::pin(work));
            }
        }
    }

    fn subscribe(&mut self, id: Option<Box<str>>, topic: Topic, past: AskedPast) {
        let Some(generation) = self.outlet.begin(topic) else {
            let failure = Failure::bad_request("too many subscriptions on one connection");
            return self.refuse(RequestKind::Subscribe, id.as_deref(), failure);
        };
        let subscriber = Subscriber {
            key: (self.caller.user, self.number),
            outlet: Arc::clone(&self.outlet),
            request_id: id,
        };
        let shared = Arc::clone(&self.shared);
        let work = work::subscribe(shared, subscriber, topic, past, generation);
        self.in_flight.push(Box::pin(work));
    }

    fn unsubscribe(&mut self, topic: Topic) {
        self.outlet.remove(topic);
        self.shared
            .hub
            .unregister(topic, (self.caller.user, self.number));
    }

    fn reply(&mut self, kind: RequestKind, id: Option<&str>, data: &ReplyData) {
        let result = Ok::<_, Failure>(());
        self.shared.metrics.finished(kind, &result, Duration::ZERO);
        self.say(&frame::reply(id, data));
    }

    fn refuse(&mut self, kind: RequestKind, id: Option<&str>, failure: Failure) {
        let reply = frame::error(id, &failure);
        let result = Err::<(), _>(failure);
        self.shared.metrics.finished(kind, &result, Duration::ZERO);
        self.say(&reply);
    }

    /// Puts a message behind those that wait to be written.
    fn say(&mut self, text: &[u8]) {
        self.out.push_back(Encoded::text(text).into_wire());
    }

    /// The client has shown a fresh token.
    fn renewed(&mut self, caller: Caller) {
        self.caller = caller;
        self.session_end = session_end(&caller, Instant::now());
        self.shared.connections.renew(self.number, caller);
        if self.shared.identity.is_revoked(&caller) {
            self.outlet.end(EndReason::Revoked);
        }
        self.timer.as_mut().reset(Instant::now());
    }

    fn finish(&mut self, done: Done) {
        let (topic, generation, result) = match done {
            Done::Reply(reply) => return self.say(&reply),
            Done::Renewed { caller, reply } => {
                if let Some(caller) = caller {
                    self.renewed(caller);
                }
                return self.say(&reply);
            }
            Done::Opened {
                topic,
                generation,
                result,
            } => (topic, generation, result),
        };
        match result {
            Ok(opening) => {
                // What the hub queued before this belongs before what it will queue after.
                self.drain_queue();
                let due = self.outlet.opened(topic, generation, opening.live_after);
                if let Some(due) = due {
                    for message in &opening.frames {
                        self.say(message);
                    }
                    let due = due.iter().map(|event| event.message.wire().clone());
                    self.out.extend(due);
                    return;
                }
            }
            Err(reply) => {
                self.outlet.failed(topic, generation);
                self.say(&reply);
            }
        }
        if !self.outlet.contains(topic) {
            self.unsubscribe(topic);
        }
    }

    /// Takes events while the client takes them too.
    fn take_events(&mut self) -> bool {
        if self.blocked.is_some() {
            return false;
        }
        let mut took = self.drain_queue();
        // What merges was left out while something waited; it follows what waited.
        while let Some(topic) = self.outlet.behind() {
            took = true;
            match self.shared.hub.catch_up(topic, &self.outlet) {
                Some(update) => self.say(&update),
                None => {
                    // The hub knows the topic no more: the client must read it anew.
                    self.outlet.end(EndReason::Resync);
                    break;
                }
            }
        }
        took
    }

    fn drain_queue(&mut self) -> bool {
        let mut took = false;
        while let Some(delivery) = self.outlet.take() {
            took = true;
            self.out.push_back(delivery.message.wire().clone());
        }
        took
    }

    /// What must go out before a goodbye: what has begun to, and all that waits unless the client does not
    /// take it anyway.
    fn unsent(&mut self, ending: Ending) -> VecDeque<Bytes> {
        let mut unsent = match ending {
            Ending::Closed | Ending::Broken => return VecDeque::new(),
            Ending::SlowConsumer => VecDeque::new(),
            _ => std::mem::take(&mut self.out),
        };
        unsent.push_front(std::mem::take(&mut self.writing));
        unsent
    }

    /// Writes all that waits and flushes. `Pending` means that the client does not take it.
    ///
    /// The WebSocket library is left to read, and to answer pings. Frames do not go through it: it would
    /// copy each into a buffer that every connection then keeps. It writes only between them, since nothing
    /// is read and no ping is sent while the client takes nothing.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut socket = Pin::new(&mut self.socket);
        if self.writing.is_empty() {
            ready!(socket.as_mut().poll_flush(cx))?;
            if self.out.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        loop {
            while !self.writing.is_empty() {
                let stream = Pin::new(socket.as_mut().get_mut().get_mut());
                match ready!(stream.poll_write(cx, &self.writing)).map_err(Error::Io)? {
                    0 => return Poll::Ready(Err(Error::Io(ErrorKind::WriteZero.into()))),
                    bytes => self.writing.advance(bytes),
                }
            }
            match next_batch(&mut self.out) {
                Some(frames) => self.writing = frames,
                None => break,
            }
        }
        if self.out.capacity() > self.shared.settings.requests_in_flight_max {
            self.out = VecDeque::new();
        }
        socket.poll_flush(cx)
    }
}

/// The next frames to write, in one piece of at most [`WRITE_BATCH_BYTES_MAX`], or one longer frame.
fn next_batch(out: &mut VecDeque<Bytes>) -> Option<Bytes> {
    let first = out.pop_front()?;
    let mut bytes = first.len();
    let followers = out.iter().take_while(|frame| {
        let fits = bytes + frame.len() <= WRITE_BATCH_BYTES_MAX;
        bytes += if fits { frame.len() } else { 0 };
        fits
    });
    let followers = followers.count();
    if followers == 0 {
        return Some(first);
    }
    let mut batch = BytesMut::with_capacity(bytes);
    batch.extend_from_slice(&first);
    for frame in out.drain(..followers) {
        batch.extend_from_slice(&frame);
    }
    Some(batch.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How large what a function of four arguments returns is.
    fn bytes_of<A, B, C, D, F: Future>(_: impl Fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    /// Every connection has one for as long as it is open. What it holds for its last moments only, a
    /// goodbye's buffer say, belongs into a box that is made then.
    #[test]
    fn a_connection_is_small() {
        let bytes = bytes_of(run);
        assert!(bytes <= 2_048, "{bytes} bytes");
    }

    #[test]
    fn what_waits_is_written_together_up_to_a_bound_and_in_order() {
        let lengths = [
            10,
            20,
            WRITE_BATCH_BYTES_MAX - 30,
            1,
            2 * WRITE_BATCH_BYTES_MAX,
            5,
        ];
        let frames = (0..).zip(lengths);
        let mut out: VecDeque<Bytes> = frames
            .map(|(number, length)| Bytes::from(vec![number; length]))
            .collect();
        let expected: Vec<u8> = out.iter().flatten().copied().collect();
        let batches: Vec<Bytes> = std::iter::from_fn(|| next_batch(&mut out)).collect();
        let sizes: Vec<usize> = batches.iter().map(Bytes::len).collect();
        assert_eq!(
            sizes,
            [WRITE_BATCH_BYTES_MAX, 1, 2 * WRITE_BATCH_BYTES_MAX, 5]
        );
        assert_eq!(batches.concat(), expected);
    }
}
