//! A node: the replicas that live in one process.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use grid_config::{ClusterSettings, NodeSettings};
use grid_core::Space;

use crate::client::GridClient;
use crate::error::StartError;

/// A node's number, from 1.
pub type NodeId = u64;

/// What a node needs to start.
#[derive(Debug)]
pub struct NodeOptions {
    /// The grid it belongs to.
    pub grid_id: u128,
    /// Its number.
    pub node_id: NodeId,
    /// Every node of the grid, itself included, with its address for other nodes.
    pub members: BTreeMap<NodeId, String>,
    /// The bound socket for other nodes.
    pub listener: std::net::TcpListener,
    /// Settings that all nodes share.
    pub cluster: ClusterSettings,
    /// Its own.
    pub settings: NodeSettings,
}

/// A running node.
#[derive(Debug)]
pub struct GridNode<S: Space> {
    space: PhantomData<Arc<S>>,
}

impl<S: Space> GridNode<S> {
    /// Opens the log, restores the replicas, joins the groups.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(_options: NodeOptions) -> Result<Self, StartError> {
        unimplemented!()
    }

    /// A handle for this process.
    #[must_use]
    pub fn client(&self) -> GridClient<S> {
        unimplemented!()
    }

    /// Waits until the node must stop: its log failed, or a replica would have diverged. Returns why.
    pub async fn failed(&self) -> String {
        unimplemented!()
    }

    /// Hands nothing over yet: stops the groups, syncs the log, closes.
    pub async fn shutdown(self) {
        unimplemented!()
    }
}
