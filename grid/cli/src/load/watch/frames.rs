//! What a watcher hears, read from a socket's bytes with as little work as can be.

/// A masked pong without a payload.
pub(super) const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];
/// What an amount begins with, in minor units, so that the first is more than nothing.
pub(super) const FIRST_AMOUNT: u64 = 1_000;
/// How the answer to an upgrade begins that is let in.
const SWITCHING: &str = "HTTP/1.1 101 ";
/// More than this of a message that is not whole yet is not a gateway's.
const REST_BYTES_MAX: usize = 1 << 20;

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard<'a> {
    /// A snapshot, or the word that a subscription goes on.
    Opened {
        cursor: Option<&'a str>,
        /// Whether what was missed follows; `None` where nothing was resumed.
        replayed: Option<bool>,
    },
    Bid {
        /// The bids of the auction so far.
        number: u64,
        /// When it was to be made, as its amount says.
        offset_ms: u64,
        cursor: &'a str,
        bytes: usize,
    },
    Ping,
    /// The upgrade was answered.
    Switched,
    /// The upgrade was refused, with this status line.
    Refused(&'a str),
    /// The connection is about to be ended, for this reason.
    Goodbye(&'a str),
    Other,
}

/// A connection's bytes as messages.
#[derive(Debug, Default)]
pub(super) struct Frames {
    rest: Vec<u8>,
    is_upgrading: bool,
}

impl Frames {
    /// Of a connection whose upgrade is not answered yet.
    pub(super) fn after_upgrade() -> Self {
        Self {
            rest: Vec::new(),
            is_upgrading: true,
        }
    }

    /// Takes bytes in and shows every whole message.
    pub(super) fn take(&mut self, bytes: &[u8], mut hear: impl FnMut(Heard<'_>)) {
        if self.rest.is_empty() {
            let used = self.whole(bytes, &mut hear);
            self.rest.extend_from_slice(&bytes[used..]);
            return;
        }
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let used = self.whole(&all, &mut hear);
        if used < all.len() && all.len() < REST_BYTES_MAX {
            all.drain(..used);
            self.rest = all;
        }
    }

    fn whole(&mut self, bytes: &[u8], hear: &mut impl FnMut(Heard<'_>)) -> usize {
        let mut used = 0;
        if self.is_upgrading {
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
                return 0;
            };
            self.is_upgrading = false;
            used = end + 4;
            let line = bytes.split(|byte| *byte == b'\r').next();
            let line = line.and_then(|line| std::str::from_utf8(line).ok());
            let line = line.unwrap_or_default();
            if !line.starts_with(SWITCHING) {
                hear(Heard::Refused(line));
                return bytes.len();
            }
            hear(Heard::Switched);
        }
        while let Some((opcode, head, length)) = head(&bytes[used..]) {
            let Some(payload) = bytes.get(used + head..used + head + length) else {
                break;
            };
            used += head + length;
            let text = || std::str::from_utf8(payload).unwrap_or_default();
            match opcode {
                1 => hear(read(text(), head)),
                2 => each_of_nats(text(), head, hear),
                9 => hear(Heard::Ping),
                _ => hear(Heard::Other),
            }
        }
        used
    }
}

/// The opcode, the length of the frame's head and of its payload.
fn head(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let opcode = bytes.first()? & 0x0f;
    match bytes.get(1)? & 0x7f {
        126 => {
            let length = bytes.get(2..4)?;
            Some((
                opcode,
                4,
                usize::from(u16::from_be_bytes(length.try_into().ok()?)),
            ))
        }
        127 => {
            let length = u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?);
            Some((opcode, 10, usize::try_from(length).ok()?))
        }
        length => Some((opcode, 2, usize::from(length))),
    }
}

/// What `nats-server` says in one frame: one line of its protocol after the other.
fn each_of_nats(text: &str, head: usize, hear: &mut impl FnMut(Heard<'_>)) {
    for line in text.split("\r\n") {
        match line {
            "PONG" => hear(Heard::Opened {
                cursor: None,
                replayed: None,
            }),
            line if line.starts_with('{') => hear(read(line, head)),
            _ => {}
        }
    }
}

fn read(text: &str, head: usize) -> Heard<'_> {
    let kind = after(text, r#"{"type":""#).unwrap_or_default();
    if kind.starts_with("bid_placed") {
        let bid = || {
            let amount = after(text, r#""amount":{"amount":""#)?;
            let (whole, rest) = amount.split_once('.')?;
            let cents = rest.get(..2)?.parse::<u64>().ok()?;
            let minor = whole.parse::<u64>().ok()? * 100 + cents;
            Some(Heard::Bid {
                number: digits(after(text, r#""bids":"#)?)?,
                offset_ms: minor.checked_sub(FIRST_AMOUNT)?,
                cursor: quoted(after(text, r#""cursor":""#)?)?,
                bytes: head + text.len(),
            })
        };
        return bid().unwrap_or(Heard::Other);
    }
    if kind.starts_with("snapshot") {
        return Heard::Opened {
            cursor: after(text, r#""cursor":""#).and_then(quoted),
            replayed: None,
        };
    }
    if kind.starts_with("goodbye") {
        let reason = after(text, r#""reason":""#).and_then(quoted);
        return Heard::Goodbye(reason.unwrap_or_default());
    }
    if kind.starts_with("resumed") {
        return Heard::Opened {
            cursor: None,
            replayed: Some(text.contains(r#""mode":"replayed""#)),
        };
    }
    Heard::Other
}

fn after<'a>(text: &'a str, what: &str) -> Option<&'a str> {
    text.find(what).map(|place| &text[place + what.len()..])
}

fn quoted(text: &str) -> Option<&str> {
    text.split_once('"').map(|(quoted, _)| quoted)
}

fn digits(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    text[..end].parse().ok()
}

/// A client's text frame, masked with nothing.
pub(super) fn masked(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u8::try_from(payload.len()) {
        Ok(length) if length < 126 => frame.push(0x80 | length),
        // A subscription is far shorter than 64 KiB.
        _ => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// The text of a bid as a gateway sends it, in a frame, for those who measure without a gateway.
pub(super) fn bid_frame(number: u64, offset_ms: u64) -> Vec<u8> {
    let minor = FIRST_AMOUNT + offset_ms;
    let money = format!(
        r#"{{"amount":"{}.{:02}","currency":"EUR"}}"#,
        minor / 100,
        minor % 100
    );
    let id = "00000000-0000-4000-8000-000000000003";
    let text = format!(
        r#"{{"type":"bid_placed","auction_id":"{id}","data":{{"bid_id":"{id}","user_id":"bidder-1","amount":{money},"current_price":{money},"minimum_next":{money},"bids":{number},"reserve_met":true}},"cursor":"2:{number}:0","timestamp":1790000000000}}"#
    );
    let mut frame = vec![0x81, 126];
    frame.extend_from_slice(&(text.len() as u16).to_be_bytes());
    frame.extend_from_slice(text.as_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_however_the_bytes_are_cut() {
        let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\nx: y\r\n\r\n".to_vec();
        let resumed = br#"{"type":"resumed","data":{"mode":"replayed"}}"#;
        bytes.extend_from_slice(&[0x81, resumed.len() as u8]);
        bytes.extend_from_slice(resumed);
        bytes.extend_from_slice(&bid_frame(7, 1_234));
        bytes.extend_from_slice(&[0x89, 0]);
        for piece in [1, 3, 50, bytes.len()] {
            let mut frames = Frames::after_upgrade();
            let mut heard = Vec::new();
            for piece in bytes.chunks(piece) {
                frames.take(piece, |one| heard.push(format!("{one:?}")));
            }
            assert_eq!(heard.len(), 4, "{heard:?}");
            assert_eq!(heard[0], "Switched");
            assert!(heard[1].contains("replayed: Some(true)"), "{heard:?}");
            assert!(
                heard[2].contains(r#"number: 7, offset_ms: 1234, cursor: "2:7:0""#),
                "{heard:?}"
            );
            assert_eq!(heard[3], "Ping");
        }
    }

    #[test]
    fn a_frame_of_nats_holds_several_messages() {
        let bid = bid_frame(7, 1_234);
        let bid = std::str::from_utf8(&bid[4..]).expect("text");
        let text = format!("PONG\r\nMSG updates 1 300\r\n{bid}\r\nMSG updates 1 300\r\n{bid}\r\n");
        let mut frame = vec![0x82, 126];
        frame.extend_from_slice(&(text.len() as u16).to_be_bytes());
        frame.extend_from_slice(text.as_bytes());
        let mut heard = Vec::new();
        Frames::default().take(&frame, |one| heard.push(format!("{one:?}")));
        assert!(heard[0].starts_with("Opened"), "{heard:?}");
        assert_eq!(heard.len(), 3, "{heard:?}");
        assert!(heard[1].contains("number: 7"), "{heard:?}");
    }

    #[test]
    fn a_refused_upgrade_and_a_goodbye_say_why() {
        let refusal = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\n\r\n{}";
        let mut heard = Vec::new();
        Frames::after_upgrade().take(refusal, |one| heard.push(format!("{one:?}")));
        assert_eq!(heard, [r#"Refused("HTTP/1.1 429 Too Many Requests")"#]);

        let goodbye = br#"{"type":"goodbye","data":{"reason":"slow_consumer"}}"#;
        let mut bytes = vec![0x81, goodbye.len() as u8];
        bytes.extend_from_slice(goodbye);
        Frames::default().take(&bytes, |one| {
            assert_eq!(one, Heard::Goodbye("slow_consumer"));
        });
    }
}
