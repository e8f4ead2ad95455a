//! What two nodes tell each other before the first frame, and why one refuses the other.
//!
//! ```text
//!   dialler  ─► magic 8 | version u16 | len u16 | body: grid id, from, to, incarnation, role, lane, fingerprint
//!   acceptor ─► magic 8 | version u16 | len u16 | body: 0, the same from the other side
//!                                              or body: reason u8 | text
//! ```
//!
//! Both sides check all of it, so neither can be talked into a connection it does not want. The
//! prefix and the layout of a refusal never change, whatever the version: that is what lets two
//! versions tell each other that they differ.
//!
//! A *guest* is a node that is not a member (yet), or does not know the members: it is let in for a
//! single conversation, in which it may ask to join. It need not know the number of whom it dials.
//!
//! A *gateway* is no node and never becomes one: it asks on behalf of clients, and only what
//! [`super::Handler::may_gateway_ask`] lets it. It need know neither the grid, nor the number of whom it
//! dials, nor the settings that the nodes share. A build that does not know the role takes it for a member's
//! and refuses the number.
//!
//! It proves nothing about who the peer is: that is for the layer that secures the stream (see
//! [`super::wire`]).

use std::io;

use bytes::{Buf, BufMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Lane;

const MAGIC: [u8; 8] = *b"gridnode";
/// Raised whenever frames or the body of the handshake change.
pub(super) const PROTOCOL_VERSION: u16 = 3;
/// A guest's and a gateway's word for a node whose number it does not know.
pub(super) const WHOEVER: u64 = 0;
/// A gateway's word for a grid whose id it does not know.
pub(crate) const WHICHEVER_GRID: u128 = 0;
const PREFIX_BYTES: usize = 12;
/// Most bytes of a handshake's body, in either direction.
const BODY_BYTES_MAX: usize = 1024;
/// Most bytes of the cluster settings' fingerprint.
pub(crate) const FINGERPRINT_BYTES_MAX: usize = 256;
/// Most bytes of a refusal's text.
const DETAIL_BYTES_MAX: usize = 512;
const WELCOME: u8 = 0;

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RefusalReason {
    /// The nodes speak different versions of the transport.
    Version,
    /// They belong to different grids.
    GridId,
    /// The node dialled is not the one meant: an address leads to the wrong node.
    WrongNode,
    /// The dialling node is not a member of the grid.
    UnknownNode,
    /// Their cluster settings differ.
    Fingerprint,
    /// The node has another disk than the grid knows it by.
    Incarnation,
    /// The node was removed from the grid for good.
    Removed,
    /// The peer's certificate is missing, not of the CA, expired, or of another node.
    Certificate,
    /// One side speaks TLS and the other does not.
    Plaintext,
    /// What was sent is not a handshake, though it began like one.
    Malformed,
    /// A reason this build does not know.
    Other,
}

impl RefusalReason {
    /// A short stable name, for metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::GridId => "grid_id",
            Self::WrongNode => "wrong_node",
            Self::UnknownNode => "unknown_node",
            Self::Fingerprint => "fingerprint",
            Self::Incarnation => "incarnation",
            Self::Removed => "removed",
            Self::Certificate => "certificate",
            Self::Plaintext => "plaintext",
            Self::Malformed => "malformed",
            Self::Other => "other",
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Version => 1,
            Self::GridId => 2,
            Self::WrongNode => 3,
            Self::UnknownNode => 4,
            Self::Fingerprint => 5,
            Self::Malformed => 6,
            Self::Incarnation => 20,
            Self::Removed => 21,
            Self::Certificate => 30,
            Self::Plaintext => 31,
            Self::Other => 255,
        }
    }

    fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Version,
            2 => Self::GridId,
            3 => Self::WrongNode,
            4 => Self::UnknownNode,
            5 => Self::Fingerprint,
            6 => Self::Malformed,
            20 => Self::Incarnation,
            21 => Self::Removed,
            30 => Self::Certificate,
            31 => Self::Plaintext,
            _ => Self::Other,
        }
    }
}

/// A refusal, with what an operator needs to set it right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub(crate) struct Refusal {
    /// Why.
    pub(crate) reason: RefusalReason,
    /// In words.
    pub(crate) detail: String,
}

impl Refusal {
    pub(super) fn new(reason: RefusalReason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }
}

/// Why a handshake did not end in a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    /// This side refuses.
    #[error("refused: {refusal}")]
    RefusedHere {
        refusal: Refusal,
        /// The node the peer says it is, if that much was understood.
        peer: Option<u64>,
    },
    /// The other side refuses.
    #[error("refused by the peer: {0}")]
    RefusedThere(Refusal),
    /// Whatever is at the other end does not speak this protocol at all.
    #[error("the peer does not speak the nodes' protocol")]
    Garbage,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
}

/// As what the dialling side comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A node of the grid.
    Member,
    /// A node that is none yet, or does not know the others.
    Guest,
    /// Whoever asks for clients.
    Gateway,
}

