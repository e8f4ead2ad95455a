//! One node's side of the simulation: the software of a turmoil host, and what it shares with the
//! driver.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use grid::simulation::{Listener, enter};
use grid::{FeedError, FeedSlice, GridClient, GridNode, MemberChange, NodeOptions, StartError};
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
/// How often a node looks for partitions that it follows not yet.
const FOLLOW_PERIOD: Duration = Duration::from_millis(20);
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
    /// The grid has removed it.
    Removed,
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
        peer_address: Some(address(node).1),
        gateway_address: String::new(),
        listener,
        cluster: cluster_settings(plan),
        settings: NodeSettings {
            data_dir: format!("/{}", host_name(node)).into(),
            snapshot_every_entries: plan.snapshot_every_entries,
            feed_bytes_max: plan.feed_bytes_max,
            log_keep_bytes: 0,
            tls_allow_plaintext: true,
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
                StartError::Removed { .. } => Stopped::Removed,
                _ => Stopped::NotStarted(text),
            };
            shared.borrow_mut().stopped = Some(stopped);
            return std::future::pending().await;
        }
    };
    let client = running.client();
    tokio::task::spawn_local(follow_held(client.clone(), Rc::clone(&shared)));
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
        reason = running.failed() => {
            let stopped = if running.was_removed() {
                Stopped::Removed
            } else {
                Stopped::Failed(reason)
            };
            shared.borrow_mut().stopped = Some(stopped);
        }
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
        Asked::Order(action) => {
            let change = MemberChange {
                action,
                dry_run: false,
            };
            let answered = client.change_members(change, deadline).await;
            Result::Ordered(format!("{answered:?}"))
        }
    };
    shared.borrow_mut().results.push((ticket, result));
}

/// Follows each partition that the node holds, as long as it holds it.
async fn follow_held(client: GridClient<Unit>, shared: Rc<RefCell<Shared>>) {
    let followed = Rc::new(RefCell::new(BTreeSet::new()));
    let mut feeds = 0;
    loop {
        for partition in client.local_partitions() {
            if !followed.borrow_mut().insert(partition) {
                continue;
            }
            feeds += 1;
            let following = feed(client.clone(), partition, feeds, Rc::clone(&shared));
            let ended = Rc::clone(&followed);
            tokio::task::spawn_local(async move {
                following.await;
                ended.borrow_mut().remove(&partition);
            });
        }
        tokio::time::sleep(FOLLOW_PERIOD).await;
    }
}

/// Follows a partition from its beginning, or from where the log begins, until the node no longer
/// holds it.
async fn feed(
    client: GridClient<Unit>,
    partition: PartitionId,
    number: u64,
    shared: Rc<RefCell<Shared>>,
) {
    let mut from = Cursor::after_entry(partition, 0);
    while client.local_partitions().any(|held| held == partition) {
        let began_after = from.index;
        let mut feed = client.follow(partition, Some(from));
        loop {
            match feed.next().await {
                Ok(slice) => {
                    from = feed.cursor();
                    shared.borrow_mut().fed.push(Fed {
                        partition,
                        feed: number,
                        began_after,
                        slice,
                    });
                }
                Err(FeedError::CursorTooOld) => {
                    let present = client.inspect(partition, |state| state.applied_index());
                    // A replica that is behind what another node's has told is waited for.
                    let Some(present) = present.filter(|present| *present > from.index) else {
                        break;
                    };
                    from = Cursor::after_entry(partition, present);
                    // Said at once: where nothing is written any more, no slice will say it.
                    shared.borrow_mut().fed.push(Fed {
                        partition,
                        feed: number,
                        began_after: present,
                        slice: FeedSlice {
                            batches: Vec::new(),
                            upto_index: present,
                        },
                    });
                    break;
                }
                Err(FeedError::CursorAhead | FeedError::Stopped) => break,
            }
        }
        tokio::time::sleep(FEED_PAUSE).await;
    }
}
