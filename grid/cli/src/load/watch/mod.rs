//! `grid load watch` and `grid load storm`: many who watch one auction.
//!
//! ```text
//!   publisher ──bids on a fixed schedule──► grid ──► gateways ──► watchers, in processes of their own
//!                                                       │             └ each event: when, in which order
//!                                                       └ processor time and memory, from /proc
//!   bare writer ─────────the same bytes, the same number of sockets──► watchers
//! ```
//!
//! Open loop: a bid's amount is the moment at which it was to be made, so every watcher knows an event's
//! age without being told anything else, and a late publisher is no excuse. All clocks are the machine's.
//!
//! What it deliberately does not do: judge whether the machine is quick enough. It is not `ok` when an
//! event was missed or came twice, or when somebody did not get in.

pub(crate) mod bare;
mod crew;
mod frames;
mod publisher;
mod report;
mod rivals;
pub(crate) mod storm;
pub(crate) mod watchers;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::ValueEnum as _;
use uuid::Uuid;

use super::usage::Usage;
use crate::api::Api;
use crate::failure::Failure;
use crate::output::Output;
use crew::{Crew, Hand};
use publisher::Publisher;
use report::{Cost, Phase, Rounds, Watched, latency_ms};
pub(crate) use rivals::Peer;
use rivals::Rival;
use watchers::Greeting;

/// Watchers in one process, below the 20,000 files that one may have open.
const WATCHERS_PER_PROCESS_MAX: usize = 18_000;
/// What the last events may take to arrive.
const SETTLE: Duration = Duration::from_millis(1_500);
/// How long a burst may take to arrive ...
const BURST_WAIT: Duration = Duration::from_secs(120);
/// ... and when it is over, should somebody have missed something: nothing has come for so long.
const QUIET: Duration = Duration::from_secs(5);
/// A burst and the bare loop take turns so many times; the medians are compared.
const ROUNDS: usize = 3;
/// Where the first process connects from.
const FIRST_LOCAL: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const LOOK_PAUSE: Duration = Duration::from_millis(250);

/// How to measure.
#[derive(Clone, Debug)]
pub(crate) struct WatchPlan {
    /// Gateways to watch at, as URLs.
    pub(crate) gateways: Vec<String>,
    /// How many watch.
    pub(crate) watchers: usize,
    /// Updates a second.
    pub(crate) rate: f64,
    /// For so long.
    pub(crate) duration: Duration,
    /// Then so many updates as fast as the auction takes them, for the most that can be delivered.
    pub(crate) burst: u64,
    /// Whether the same is done by a bare loop of writes.
    pub(crate) bare: bool,
    /// Other servers that the gateways are compared with, one update at a time.
    pub(crate) peers: Vec<Peer>,
    /// Those who are cut off come back within this time.
    pub(crate) spread: Duration,
}

impl WatchPlan {
    fn addresses(&self) -> Result<Vec<SocketAddr>, Failure> {
        let address = |url: &String| {
            let authority = url.trim_start_matches("http://").trim_end_matches('/');
            authority.parse().map_err(|_| {
                Failure::Usage(format!(
                    "{url}: a gateway is given as http://ADDRESS:PORT here"
                ))
            })
        };
        self.gateways.iter().map(address).collect()
    }

    /// Starts the processes that watch. Each has local addresses of its own, from 127.0.0.2 on.
    fn crew(
        &self,
        at: &[SocketAddr],
        (greeting, auction): (Greeting, Uuid),
        epoch_ms: u64,
    ) -> anyhow::Result<Crew> {
        let processes = self.watchers.div_ceil(WATCHERS_PER_PROCESS_MAX).max(1);
        let gateways: Vec<String> = at.iter().map(ToString::to_string).collect();
        let hands = (0..processes).map(|number| {
            // The first processes take one more each where it does not come out even.
            let extra = usize::from(number < self.watchers % processes);
            let watching = self.watchers / processes + extra;
            let first = number * watchers::addresses_of(WATCHERS_PER_PROCESS_MAX);
            let local = Ipv4Addr::from_bits(FIRST_LOCAL.to_bits() + u32::try_from(first)?);
            let greeting = greeting.to_possible_value();
            let greeting = greeting.context("every greeting has a name")?;
            Hand::start(&[
                "watchers".to_owned(),
                format!("--greeting={}", greeting.get_name()),
                format!("--auction={auction}"),
                format!("--gateways={}", gateways.join(",")),
                format!("--local={local}"),
                format!("--watchers={watching}"),
                format!("--epoch-ms={epoch_ms}"),
                format!("--spread-ms={}", self.spread.as_millis()),
            ])
        });
        Ok(Crew(hands.collect::<anyhow::Result<_>>()?))
    }
}

/// The processes of gateways on this machine, by the address they listen at.
fn gateway_processes(at: &[SocketAddr]) -> Result<Vec<i32>, Failure> {
    let of = |address: &SocketAddr| {
        let wanted = format!("listen={address}");
        let processes = std::fs::read_dir("/proc").ok()?;
        processes.flatten().find_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let arguments = std::fs::read(entry.path().join("cmdline")).ok()?;
            let mut arguments = arguments.split(|byte| *byte == 0);
            arguments
                .any(|argument| argument.ends_with(wanted.as_bytes()))
                .then_some(pid)
        })
    };
    let processes = at.iter().map(|address| {
        of(address).ok_or_else(|| {
            let text = format!("the gateway at {address} is no process of `grid` on this machine");
            Failure::Unreachable(text)
        })
    });
    processes.collect()
}

