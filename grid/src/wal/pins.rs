//! Which segments must stay: those that hold an entry no durable purge or truncation has let go.
//!
//! This is the writer's view, in the order of the log. The index runs ahead of it: there a purge
//! counts when it is asked for, and a segment that went so early would leave a hole after a crash.

use std::collections::{BTreeMap, VecDeque};

use super::RecoveredGroup;
use super::places::{Place, Places, Stretch};

/// Each group's live entries, by segment.
#[derive(Debug, Default)]
pub(super) struct Pins {
    groups: BTreeMap<u32, VecDeque<Stretch>>,
}

impl Pins {
    /// The pins of what recovery found.
    pub(super) fn of(
        places: &BTreeMap<u32, Places>,
        recovered: &BTreeMap<u32, RecoveredGroup>,
    ) -> Self {
        let mut pins = Self::default();
        for (group, places) in places {
            pins.groups.insert(*group, places.stretches().collect());
        }
        for (group, recovered) in recovered {
            if let Some((index, _)) = &recovered.purged {
                pins.purge(*group, *index);
            }
        }
        pins
    }

    /// Notes a record of entries; it replaces what stood at its indexes and after.
    pub(super) fn place(&mut self, group: u32, place: &Place) {
        self.truncate(group, place.first_index);
        let pins = self.groups.entry(group).or_default();
        match pins.back_mut() {
            Some(pin) if pin.segment == place.segment => pin.end = place.end(),
            _ => pins.push_back(Stretch {
                segment: place.segment,
                first_index: place.first_index,
                end: place.end(),
            }),
        }
    }

    /// Lets a group's entries from `end` on go.
    pub(super) fn truncate(&mut self, group: u32, end: u64) {
        let Some(pins) = self.groups.get_mut(&group) else {
            return;
        };
        while pins.back().is_some_and(|pin| pin.first_index >= end) {
            pins.pop_back();
        }
        if let Some(pin) = pins.back_mut() {
            pin.end = pin.end.min(end);
        }
    }

    /// Lets a group's entries up to `index` go.
    pub(super) fn purge(&mut self, group: u32, index: u64) {
        let Some(pins) = self.groups.get_mut(&group) else {
            return;
        };
        while pins
            .front()
            .is_some_and(|pin| pin.end.saturating_sub(1) <= index)
        {
            pins.pop_front();
        }
        // A truncation back to here lets the rest go.
        if let Some(pin) = pins.front_mut() {
            pin.first_index = pin.first_index.max(index.saturating_add(1));
        }
    }

    /// Lets everything of a group go.
    pub(super) fn forget(&mut self, group: u32) {
        self.groups.remove(&group);
    }

    /// The groups that need a segment up to this one.
    pub(super) fn up_to(&self, segment: u64) -> Vec<u32> {
        let needs =
            |pins: &VecDeque<Stretch>| pins.front().is_some_and(|pin| pin.segment <= segment);
        let groups = self.groups.iter().filter(|(_, pins)| needs(pins));
        groups.map(|(group, _)| *group).collect()
    }

    /// The oldest segment that must stay, and the group that needs it.
    pub(super) fn oldest(&self) -> Option<(u64, u32)> {
        let oldest =
            |(group, pins): (&u32, &VecDeque<Stretch>)| Some((pins.front()?.segment, *group));
        self.groups.iter().filter_map(oldest).min()
    }
}