impl Role {
    fn code(self) -> u8 {
        match self {
            Self::Member => 0,
            Self::Guest => 1,
            Self::Gateway => 2,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        let all = [Self::Member, Self::Guest, Self::Gateway];
        all.into_iter().find(|role| role.code() == code)
    }
}

/// What a node says of itself and of whom it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) grid_id: u128,
    pub(super) from: u64,
    pub(super) to: u64,
    /// Stands for the disk of the node that speaks.
    pub(super) incarnation: u64,
    pub(super) role: Role,
    pub(super) lane: Lane,
    pub(super) fingerprint: String,
}

impl Hello {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_u128_le(self.grid_id);
        out.put_u64_le(self.from);
        out.put_u64_le(self.to);
        out.put_u64_le(self.incarnation);
        out.put_u8(self.role.code());
        out.put_u8(self.lane.code());
        let length = u16::try_from(self.fingerprint.len())
            .expect("the fingerprint was checked against FINGERPRINT_BYTES_MAX at start");
        out.put_u16_le(length);
        out.put_slice(self.fingerprint.as_bytes());
    }

    fn parse(mut body: &[u8]) -> Option<Self> {
        let grid_id = body.try_get_u128_le().ok()?;
        let from = body.try_get_u64_le().ok()?;
        let to = body.try_get_u64_le().ok()?;
        let incarnation = body.try_get_u64_le().ok()?;
        let role = Role::from_code(body.try_get_u8().ok()?)?;
        let lane = Lane::from_code(body.try_get_u8().ok()?)?;
        let length = usize::from(body.try_get_u16_le().ok()?);
        if length > FINGERPRINT_BYTES_MAX || body.len() != length {
            return None;
        }
        let fingerprint = String::from_utf8(body.to_vec()).ok()?;
        Some(Self {
            grid_id,
            from,
            to,
            incarnation,
            role,
            lane,
            fingerprint,
        })
    }

    /// Compares what this node is (`self`, from it to the peer) with what the peer said.
    fn check(&self, peer: &Self) -> Result<(), Refusal> {
        let refuse = |reason, detail: String| Err(Refusal::new(reason, detail));
        let has_gateway = peer.role == Role::Gateway || self.role == Role::Gateway;
        let is_open = has_gateway && [self.grid_id, peer.grid_id].contains(&WHICHEVER_GRID);
        if peer.grid_id != self.grid_id && !is_open {
            return refuse(
                RefusalReason::GridId,
                format!(
                    "node {} is of grid {:032x}, node {} of grid {:032x}",
                    self.from, self.grid_id, peer.from, peer.grid_id
                ),
            );
        }
        let may_be_whoever = peer.role != Role::Member && peer.to == WHOEVER;
        let is_meant = peer.to == self.from || may_be_whoever;
        if !is_meant || peer.from == self.from {
            return refuse(
                RefusalReason::WrongNode,
                format!(
                    "node {} meant node {} and got node {}; check the members' addresses",
                    peer.from, peer.to, self.from
                ),
            );
        }
        if peer.fingerprint != self.fingerprint && !has_gateway {
            return refuse(
                RefusalReason::Fingerprint,
                format!(
                    "the cluster settings of nodes {} and {} differ ({:?}, {:?})",
                    self.from, peer.from, self.fingerprint, peer.fingerprint
                ),
            );
        }
        Ok(())
    }
}

fn message(version: u16, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(PREFIX_BYTES + body.len());
    out.put_slice(&MAGIC);
    out.put_u16_le(version);
    out.put_u16_le(u16::try_from(body.len()).expect("bodies are bounded by BODY_BYTES_MAX"));
    out.put_slice(body);
    out
}

/// The first message of the dialling side.
pub(super) fn hello_message(version: u16, hello: &Hello) -> Vec<u8> {
    let mut body = Vec::new();
    hello.put(&mut body);
    message(version, &body)
}

fn welcome_message(hello: &Hello) -> Vec<u8> {
    let mut body = vec![WELCOME];
    hello.put(&mut body);
    message(PROTOCOL_VERSION, &body)
}

fn refusal_message(refusal: &Refusal) -> Vec<u8> {
    let detail = refusal.detail.as_bytes();
    let mut body = vec![refusal.reason.code()];
    body.put_slice(&detail[..detail.len().min(DETAIL_BYTES_MAX)]);
    message(PROTOCOL_VERSION, &body)
}

