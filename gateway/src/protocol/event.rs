//! An event as it goes over the wire: one WebSocket frame, made once for all who get it.
//!
//! Frames from a server are not masked, so the same bytes are good for every client.

use bytes::{BufMut, Bytes, BytesMut};

/// A final text frame.
const FINAL_TEXT: u8 = 0x81;
/// The longest payload whose length is in the second byte.
const SHORT_BYTES_MAX: usize = 125;

/// A text message with its frame around it.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    wire: Bytes,
    head: usize,
}

impl Encoded {
    /// Puts a frame around a text.
    pub(crate) fn text(payload: &[u8]) -> Self {
        let mut wire = BytesMut::with_capacity(payload.len() + 10);
        wire.put_u8(FINAL_TEXT);
        match payload.len() {
            length @ ..=SHORT_BYTES_MAX => wire.put_u8(length as u8),
            length => match u16::try_from(length) {
                Ok(length) => {
                    wire.put_u8(126);
                    wire.put_u16(length);
                }
                Err(_) => {
                    wire.put_u8(127);
                    wire.put_u64(length as u64);
                }
            },
        }
        let head = wire.len();
        wire.put_slice(payload);
        Self {
            wire: wire.freeze(),
            head,
        }
    }

    /// The whole frame.
    pub(crate) fn wire(&self) -> &Bytes {
        &self.wire
    }

    /// The same, where nobody else needs it.
    pub(crate) fn into_wire(self) -> Bytes {
        self.wire
    }

    /// The text alone.
    pub(crate) fn payload(&self) -> Bytes {
        self.wire.slice(self.head..)
    }
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

    use super::*;

    #[test]
    fn the_frame_is_what_the_library_makes() {
        for bytes in [0, 1, 125, 126, 127, 65_535, 65_536] {
            let payload = Bytes::from(vec![b'x'; bytes]);
            let encoded = Encoded::text(&payload);
            let mut expected = Vec::new();
            let frame = Frame::message(payload.clone(), OpCode::Data(Data::Text), true);
            frame.format(&mut expected).expect("in memory");
            assert_eq!(encoded.wire(), &expected, "{bytes}");
            assert_eq!(encoded.payload(), payload);
        }
    }
}
