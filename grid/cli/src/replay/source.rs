//! Where a history comes from: what the database has of it, then what the grid's own log adds.
//!
//! The database finds one auction's changes without reading the others' and remembers when the nodes'
//! logs no longer do; the grid knows what has not been written yet. Both give the same changes, so
//! whoever reads on after the other loses and repeats nothing.

use std::ops::ControlFlow;
use std::time::Duration;

use clap::ValueEnum;
use data_pump::history::{HistoryError, HistoryReach, StoredHistory};
use gateway::{HistoryChange, HistoryEnd, HistoryLine};
use grid_core::{PartitionId, Timestamp};
use indicatif::ProgressBar;
use uuid::Uuid;

use super::Entry;
use super::entries::Entries;
use crate::api::Api;
use crate::failure::Failure;

/// How long the next piece of a node's answer may take; it may have to read a snapshot first.
const PIECE_TIMEOUT: Duration = Duration::from_secs(120);
/// How often an answer that was cut off is taken up again.
const RESUMPTIONS_MAX: u32 = 5;
/// The longest line of an answer, in bytes: an event with all its seats is far shorter.
const LINE_BYTES_MAX: usize = 64 << 20;

/// Which sources are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum From {
    /// The database where there is one, then what the grid's log adds
    Both,
    /// Only the grid's log
    Grid,
    /// Only the database
    Database,
}

/// What a history is read from.
#[derive(Debug)]
pub(crate) struct Sources {
    /// The database, if one is known...
    pub(crate) database_url: Option<String>,
    /// ... and whether it must answer, having been asked for by name.
    pub(crate) needs_database: bool,
    /// The grid's gateways, if they are known.
    pub(crate) api: Option<Api>,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Came {
    /// How far the database was read.
    pub(crate) database_upto: Option<u64>,
    /// How far the grid's log was read.
    pub(crate) grid_upto: Option<u64>,
    /// Why one of them was left out.
    pub(crate) notes: Vec<String>,
}

impl Sources {
    /// Hands over every entry of the history in order, until `take` has enough.
    pub(crate) async fn read(
        &self,
        id: Uuid,
        bar: &ProgressBar,
        take: &mut dyn FnMut(Entry) -> anyhow::Result<ControlFlow<()>>,
    ) -> anyhow::Result<Came> {
        let mut came = Came::default();
        let mut entries = Entries::new(take);
        let reach = self.read_database(id, bar, &mut entries, &mut came).await?;
        came.database_upto = reach.map(|reach| reach.upto_index);
        if !entries.has_ended() {
            self.read_grid(id, reach, bar, &mut entries, &mut came)
                .await?;
        }
        if came.database_upto.is_none() && came.grid_upto.is_none() {
            let why = came.notes.join("; ");
            return Err(Failure::Refused {
                code: "not_found".to_owned(),
                message: format!("there is no such auction or event: {why}"),
            }
            .into());
        }
        bar.finish_and_clear();
        entries.finish()?;
        Ok(came)
    }

    async fn read_database(
        &self,
        id: Uuid,
        bar: &ProgressBar,
        entries: &mut Entries<'_>,
        came: &mut Came,
    ) -> anyhow::Result<Option<HistoryReach>> {
        let Some(url) = &self.database_url else {
            return Ok(None);
        };
        match read_stored(url, id, bar, entries).await {
            Ok(Some(reach)) => Ok(Some(reach)),
            Ok(None) => {
                came.notes.push("the database has nothing of it".to_owned());
                Ok(None)
            }
            // Nothing was handed over yet, so the grid can tell all of it.
            Err(error) if !self.needs_database && entries.is_empty() => {
                came.notes
                    .push(format!("the database is left out: {error}"));
                Ok(None)
            }
            Err(error) => {
                Err(Failure::Database(format!("the history cannot be read: {error}")).into())
            }
        }
    }

