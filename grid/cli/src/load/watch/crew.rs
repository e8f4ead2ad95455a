//! The processes of a measurement: several full of watchers, and one that writes without a gateway.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::watchers::{Connected, Resumed, Seen};

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
        Self::of(Command::new(program).arg("load").args(arguments))
    }

    /// Starts another program that takes orders alike.
    pub(super) fn start_other(words: &[String]) -> anyhow::Result<Self> {
        let (program, arguments) = words.split_first().context("no program is named")?;
        Self::of(Command::new(program).args(arguments))
            .with_context(|| format!("cannot start `{}`", words.join(" ")))
    }

    fn of(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command
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

impl Crew {
    /// Has everybody connect.
    pub(super) async fn connect(&mut self) -> anyhow::Result<Connected> {
        let mut all = Connected::default();
        for one in self.each::<Connected>("connect").await? {
            all.connected += one.connected;
            for (reason, count) in one.failures {
                *all.failures.entry(reason).or_default() += count;
            }
        }
        Ok(all)
    }

    /// What was seen since the last time.
    pub(super) async fn report(&mut self) -> anyhow::Result<Seen> {
        let seen: Vec<Seen> = self.each("report").await?;
        let mut all = Seen::default();
        for one in seen {
            all.add(one);
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
