//! How much memory the nodes on this machine use.

use crate::data_dir::DataDir;

/// The processes that are looked at.
#[derive(Debug)]
pub(super) struct Memory {
    /// Each node with the file that names its process.
    nodes: Vec<(u64, std::path::PathBuf)>,
}

impl Memory {
    /// The nodes of the grid in a data directory; none where there is no such grid.
    pub(super) fn new(data_dir: &DataDir) -> Self {
        let grid = data_dir.read().ok().flatten();
        let nodes = grid.iter().flat_map(|grid| &grid.nodes);
        Self {
            nodes: nodes
                .map(|node| (node.id, data_dir.node(node.id).join("node.pid")))
                .collect(),
        }
    }

    /// Raises each node's figure, in MiB, to what it uses now.
    pub(super) fn note_most(&self, most: &mut Vec<(u64, u64)>) {
        for (node, pid_file) in &self.nodes {
            let Some(mib) = std::fs::read_to_string(pid_file)
                .ok()
                .and_then(|pid| resident_mib(pid.trim()))
            else {
                continue;
            };
            match most.iter_mut().find(|(known, _)| known == node) {
                Some((_, known)) => *known = mib.max(*known),
                None => most.push((*node, mib)),
            }
        }
    }
}

fn resident_mib(pid: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib >> 10)
}
