//! Where each group's entries are: recent ones in memory, all durable ones by their record's place.

use std::collections::{BTreeMap, VecDeque};

use super::{RecoveredGroup, WalEntry, WalError};

/// Where an entries record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) first_index: u64,
    pub(super) segment: u64,
    pub(super) offset: u32,
    pub(super) span: u32,
    /// How many of its entries still count, from the first.
    pub(super) count: u32,
}

impl Place {
    /// One past its last index that still counts.
    pub(super) fn end(&self) -> u64 {
        self.first_index + u64::from(self.count)
    }
}

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
    places: VecDeque<Place>,
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
        places: BTreeMap<u32, VecDeque<Place>>,
        recovered: &BTreeMap<u32, RecoveredGroup>,
        cache_bytes_max: usize,
    ) -> Self {
        let mut groups: BTreeMap<u32, Group> = BTreeMap::new();
        for (group, places) in places {
            let last = places.back().map(|place| place.end().saturating_sub(1));
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
        truncate_places(&mut group.places, end);
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
        while group
            .places
            .front()
            .is_some_and(|place| place.end().saturating_sub(1) <= index)
        {
            group.places.pop_front();
        }
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
        truncate_places(&mut group.places, place.first_index);
        group.places.push_back(place);
    }

    /// The writer's turn of a truncation: what it laid out before is cut off as well.
    pub(super) fn placed_truncation(&mut self, group: u32, end: u64) {
        if let Some(group) = self.groups.get_mut(&group) {
            truncate_places(&mut group.places, end);
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
        let after = group
            .places
            .partition_point(|place| place.first_index <= index);
        let Some(place) = after
            .checked_sub(1)
            .and_then(|place| group.places.get(place))
        else {
            return Ok(Source::End);
        };
        Ok(if index < place.end() {
            Source::OnDisk(*place)
        } else {
            Source::Lost
        })
    }

    /// About how many bytes of records a group has after `index`: exact for the first
    /// [`MEASURED_RECORDS_MAX`], as many for each of the rest.
    pub(super) fn bytes_after(&self, group: u32, index: u64) -> u64 {
        let Some(group) = self.groups.get(&group) else {
            return 0;
        };
        let first = group
            .places
            .partition_point(|place| place.end() <= index + 1);
        let count = (group.places.len() - first) as u64;
        let measured = count.min(MEASURED_RECORDS_MAX as u64);
        let spans = group.places.iter().skip(first).take(MEASURED_RECORDS_MAX);
        let bytes: u64 = spans.map(|place| u64::from(place.span)).sum();
        match measured {
            0 => 0,
            _ => bytes.saturating_mul(count) / measured,
        }
    }

    pub(super) fn last_index(&self, group: u32) -> Option<u64> {
        self.groups.get(&group)?.last
    }
}

/// Takes away what a group's records say from `end` on.
pub(super) fn truncate_places(places: &mut VecDeque<Place>, end: u64) {
    while let Some(place) = places.back_mut() {
        if place.first_index >= end {
            places.pop_back();
        } else {
            let kept = u32::try_from(end - place.first_index).unwrap_or(u32::MAX);
            place.count = place.count.min(kept);
            return;
        }
    }
}