    async fn read_grid(
        &self,
        id: Uuid,
        reach: Option<HistoryReach>,
        bar: &ProgressBar,
        entries: &mut Entries<'_>,
        came: &mut Came,
    ) -> anyhow::Result<()> {
        let Some(api) = &self.api else {
            return Ok(());
        };
        let mut reading = Reading {
            grid_id: reach.map(|reach| reach.grid_id),
            after_index: reach.map_or(0, |reach| reach.upto_index),
            upto_index: None,
        };
        match reading.read(api, id, bar, entries).await {
            Ok(()) => came.grid_upto = reading.upto_index,
            // The database has told what it knows, which is better than nothing.
            Err(error) if reach.is_some() => {
                let text = format!("what the database does not have yet is missing: {error:#}");
                came.notes.push(text);
            }
            Err(error) => match error.downcast_ref::<Failure>() {
                Some(Failure::Refused { code, message }) if code == "not_found" => {
                    came.notes.push(format!("the grid says: {message}"));
                }
                _ => return Err(error),
            },
        }
        Ok(())
    }
}

async fn read_stored(
    url: &str,
    id: Uuid,
    bar: &ProgressBar,
    entries: &mut Entries<'_>,
) -> Result<Option<HistoryReach>, HistoryError> {
    let Some(history) = StoredHistory::open(url, id).await? else {
        return Ok(None);
    };
    let reach = history.reach();
    bar.set_length(reach.upto_index);
    history
        .read(|stored| {
            bar.set_position(stored.index);
            let place = (reach.partition, stored.index, stored.seq);
            entries.push(place, stored.at, stored.change)
        })
        .await?;
    Ok(Some(reach))
}

/// Why the log of a grid was not read to its end.
enum Cut {
    /// May go on from where it was.
    Resumable(String),
    /// No more is wanted, or to be had.
    Final(anyhow::Result<()>),
}

/// One reading of a grid's log, over as many answers as it takes.
struct Reading {
    /// The grid that the database belongs to.
    grid_id: Option<Uuid>,
    /// Covered so far.
    after_index: u64,
    /// Where the log ended when it was last asked for.
    upto_index: Option<u64>,
}

impl Reading {
    async fn read(
        &mut self,
        api: &Api,
        id: Uuid,
        bar: &ProgressBar,
        entries: &mut Entries<'_>,
    ) -> anyhow::Result<()> {
        let mut why = String::new();
        for _ in 0..=RESUMPTIONS_MAX {
            match self.read_answer(api, id, bar, entries).await {
                Cut::Final(outcome) => return outcome,
                Cut::Resumable(reason) => {
                    tracing::warn!(
                        reason,
                        after = self.after_index,
                        "the history is asked for again"
                    );
                    why = reason;
                }
            }
        }
        let text = format!("the gateways broke off again and again: {why}; try again later");
        Err(Failure::Unreachable(text).into())
    }

    async fn read_answer(
        &mut self,
        api: &Api,
        id: Uuid,
        bar: &ProgressBar,
        entries: &mut Entries<'_>,
    ) -> Cut {
        let path = format!("/admin/v1/history/{id}?after={}", self.after_index);
        let mut answer = match api.open(&path).await {
            Ok(response) => Lines::new(response),
            Err(error) => return Cut::Final(Err(error)),
        };
        let mut partition = PartitionId(0);
        loop {
            let line = match answer.next().await {
                Ok(Some(line)) => line,
                Ok(None) => return Cut::Resumable("an answer broke off".to_owned()),
                Err(error) => return Cut::Resumable(format!("{error:#}")),
            };
            match line {
                HistoryLine::Begin {
                    grid_id,
                    partition: of,
                    upto_index,
                    ..
                } => {
                    if self.grid_id.is_some_and(|expected| expected != grid_id) {
                        let text = format!("the gateways are of another grid, {grid_id}");
                        return Cut::Final(Err(Failure::Usage(text).into()));
                    }
                    partition = of;
                    self.upto_index = Some(upto_index);
                    bar.set_length(upto_index);
                }
                HistoryLine::Change(change) => {
                    let HistoryChange {
                        index,
                        seq,
                        at_ms,
                        change,
                    } = *change;
                    let at = Timestamp::from_millis(at_ms);
                    if entries.push((partition, index, seq), at, change).is_break() {
                        return Cut::Final(Ok(()));
                    }
                }
                HistoryLine::Covered { index } => {
                    self.after_index = index;
                    bar.set_position(index);
                }
                HistoryLine::End(HistoryEnd::Complete) => return Cut::Final(Ok(())),
                HistoryLine::End(HistoryEnd::Stopped) => {
                    return Cut::Resumable("a node stopped".to_owned());
                }
                HistoryLine::End(HistoryEnd::LogTooShort) => {
                    return Cut::Final(Err(too_short().into()));
                }
            }
        }
    }
}

fn too_short() -> Failure {
    Failure::Refused {
        code: "log_too_short".to_owned(),
        message:
            "the nodes' logs no longer reach back to the beginning: name the database that the \
                  grid writes to with --database-url"
                .to_owned(),
    }
}

/// An answer, line by line.
struct Lines {
    response: reqwest::Response,
    buffer: Vec<u8>,
    /// Where in the buffer the next line begins, and up to where no end of it was found.
    begin: usize,
    searched: usize,
}

impl Lines {
    fn new(response: reqwest::Response) -> Self {
        Self {
            response,
            buffer: Vec::new(),
            begin: 0,
            searched: 0,
        }
    }

