//! What a gateway says of the whole grid, as far as several commands need it.

use std::collections::{BTreeMap, BTreeSet};

use data_pump::pump::LaneStatus;
use grid::health::GridHealth;
use grid::{GatewayEntry, NodeReport, NodeStatus, ReplicaRole, ReplicaStatus};
use serde::{Deserialize, Serialize};

use crate::api::Api;

/// Under this name a node's status says where its gateway listens.
pub(crate) const ATTACHED_GATEWAY: &str = "gateway";
/// Under this name a node's status says how its pump stands.
pub(crate) const ATTACHED_PUMP: &str = "pump";

/// `GET /admin/v1/status`.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct ClusterStatus {
    /// Who answered.
    pub(crate) node_id: u64,
    /// How well the grid is, as that node sees it.
    pub(crate) health: GridHealth,
    /// Every node.
    pub(crate) nodes: Vec<NodeReport>,
}

/// A node's gateway, in its status.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct AttachedGateway {
    /// Its address, such as `http://127.0.0.1:7700`.
    pub(crate) url: String,
    /// The address for clients that speak TLS, where it has one, such as `https://0.0.0.0:7743`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tls_url: Option<String>,
}

/// A node's pump, in its status.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct AttachedPump {
    /// Whether the node was told to write to a database.
    pub(crate) wanted: bool,
    /// Its lanes; none before the database is known.
    pub(crate) lanes: Vec<LaneStatus>,
}

/// Where a node's gateway listens, if it says so.
pub(crate) fn gateway_url(status: &NodeStatus) -> Option<String> {
    let attached = status.attached.get(ATTACHED_GATEWAY)?;
    let gateway: AttachedGateway = serde_json::from_value(attached.clone()).ok()?;
    Some(gateway.url)
}

/// How a node's pump stands, if it says so.
pub(crate) fn pump(status: &NodeStatus) -> Option<AttachedPump> {
    let attached = status.attached.get(ATTACHED_PUMP)?;
    serde_json::from_value(attached.clone()).ok()
}

impl ClusterStatus {
    /// Asks a gateway.
    pub(crate) async fn ask(api: &Api) -> anyhow::Result<Self> {
        api.get("/admin/v1/status").await
    }

    /// What the nodes that answered say.
    pub(crate) fn statuses(&self) -> impl Iterator<Item = &NodeStatus> {
        self.nodes.iter().filter_map(|node| node.status.as_ref())
    }

    /// The gateways that are processes of their own and that some node has heard of lately.
    pub(crate) fn gateways(&self) -> Vec<GatewayEntry> {
        let known = self.statuses().flat_map(|status| status.gateways.clone());
        let known: BTreeMap<u64, GatewayEntry> = known.map(|entry| (entry.id, entry)).collect();
        let mut known: Vec<GatewayEntry> = known.into_values().collect();
        known.sort_by(|one, other| one.url.cmp(&other.url));
        known.dedup_by(|one, other| one.url == other.url);
        known
    }

    /// How far each partition's leader has applied its log, by partition. A partition that has no
    /// leader just now is left out.
    pub(crate) fn applied(&self) -> BTreeMap<u32, u64> {
        self.leaders()
            .map(|(_, replica)| (replica.partition.0, replica.applied_index))
            .collect()
    }

    /// The partition whose leader's log grew most since, with that leader.
    pub(crate) fn busiest_since(&self, earlier: &Self) -> Option<(u32, u64)> {
        let before = earlier.applied();
        let grown = |replica: &ReplicaStatus| {
            replica.applied_index
                - before
                    .get(&replica.partition.0)
                    .unwrap_or(&0)
                    .min(&replica.applied_index)
        };
        let (node, replica) = self.leaders().max_by_key(|(_, replica)| grown(replica))?;
        Some((replica.partition.0, node))
    }

    /// Every partition that some node holds.
    pub(crate) fn partitions(&self) -> Vec<u32> {
        let all: BTreeSet<u32> = self
            .statuses()
            .flat_map(|status| status.replicas.iter().map(|replica| replica.partition.0))
            .collect();
        all.into_iter().collect()
    }

    /// The replicas that lead, with their nodes.
    pub(crate) fn leaders(&self) -> impl Iterator<Item = (u64, &ReplicaStatus)> {
        self.statuses().flat_map(|status| {
            let leading = status
                .replicas
                .iter()
                .filter(|replica| replica.role == ReplicaRole::Leader);
            leading.map(move |replica| (status.node_id, replica))
        })
    }
}
