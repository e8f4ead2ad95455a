//! A space small enough to see through, and clusters of nodes in one process.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use grid::{CommandRequest, GridClient, GridNode, META, NodeOptions, StartError};
use grid_config::{ClusterSettings, NodeSettings};
use grid_core::{
    ApplyContext, CodecError, IdempotencyKey, PartitionId, Slot, Space, SpaceView, Timestamp, codec,
};

/// Adds numbers; `deadline` lets one be added later. From rules 2 on every number counts double: the second
/// build of it knows them.
#[derive(Debug, Default, Clone)]
pub(crate) struct Sum<const BUILD: u16 = 1> {
    total: u64,
    later: BTreeMap<Timestamp, u64>,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) enum Command {
    Add(u64),
    AddAfter {
        wait_ms: u64,
        number: u64,
    },
    /// Breaks the rule that apply is pure: the first replica to apply it adds one more.
    AddImpurely(u64),
}

/// Whether [`Command::AddImpurely`] has been applied by the replica that differs.
static WAS_IMPURE: AtomicBool = AtomicBool::new(false);

impl<const BUILD: u16> SpaceView for Sum<BUILD> {
    fn slots(&self) -> Vec<Slot> {
        Slot::new(0).into_iter().collect()
    }

    fn encode_slot(&self, _slot: Slot, out: &mut Vec<u8>) -> Result<(), CodecError> {
        codec::encode_into(&(self.total, &self.later), out)
    }
}

impl<const BUILD: u16> Space for Sum<BUILD> {
    const RULES: u16 = BUILD;

    type Command = Command;
    type Reply = u64;
    type Change = u64;
    type Query = ();
    type Answer = u64;
    type View = Self;

    fn apply(&mut self, context: &mut ApplyContext<'_, u64>, command: Command) -> u64 {
        match command {
            Command::Add(number) => {
                let counted = number * u64::from(context.rules());
                self.total += counted;
                context.emit(counted);
            }
            Command::AddImpurely(number) => {
                let first = !WAS_IMPURE.swap(true, Ordering::SeqCst);
                self.total += number + u64::from(first);
            }
            Command::AddAfter { wait_ms, number } => {
                self.later.insert(context.now() + wait_ms, number);
            }
        }
        self.total
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        self.later.keys().next().copied()
    }

    fn fire_due(&mut self, context: &mut ApplyContext<'_, u64>, limit: usize) {
        for _ in 0..limit {
            match self.later.first_entry() {
                Some(entry) if *entry.key() <= context.now() => {
                    let number = entry.remove();
                    self.total += number;
                    context.emit(number);
                }
                _ => return,
            }
        }
    }

    fn query(&self, (): &()) -> u64 {
        self.total
    }

    fn view(&self) -> Self {
        self.clone()
    }

    fn restore_slot(&mut self, _slot: Slot, bytes: &[u8]) -> Result<(), CodecError> {
        (self.total, self.later) = codec::decode(bytes)?;
        Ok(())
    }

    fn check_invariants(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Nodes in one process, each with its own directory and sockets.
pub(crate) struct Cluster {
    directory: tempfile::TempDir,
    /// The nodes that the grid begins with.
    first: BTreeMap<u64, String>,
    addresses: BTreeMap<u64, String>,
    pub(crate) nodes: BTreeMap<u64, GridNode<Sum>>,
    pub(crate) partitions: u32,
    pub(crate) settings: NodeSettings,
    /// Whether the log is kept for a pump.
    keep_for_pump: bool,
}

fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a free port")
}

fn address(listener: &TcpListener) -> String {
    listener.local_addr().expect("bound").to_string()
}

impl Cluster {
    /// Starts `count` nodes.
    pub(crate) async fn start(count: u64, partitions: u32, settings: NodeSettings) -> Self {
        Self::start_for(count, partitions, settings, false).await
    }

    /// Starts `count` nodes that keep their logs for a pump.
    pub(crate) async fn start_for_pump(
        count: u64,
        partitions: u32,
        settings: NodeSettings,
    ) -> Self {
        Self::start_for(count, partitions, settings, true).await
    }

