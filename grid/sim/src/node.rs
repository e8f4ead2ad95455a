//! One node's side of the simulation: the software of a turmoil host, and what it shares with the
//! driver.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use grid::simulation::{Listener, enter};
use grid::{FeedError, GridClient, GridNode, NodeOptions, StartError};
use grid_config::{ClusterSettings, NodeSettings};
use grid_core::{Cursor, PartitionId};
use processing_unit::Unit;
use tokio::time::Instant;

use crate::plan::Plan;
use crate::requests::{Asked, Fed, REQUEST_TIMEOUT_MS, Request, Result, Ticket};

/// The port that nodes listen on.
const PORT: u16 = 7_000;
/// How often a node looks for requests.
const INBOX_PERIOD: Duration = Duration::from_millis(2);
/// The pause before a feed that cannot go on is followed again.
const FEED_PAUSE: Duration = Duration::from_millis(200);

/// Why a node stopped by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// It would not start: its files are damaged.
    Damaged(String),
    /// It would not start for another reason.
    NotStarted(String),
    /// It ran, and gave up.
    Failed(String),
}

/// What the driver and a node's software share.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) inbox: VecDeque<Request>,
    pub(crate) results: Vec<(Ticket, Result)>,
    pub(crate) fed: Vec<Fed>,
    /// Set while the node runs.
    pub(crate) client: Option<GridClient<Unit>>,
    pub(crate) stopped: Option<Stopped>,
}

/// A node's name as a host.
pub(crate) fn host_name(node: u64) -> String {
    format!("node-{node}")
}

/// The settings that all nodes share.
fn cluster_settings(plan: &Plan) -> ClusterSettings {
    ClusterSettings {
        partitions: plan.partitions,
        ..ClusterSettings::default()
    }
}

fn options(plan: &Plan, node: u64, listener: Listener) -> NodeOptions {
    let address = |node: u64| (node, format!("{}:{PORT}", host_name(node)));
    NodeOptions {
        grid_id: 7,
        node_id: node,
        members: (1..=plan.nodes).map(address).collect::<BTreeMap<_, _>>(),
        seeds: Vec::new(),
        peer_address: None,
        gateway_address: String::new(),
        listener,
        cluster: cluster_settings(plan),
        settings: NodeSettings {
            data_dir: format!("/{}", host_name(node)).into(),
            snapshot_every_entries: plan.snapshot_every_entries,
            feed_bytes_max: plan.feed_bytes_max,
            ..NodeSettings::default()
        },
        keep_for_pump: plan.has_pump,
    }
}

/// Runs a node until its host is crashed.
pub(crate) async fn run(plan: Plan, node: u64, shared: Rc<RefCell<Shared>>) -> turmoil::Result {
    enter(node);
    let listener = Listener::bind(PORT).await?;
    let started = GridNode::<Unit>::start(options(&plan, node, listener)).await;
    let running = match started {
        Ok(running) => running,
        Err(error) => {
            let text = error.to_string();
            let stopped = match error {
                StartError::Damaged(_) => Stopped::Damaged(text),
                _ => Stopped::NotStarted(text),
            };
            shared.borrow_mut().stopped = Some(stopped);
            return std::future::pending().await;
        }
    };
    let client = running.client();
    tokio::task::spawn_local(follow_held(client.clone(), plan, Rc::clone(&shared)));
    shared.borrow_mut().client = Some(client.clone());
    let serving = async {
        loop {
            let asked = std::mem::take(&mut shared.borrow_mut().inbox);
            for request in asked {
                tokio::task::spawn_local(serve(client.clone(), request, Rc::clone(&shared)));
            }
            tokio::time::sleep(INBOX_PERIOD).await;
        }
    };
    tokio::select! {
        biased;
        reason = running.failed() => shared.borrow_mut().stopped = Some(Stopped::Failed(reason)),
        () = serving => {}
    }
    std::future::pending().await
}

async fn serve(client: GridClient<Unit>, request: Request, shared: Rc<RefCell<Shared>>) {
    let deadline = (Instant::now() + Duration::from_millis(REQUEST_TIMEOUT_MS)).into_std();
    let Request {
        ticket,
        partition,
        asked,
    } = request;
    let result = match asked {
        Asked::Execute(command) => {
            Result::Executed(client.execute(partition, command, deadline).await)
        }
        Asked::Query(query, read) => {
            Result::Answered(client.query(partition, query, read, deadline).await)
        }
        Asked::Pumped(index) => {
            // A checkpoint that is lost comes again with the next one.
            let _ = client.record_pumped(partition, index, deadline).await;
            Result::Pumped
        }
    };
    shared.borrow_mut().results.push((ticket, result));
}

/// Follows each partition that the node holds, once it has its replicas.
async fn follow_held(client: GridClient<Unit>, plan: Plan, shared: Rc<RefCell<Shared>>) {
    let mut map = client.cluster_map();
    let known = map.wait_for(Option::is_some).await;
    let held = known.ok().and_then(|map| map.clone()).map_or(0, |map| {
        let groups = map.groups.iter();
        let held = groups.filter(|(partition, group)| {
            partition.0 < plan.partitions && group.holders().any(|node| node == client.node_id())
        });
        held.count()
    });
    while client.local_partitions().count() < held {
        tokio::time::sleep(INBOX_PERIOD).await;
    }
    for partition in client.local_partitions() {
        tokio::task::spawn_local(feed(client.clone(), partition, Rc::clone(&shared)));
    }
}

/// Follows a partition from its beginning, or from where the log begins.
async fn feed(client: GridClient<Unit>, partition: PartitionId, shared: Rc<RefCell<Shared>>) {
    let mut from = Cursor::after_entry(partition, 0);
    loop {
        let began_after = from.index;
        let mut feed = client.follow(partition, Some(from));
        loop {
            match feed.next().await {
                Ok(slice) => {
                    from = feed.cursor();
                    shared.borrow_mut().fed.push(Fed {
                        partition,
                        began_after,
                        slice,
                    });
                }
                Err(FeedError::CursorTooOld) => {
                    let present = client.inspect(partition, |state| state.applied_index());
                    from = Cursor::after_entry(partition, present.unwrap_or(0));
                    break;
                }
                Err(FeedError::CursorAhead | FeedError::Stopped) => break,
            }
        }
        tokio::time::sleep(FEED_PAUSE).await;
    }
}