/// Reads one message: its version and body.
async fn read_message<R: AsyncRead + Unpin>(
    socket: &mut R,
) -> Result<(u16, Vec<u8>), HandshakeError> {
    let mut prefix = [0; PREFIX_BYTES];
    // The magic alone first, so that a stranger who sends less than a prefix is known for one.
    let (magic, rest) = prefix.split_at_mut(MAGIC.len());
    socket.read_exact(magic).await?;
    if *magic != MAGIC {
        return Err(HandshakeError::Garbage);
    }
    socket.read_exact(rest).await?;
    let mut rest = &*rest;
    let version = rest.get_u16_le();
    let length = usize::from(rest.get_u16_le());
    if length > BODY_BYTES_MAX {
        return Err(HandshakeError::RefusedHere {
            refusal: Refusal::new(
                RefusalReason::Malformed,
                format!("a handshake of {length} bytes exceeds the limit"),
            ),
            peer: None,
        });
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await?;
    Ok((version, body))
}

/// The dialling side: introduces this node and checks the answer, which it returns.
pub(super) async fn introduce<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut S,
    hello: &Hello,
) -> Result<Hello, HandshakeError> {
    socket
        .write_all(&hello_message(PROTOCOL_VERSION, hello))
        .await?;
    socket.flush().await?;
    let (version, body) = read_message(socket).await?;
    let here = |refusal| HandshakeError::RefusedHere {
        refusal,
        peer: Some(hello.to),
    };
    match body.split_first() {
        Some((&WELCOME, welcome)) if version == PROTOCOL_VERSION => {
            let answer = Hello::parse(welcome).ok_or_else(|| {
                here(Refusal::new(
                    RefusalReason::Malformed,
                    format!("node {} answered with a malformed handshake", hello.to),
                ))
            })?;
            hello.check(&answer).map_err(here)?;
            if (hello.to != WHOEVER && answer.from != hello.to) || answer.lane != hello.lane {
                return Err(here(Refusal::new(
                    RefusalReason::WrongNode,
                    format!("node {} answered for node {}", answer.from, hello.to),
                )));
            }
            Ok(answer)
        }
        Some((&code, detail)) if code != WELCOME => {
            let detail = &detail[..detail.len().min(DETAIL_BYTES_MAX)];
            Err(HandshakeError::RefusedThere(Refusal::new(
                RefusalReason::from_code(code),
                String::from_utf8_lossy(detail).escape_debug().to_string(),
            )))
        }
        _ => Err(here(version_refusal(version))),
    }
}

fn version_refusal(version: u16) -> Refusal {
    Refusal::new(
        RefusalReason::Version,
        format!("transport version {PROTOCOL_VERSION} cannot talk to version {version}"),
    )
}

/// Tells the peer of a refusal. It stands whether or not the peer hears of it.
pub(super) async fn refuse<S: AsyncWrite + Unpin>(socket: &mut S, refusal: &Refusal) {
    let _ = socket.write_all(&refusal_message(refusal)).await;
    let _ = socket.shutdown().await;
}

/// Refuses a node that introduces itself in plain text; returns what to tell this side.
pub(super) async fn refuse_plaintext<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut S,
) -> HandshakeError {
    let hello = match read_message(socket).await {
        Ok((_, body)) => Hello::parse(&body),
        Err(error) => return error,
    };
    let refusal = Refusal::new(
        RefusalReason::Plaintext,
        "a node that dialled has no certificate; give it one with `grid certs create-node`",
    );
    refuse(socket, &refusal).await;
    HandshakeError::RefusedHere {
        refusal,
        peer: hello.map(|hello| hello.from),
    }
}

/// The accepting side: reads the introduction, checks it, answers. `judge` knows the other nodes of the
/// grid and what the peer has proven.
pub(super) async fn receive<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut S,
    own: &Hello,
    judge: impl Fn(&Hello) -> Result<(), Refusal>,
) -> Result<Hello, HandshakeError> {
    let judged = match read_message(socket).await {
        Ok((version, _)) if version != PROTOCOL_VERSION => Err((version_refusal(version), None)),
        Ok((_, body)) => match Hello::parse(&body) {
            None => Err((
                Refusal::new(RefusalReason::Malformed, "the handshake is malformed"),
                None,
            )),
            Some(hello) => {
                let own = Hello {
                    to: hello.from,
                    lane: hello.lane,
                    role: hello.role,
                    ..own.clone()
                };
                match own.check(&hello).and_then(|()| judge(&hello)) {
                    Err(refusal) => Err((refusal, Some(hello.from))),
                    Ok(()) => Ok((hello, own)),
                }
            }
        },
        Err(HandshakeError::RefusedHere { refusal, peer }) => Err((refusal, peer)),
        Err(other) => return Err(other),
    };
    match judged {
        Ok((hello, own)) => {
            socket.write_all(&welcome_message(&own)).await?;
            socket.flush().await?;
            Ok(hello)
        }
        Err((refusal, peer)) => {
            refuse(socket, &refusal).await;
            Err(HandshakeError::RefusedHere { refusal, peer })
        }
    }
}

/// What a stand-in for an accepting node answers, for tests of the other side.
#[cfg(test)]
pub(super) async fn read_hello_and_welcome<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut S,
) -> Hello {
    let (_, body) = read_message(socket).await.expect("a hello arrives");
    let hello = Hello::parse(&body).expect("it is one");
    let own = Hello {
        from: hello.to,
        to: hello.from,
        ..hello.clone()
    };
    socket
        .write_all(&welcome_message(&own))
        .await
        .expect("the dialler listens");
    hello
}

#[cfg(test)]
pub(super) async fn read_refusal<S: AsyncRead + Unpin>(socket: &mut S) -> Option<RefusalReason> {
    let (_, body) = read_message(socket).await.ok()?;
    match body.first() {
        Some(&code) if code != WELCOME => Some(RefusalReason::from_code(code)),
        _ => None,
    }
}
