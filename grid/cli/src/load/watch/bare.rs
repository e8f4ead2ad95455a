//! The comparison: a loop that writes the same bytes to as many sockets and does nothing else.

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::frames::bid_frame;
use crate::output::Output;

/// Where it listens.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Listening {
    /// On the loopback address.
    pub(crate) port: u16,
    /// The process that writes.
    pub(crate) pid: i32,
}

/// An order is carried out.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Wrote {
    /// The rounds of it.
    pub(crate) wrote: u64,
}

/// Takes so many connections, then writes to all of them for every line `write OFFSET_MS ROUNDS` on standard
/// input.
pub(crate) fn run(sockets: usize) -> anyhow::Result<()> {
    // Whoever started it reads it, whatever that was asked to print.
    let output = Output { json: true };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let listening = Listening {
        port: listener.local_addr()?.port(),
        pid: i32::try_from(std::process::id())?,
    };
    output.result(&listening, String::new)?;
    let mut accepted = Vec::with_capacity(sockets);
    while accepted.len() < sockets {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        accepted.push(stream);
    }
    output.result(&listening, String::new)?;
    let mut number = 0;
    for line in std::io::stdin().lines() {
        let line = line?;
        let mut words = line.split(' ').skip(1).map(str::parse::<u64>);
        let (Some(Ok(offset_ms)), Some(Ok(rounds))) = (words.next(), words.next()) else {
            anyhow::bail!("an unknown order: {line}");
        };
        for round in 0..rounds {
            number += 1;
            let frame = bid_frame(number, offset_ms + round);
            for stream in &mut accepted {
                write(stream, &frame)?;
            }
        }
        output.result(&Wrote { wrote: rounds }, String::new)?;
    }
    Ok(())
}

fn write(stream: &mut TcpStream, mut frame: &[u8]) -> std::io::Result<()> {
    while !frame.is_empty() {
        match stream.write(frame) {
            Ok(bytes) => frame = &frame[bytes..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
