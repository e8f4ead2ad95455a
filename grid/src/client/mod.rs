//! The routing client: finds the partition's leader, hands the command over, retries under the same
//! key until the deadline.
//!
//! Here is the routing; `commands` carries commands out, `reads` answers queries and follows changes. All
//! of that is [`RoutingClient`], for any process that reaches the nodes; [`GridClient`] is a node's own, which
//! besides looks at the node's replicas and, in `operator`, asks and orders what is about nodes.

mod commands;
mod reads;

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use grid_core::{PartitionId, SlotLayout, Space};
use tokio::sync::watch;

use crate::error::GridError;
use crate::members::{Member, Members, remaining};
use crate::node::NodeId;
use crate::outlook::Outlook;

pub use commands::{CommandRequest, Executed};
pub use reads::{Answered, LogError, LoggedEntry, Read};

/// One attempt to reach a leader; after it the client looks for the leader again.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(3_000);
/// The pause before trying again when nothing tells that the leader has changed.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// The target of log lines about single requests, off by default: `RUST_LOG=info,request=debug`. A line
/// names a command by its idempotency key.
pub const REQUEST_LOG: &str = "request";

/// Who leads a partition, as this node knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader, if one is known.
    pub leader: Option<NodeId>,
    /// The Raft term.
    pub term: u64,
    /// Whether it is this node.
    pub is_local: bool,
}

/// A handle on the grid for whoever reaches its nodes, cheap to clone.
pub struct RoutingClient<S: Space> {
    pub(crate) outlook: Arc<Outlook>,
    /// The node of this process, if it is one.
    members: Option<Arc<Members<S>>>,
}

impl<S: Space> Clone for RoutingClient<S> {
    fn clone(&self) -> Self {
        Self {
            outlook: Arc::clone(&self.outlook),
            members: self.members.clone(),
        }
    }
}

impl<S: Space> std::fmt::Debug for RoutingClient<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RoutingClient({})", self.outlook.node)
    }
}

/// A node's handle on the grid and on itself, cheap to clone: a [`RoutingClient`] and more.
pub struct GridClient<S: Space> {
    routing: RoutingClient<S>,
    pub(crate) members: Arc<Members<S>>,
}

impl<S: Space> Clone for GridClient<S> {
    fn clone(&self) -> Self {
        Self {
            routing: self.routing.clone(),
            members: Arc::clone(&self.members),
        }
    }
}

impl<S: Space> std::fmt::Debug for GridClient<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GridClient(node {})", self.members.node)
    }
}

impl<S: Space> Deref for GridClient<S> {
    type Target = RoutingClient<S>;

    fn deref(&self) -> &RoutingClient<S> {
        &self.routing
    }
}

impl<S: Space> GridClient<S> {
    pub(crate) fn new(members: Arc<Members<S>>) -> Self {
        Self {
            routing: RoutingClient {
                outlook: Arc::clone(&members.outlook),
                members: Some(Arc::clone(&members)),
            },
            members,
        }
    }

    /// The part of it that needs no node.
    #[must_use]
    pub fn routing(&self) -> RoutingClient<S> {
        self.routing.clone()
    }

    /// The node this client lives on.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.members.node
    }

    /// The partitions that have a replica on this node, at this moment.
    pub fn local_partitions(&self) -> impl Iterator<Item = PartitionId> + use<S> {
        let replicas = self.members.replicas();
        replicas.into_iter().map(|(partition, _)| partition)
    }

    /// How long writes to the partition take just now from proposal to applied, smoothed; zero when
    /// this node does not lead it or nobody writes. Background work steps back by it.
    #[must_use]
    pub fn commit_delay(&self, partition: PartitionId) -> Duration {
        let member = self.members.get(partition);
        member.map_or(Duration::ZERO, |member| {
            member.replica.commit_delay().present()
        })
    }
}

impl<S: Space> RoutingClient<S> {
    /// For a process that is no node.
    pub(crate) fn outside(outlook: Arc<Outlook>) -> Self {
        Self {
            outlook,
            members: None,
        }
    }

    /// Which partition owns which key.
    #[must_use]
    pub fn layout(&self) -> SlotLayout {
        self.outlook.layout
    }

    /// Which grid it is: one that was made again from a backup has another id.
    #[must_use]
    pub fn grid_id(&self) -> u128 {
        self.outlook.grid_id
    }

