//! Each slot has one owner an epoch: every node that knows the cluster map of an epoch knows the same
//! one, in it each slot is one partition's and each partition is held by one set of nodes; and at the
//! end exactly those hold it.

use std::collections::{BTreeMap, BTreeSet};

use grid::{ClusterMap, META};
use grid_core::{PartitionId, SLOT_COUNT, Slot, SlotLayout};

use super::{Fact, Invariant, Standing};
use crate::history::History;

/// See the module.
#[derive(Default)]
pub(super) struct OneOwner {
    /// The map of each epoch, as the first node that had it showed it.
    maps: BTreeMap<u64, ClusterMap>,
    /// The holders of each partition in each of its own epochs.
    holders: BTreeMap<(PartitionId, u64), Vec<u64>>,
    /// The partition that each slot belonged to in each epoch of the slots.
    owners: BTreeMap<(u64, u16), PartitionId>,
    /// The epoch that each running node has.
    epochs: BTreeMap<u64, u64>,
}

impl OneOwner {
    fn take(&mut self, node: u64, map: &ClusterMap) -> Result<(), String> {
        let place = format!("node {node}, map of epoch {}", map.epoch);
        if let Some(before) = self.epochs.insert(node, map.epoch)
            && before > map.epoch
        {
            return Err(format!("{place}: it goes back from epoch {before}"));
        }
        if let Some(known) = self.maps.get(&map.epoch) {
            if known != map {
                return Err(format!("{place}: {map:?}, elsewhere {known:?}"));
            }
            return Ok(());
        }
        map.check().map_err(|wrong| format!("{place}: {wrong}"))?;
        self.take_slots(map)
            .map_err(|wrong| format!("{place}: {wrong}"))?;
        for (partition, group) in &map.groups {
            let known = self
                .holders
                .entry((*partition, group.epoch))
                .or_insert_with(|| group.replicas.clone());
            if *known != group.replicas {
                return Err(format!(
                    "{place}: partition {partition} is held by {:?} and by {known:?} in its epoch {}",
                    group.replicas, group.epoch
                ));
            }
        }
        self.maps.insert(map.epoch, map.clone());
        Ok(())
    }

    /// At rest a node holds what the latest map says, and nothing else.
    fn check_held(&self, standing: &[Standing]) -> Result<(), String> {
        let Some((epoch, map)) = self.maps.last_key_value() else {
            return Ok(());
        };
        let is_wrong = |replica: &&Standing| {
            let group = map.groups.get(&replica.partition);
            group.is_none_or(|group| !group.replicas.contains(&replica.node))
        };
        standing.iter().find(is_wrong).map_or(Ok(()), |replica| {
            Err(format!(
                "at rest {replica:?} is there against the map of epoch {epoch}"
            ))
        })
    }

    fn take_slots(&mut self, map: &ClusterMap) -> Result<(), String> {
        let layout = SlotLayout::new(map.partitions).ok_or("an impossible number of partitions")?;
        let expected: BTreeSet<PartitionId> = layout.iter().chain([META]).collect();
        let found: BTreeSet<PartitionId> = map.groups.keys().copied().collect();
        if expected != found {
            return Err(format!("its groups are {found:?}"));
        }
        for slot in (0..SLOT_COUNT).filter_map(Slot::new) {
            let owner = layout.owner(slot);
            let place = (map.slots_epoch, slot.number());
            let known = self.owners.entry(place).or_insert(owner);
            if *known != owner {
                return Err(format!("slot {slot} is of {owner} and of {known}"));
            }
        }
        Ok(())
    }
}

impl Invariant for OneOwner {
    fn name(&self) -> &'static str {
        "one_owner"
    }

    fn check(&mut self, _history: &History, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Map { node, map } => self.take(*node, map),
            Fact::Crashed { node } => {
                // A map that was not yet on disk may be forgotten.
                self.epochs.remove(node);
                Ok(())
            }
            Fact::Settled { standing } => self.check_held(standing),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use grid::{GroupEntry, NodeEntry, NodeState};
    use grid_core::StateHash;

    use super::*;

    fn map(epoch: u64, replicas: &[u64]) -> ClusterMap {
        let node = |number: u64| {
            let entry = NodeEntry {
                peer_address: format!("node-{number}"),
                gateway_address: String::new(),
                zone: String::new(),
                state: NodeState::Active,
                incarnation: number,
                returning: None,
                remove_when_empty: false,
                replaced_by: None,
                rules: 1,
            };
            (number, entry)
        };
        let group = GroupEntry {
            replicas: replicas.to_vec(),
            leaving: Vec::new(),
            settled: true,
            epoch,
        };
        ClusterMap {
            epoch,
            slots_epoch: 1,
            partitions: 1,
            replicas: 3,
            rules: 1,
            nodes: (1..=4).map(node).collect(),
            groups: BTreeMap::from([(PartitionId(0), group.clone()), (META, group)]),
        }
    }

    fn check(facts: &[Fact<'_>]) -> Result<(), String> {
        let (mut owner, history) = (OneOwner::default(), History::default());
        facts
            .iter()
            .try_for_each(|fact| owner.check(&history, fact))
    }

    fn shown(node: u64, map: &ClusterMap) -> Fact<'_> {
        Fact::Map { node, map }
    }

    #[test]
    fn two_maps_of_one_epoch_and_a_map_that_goes_back_are_found() {
        let (first, second) = (map(1, &[1, 2, 3]), map(2, &[1, 2, 4]));
        assert_eq!(
            check(&[shown(1, &first), shown(2, &first), shown(1, &second)]),
            Ok(())
        );
        let other = map(2, &[1, 3, 4]);
        assert!(check(&[shown(1, &second), shown(2, &other)]).is_err());
        assert!(check(&[shown(1, &second), shown(1, &first)]).is_err());
    }

    #[test]
    fn holders_that_change_within_an_epoch_are_found() {
        let first = map(1, &[1, 2, 3]);
        let mut second = map(2, &[1, 2, 4]);
        if let Some(group) = second.groups.get_mut(&PartitionId(0)) {
            group.epoch = 1;
        }
        assert!(check(&[shown(1, &first), shown(1, &second)]).is_err());
    }

    #[test]
    fn a_slot_that_changes_hands_within_an_epoch_or_has_no_owner_is_found() {
        let first = map(1, &[1, 2, 3]);
        let mut second = map(2, &[1, 2, 3]);
        second.partitions = 2;
        assert!(check(&[shown(1, &second)]).is_err(), "a group is missing");
        let group = second.groups.get(&META).cloned();
        second
            .groups
            .extend(group.map(|group| (PartitionId(1), group)));
        assert_eq!(check(&[shown(1, &second)]), Ok(()));
        assert!(check(&[shown(1, &first), shown(1, &second)]).is_err());
    }

    #[test]
    fn whoever_holds_a_partition_against_the_map_is_found() {
        let first = map(1, &[1, 2, 3]);
        let standing = |node: u64| Standing {
            node,
            partition: PartitionId(0),
            index: 1,
            hash: StateHash::default(),
            digest: StateHash::default(),
        };
        let right = [standing(1), standing(2)];
        let wrong = [standing(1), standing(4)];
        let settled = |standing| Fact::Settled { standing };
        assert_eq!(check(&[shown(1, &first), settled(&right)]), Ok(()));
        assert!(check(&[shown(1, &first), settled(&wrong)]).is_err());
    }
}
