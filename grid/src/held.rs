//! The groups of which this node has a replica, whatever they replicate: what is the same for a partition
//! and for the cluster map is done for all of them in one loop.

use std::sync::Arc;

use grid_core::{PartitionId, Space};

use crate::client::Leadership;
use crate::cluster::{META, MapSpace};
use crate::members::{Member, Members};
use crate::raft::GroupState;

/// A replica of this node.
pub(crate) enum Held<S: Space> {
    /// Of a partition.
    Partition(Arc<Member<S>>),
    /// Of the cluster map.
    Meta(Arc<Member<MapSpace>>),
}

/// Asks the replica, of whichever kind it is.
macro_rules! of_either {
    ($held:expr, $member:ident => $asked:expr) => {
        match $held {
            Held::Partition($member) => $asked,
            Held::Meta($member) => $asked,
        }
    };
}

impl<S: Space> Held<S> {
    /// Who leads it, as far as this node knows.
    pub(crate) fn leadership(&self) -> Leadership {
        of_either!(self, member => *member.leadership.borrow())
    }

    /// Where it stands.
    pub(crate) fn state(&self) -> GroupState {
        of_either!(self, member => member.group.state())
    }

    /// Whether it has had a vote.
    pub(crate) fn is_serving(&self) -> bool {
        of_either!(self, member => member.is_serving())
    }

    /// See `Group::stand_if_wanted`.
    pub(crate) async fn stand_if_wanted(&self) {
        of_either!(self, member => member.group.stand_if_wanted().await);
    }

    /// See `Group::leave_elections`.
    pub(crate) fn leave_elections(&self) {
        of_either!(self, member => member.group.leave_elections());
    }
}

impl<S: Space> Members<S> {
    /// This node's replica of a group.
    pub(crate) fn held(&self, group: PartitionId) -> Option<Held<S>> {
        if group == META {
            self.meta().map(Held::Meta)
        } else {
            self.get(group).map(Held::Partition)
        }
    }

    /// All of them, the cluster map's last.
    pub(crate) fn all_held(&self) -> Vec<(PartitionId, Held<S>)> {
        let partitions = self.replicas().into_iter();
        partitions
            .map(|(partition, member)| (partition, Held::Partition(member)))
            .chain(self.meta().map(|meta| (META, Held::Meta(meta))))
            .collect()
    }
}
