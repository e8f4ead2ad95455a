//! The frames on a connection once its handshake is over.
//!
//! ```text
//!   len u32 | kind u8 | id u64 | service u8 (Request and Open only) | payload
//!   ╰ bytes that follow it; all numbers little-endian
//! ```
//!
//! `id` names a request or a stream and is chosen by the side that dialled, the only side that may
//! begin either. A frame's length is checked before anything is allocated for it.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Most bytes of one frame, counted after its length field.
pub(crate) const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Most bytes of one payload.
pub(crate) const PAYLOAD_BYTES_MAX: usize = FRAME_BYTES_MAX - HEAD_BYTES_MAX + LENGTH_BYTES;

/// A payload up to this size is copied out of the read buffer rather than shared with it, so that
/// whoever keeps a small payload does not keep a whole buffer alive.
const COPY_BYTES_MAX: usize = 1024;

const LENGTH_BYTES: usize = 4;
const KIND_BYTES: usize = 1;
const ID_BYTES: usize = 8;
const SERVICE_BYTES: usize = 1;
const HEAD_BYTES_MAX: usize = LENGTH_BYTES + KIND_BYTES + ID_BYTES + SERVICE_BYTES;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Dialler asks; the payload is the request.
    Request { service: u8 },
    /// The answer to the request of the same id.
    Reply,
    /// The request of the same id will not be answered.
    Reject,
    /// Dialler begins a stream; the payload is its header.
    Open { service: u8 },
    /// One message of a stream, in either direction.
    Data,
    /// A side closed the stream.
    Close,
    /// A side lost messages of the stream, or cannot hold another stream.
    Reset,
    /// Asks for a `Pong`, to learn whether a silent peer is still there.
    Ping,
    /// Answers a `Ping`.
    Pong,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Request { .. } => 1,
            Self::Reply => 2,
            Self::Reject => 3,
            Self::Open { .. } => 4,
            Self::Data => 5,
            Self::Close => 6,
            Self::Reset => 7,
            Self::Ping => 8,
            Self::Pong => 9,
        }
    }

    /// Whether the peer owes nothing for it: such frames do not arm the silence check, or two idle
    /// nodes would ping each other for ever.
    pub(super) fn is_probe(self) -> bool {
        matches!(self, Self::Ping | Self::Pong)
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) id: u64,
    pub(super) payload: Bytes,
}

impl Frame {
    pub(super) fn new(kind: Kind, id: u64, payload: Bytes) -> Self {
        Self { kind, id, payload }
    }

    /// A frame that says all by its kind and id.
    pub(super) fn bare(kind: Kind, id: u64) -> Self {
        Self::new(kind, id, Bytes::new())
    }

    /// Bytes on the wire, at most: what a queue counts.
    pub(super) fn wire_bytes(&self) -> usize {
        HEAD_BYTES_MAX + self.payload.len()
    }

    /// Appends everything but the payload.
    pub(super) fn put_head(&self, out: &mut BytesMut) {
        let service = match self.kind {
            Kind::Request { service } | Kind::Open { service } => Some(service),
            _ => None,
        };
        let after_length =
            KIND_BYTES + ID_BYTES + usize::from(service.is_some()) + self.payload.len();
        let after_length =
            u32::try_from(after_length).expect("payloads are checked against PAYLOAD_BYTES_MAX");
        out.put_u32_le(after_length);
        out.put_u8(self.kind.code());
        out.put_u64_le(self.id);
        if let Some(service) = service {
            out.put_u8(service);
        }
    }
}

/// The peer sent something that no peer of this version sends; its connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a frame of {bytes} bytes exceeds the limit")]
    TooLarge { bytes: usize },
    #[error("a frame of {bytes} bytes is too short for its kind")]
    TooShort { bytes: usize },
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
}

/// What the front of the read buffer holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    /// One frame, taken out of the buffer.
    Frame(Frame),
    /// Not yet a whole frame; at least this many more bytes are needed.
    Incomplete { missing_bytes: usize },
}

