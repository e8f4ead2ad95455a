//! The processes of a measurement: several full of watchers, and one that writes without a gateway.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::watchers::{Resumed, Seen};

/// How long an order may take.
const ANSWER_WAIT: Duration = Duration::from_secs(300);

/// A process that takes orders. It ends with this.
#[derive(Debug)]
pub(super) struct Hand {
    input: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Hand {
    /// Starts `grid load` with these arguments.
    pub(super) fn start(arguments: &[String]) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's file")?;
        let mut child = Command::new(program)
            .arg("load")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a load process")?;
        let input = child.stdin.take().context("a load process has no input")?;
        let output = child
            .stdout
            .take()
            .context("a load process has no output")?;
        Ok(Self {
            input,
            answers: BufReader::new(output).lines(),
            _child: child,
        })
    }

    pub(super) async fn order(&mut self, order: &str) -> anyhow::Result<()> {
        self.input
            .write_all(format!("{order}\n").as_bytes())
            .await?;
        Ok(())
    }

    pub(super) async fn answer<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let line = tokio::time::timeout(ANSWER_WAIT, self.answers.next_line())
            .await
            .context("a load process does not answer")??
            .context("a load process has ended")?;
        Ok(serde_json::from_str(&line)?)
    }
}

/// All processes full of watchers.
#[derive(Debug)]
pub(super) struct Crew(pub(super) Vec<Hand>);

#[derive(serde::Deserialize)]
struct Connected {
    connected: usize,
}

impl Crew {
    /// Has everybody connect; returns how many did.
    pub(super) async fn connect(&mut self) -> anyhow::Result<usize> {
        let connected: Vec<Connected> = self.each("connect").await?;
        Ok(connected.iter().map(|one| one.connected).sum())
    }

    /// What was seen since the last time.
    pub(super) async fn report(&mut self) -> anyhow::Result<Seen> {
        let seen: Vec<Seen> = self.each("report").await?;
        let mut all = Seen::default();
        for one in seen {
            all.delivered += one.delivered;
            all.bytes += one.bytes;
            all.missed += one.missed;
            all.doubled += one.doubled;
            all.lost += one.lost;
            all.replayed += one.replayed;
            all.snapshots += one.snapshots;
            all.first_us = match (all.first_us, one.first_us) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            all.last_us = all.last_us.max(one.last_us);
            all.latencies.extend(one.latencies);
        }
        Ok(all)
    }

    /// Cuts everybody off at once; returns who is back and when the last was.
    pub(super) async fn cut(&mut self) -> anyhow::Result<Resumed> {
        let resumed: Vec<Resumed> = self.each("cut").await?;
        Ok(Resumed {
            resumed: resumed.iter().map(|one| one.resumed).sum(),
            took_ms: resumed.iter().map(|one| one.took_ms).max().unwrap_or(0),
        })
    }

    async fn each<T: DeserializeOwned>(&mut self, order: &str) -> anyhow::Result<Vec<T>> {
        for hand in &mut self.0 {
            hand.order(order).await?;
        }
        let mut answers = Vec::with_capacity(self.0.len());
        for hand in &mut self.0 {
            answers.push(hand.answer().await?);
        }
        Ok(answers)
    }
}
