//! One run: things break, then all is healed and must converge.

use std::cell::RefCell;
use std::collections::BTreeMap;

use grid::simulation::{self, Observation, WALL_EPOCH_MS};
use grid::{ClusterMap, META, ReplicaRole};
use grid_core::{PartitionId, SlotLayout, Timestamp};

use crate::clients::Clients;
use crate::cluster::{Cluster, STEP_MS};
use crate::faults::Faults;
use crate::history::History;
use crate::invariants::{Fact, Invariants, Standing, Violation};
use crate::node::Stopped;
use crate::plan::Plan;
use crate::requests::{Asked, Request};

/// How often nodes are asked where they stand, in steps.
const STATUS_EVERY: u64 = 25;
/// How often their states are looked through, in steps.
const INSPECT_EVERY: u64 = 250;
/// How often the pump notes how far it is, in steps.
const PUMP_EVERY: u64 = 150;
/// How long a healed cluster may take to converge, in simulated milliseconds.
const CONVERGE_MS_MAX: u64 = 60_000;
/// Tickets from here on are the pump's, which waits for nothing.
const PUMP_TICKETS: u64 = 1 << 60;

/// Figures of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The seed.
    pub seed: u64,
    /// Stands for everything that happened, step by step.
    pub trace: u64,
    /// Simulated time, in milliseconds.
    pub simulated_ms: u64,
    /// Entries of all logs.
    pub entries: u64,
    /// Commands that were answered.
    pub commands: u64,
    /// Queries that were answered.
    pub queries: u64,
    /// Commands of which a client gave up without knowing.
    pub unknown: u64,
    /// Faults that struck.
    pub faults: u64,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was wrong.
    Passed(Summary),
    /// Something was.
    Failed {
        /// What.
        violation: Violation,
        /// How far the run had come.
        summary: Summary,
    },
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A panic in any task of any node fails the run; tokio alone would swallow it.
fn watch_panics() {
    std::panic::set_hook(Box::new(|info| {
        PANIC.with_borrow_mut(|panic| {
            panic.get_or_insert_with(|| {
                // A second panic while the first unwinds ends the process before anybody asks.
                eprintln!("{info}");
                info.to_string()
            });
        });
    }));
}

struct Run<'a> {
    cluster: Cluster<'a>,
    clients: Clients,
    faults: Faults,
    history: History,
    invariants: Invariants,
    /// How far each node's feed is.
    fed: BTreeMap<(u64, PartitionId), u64>,
    steps: u64,
    plan: Plan,
}

/// Carries out a plan.
#[must_use]
pub fn run(plan: &Plan) -> Outcome {
    watch_panics();
    let Some(layout) = SlotLayout::new(plan.partitions) else {
        let violation = Violation {
            invariant: "plan",
            detail: "an impossible number of partitions".to_owned(),
        };
        let summary = Summary::default();
        return Outcome::Failed { violation, summary };
    };
    let mut run = Run {
        cluster: Cluster::start(plan),
        clients: Clients::new(plan, layout),
        faults: Faults::new(plan),
        history: History::default(),
        invariants: Invariants::default(),
        fed: BTreeMap::new(),
        steps: 0,
        plan: plan.clone(),
    };
    let result = run.safety().and_then(|()| run.liveness());
    let summary = run.summary();
    match result {
        Ok(()) => Outcome::Passed(summary),
        Err(violation) => Outcome::Failed { violation, summary },
    }
}