    async fn start_for(
        count: u64,
        partitions: u32,
        settings: NodeSettings,
        keep_for_pump: bool,
    ) -> Self {
        let listeners: BTreeMap<u64, TcpListener> =
            (1..=count).map(|node| (node, listen())).collect();
        let addresses: BTreeMap<u64, String> = listeners
            .iter()
            .map(|(node, listener)| (*node, address(listener)))
            .collect();
        let directory = tempfile::tempdir().expect("temporary directory");
        let nodes = BTreeMap::new();
        let mut cluster = Self {
            directory,
            first: addresses.clone(),
            addresses,
            nodes,
            partitions,
            settings,
            keep_for_pump,
        };
        for (node, listener) in listeners {
            cluster.start_on(node, listener).await;
        }
        cluster
    }

    /// Waits until every node has its replicas.
    pub(crate) async fn founded(&self) {
        for node in self.nodes.values() {
            let client = node.client();
            let mut map = client.cluster_map();
            let known = map.wait_for(Option::is_some).await.expect("it runs");
            let groups = known.as_ref().expect("waited for").groups.clone();
            drop(known);
            let held = groups.iter().filter(|(partition, group)| {
                **partition != META && group.replicas.contains(&client.node_id())
            });
            let held = held.count();
            until("its replicas are open", || {
                client.local_partitions().count() == held
            })
            .await;
        }
    }

    /// Starts a further node, which joins through the first ones.
    pub(crate) async fn join(&mut self, node: u64) {
        let listener = listen();
        self.addresses.insert(node, address(&listener));
        self.start_on(node, listener).await;
    }

    /// Where a node keeps its data.
    pub(crate) fn directory(&self, node: u64) -> PathBuf {
        self.directory.path().join(format!("node-{node}"))
    }

    async fn start_on(&mut self, node: u64, listener: TcpListener) {
        let started = self.try_start_on(node, listener).await;
        self.nodes.insert(node, started.expect("started"));
    }

    async fn try_start_on<const BUILD: u16>(
        &self,
        node: u64,
        listener: TcpListener,
    ) -> Result<GridNode<Sum<BUILD>>, StartError> {
        let started = GridNode::start(NodeOptions {
            grid_id: 7,
            node_id: node,
            members: self.first.clone(),
            seeds: Vec::new(),
            peer_address: None,
            gateway_address: String::new(),
            listener,
            cluster: ClusterSettings {
                partitions: self.partitions,
                ..ClusterSettings::default()
            },
            settings: NodeSettings {
                data_dir: self.directory(node),
                ..self.settings.clone()
            },
            keep_for_pump: self.keep_for_pump,
        });
        started.await
    }

    /// Starts another node under a number that is in use, with a directory of its own.
    pub(crate) async fn second(&self, node: u64) -> Self {
        let mut other = Self {
            directory: tempfile::tempdir().expect("temporary directory"),
            first: self.first.clone(),
            addresses: BTreeMap::new(),
            nodes: BTreeMap::new(),
            partitions: self.partitions,
            settings: self.settings.clone(),
            keep_for_pump: self.keep_for_pump,
        };
        other.start_on(node, listen()).await;
        other
    }

    /// Tries to start a node again at its old address.
    pub(crate) async fn try_restart<const BUILD: u16>(
        &self,
        node: u64,
    ) -> Result<GridNode<Sum<BUILD>>, StartError> {
        let listener = TcpListener::bind(&self.addresses[&node]).expect("its port is free again");
        self.try_start_on(node, listener).await
    }

    /// Starts a node again at its old address.
    pub(crate) async fn restart(&mut self, node: u64) {
        let address = &self.addresses[&node];
        let listener = TcpListener::bind(address).expect("its port is free again");
        self.start_on(node, listener).await;
    }

    /// Stops a node.
    pub(crate) async fn stop(&mut self, node: u64) {
        let stopped = self.nodes.remove(&node).expect("it runs");
        stopped.shutdown().await;
    }

    /// A client on a node.
    pub(crate) fn client(&self, node: u64) -> GridClient<Sum> {
        self.nodes[&node].client()
    }
}

/// A readiness wait.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout_at(soon().into(), wait).await;
    assert!(waited.is_ok(), "{what}");
}

/// A deadline far beyond what any test takes when it passes.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// A command under a key.
pub(crate) fn request(key: u128, command: Command) -> CommandRequest<Command> {
    CommandRequest {
        key: IdempotencyKey(key),
        fingerprint: 0,
        command,
    }
}

/// The only partition of small clusters.
pub(crate) const P0: PartitionId = PartitionId(0);
