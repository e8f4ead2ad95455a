//! HTTP and WebSockets by the byte, as no well-meaning client would send them.

use std::net::Ipv4Addr;

use grid_config::GatewaySettings;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::{Grid, patiently};

/// The harness's own address is left alone; these are not.
pub(super) const ONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
/// See [`ONE`].
pub(super) const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 10);

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;

/// Limits nobody but the harness is free of.
pub(super) fn only_the_harness_is_exempt(settings: &mut GatewaySettings) {
    settings.edge.exempt = vec!["127.0.0.1".to_owned()];
}

pub(super) async fn connect(grid: &Grid, from: Ipv4Addr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((from, 0).into()).expect("an address");
    let to = grid.address().parse().expect("an address");
    patiently("a connection", socket.connect(to))
        .await
        .expect("connected")
}

/// A request for an address that closes the connection after it.
pub(super) fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n")
}

/// Sends and reads until the end; a connection that breaks has ended too.
pub(super) async fn exchange(mut stream: TcpStream, bytes: &[u8]) -> String {
    let _ = stream.write_all(bytes).await;
    rest(&mut stream).await
}

pub(super) async fn rest(stream: &mut TcpStream) -> String {
    let mut received = Vec::new();
    let _ = patiently("the end", stream.read_to_end(&mut received)).await;
    String::from_utf8_lossy(&received).into_owned()
}

/// What one request of an address is answered, on a connection of its own. A refusal that comes before the
/// request was read may break on its way; then it is asked again.
pub(super) async fn ask(grid: &Grid, from: Ipv4Addr, request: &str) -> String {
    patiently("an answer", async {
        loop {
            let answer = exchange(connect(grid, from).await, request.as_bytes()).await;
            if !answer.is_empty() {
                return answer;
            }
        }
    })
    .await
}

/// The body of an answer.
pub(super) fn body(answer: &str) -> Value {
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
    body.and_then(|body| serde_json::from_str(body).ok())
        .unwrap_or(Value::Null)
}

/// Asserts that an answer says when to come back.
pub(super) fn assert_limited(answer: &str) {
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    assert!(answer.contains("retry-after: "), "{answer}");
    let problem = body(answer);
    assert_eq!(problem["code"], "rate_limited", "{answer}");
    assert!(
        problem["data"]["retry_after_ms"].as_u64() > Some(0),
        "{answer}"
    );
}

/// The head of a handshake.
pub(super) fn upgrade(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

/// The path of a WebSocket of a person.
pub(super) fn of(user: uuid::Uuid) -> String {
    format!("/v1/ws?user_id={user}")
}

/// A WebSocket by the byte.
pub(super) struct Raw {
    stream: TcpStream,
    /// The answer to the handshake.
    pub(super) head: String,
}

impl Raw {
    /// Shakes hands; the answer may be a refusal.
    pub(super) async fn open(grid: &Grid, from: Ipv4Addr, request: &str) -> Self {
        let mut stream = connect(grid, from).await;
        let _ = stream.write_all(request.as_bytes()).await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match patiently("the handshake", stream.read_u8()).await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        Self { stream, head }
    }

    pub(super) async fn of_person(grid: &Grid, from: Ipv4Addr, user: uuid::Uuid) -> Self {
        let raw = Self::open(grid, from, &upgrade(&of(user), "")).await;
        assert!(raw.is_open(), "{}", raw.head);
        raw
    }

    pub(super) fn is_open(&self) -> bool {
        self.head.starts_with("HTTP/1.1 101 ")
    }

    /// Sends bytes; whether the other side still takes them.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> bool {
        patiently("sending", self.stream.write_all(bytes))
            .await
            .is_ok()
    }

    /// The next text message, or the code and reason of the close; `None` at the end.
    async fn next(&mut self) -> Option<Result<Value, (u16, String)>> {
        patiently("a frame", next_of(&mut self.stream)).await
    }

    /// Sends a text message and returns the answer.
    pub(super) async fn ask(&mut self, text: &str) -> Value {
        assert!(self.send(&frame(TEXT, text.as_bytes())).await, "it was cut");
        match self.next().await {
            Some(Ok(answer)) => answer,
            other => panic!("an answer to {text:.200}, not {other:?}"),
        }
    }

    /// Asserts that the next things are a goodbye and the close that belongs to it.
    pub(super) async fn assert_goodbye(&mut self, reason: &str, code: u16, what: &str) {
        patiently(what, goodbye_of(&mut self.stream, reason, code, what)).await;
    }

    /// Sends the same bytes again and again until that is the goodbye.
    pub(super) async fn assert_flood_ends(&mut self, bytes: &[u8], reason: &str, code: u16) {
        let (mut read, mut write) = self.stream.split();
        let flood = async {
            while write.write_all(bytes).await.is_ok() {}
            std::future::pending::<()>().await;
        };
        let goodbye = goodbye_of(&mut read, reason, code, "a flood");
        patiently("the goodbye", async {
            tokio::select! { () = flood => {}, () = goodbye => {} }
        })
        .await;
    }
}

/// See [`Raw::next`].
async fn next_of(stream: &mut (impl AsyncRead + Unpin)) -> Option<Result<Value, (u16, String)>> {
    loop {
        let first = stream.read_u8().await.ok()?;
        let length = match stream.read_u8().await.ok()? {
            126 => usize::from(stream.read_u16().await.ok()?),
            127 => usize::try_from(stream.read_u64().await.ok()?).ok()?,
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.ok()?;
        match first {
            TEXT => return Some(Ok(serde_json::from_slice(&payload).expect("JSON"))),
            CLOSE => {
                let (code, reason) = payload.split_at_checked(2)?;
                let code = u16::from_be_bytes([code[0], code[1]]);
                return Some(Err((code, String::from_utf8_lossy(reason).into_owned())));
            }
            _ => {}
        }
    }
}

async fn goodbye_of(stream: &mut (impl AsyncRead + Unpin), reason: &str, code: u16, what: &str) {
    loop {
        match next_of(stream).await {
            Some(Ok(message)) if message["type"] == "goodbye" => {
                assert_eq!(message["data"]["reason"], reason, "{what}");
            }
            Some(Ok(_)) => {}
            Some(Err(closed)) => {
                assert_eq!(closed, (code, reason.to_owned()), "{what}");
                return;
            }
            None => panic!("{what}: no close"),
        }
    }
}

/// A masked frame with a first byte of one's own choice.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let mut bytes = vec![first];
    match u16::try_from(payload.len()) {
        Ok(length) if length < 126 => bytes.push(0x80 | length as u8),
        Ok(length) => {
            bytes.push(0x80 | 126);
            bytes.extend(length.to_be_bytes());
        }
        Err(_) => {
            bytes.push(0x80 | 127);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    let masked = payload.iter().zip(MASK.iter().cycle());
    bytes.extend(masked.map(|(byte, mask)| byte ^ mask));
    bytes
}