impl Run<'_> {
    fn summary(&self) -> Summary {
        let counts = self.clients.counts;
        Summary {
            seed: self.plan.seed,
            trace: simulation::trace_hash(),
            simulated_ms: self.cluster.now_ms(),
            entries: self
                .history
                .logs()
                .map(|(_, log)| log.entries.len() as u64)
                .sum(),
            commands: counts.commands,
            queries: counts.queries,
            unknown: counts.unknown,
            faults: self.faults.count(),
        }
    }

    fn safety(&mut self) -> Result<(), Violation> {
        while self.cluster.now_ms() < self.plan.safety_ms {
            self.step()?;
            let now_ms = self.cluster.now_ms();
            self.faults.act(&mut self.cluster, now_ms);
        }
        Ok(())
    }

    fn liveness(&mut self) -> Result<(), Violation> {
        let healed_at_ms = self.cluster.now_ms();
        simulation::trace_note("heal");
        self.faults.heal(&mut self.cluster, healed_at_ms);
        self.clients.close();
        loop {
            self.step()?;
            if self.steps.is_multiple_of(STATUS_EVERY) && self.clients.is_settled() {
                let unsettled = self.unsettled();
                match unsettled {
                    None => return self.settle(),
                    Some(what) if self.converging_ms(healed_at_ms) > CONVERGE_MS_MAX => {
                        return Err(not_converged(what));
                    }
                    Some(_) => {}
                }
            }
            if self.converging_ms(healed_at_ms) > CONVERGE_MS_MAX + 4 * STATUS_EVERY * STEP_MS {
                let what = format!("clients still wait; {:?}", self.unsettled());
                return Err(not_converged(what));
            }
        }
    }

    fn converging_ms(&self, since_ms: u64) -> u64 {
        self.cluster.now_ms() - since_ms
    }

    fn check(&mut self, fact: &Fact<'_>) -> Result<(), Violation> {
        self.invariants.check(&self.history, fact)
    }

    fn step(&mut self) -> Result<(), Violation> {
        self.steps += 1;
        // A panic of a task ends its runtime, and comes out here.
        let cluster = std::panic::AssertUnwindSafe(&mut self.cluster);
        let stepped = std::panic::catch_unwind(|| {
            let cluster = cluster;
            cluster.0.step()
        })
        .unwrap_or_else(|_| Err("a task panicked".to_owned()));
        if let Some(detail) = PANIC.with_borrow_mut(Option::take) {
            return Err(Violation {
                invariant: "no_panic",
                detail,
            });
        }
        stepped.map_err(|detail| Violation {
            invariant: "nodes_stand",
            detail,
        })?;
        let now_ms = self.cluster.now_ms();
        self.observe()?;
        for (ticket, result) in self.cluster.take_results() {
            simulation::trace_note(&format!("result {ticket} {result:?}"));
            let invariants = &mut self.invariants;
            let mut check = |history: &History, fact: &Fact<'_>| invariants.check(history, fact);
            self.clients
                .ended(ticket, result, now_ms, &mut self.history, &mut check)?;
        }
        for (node, fed) in self.cluster.take_fed() {
            self.fed.insert((node, fed.partition), fed.slice.upto_index);
            self.check(&Fact::Fed { node, fed: &fed })?;
        }
        self.look_after_stopped(now_ms)?;
        self.clients.act(&mut self.cluster, &self.history, now_ms);
        if self.steps.is_multiple_of(STATUS_EVERY) {
            self.ask_status()?;
        }
        if self.steps.is_multiple_of(INSPECT_EVERY) {
            self.inspect()?;
        }
        if self.plan.has_pump && self.steps.is_multiple_of(PUMP_EVERY) {
            self.pump();
        }
        Ok(())
    }

    fn observe(&mut self) -> Result<(), Violation> {
        let seen_at = Timestamp::from_millis(WALL_EPOCH_MS + self.cluster.now_ms());
        for observation in simulation::take_observations() {
            match observation {
                Observation::Applied {
                    node,
                    partition,
                    index,
                    entry,
                    hash,
                } => {
                    let place = (node, partition, index);
                    let committed = self.history.applied(seen_at, place, entry.clone(), hash);
                    let committed = committed.map_err(|detail| Violation {
                        invariant: "replicas_agree",
                        detail,
                    })?;
                    if let Some(committed) = committed {
                        self.check(&Fact::Committed(&committed))?;
                    }
                    let entry = entry.as_deref();
                    self.check(&Fact::Applied {
                        node,
                        partition,
                        index,
                        entry,
                        hash,
                    })?;
                }
                Observation::Restored {
                    node,
                    partition,
                    index,
                    hash,
                } => self.check(&Fact::Restored {
                    node,
                    partition,
                    index,
                    hash,
                })?,
                // A feed that went on from another node meanwhile stands where it stood.
                Observation::Opened { node, partition } => {
                    self.check(&Fact::Opened { node, partition })?;
                }
                Observation::SwitchedOff { node } => {
                    self.fed.retain(|(of, _), _| *of != node);
                    self.check(&Fact::Crashed { node })?;
                }
            }
        }
        Ok(())
    }

    fn look_after_stopped(&mut self, now_ms: u64) -> Result<(), Violation> {
        for (node, stopped) in self.cluster.stopped() {
            let is_excused = match stopped {
                Stopped::Removed => self.faults.has_ordered_out(node),
                _ => self.faults.excuses(node, now_ms),
            };
            let reason = format!("{stopped:?}");
            simulation::trace_note(&format!("stopped {node} {reason}"));
            self.check(&Fact::Stopped {
                node,
                reason: &reason,
                is_excused,
            })?;
            let is_for_good = matches!(stopped, Stopped::Damaged(_) | Stopped::Removed);
            self.faults
                .retire(&mut self.cluster, node, is_for_good, now_ms);
        }
        Ok(())
    }

    fn ask_status(&mut self) -> Result<(), Violation> {
        for node in self.cluster.node_ids() {
            if let Some(client) = self.cluster.client(node) {
                let status = client.status();
                self.check(&Fact::Status {
                    node,
                    status: &status,
                })?;
            }
            if let Some(map) = self.cluster.map_of(node) {
                self.check(&Fact::Map { node, map: &map })?;
            }
        }
        Ok(())
    }

    fn inspect(&mut self) -> Result<(), Violation> {
        for node in self.cluster.node_ids() {
            let Some(client) = self.cluster.client(node) else {
                continue;
            };
            for partition in client.local_partitions() {
                let verdict = client
                    .inspect(partition, grid_core::PartitionState::check_invariants)
                    .unwrap_or(Ok(()));
                self.check(&Fact::Inspected {
                    node,
                    partition,
                    verdict,
                })?;
            }
        }
        Ok(())
    }

    /// Notes with each leader how far its own node's feed is, as a pump beside it would.
    fn pump(&mut self) {
        for node in self.cluster.node_ids() {
            let Some(client) = self.cluster.client(node) else {
                continue;
            };
            for replica in client.status().replicas {
                let fed = self.fed.get(&(node, replica.partition)).copied();
                if replica.role == ReplicaRole::Leader
                    && let Some(upto) = fed
                {
                    let request = Request {
                        ticket: PUMP_TICKETS + self.steps,
                        partition: replica.partition,
                        asked: Asked::Pumped(upto),
                    };
                    self.cluster.ask(node, request);
                }
            }
        }
    }

    /// What of the membership is not yet as it must be at the end.
    fn unsettled_members(&self) -> Option<String> {
        let Some(map) = self.cluster.latest_map() else {
            return Some("the grid is not founded".to_owned());
        };
        if let Some((partition, group)) = map.moving() {
            return Some(format!("partition {partition} is being moved: {group:?}"));
        }
        let eligible = map.eligible();
        let copies = eligible.len().min(map.replicas as usize);
        for (partition, group) in &map.groups {
            let placed = group.replicas.iter().filter(|node| eligible.contains(node));
            // A node that is down for good cannot be moved away from without an order.
            if placed.count() != copies || group.replicas.len() != copies {
                return Some(format!("partition {partition} is not in place: {group:?}"));
            }
        }
        let up = self.cluster.up();
        up.into_iter()
            .find_map(|node| self.unsettled_node(node, &map))
    }

    fn unsettled_node(&self, node: u64, map: &ClusterMap) -> Option<String> {
        let Some(client) = self.cluster.client(node) else {
            return Some(format!("node {node} has not started"));
        };
        let epoch = self.cluster.map_of(node).map_or(0, |map| map.epoch);
        if epoch != map.epoch {
            return Some(format!("node {node} has the map of epoch {epoch}"));
        }
        let held: Vec<PartitionId> = client.local_partitions().collect();
        let groups = map.groups.iter().filter(|(partition, group)| {
            **partition != META && group.holders().any(|holder| holder == node)
        });
        let wanted: Vec<PartitionId> = groups.map(|(partition, _)| *partition).collect();
        (held != wanted).then(|| format!("node {node} holds {held:?} and should {wanted:?}"))
    }

    /// What is not yet as it must be at the end.
    fn unsettled(&self) -> Option<String> {
        if let Some(what) = self.unsettled_members() {
            return Some(what);
        }
        for (partition, log) in self.history.logs() {
            let last = log.last_index();
            let mut has_leader = false;
            for node in self.cluster.up() {
                let Some(client) = self.cluster.client(node) else {
                    return Some(format!("node {node} has not started"));
                };
                let status = client.status();
                let found = status.replicas.iter().find(|r| r.partition == *partition);
                let Some(replica) = found else {
                    continue;
                };
                has_leader |= replica.role == ReplicaRole::Leader;
                let fed = self.fed.get(&(node, *partition)).copied().unwrap_or(0);
                if replica.applied_index != last || fed != last {
                    return Some(format!(
                        "partition {partition} is at {last}, its feed on node {node} at {fed}, the replica {replica:?}"
                    ));
                }
            }
            if !has_leader {
                return Some(format!("partition {partition} has no leader"));
            }
        }
        None
    }

    fn settle(&mut self) -> Result<(), Violation> {
        self.ask_status()?;
        self.inspect()?;
        let mut standing = Vec::new();
        for node in self.cluster.up() {
            let Some(client) = self.cluster.client(node) else {
                continue;
            };
            for partition in client.local_partitions() {
                let view = client.inspect(partition, grid_core::PartitionState::view);
                let digest = view.and_then(|view| {
                    Some((view.applied_index(), view.hash(), view.digest().ok()?))
                });
                if let Some((index, hash, digest)) = digest {
                    standing.push(Standing {
                        node,
                        partition,
                        index,
                        hash,
                        digest,
                    });
                }
            }
        }
        self.check(&Fact::Settled {
            standing: &standing,
        })
    }
}

fn not_converged(detail: String) -> Violation {
    Violation {
        invariant: "converges",
        detail,
    }
}