    /// Where clients reach the gateways that are there: that of this process, those of the nodes that it
    /// can reach and that are not about to leave, and those that are processes of their own. Nodes without
    /// a gateway are left out.
    #[must_use]
    pub fn gateways(&self) -> Vec<String> {
        let own = self.outlook.node;
        let map = self.outlook.present_map();
        let of_nodes = map.iter().flat_map(|map| map.members());
        let of_nodes = of_nodes.filter(|(node, entry)| {
            let is_there = *node == own || self.outlook.transport.is_reachable(*node);
            is_there && entry.is_eligible() && !entry.gateway_address.is_empty()
        });
        let of_nodes = of_nodes.map(|(_, entry)| entry.gateway_address.clone());
        let others = self.outlook.gateways.present().into_iter();
        of_nodes.chain(others.map(|entry| entry.url)).collect()
    }

    /// Who leads a partition; changes are seen through the receiver. Of a partition without a replica
    /// on this node the leader is known a little later, and its term not always.
    ///
    /// # Errors
    /// [`GridError::UnknownPartition`].
    pub fn leadership(
        &self,
        partition: PartitionId,
    ) -> Result<watch::Receiver<Leadership>, GridError> {
        self.outlook
            .leaderships
            .get(&partition)
            .map(watch::Sender::subscribe)
            .ok_or(GridError::UnknownPartition)
    }

    /// Whether requests for a partition have somewhere to go: with a replica in this process, a leader is
    /// known; without one, there is a node to ask, or this is a node, which looks for one when it must.
    #[must_use]
    pub fn is_ready_for(&self, partition: PartitionId) -> bool {
        let leads = self.outlook.leader(partition).is_some();
        match &self.members {
            Some(members) => leads || members.get(partition).is_none(),
            None => self.nearest(partition).is_ok_and(|node| node.is_some()),
        }
    }

    /// The node of this process, if it is one.
    pub(crate) fn node(&self) -> Option<&Arc<Members<S>>> {
        self.members.as_ref()
    }

    /// This process' replica of a partition.
    fn replica(&self, partition: PartitionId) -> Option<Arc<Member<S>>> {
        self.members.as_ref()?.get(partition)
    }

    pub(crate) fn known(&self, partition: PartitionId) -> Result<(), GridError> {
        if partition.0 < self.outlook.layout.partitions() {
            Ok(())
        } else {
            Err(GridError::UnknownPartition)
        }
    }

    /// The partition's leader as far as it is known here.
    fn leader(&self, partition: PartitionId) -> Result<Option<NodeId>, GridError> {
        self.known(partition)?;
        let leader = self.outlook.leader(partition);
        let members = self.members.as_ref();
        if leader.is_some() || members.is_some_and(|members| members.is_serving(partition)) {
            return Ok(leader);
        }
        Ok(self.first_reachable(&self.outlook.holders(partition)))
    }

    /// A node that holds the partition and can be reached.
    fn nearest(&self, partition: PartitionId) -> Result<Option<NodeId>, GridError> {
        self.known(partition)?;
        let own = self.replica(partition);
        if own.is_some_and(|member| member.is_serving() && !member.replica.has_diverged()) {
            return Ok(Some(self.outlook.node));
        }
        let leader = self.outlook.leader(partition);
        let leader = leader.filter(|node| self.outlook.transport.is_reachable(*node));
        Ok(leader.or_else(|| self.first_reachable(&self.outlook.holders(partition))))
    }

    fn first_reachable(&self, holders: &[NodeId]) -> Option<NodeId> {
        holders
            .iter()
            .copied()
            .find(|node| self.outlook.transport.is_reachable(*node))
    }

    /// Remembers where a partition without a replica here is led, or forgets a wrong hint.
    fn hint(&self, partition: PartitionId, leader: Option<NodeId>) {
        match &self.members {
            Some(members) => members.note_leader(partition, leader, 0),
            None => self.outlook.hear_of_leader(partition, leader, 0),
        }
    }

    /// Waits a moment, less when the leader changes meanwhile.
    async fn pause(&self, partition: PartitionId, deadline: Instant) {
        let pause = RETRY_PAUSE.min(remaining(deadline));
        if let Some(member) = self.replica(partition) {
            let mut leadership = member.leadership.clone();
            leadership.borrow_and_update();
            let changed = tokio::time::timeout(pause, leadership.changed()).await;
            // A replica that has ended has no leadership to wait for, and says so at once.
            if let Ok(Err(_)) = changed {
                tokio::time::sleep(pause).await;
            }
        } else {
            tokio::time::sleep(pause).await;
        }
    }
}
