//! Whoever else hands out updates, for comparison: a bare loop of writes, and other servers.
//!
//! Each is a process that takes orders like those of this tool: it says where it listens, and hands out so
//! many updates when it is told to. Its watchers are those of the gateways, with another greeting, and its
//! updates have the same bytes.
//!
//! They are compared one update at a time, the next when everybody has the last: what several updates
//! have in common can then not be put together, as each server does to a different degree. Everybody stays
//! connected everywhere meanwhile, and they take turns.

use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use uuid::Uuid;

use super::bare::{Listening, Wrote};
use super::crew::{Crew, Hand};
use super::report::{Cost, Latency, Phase, Rounds, Side, latency_ms};
use super::watchers::{Greeting, Seen};
use super::{LOOK_PAUSE, Room, WATCHERS_PER_PROCESS_MAX, WatchPlan, arrived, usage};
use crate::failure::Failure;
use crate::output::Output;

/// Turns that everybody gets, with one update each.
const TURNS: usize = 9;
/// How often it is looked whether everybody has it.
const TURN_PAUSE: Duration = Duration::from_millis(50);

/// Another server, as the command line names it: `uws=PROGRAM ARGUMENTS`.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    name: String,
    greeting: Greeting,
    words: Vec<String>,
}

impl FromStr for Peer {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let wrong = || {
            Failure::Usage(format!(
                "{text}: a peer is given as uws=COMMAND or nats=COMMAND"
            ))
        };
        let (name, command) = text.split_once('=').ok_or_else(wrong)?;
        let greeting = match name {
            "uws" => Greeting::Websocket,
            "nats" => Greeting::Nats,
            _ => return Err(wrong()),
        };
        Ok(Self {
            name: name.to_owned(),
            greeting,
            words: command.split_whitespace().map(str::to_owned).collect(),
        })
    }
}

/// One of them with everybody connected to it.
pub(super) struct Rival {
    name: String,
    writer: Hand,
    crew: Crew,
    pid: i32,
    sockets: usize,
}

impl Rival {
    /// The loop of writes, to as many sockets as one gateway here has.
    pub(super) async fn bare(room: &Room, plan: &WatchPlan) -> anyhow::Result<Self> {
        let sockets = sockets(room, plan);
        let mut writer = Hand::start(&["bare-writer".to_owned(), format!("--sockets={sockets}")])?;
        let listening: Listening = writer.answer().await?;
        let mut rival = Self::join(
            "bare loop",
            writer,
            &listening,
            (room, plan, Greeting::Nothing),
        )
        .await?;
        // It has taken them all.
        let _: Listening = rival.writer.answer().await?;
        Ok(rival)
    }

    async fn peer(peer: &Peer, room: &Room, plan: &WatchPlan) -> anyhow::Result<Self> {
        let mut writer = Hand::start_other(&peer.words)?;
        let listening: Listening = writer
            .answer()
            .await
            .with_context(|| format!("{}: see what it says above", peer.name))?;
        Self::join(&peer.name, writer, &listening, (room, plan, peer.greeting)).await
    }

    async fn join(
        name: &str,
        writer: Hand,
        listening: &Listening,
        (room, plan, greeting): (&Room, &WatchPlan, Greeting),
    ) -> anyhow::Result<Self> {
        let sockets = sockets(room, plan);
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, listening.port));
        let plan = WatchPlan {
            watchers: sockets,
            ..plan.clone()
        };
        let mut crew = plan.crew(&[at], (greeting, Uuid::nil()), room.publisher.epoch_ms())?;
        let opened = crew.connect().await?;
        anyhow::ensure!(
            opened.connected == sockets,
            "only {} of {sockets} sockets can be opened for {name}: {:?}",
            opened.connected,
            opened.failures
        );
        Ok(Self {
            name: name.to_owned(),
            writer,
            crew,
            pid: listening.pid,
            sockets,
        })
    }

    /// Has so many updates handed out, and waits until everybody has them.
    pub(super) async fn write(
        &mut self,
        offset_ms: u64,
        rounds: u64,
    ) -> anyhow::Result<(Phase, Cost)> {
        let (phase, cost, _) = self.hand_out(offset_ms, rounds, LOOK_PAUSE).await?;
        Ok((phase, cost))
    }

    async fn hand_out(
        &mut self,
        offset_ms: u64,
        rounds: u64,
        pause: Duration,
    ) -> anyhow::Result<(Phase, Cost, Seen)> {
        let (before, _) = usage(&[self.pid])?;
        self.writer
            .order(&format!("write {offset_ms} {rounds}"))
            .await?;
        let _: Wrote = self.writer.answer().await?;
        let seen = arrived(&mut self.crew, rounds * self.sockets as u64, pause).await?;
        let (after, _) = usage(&[self.pid])?;
        let cost = Cost::new(after.saturating_sub(before), seen.delivered);
        Ok((Phase::of_span(&seen, rounds), cost, seen))
    }
}

