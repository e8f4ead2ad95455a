//! A person's connection: asks, and keeps asking under the same key when a gateway goes away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use uuid::Uuid;

use super::recorder::{Kind, Recorder};
use super::socket::{Socket, SocketError};
use super::wire::{self, Code, Incoming, Request};
use crate::failure::Failure;

/// A request that is not answered in this time is sent again over another connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(12);
/// A request that has no answer this long after it was first sent has failed, and its outcome is unknown.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);
/// The pause before connecting again, doubled each time up to the second.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(20);
/// See [`RETRY_PAUSE_MIN`].
const RETRY_PAUSE_MAX: Duration = Duration::from_millis(500);
/// The longest pause that a gateway is obeyed in.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);

/// The gateways.
#[derive(Debug)]
pub(super) struct Target {
    authorities: Vec<String>,
}

impl Target {
    /// From addresses such as `http://127.0.0.1:7700`.
    pub(super) fn new(gateways: &[String]) -> Result<Self, Failure> {
        let authorities = gateways
            .iter()
            .map(|url| {
                url.strip_prefix("http://")
                    .map(str::to_owned)
                    .ok_or_else(|| {
                        Failure::Usage(format!("{url}: a gateway's address begins with http://"))
                    })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { authorities })
    }

    /// The host and port of one of them, by turns.
    pub(super) fn authority(&self, number: usize) -> &str {
        &self.authorities[number % self.authorities.len()]
    }
}

/// What came of a request.
#[derive(Debug)]
pub(super) enum Answer<T> {
    Reply(T),
    Refused,
    /// Carried out or not: nobody knows.
    Unknown,
}

/// What came of one attempt.
enum Heard<T> {
    Reply(T),
    Refused {
        code: Code,
        retry_after: Option<Duration>,
    },
    /// The gateway closes; what was asked is asked elsewhere.
    Goodbye {
        retry_after: Duration,
    },
    /// An answer that is not the protocol's.
    Nonsense,
}

/// A connection that comes back.
#[derive(Debug)]
pub(super) struct Session {
    target: Arc<Target>,
    recorder: Arc<Recorder>,
    number: usize,
    gateway: usize,
    user: Uuid,
    socket: Option<Socket>,
    next_id: u64,
}

impl Session {
    pub(super) fn new(
        target: Arc<Target>,
        recorder: Arc<Recorder>,
        number: usize,
        user: Uuid,
    ) -> Self {
        Self {
            target,
            recorder,
            number,
            gateway: number,
            user,
            socket: None,
            next_id: 1,
        }
    }

    /// Counts what follows elsewhere.
    pub(super) fn counted_by(mut self, recorder: Arc<Recorder>) -> Self {
        self.recorder = recorder;
        self
    }

    /// Who asks.
    pub(super) fn user(&self) -> Uuid {
        self.user
    }

    /// Its number among the connections.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// Connects for the first time, to the next gateway where one is away.
    pub(super) async fn open(&mut self) -> Result<(), SocketError> {
        let mut others_left = self.target.authorities.len().saturating_sub(1);
        loop {
            match self.connect().await {
                Ok(socket) => {
                    self.socket = Some(socket);
                    return Ok(());
                }
                Err(error) if others_left == 0 => return Err(error),
                Err(_) => {
                    others_left -= 1;
                    self.gateway += 1;
                }
            }
        }
    }

    /// The person leaves and the next in line comes. A gateway that is away is met at the next request.
    pub(super) async fn change_user(&mut self, user: Uuid) {
        self.user = user;
        self.socket = None;
        self.socket = self.connect().await.ok();
    }

    async fn connect(&self) -> Result<Socket, SocketError> {
        Socket::open(self.target.authority(self.gateway), self.user).await
    }

    /// Asks until there is an answer, and records it; `due` is when it should have been asked.
    pub(super) async fn ask<T: DeserializeOwned>(
        &mut self,
        kind: Kind,
        request: Request<'_>,
        due: Instant,
    ) -> Answer<T> {
        let id = self.next_id;
        self.next_id += 1;
        let text = Utf8Bytes::from(request.write(id));
        let mut pause = RETRY_PAUSE_MIN;
        let began = Instant::now();
        loop {
            let wait = match self.attempt::<T>(&text, id).await {
                Ok(Heard::Refused { code, retry_after }) if code.is_error() => {
                    self.recorder.error(code);
                    if !code.is_retryable() {
                        self.recorder.failed();
                        return Answer::Refused;
                    }
                    retry_after.unwrap_or(pause).min(RETRY_AFTER_MAX)
                }
                Ok(Heard::Goodbye { retry_after }) => {
                    self.recorder.goodbye();
                    self.socket = None;
                    self.gateway += 1;
                    retry_after.min(RETRY_AFTER_MAX)
                }
                Ok(Heard::Refused { code, .. }) => {
                    self.recorder.refused(kind, self.number, due, code);
                    return Answer::Refused;
                }
                Ok(Heard::Reply(reply)) => {
                    self.recorder.succeeded(kind, self.number, due);
                    return Answer::Reply(reply);
                }
                Ok(Heard::Nonsense) => pause,
                Err(error) => {
                    tracing::debug!(%error, connection = self.number, "a connection was lost");
                    match error {
                        SocketError::Unreachable(_) => self.recorder.unreachable(),
                        _ => self.recorder.disconnected(),
                    }
                    self.socket = None;
                    self.gateway += 1;
                    pause
                }
            };
            if began.elapsed() + wait > REQUEST_DEADLINE {
                self.recorder.gave_up();
                return Answer::Unknown;
            }
            self.recorder.retried();
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }

    async fn attempt<T: DeserializeOwned>(
        &mut self,
        text: &Utf8Bytes,
        id: u64,
    ) -> Result<Heard<T>, SocketError> {
        if self.socket.is_none() {
            self.socket = Some(self.connect().await?);
        }
        let Some(socket) = &mut self.socket else {
            return Err(SocketError::Closed);
        };
        let exchange = async {
            socket.send(text.clone()).await?;
            loop {
                let message = socket.receive().await?;
                match wire::read(message.as_str()) {
                    Incoming::Reply { id: answered, data } if answered == id => {
                        // Words that are not the protocol's leave the outcome unknown.
                        return Ok(match serde_json::from_str(data) {
                            Ok(reply) => Heard::Reply(reply),
                            Err(_) => Heard::Nonsense,
                        });
                    }
                    Incoming::Refused {
                        id: answered,
                        code,
                        retry_after,
                    } if answered == id => {
                        return Ok(Heard::Refused { code, retry_after });
                    }
                    Incoming::Goodbye { retry_after } => {
                        return Ok(Heard::Goodbye { retry_after });
                    }
                    _ => {}
                }
            }
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, exchange).await {
            Ok(answered) => answered,
            Err(_) => Err(SocketError::TimedOut),
        }
    }
}
