//! What a process knows of the grid, and its ways to the nodes.
//!
//! A node has it, and so has whoever only asks (see [`crate::connect`]): the routing client works with it
//! alone. It has no replica and decides nothing; what it knows may be late, and every use of it bears that.
//!
//! Invariants: `map` only ever gets a later epoch; `leaderships` has an entry for every group of the grid.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use grid_core::{PartitionId, SlotLayout, codec};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::client::Leadership;
use crate::cluster::{ClusterMap, Gateways, META, Revocations};
use crate::node::NodeId;
use crate::transport::{Lane, Transport, TransportError};

/// See the module.
pub(crate) struct Outlook {
    /// This node; of a process that is none, a number that no node has.
    pub(crate) node: NodeId,
    pub(crate) grid_id: u128,
    pub(crate) layout: SlotLayout,
    pub(crate) leaderships: BTreeMap<PartitionId, watch::Sender<Leadership>>,
    pub(crate) map: watch::Sender<Option<Arc<ClusterMap>>>,
    /// What is refused, as far as is known here.
    pub(crate) revocations: watch::Sender<Arc<Revocations>>,
    /// The gateways that are processes of their own.
    pub(crate) gateways: Gateways,
    pub(crate) transport: Transport,
}

impl Outlook {
    /// Knows nothing yet.
    pub(crate) fn new(
        node: NodeId,
        grid_id: u128,
        layout: SlotLayout,
        transport: Transport,
    ) -> Self {
        let groups = layout.iter().chain([META]);
        Self {
            node,
            grid_id,
            layout,
            leaderships: groups
                .map(|group| (group, watch::Sender::new(Leadership::default())))
                .collect(),
            map: watch::Sender::new(None),
            revocations: watch::Sender::new(Arc::default()),
            gateways: Gateways::default(),
            transport,
        }
    }

    /// The newest cluster map seen here; `None` before the grid is founded.
    pub(crate) fn present_map(&self) -> Option<Arc<ClusterMap>> {
        self.map.borrow().clone()
    }

    /// The nodes that hold a group, as far as is known.
    pub(crate) fn holders(&self, partition: PartitionId) -> Vec<NodeId> {
        let map = self.map.borrow();
        map.as_ref()
            .and_then(|map| map.groups.get(&partition))
            .map(|group| group.holders().collect())
            .unwrap_or_default()
    }

    /// Every node of the grid, as far as is known.
    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        match &*self.map.borrow() {
            Some(map) => map.members().map(|(node, _)| node).collect(),
            None => vec![self.node],
        }
    }

    /// The nodes other than this one to which there is a connection.
    pub(crate) fn reachable(&self) -> Vec<NodeId> {
        let mut nodes = self.nodes();
        nodes.retain(|node| *node != self.node && self.transport.is_reachable(*node));
        nodes
    }

    /// The leader of a group as far as it is known here.
    pub(crate) fn leader(&self, partition: PartitionId) -> Option<NodeId> {
        self.leaderships.get(&partition)?.borrow().leader
    }

    /// Remembers who leads a group that this process has no vote in.
    pub(crate) fn hear_of_leader(&self, partition: PartitionId, leader: Option<NodeId>, term: u64) {
        if let Some(known) = self.leaderships.get(&partition) {
            known.send_if_modified(|known| {
                let is_older = leader.is_some() && term != 0 && term < known.term;
                if is_older || known.leader == leader {
                    return false;
                }
                *known = Leadership {
                    leader,
                    term: known.term.max(term),
                    is_local: false,
                };
                true
            });
        }
    }

    /// Takes a later map; an older one is ignored.
    pub(crate) fn learn_map(&self, map: ClusterMap) {
        self.map.send_if_modified(|known| {
            let is_news = known.as_ref().is_none_or(|known| known.epoch < map.epoch);
            if is_news {
                *known = Some(Arc::new(map));
            }
            is_news
        });
    }

    /// Asks a node something, for at most `wait`.
    ///
    /// # Errors
    /// See [`TransportError`].
    pub(crate) async fn request(
        &self,
        peer: NodeId,
        service: u8,
        payload: Vec<u8>,
        wait: Duration,
    ) -> Result<Bytes, TransportError> {
        self.transport
            .request(peer, Lane::Control, service, payload.into(), wait)
            .await
    }

    /// The same in the codec's terms; `None` when the node does not answer in time, or not in them.
    pub(crate) async fn ask<A: DeserializeOwned>(
        &self,
        peer: NodeId,
        service: u8,
        question: &impl Serialize,
        wait: Duration,
    ) -> Option<A> {
        let payload = codec::encode(question).ok()?;
        let reply = self.request(peer, service, payload, wait).await;
        codec::decode(&reply.ok()?).ok()
    }
}
