//! How much memory the nodes on this machine use.

use grid::NodeId;

use crate::data_dir::DataDir;
use crate::load::usage::Usage;
use crate::rolling::process;

/// The processes that are looked at.
#[derive(Debug)]
pub(super) struct Memory {
    data_dir: DataDir,
    nodes: Vec<NodeId>,
}

impl Memory {
    /// The nodes of the grid in a data directory; none where there is no such grid.
    pub(super) fn new(data_dir: &DataDir) -> Self {
        let grid = data_dir.read().ok().flatten();
        let nodes = grid.iter().flat_map(|grid| &grid.nodes);
        Self {
            nodes: nodes.map(|node| node.id).collect(),
            data_dir: data_dir.clone(),
        }
    }

    /// Raises each node's figure, in MiB, to what it uses now.
    pub(super) fn note_most(&self, most: &mut Vec<(NodeId, u64)>) {
        for node in &self.nodes {
            let usage = process(&self.data_dir, *node).and_then(Usage::read);
            let Some(mib) = usage.map(|usage| usage.resident_kib >> 10) else {
                continue;
            };
            match most.iter_mut().find(|(known, _)| known == node) {
                Some((_, known)) => *known = mib.max(*known),
                None => most.push((*node, mib)),
            }
        }
    }
}
