//! The nodes, the network between them, and the handles by which faults get hold of them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use grid::simulation::{self, CrashLoss, DiskFaults};
use grid::{ClusterMap, GridClient, ReplicaRole};
use processing_unit::Unit;

use crate::node::{self, Shared, Stopped, host_name};
use crate::plan::Plan;
use crate::requests::{Fed, Request, Result, Ticket};

/// How far the simulation goes at a time, in milliseconds.
pub(crate) const STEP_MS: u64 = 2;
/// How long a message takes at most when nothing is wrong.
const LATENCY_MAX: Duration = Duration::from_millis(6);
const LATENCY_MIN: Duration = Duration::from_millis(1);

/// How long a message takes when only that is asked for.
const LATENCY_USUAL: Duration = Duration::from_millis(2);

/// A running cluster.
pub(crate) struct Cluster<'a> {
    plan: Plan,
    sim: turmoil::Sim<'a>,
    nodes: BTreeMap<u64, Rc<RefCell<Shared>>>,
    up: BTreeSet<u64>,
    /// Requests handed to each node and not yet answered.
    under_way: BTreeMap<u64, BTreeSet<Ticket>>,
    lost: Vec<(Ticket, Result)>,
}

impl Cluster<'_> {
    /// Starts all nodes of a plan.
    pub(crate) fn start(plan: &Plan) -> Self {
        simulation::begin(plan.seed);
        let sim = turmoil::Builder::new()
            .rng_seed(plan.seed)
            .tick_duration(Duration::from_millis(STEP_MS))
            .simulation_duration(Duration::from_secs(100_000))
            .min_message_latency(LATENCY_MIN)
            .max_message_latency(LATENCY_MAX)
            .tcp_capacity(1 << 16)
            .build();
        let mut cluster = Self {
            plan: plan.clone(),
            sim,
            nodes: BTreeMap::new(),
            up: BTreeSet::new(),
            under_way: BTreeMap::new(),
            lost: Vec::new(),
        };
        for node in 1..=plan.nodes {
            cluster.add(node);
        }
        cluster
    }

    /// Switches a new node on. One that is not of the first asks those to let it in.
    pub(crate) fn add(&mut self, node: u64) {
        simulation::trace_note(&format!("add {node}"));
        let shared = Rc::new(RefCell::new(Shared::default()));
        let (plan, given) = (self.plan.clone(), Rc::clone(&shared));
        self.sim.host(host_name(node), move || {
            node::run(plan.clone(), node, Rc::clone(&given))
        });
        self.nodes.insert(node, shared);
        self.up.insert(node);
    }

    /// Goes on by [`STEP_MS`].
    pub(crate) fn step(&mut self) -> std::result::Result<(), String> {
        self.sim
            .step()
            .map(|_| ())
            .map_err(|error| format!("a node's software ended: {error}"))
    }

    /// The simulated time since the beginning.
    pub(crate) fn now_ms(&self) -> u64 {
        self.sim.elapsed().as_millis() as u64
    }

    /// The latest cluster map that a running node has.
    pub(crate) fn latest_map(&self) -> Option<Arc<ClusterMap>> {
        let maps = self.nodes.keys().filter_map(|node| self.map_of(*node));
        maps.max_by_key(|map| map.epoch)
    }

    /// The cluster map as a running node has it.
    pub(crate) fn map_of(&self, node: u64) -> Option<Arc<ClusterMap>> {
        self.client(node)?.cluster_map().borrow().clone()
    }

    /// The running nodes that lead a partition, as they see it.
    pub(crate) fn leaders(&self) -> Vec<u64> {
        let leads = |node: &u64| {
            let status = self.client(*node).map(|client| client.status());
            let replicas = status.into_iter().flat_map(|status| status.replicas);
            replicas
                .into_iter()
                .any(|replica| replica.role == ReplicaRole::Leader)
        };
        self.up.iter().copied().filter(leads).collect()
    }

    /// All nodes' numbers.
    pub(crate) fn node_ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    /// The nodes that are switched on.
    pub(crate) fn up(&self) -> Vec<u64> {
        self.up.iter().copied().collect()
    }

    /// The handle of a node that has started.
    pub(crate) fn client(&self, node: u64) -> Option<GridClient<Unit>> {
        self.nodes.get(&node)?.borrow().client.clone()
    }

    /// Hands a request to a node; `false` when it is not there to take it.
    pub(crate) fn ask(&mut self, node: u64, request: Request) -> bool {
        let Some(shared) = self.nodes.get(&node) else {
            return false;
        };
        let mut shared = shared.borrow_mut();
        if shared.client.is_none() {
            return false;
        }
        self.under_way
            .entry(node)
            .or_default()
            .insert(request.ticket);
        shared.inbox.push_back(request);
        true
    }

    /// What came of requests since the last call.
    pub(crate) fn take_results(&mut self) -> Vec<(Ticket, Result)> {
        let mut results = std::mem::take(&mut self.lost);
        for (node, shared) in &self.nodes {
            for (ticket, result) in std::mem::take(&mut shared.borrow_mut().results) {
                if let Some(under_way) = self.under_way.get_mut(node) {
                    under_way.remove(&ticket);
                }
                results.push((ticket, result));
            }
        }
        results
    }

    /// What the nodes' feeds gave since the last call.
    pub(crate) fn take_fed(&mut self) -> Vec<(u64, Fed)> {
        let take = |(node, shared): (&u64, &Rc<RefCell<Shared>>)| {
            let fed = std::mem::take(&mut shared.borrow_mut().fed);
            fed.into_iter().map(|fed| (*node, fed)).collect::<Vec<_>>()
        };
        self.nodes.iter().flat_map(take).collect()
    }

    /// Nodes that stopped by themselves, and why.
    pub(crate) fn stopped(&self) -> Vec<(u64, Stopped)> {
        let stopped = |(node, shared): (&u64, &Rc<RefCell<Shared>>)| {
            Some((*node, shared.borrow().stopped.clone()?))
        };
        self.nodes.iter().filter_map(stopped).collect()
    }

    /// Switches a node off.
    pub(crate) fn crash(&mut self, node: u64, loss: CrashLoss) {
        if !self.up.remove(&node) {
            return;
        }
        simulation::trace_note(&format!("crash {node} {loss:?}"));
        // The disk first: what is dropped with the software must not reach it.
        simulation::crash_disk(node, loss);
        self.sim.crash(host_name(node));
        if let Some(shared) = self.nodes.get(&node) {
            let mut shared = shared.borrow_mut();
            // What the node said before it went off still arrives; feeds and results alike.
            shared.client = None;
            shared.stopped = None;
            shared.inbox.clear();
            let results = &shared.results;
            if let Some(under_way) = self.under_way.get_mut(&node) {
                for (ticket, _) in results {
                    under_way.remove(ticket);
                }
                let lost = std::mem::take(under_way);
                self.lost
                    .extend(lost.into_iter().map(|ticket| (ticket, Result::NodeStopped)));
            }
        }
    }

    /// Switches a node on again, with a sound disk.
    pub(crate) fn restart(&mut self, node: u64) {
        if self.up.insert(node) {
            simulation::trace_note(&format!("restart {node}"));
            simulation::disk_faults(node, DiskFaults::default());
            self.sim.bounce(host_name(node));
        }
    }

    /// Cuts the way from one node to another.
    pub(crate) fn cut(&mut self, from: u64, to: u64) {
        simulation::trace_note(&format!("cut {from} {to}"));
        self.sim.partition_oneway(host_name(from), host_name(to));
    }

    /// Mends it.
    pub(crate) fn mend(&mut self, from: u64, to: u64) {
        simulation::trace_note(&format!("mend {from} {to}"));
        self.sim.repair_oneway(host_name(from), host_name(to));
    }

    /// Sets how long messages between two nodes take; `None` for the usual.
    pub(crate) fn delay(&mut self, a: u64, b: u64, delay: Option<Duration>) {
        simulation::trace_note(&format!("delay {a} {b} {delay:?}"));
        let (a, b) = (host_name(a), host_name(b));
        self.sim
            .set_link_latency(a, b, delay.unwrap_or(LATENCY_USUAL));
    }

    /// Lets each message between two nodes take up to so long, each its own time, so that they overtake
    /// each other; `None` for the usual. A delay of these two ends with it: the least would exceed the most.
    pub(crate) fn jitter(&mut self, a: u64, b: u64, most: Option<Duration>) {
        simulation::trace_note(&format!("jitter {a} {b} {most:?}"));
        let (a, b) = (host_name(a), host_name(b));
        let most = most.unwrap_or(LATENCY_MAX);
        self.sim.set_link_latency(a.clone(), b.clone(), LATENCY_MIN);
        self.sim.set_link_max_message_latency(a, b, most);
    }

    /// Keeps all messages between two nodes back.
    pub(crate) fn hold(&mut self, a: u64, b: u64) {
        simulation::trace_note(&format!("hold {a} {b}"));
        self.sim.hold(host_name(a), host_name(b));
    }

    /// Lets them all go at once.
    pub(crate) fn release(&mut self, a: u64, b: u64) {
        simulation::trace_note(&format!("release {a} {b}"));
        self.sim.release(host_name(a), host_name(b));
    }
}