fn sockets(room: &Room, plan: &WatchPlan) -> usize {
    let sockets = room.connected / plan.gateways.len().max(1);
    sockets.clamp(1, WATCHERS_PER_PROCESS_MAX)
}

/// One update of the gateways.
async fn turn(room: &mut Room) -> anyhow::Result<(Phase, Cost, Seen)> {
    let (before, _) = usage(&room.processes)?;
    room.publisher.publish_now().await?;
    let seen = arrived(&mut room.crew, room.connected as u64, TURN_PAUSE).await?;
    let (after, _) = usage(&room.processes)?;
    let cost = Cost::new(after.saturating_sub(before), seen.delivered);
    Ok((Phase::of_span(&seen, 1), cost, seen))
}

/// What one has done in all its turns.
#[derive(Default)]
struct Done {
    rounds: Vec<(Phase, Cost)>,
    latencies: Vec<(u64, u64)>,
}

impl Done {
    fn add(&mut self, (phase, cost, seen): (Phase, Cost, Seen)) {
        self.rounds.push((phase, cost));
        self.latencies.extend(seen.latencies);
    }

    fn latency(&self) -> Latency {
        latency_ms(&self.latencies)
    }
}

/// Has the gateways and all rivals hand out one update at a time, in turn. Nobody where no peers are named.
pub(super) async fn one_at_a_time(
    output: Output,
    room: &mut Room,
    plan: &WatchPlan,
    bare: Option<Rival>,
) -> anyhow::Result<Vec<Side>> {
    if plan.peers.is_empty() {
        return Ok(Vec::new());
    }
    let mut rivals: Vec<Rival> = bare.into_iter().collect();
    for peer in &plan.peers {
        rivals.push(Rival::peer(peer, room, plan).await?);
    }
    let mut own = Done::default();
    let mut others: Vec<Done> = rivals.iter().map(|_| Done::default()).collect();
    let bar = output.bar(TURNS as u64, "one update at a time");
    for _ in 0..TURNS {
        own.add(turn(room).await?);
        for (rival, done) in rivals.iter_mut().zip(&mut others) {
            let offset_ms = room.publisher.now_ms();
            done.add(rival.hand_out(offset_ms, 1, TURN_PAUSE).await?);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let latency = own.latency();
    let own = Rounds::new(own.rounds).context("nobody had a turn")?;
    let mut sides = Vec::new();
    for (rival, done) in rivals.iter().zip(others) {
        let latency = done.latency();
        if let Some(rounds) = Rounds::new(done.rounds) {
            let ratio = own.rate_per_s() / rounds.rate_per_s();
            sides.push(Side::new(
                &rival.name,
                rival.sockets,
                (rounds, latency),
                Some(ratio),
            ));
        }
    }
    sides.insert(
        0,
        Side::new("gateway", room.connected, (own, latency), None),
    );
    Ok(sides)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_name_that_is_known_and_a_command() {
        let peer: Peer = "nats=python3 scripts/peers/nats.py".parse().expect("good");
        assert_eq!(peer.greeting, Greeting::Nats);
        assert_eq!(peer.words, ["python3", "scripts/peers/nats.py"]);
        assert!("redis=x".parse::<Peer>().is_err());
        assert!("nats".parse::<Peer>().is_err());
    }
}