    async fn next(&mut self) -> anyhow::Result<Option<HistoryLine>> {
        loop {
            let rest = &self.buffer[self.searched..];
            if let Some(length) = rest.iter().position(|byte| *byte == b'\n') {
                let end = self.searched + length;
                let line = serde_json::from_slice(&self.buffer[self.begin..end])?;
                (self.begin, self.searched) = (end + 1, end + 1);
                return Ok(Some(line));
            }
            self.buffer.drain(..self.begin);
            (self.begin, self.searched) = (0, self.buffer.len());
            anyhow::ensure!(self.searched <= LINE_BYTES_MAX, "a line has no end");
            let piece = tokio::time::timeout(PIECE_TIMEOUT, self.response.chunk()).await;
            match piece.map_err(|_| anyhow::anyhow!("nothing comes any more"))?? {
                Some(piece) => self.buffer.extend_from_slice(&piece),
                None => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use processing_unit::{AuctionId, Change, auction};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const ID: Uuid = Uuid::from_u128(3);
    const GRID: Uuid = Uuid::from_u128(77);

    fn begin(upto_index: u64) -> HistoryLine {
        HistoryLine::Begin {
            grid_id: GRID,
            partition: PartitionId(0),
            after_index: 0,
            upto_index,
        }
    }

    fn change(index: u64, seq: u32) -> HistoryLine {
        let auction_id = AuctionId(ID);
        HistoryLine::Change(Box::new(HistoryChange {
            index,
            seq,
            at_ms: index,
            change: Change::Auction(auction::Change::AuctionCancelled { auction_id }),
        }))
    }

    /// A gateway that answers one request after the other with these lines, and what it was asked.
    async fn gateway(
        answers: Vec<Vec<HistoryLine>>,
    ) -> (Api, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let asked = tokio::spawn(async move {
            let mut asked = Vec::new();
            for lines in answers {
                let (mut socket, _) = listener.accept().await.expect("a client");
                let mut request = vec![0; 4_096];
                let read = socket.read(&mut request).await.expect("a request");
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                let line = request.lines().next().unwrap_or_default();
                asked.push(line.to_owned());
                let mut answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
                for line in &lines {
                    serde_json::to_writer(&mut answer, line).expect("plain");
                    answer.push(b'\n');
                }
                // In two pieces, so that a line is cut.
                let (first, second) = answer.split_at(answer.len() / 2);
                socket.write_all(first).await.expect("sent");
                socket.flush().await.expect("sent");
                socket.write_all(second).await.expect("sent");
            }
            asked
        });
        let api = Api::new(vec![address], Uuid::nil()).expect("a client");
        (api, asked)
    }

    async fn read(
        api: Api,
        reach: Option<HistoryReach>,
    ) -> (anyhow::Result<Came>, Vec<(u64, usize)>) {
        let mut seen = Vec::new();
        let mut take = |entry: Entry| {
            seen.push((entry.index, entry.changes.len()));
            Ok(ControlFlow::Continue(()))
        };
        let sources = Sources {
            database_url: None,
            needs_database: false,
            api: Some(api),
        };
        let bar = ProgressBar::hidden();
        let mut came = Came::default();
        let mut entries = Entries::new(&mut take);
        let outcome = sources
            .read_grid(ID, reach, &bar, &mut entries, &mut came)
            .await;
        entries.finish().expect("taken");
        (outcome.map(|()| came), seen)
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_taken_up_where_it_was() {
        let (api, asked) = gateway(vec![
            vec![
                begin(9),
                change(2, 0),
                HistoryLine::Covered { index: 4 },
                change(6, 0),
            ],
            vec![
                begin(9),
                change(6, 0),
                change(6, 1),
                HistoryLine::End(HistoryEnd::Stopped),
            ],
            vec![
                begin(9),
                change(6, 1),
                change(8, 0),
                HistoryLine::Covered { index: 9 },
                HistoryLine::End(HistoryEnd::Complete),
            ],
        ])
        .await;
        let (came, seen) = read(api, None).await;
        assert_eq!(came.expect("read").grid_upto, Some(9));
        assert_eq!(seen, [(2, 1), (6, 2), (8, 1)]);
        let asked = asked.await.expect("no panic");
        let paths: Vec<_> = asked.iter().map(|line| line.split(' ').nth(1)).collect();
        let path = |after: u64| format!("/admin/v1/history/{ID}?after={after}");
        assert_eq!(paths, [Some(&*path(0)), Some(&*path(4)), Some(&*path(4))]);
    }

    #[tokio::test]
    async fn a_log_that_begins_later_points_to_the_database() {
        let short = vec![begin(9), HistoryLine::End(HistoryEnd::LogTooShort)];
        let (api, _asked) = gateway(vec![short]).await;
        let (came, _) = read(api, None).await;
        let error = came.expect_err("too short").to_string();
        assert!(error.contains("--database-url"), "{error}");
    }

    #[tokio::test]
    async fn another_grid_adds_nothing_to_what_a_database_told() {
        let (api, _asked) = gateway(vec![vec![begin(9), change(8, 0)]]).await;
        let reach = HistoryReach {
            grid_id: Uuid::from_u128(78),
            partition: PartitionId(0),
            upto_index: 5,
        };
        let (came, seen) = read(api, Some(reach)).await;
        let came = came.expect("the database's part is there");
        assert_eq!((came.grid_upto, seen), (None, Vec::new()));
        assert!(came.notes[0].contains("another grid"), "{came:?}");
    }
}
