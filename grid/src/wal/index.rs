//! Where each group's entries are: recent ones in memory, all durable ones by their record's place.

use std::collections::{BTreeMap, VecDeque};

use super::places::{Place, Places};
use super::{RecoveredGroup, WalEntry, WalError};

/// Where to read from.
#[derive(Debug)]
pub(super) enum Source {
    Cached(Vec<WalEntry>),
    OnDisk(Place),
    /// There is no such entry (yet).
    End,
    /// There should be, but no record of it is known.
    Lost,
}

#[derive(Debug, Default)]
struct Group {
    /// Durable records in order of index. Between purge and truncation there are no gaps.
    places: Places,
    /// The newest entries, contiguous, each with the number of the operation that appended it.
    cache: VecDeque<(u64, WalEntry)>,
    purged: Option<u64>,
    last: Option<u64>,
}

/// The index of all groups.
///
/// Invariant: an entry that is not yet durable is in its group's cache.
#[derive(Debug)]
pub(super) struct Index {
    groups: BTreeMap<u32, Group>,
    /// Appends in order: operation, group, bytes. The oldest durable ones leave the cache first.
    appended: VecDeque<(u64, u32, usize)>,
    cached_bytes: usize,
    cache_bytes_max: usize,
    next_operation: u64,
    durable_operation: u64,
}

/// Records that are measured one by one to tell the size of a part of the log, under the index's lock.
const MEASURED_RECORDS_MAX: usize = 4_096;

fn cost(entry: &WalEntry) -> usize {
    entry.payload.len() + entry.meta.len() + 96
}

impl Index {
    pub(super) fn new(
        places: BTreeMap<u32, Places>,
        recovered: &BTreeMap<u32, RecoveredGroup>,
        cache_bytes_max: usize,
    ) -> Self {
        let mut groups: BTreeMap<u32, Group> = BTreeMap::new();
        for (group, places) in places {
            let last = places.last().map(|place| place.end().saturating_sub(1));
            groups.insert(
                group,
                Group {
                    places,
                    last,
                    ..Group::default()
                },
            );
        }
        for (group, recovered) in recovered {
            let group = groups.entry(*group).or_default();
            group.purged = recovered.purged.as_ref().map(|(index, _)| *index);
        }
        Self {
            groups,
            appended: VecDeque::new(),
            cached_bytes: 0,
            cache_bytes_max,
            next_operation: 1,
            durable_operation: 0,
        }
    }

    /// Makes entries readable and returns the operation's number. They must follow the group's last.
    ///
    /// Operations must be numbered in the order in which the writer gets them.
    pub(super) fn append(&mut self, group: u32, entries: Vec<WalEntry>) -> u64 {
        let number = self.next_operation;
        self.next_operation += 1;
        let bytes: usize = entries.iter().map(cost).sum();
        let place = self.groups.entry(group).or_default();
        place.last = entries.last().map(|entry| entry.index).or(place.last);
        place
            .cache
            .extend(entries.into_iter().map(|entry| (number, entry)));
        self.appended.push_back((number, group, bytes));
        self.cached_bytes += bytes;
        number
    }

    pub(super) fn truncate_after(&mut self, group: u32, last: Option<u64>) {
        let Some(group) = self.groups.get_mut(&group) else {
            return;
        };
        let end = last.map_or(0, |last| last.saturating_add(1));
        while group
            .cache
            .back()
            .is_some_and(|(_, entry)| entry.index >= end)
        {
            group.cache.pop_back();
        }
        group.places.truncate(end);
        if group.last.is_some_and(|present| present >= end) {
            group.last = last;
        }
        if group.last.is_some() && group.last <= group.purged {
            group.last = None;
        }
    }

    pub(super) fn purge_to(&mut self, group: u32, index: u64) {
        let group = self.groups.entry(group).or_default();
        group.purged = group.purged.max(Some(index));
        while group
            .cache
            .front()
            .is_some_and(|(_, entry)| entry.index <= index)
        {
            group.cache.pop_front();
        }
        group.places.purge_to(index);
        if group.last <= group.purged {
            group.last = None;
        }
    }

    /// The writer's turn of forgetting a group: it is as if it had never been here.
    pub(super) fn forget(&mut self, group: u32) {
        self.groups.remove(&group);
    }

    /// Notes where the writer has laid entries out. They are not durable yet.
    pub(super) fn placed(&mut self, group: u32, place: Place) {
        let group = self.groups.entry(group).or_default();
        // A truncation may still be waiting behind this record; the writer repeats it in order.
        group.places.truncate(place.first_index);
        group.places.push(place);
    }

    /// The writer's turn of a truncation: what it laid out before is cut off as well.
    pub(super) fn placed_truncation(&mut self, group: u32, end: u64) {
        if let Some(group) = self.groups.get_mut(&group) {
            group.places.truncate(end);
        }
    }

    /// Everything up to this operation is on disk; the cache may shrink.
    pub(super) fn durable(&mut self, operation: u64) {
        self.durable_operation = self.durable_operation.max(operation);
        while self.cached_bytes > self.cache_bytes_max
            && let Some(&(number, group, bytes)) = self.appended.front()
            && number <= self.durable_operation
        {
            self.appended.pop_front();
            self.cached_bytes -= bytes;
            if let Some(group) = self.groups.get_mut(&group) {
                while group
                    .cache
                    .front()
                    .is_some_and(|(appended, _)| *appended <= number)
                {
                    group.cache.pop_front();
                }
            }
        }
    }

    pub(super) fn look_up(
        &self,
        group: u32,
        index: u64,
        end: u64,
        bytes_max: usize,
    ) -> Result<Source, WalError> {
        let Some(group) = self.groups.get(&group) else {
            return Ok(Source::End);
        };
        if let Some(purged) = group.purged
            && index <= purged
        {
            return Err(WalError::Purged { purged });
        }
        if group.last.is_none_or(|last| index > last) {
            return Ok(Source::End);
        }
        if let Some((_, first)) = group.cache.front()
            && index >= first.index
        {
            let skip = (index - first.index) as usize;
            let mut bytes = 0;
            let run = group.cache.iter().skip(skip).map(|(_, entry)| entry);
            let run = run.take_while(|entry| {
                let fits = bytes == 0 || bytes < bytes_max;
                bytes += entry.payload.len().max(1);
                fits && entry.index < end
            });
            return Ok(Source::Cached(run.cloned().collect()));
        }
        let Some(place) = group.places.at(index) else {
            return Ok(Source::End);
        };
        Ok(if index < place.end() {
            Source::OnDisk(place)
        } else {
            Source::Lost
        })
    }

    /// About how many bytes of records a group has after `index`: exact for the first
    /// [`MEASURED_RECORDS_MAX`], as many for each of the rest.
    pub(super) fn bytes_after(&self, group: u32, index: u64) -> u64 {
        let group = self.groups.get(&group);
        group.map_or(0, |group| {
            group.places.bytes_after(index, MEASURED_RECORDS_MAX)
        })
    }

    pub(super) fn last_index(&self, group: u32) -> Option<u64> {
        self.groups.get(&group)?.last
    }
}