/// Takes the next frame out of `buffer`, if it is there whole.
pub(super) fn decode(buffer: &mut BytesMut) -> Result<Decoded, FrameError> {
    let Some(length) = buffer.first_chunk::<LENGTH_BYTES>() else {
        return Ok(Decoded::Incomplete {
            missing_bytes: LENGTH_BYTES - buffer.len(),
        });
    };
    let bytes = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if bytes > FRAME_BYTES_MAX {
        return Err(FrameError::TooLarge { bytes });
    }
    if bytes < KIND_BYTES + ID_BYTES {
        return Err(FrameError::TooShort { bytes });
    }
    let whole_bytes = LENGTH_BYTES + bytes;
    if buffer.len() < whole_bytes {
        return Ok(Decoded::Incomplete {
            missing_bytes: whole_bytes - buffer.len(),
        });
    }
    buffer.advance(LENGTH_BYTES);
    let code = buffer.get_u8();
    let id = buffer.get_u64_le();
    let mut payload_bytes = bytes - KIND_BYTES - ID_BYTES;
    let mut service = |buffer: &mut BytesMut| {
        payload_bytes = payload_bytes
            .checked_sub(SERVICE_BYTES)
            .ok_or(FrameError::TooShort { bytes })?;
        Ok(buffer.get_u8())
    };
    let kind = match code {
        1 => Kind::Request {
            service: service(buffer)?,
        },
        2 => Kind::Reply,
        3 => Kind::Reject,
        4 => Kind::Open {
            service: service(buffer)?,
        },
        5 => Kind::Data,
        6 => Kind::Close,
        7 => Kind::Reset,
        8 => Kind::Ping,
        9 => Kind::Pong,
        other => return Err(FrameError::UnknownKind(other)),
    };
    let payload = if payload_bytes <= COPY_BYTES_MAX {
        buffer.copy_to_bytes(payload_bytes)
    } else {
        buffer.split_to(payload_bytes).freeze()
    };
    Ok(Decoded::Frame(Frame { kind, id, payload }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(frame: &Frame) -> BytesMut {
        let mut out = BytesMut::new();
        frame.put_head(&mut out);
        out.extend_from_slice(&frame.payload);
        out
    }

    #[test]
    fn every_kind_survives_the_wire() {
        for kind in [
            Kind::Request { service: 7 },
            Kind::Reply,
            Kind::Reject,
            Kind::Open { service: 255 },
            Kind::Data,
            Kind::Close,
            Kind::Reset,
            Kind::Ping,
            Kind::Pong,
        ] {
            for size in [0, 1, COPY_BYTES_MAX, COPY_BYTES_MAX + 1] {
                let frame = Frame::new(kind, u64::MAX - 1, Bytes::from(vec![9; size]));
                let mut wire = encode(&frame);
                wire.extend_from_slice(b"next");
                assert_eq!(decode(&mut wire), Ok(Decoded::Frame(frame)));
                assert_eq!(&wire[..], b"next");
            }
        }
    }

    #[test]
    fn a_part_of_a_frame_asks_for_more_and_takes_nothing() {
        let wire = encode(&Frame::new(Kind::Data, 3, Bytes::from_static(b"payload")));
        for cut in 0..wire.len() {
            let mut part = BytesMut::from(&wire[..cut]);
            let Ok(Decoded::Incomplete { missing_bytes }) = decode(&mut part) else {
                panic!("{cut} bytes are not a frame");
            };
            assert!(missing_bytes >= 1 && missing_bytes <= wire.len() - cut);
            assert_eq!(part.len(), cut);
        }
    }

    #[test]
    fn lengths_and_kinds_are_checked() {
        let mut oversize = BytesMut::from(&u32::MAX.to_le_bytes()[..]);
        assert!(matches!(
            decode(&mut oversize),
            Err(FrameError::TooLarge { .. })
        ));
        let mut short = BytesMut::from(&8_u32.to_le_bytes()[..]);
        assert_eq!(decode(&mut short), Err(FrameError::TooShort { bytes: 8 }));
        let mut no_service = encode(&Frame::bare(Kind::Reply, 1));
        no_service[4] = 1;
        assert_eq!(
            decode(&mut no_service),
            Err(FrameError::TooShort { bytes: 9 })
        );
        let mut unknown = encode(&Frame::bare(Kind::Reply, 1));
        unknown[4] = 77;
        assert_eq!(decode(&mut unknown), Err(FrameError::UnknownKind(77)));
    }

    #[test]
    fn the_largest_payload_fits_with_every_head() {
        let mut out = BytesMut::new();
        let payload = Bytes::from(vec![0; PAYLOAD_BYTES_MAX]);
        Frame::new(Kind::Request { service: 1 }, 1, payload).put_head(&mut out);
        let length = u32::from_le_bytes(*out.first_chunk().expect("a head was written"));
        assert_eq!(usize::try_from(length), Ok(FRAME_BYTES_MAX));
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Decoded::Frame(_)) = decode(&mut buffer) {}
        }
    }
}
