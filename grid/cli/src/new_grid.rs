//! A grid that is made in an empty data directory from what another one has left: nodes that have never run,
//! with states planted for them.
//!
//! `grid.json` is written last. Until then the directory holds no grid, and what was planted is of no use: it
//! is removed when the making fails. What a crash leaves of it has to be removed by hand.

use std::path::{Path, PathBuf};

use grid::backup::{Planting, founding_holders, plant_snapshot, plant_state};
use grid_core::{PartitionId, PartitionState};
use processing_unit::Unit;
use uuid::Uuid;

use crate::api::random_uuid;
use crate::context::Context;
use crate::data_dir::{DataDir, GridFile, NodeEntry, UpLock};
use crate::failure::Failure;
use crate::supervise::reserve_ports;

/// A grid in the making. The data directory is locked meanwhile.
#[derive(Debug)]
pub(crate) struct NewGrid {
    /// Its id: it will take another way than the one that it is made from.
    pub(crate) grid_id: Uuid,
    partitions: u32,
    nodes: Vec<NodeEntry>,
    replicas: u32,
    data_dir: DataDir,
    is_finished: bool,
    _lock: UpLock,
}

impl Drop for NewGrid {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        for node in &self.nodes {
            let planted = self.data_dir.node(node.id);
            match std::fs::remove_dir_all(&planted) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(%error, path = %planted.display(), "remove this by hand");
                }
                _ => {}
            }
        }
    }
}

impl NewGrid {
    /// Takes the data directory, which must hold no grid.
    pub(crate) fn begin(
        context: &mut Context,
        partitions: u32,
        nodes: u32,
        config: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let settings =
            grid_config::load(config).map_err(|error| Failure::Usage(error.to_string()))?;
        context.data_dir.create()?;
        let lock = context.data_dir.lock()?;
        if context.data_dir.read()?.is_some() {
            let path = context.data_dir.path().display();
            let text = format!("{path} holds a grid already; choose an empty one");
            return Err(Failure::DataDirectory(text).into());
        }
        let count = nodes as usize;
        let ports = reserve_ports(2 * count)?;
        let nodes: Vec<NodeEntry> = (0..count)
            .map(|place| NodeEntry {
                id: place as u64 + 1,
                raft_port: ports[place],
                gateway_port: ports[count + place],
            })
            .collect();
        let used = nodes.iter().map(|node| context.data_dir.node(node.id));
        if let Some(used) = used.into_iter().find(|directory| directory.exists()) {
            let text = format!(
                "{} exists already; choose an empty directory",
                used.display()
            );
            return Err(Failure::DataDirectory(text).into());
        }
        Ok(Self {
            grid_id: random_uuid()?,
            partitions,
            nodes,
            replicas: settings.cluster.replicas,
            data_dir: context.data_dir.clone(),
            is_finished: false,
            _lock: lock,
        })
    }

    /// Where it is made.
    pub(crate) fn path(&self) -> PathBuf {
        self.data_dir.path().to_owned()
    }

    fn holders(&self, partition: PartitionId) -> Vec<u64> {
        let ids: Vec<u64> = self.nodes.iter().map(|node| node.id).collect();
        founding_holders(partition, &ids, self.partitions, self.replicas)
    }

    /// Plants a snapshot of another grid for everyone who will hold the partition. Blocking.
    pub(crate) fn plant_snapshot(
        &self,
        partition: PartitionId,
        from_grid: Uuid,
        source: &Path,
    ) -> anyhow::Result<()> {
        let holders = self.holders(partition);
        let planting = self.planting(partition, from_grid, &holders);
        for node in &holders {
            plant_snapshot(source, &self.data_dir.node(*node), planting)
                .map_err(|error| Failure::DataDirectory(error.to_string()))?;
        }
        Ok(())
    }

    /// Plants a state for everyone who will hold its partition. Blocking.
    pub(crate) fn plant_state(&self, state: &PartitionState<Unit>) -> anyhow::Result<()> {
        let partition = state.partition();
        let holders = self.holders(partition);
        let planting = self.planting(partition, self.grid_id, &holders);
        let mut first: Option<PathBuf> = None;
        for node in &holders {
            let node_dir = self.data_dir.node(*node);
            let planted = match &first {
                Some(source) => plant_snapshot(source, &node_dir, planting),
                None => plant_state(state, &node_dir, planting).map(|path| first = Some(path)),
            };
            planted.map_err(|error| Failure::DataDirectory(error.to_string()))?;
        }
        Ok(())
    }

    fn planting<'a>(
        &self,
        partition: PartitionId,
        from_grid: Uuid,
        voters: &'a [u64],
    ) -> Planting<'a> {
        Planting {
            from_grid: from_grid.as_u128(),
            grid_id: self.grid_id.as_u128(),
            partition,
            voters,
        }
    }

    /// Makes it a grid.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        let file = GridFile::new(self.grid_id, self.partitions, self.nodes.clone());
        self.data_dir.write(&file)?;
        self.is_finished = true;
        Ok(())
    }
}