/// What processes have used together by now.
fn usage(processes: &[i32]) -> anyhow::Result<(Duration, u64)> {
    let mut sum = (Duration::ZERO, 0);
    for pid in processes {
        let usage = Usage::read(*pid).context("a gateway has ended meanwhile")?;
        sum.0 += usage.cpu;
        sum.1 += usage.resident_kib * 1_024;
    }
    Ok(sum)
}

/// Everybody connected to the gateways, and whoever bids.
struct Room {
    crew: Crew,
    publisher: Publisher,
    processes: Vec<i32>,
    connected: usize,
    /// Why others are not, with how many each.
    failures: BTreeMap<String, u64>,
    connect_s: f64,
    resident_before: u64,
    resident_after: u64,
}

impl Room {
    async fn open(output: Output, plan: &WatchPlan, api: &Api) -> anyhow::Result<Self> {
        let at = plan.addresses()?;
        let processes = gateway_processes(&at)?;
        let publisher = Publisher::create(api).await?;
        let (_, resident_before) = usage(&processes)?;
        let mut crew = plan.crew(
            &at,
            (Greeting::Gateway, publisher.auction()),
            publisher.epoch_ms(),
        )?;
        let began = Instant::now();
        let bar = output.bar(0, "watchers connect");
        let connected = crew.connect().await?;
        bar.finish_and_clear();
        let connect_s = began.elapsed().as_secs_f64();
        tokio::time::sleep(SETTLE).await;
        let (_, resident_after) = usage(&processes)?;
        Ok(Self {
            crew,
            publisher,
            processes,
            connected: connected.connected,
            failures: connected.failures,
            connect_s,
            resident_before,
            resident_after,
        })
    }

    fn resident_bytes_a_connection(&self) -> f64 {
        let grown = self.resident_after.saturating_sub(self.resident_before);
        grown as f64 / self.connected.max(1) as f64
    }
}

/// Measures and reports.
pub(crate) async fn run(output: Output, plan: &WatchPlan, api: &Api) -> anyhow::Result<Watched> {
    let mut room = Room::open(output, plan, api).await?;
    // The first event finds caches cold and the audience not listed yet.
    room.publisher.publish_now().await?;
    tokio::time::sleep(SETTLE).await;
    room.crew.report().await?;

    let (cpu_before, _) = usage(&room.processes)?;
    let bar = output.bar(plan.duration.as_secs(), "updates");
    let began = Instant::now();
    let published = room.publisher.publish(plan.rate, plan.duration).await?;
    bar.finish_and_clear();
    let elapsed = began.elapsed();
    tokio::time::sleep(SETTLE).await;
    let (cpu_after, _) = usage(&room.processes)?;
    let seen = room.crew.report().await?;
    let offered = Phase::new(&seen, published, elapsed);
    let cost = Cost::new(cpu_after.saturating_sub(cpu_before), seen.delivered);

    let mut bursts = Vec::new();
    let mut bare = match plan.bare {
        true => Some(Rival::bare(&room, plan).await?),
        false => None,
    };
    let mut loops = Vec::new();
    let bar = output.bar(ROUNDS as u64, "bursts");
    for _ in 0..ROUNDS {
        if plan.burst > 0 {
            bursts.push(burst(&mut room, plan.burst).await?);
        }
        if let Some(bare) = &mut bare {
            let offset_ms = room.publisher.now_ms();
            loops.push(bare.write(offset_ms, plan.burst.max(1)).await?);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let sides = rivals::one_at_a_time(output, &mut room, plan, bare).await?;
    Ok(Watched::new(
        plan,
        &room,
        (offered, cost),
        Rounds::new(bursts),
        Rounds::new(loops),
    )
    .with_sides(sides)
    .with_latencies(&latency_ms(&seen.latencies)))
}

/// More updates than can be delivered as they come: what the gateways can do.
async fn burst(room: &mut Room, updates: u64) -> anyhow::Result<(Phase, Cost)> {
    let (cpu_before, _) = usage(&room.processes)?;
    for _ in 0..updates {
        room.publisher.publish_now().await?;
    }
    let expected = updates * room.connected as u64;
    let all = arrived(&mut room.crew, expected, LOOK_PAUSE).await?;
    let (cpu_after, _) = usage(&room.processes)?;
    let cost = Cost::new(cpu_after.saturating_sub(cpu_before), all.delivered);
    Ok((Phase::of_span(&all, updates), cost))
}

/// Waits until so many events have arrived, or no more come.
async fn arrived(
    crew: &mut Crew,
    expected: u64,
    pause: Duration,
) -> anyhow::Result<watchers::Seen> {
    let mut all = watchers::Seen::default();
    let (began, mut moved) = (Instant::now(), Instant::now());
    while all.delivered < expected && began.elapsed() < BURST_WAIT && moved.elapsed() < QUIET {
        tokio::time::sleep(pause).await;
        let seen = crew.report().await?;
        if seen.delivered > 0 {
            moved = Instant::now();
        }
        all.add(seen);
    }
    Ok(all)
}
