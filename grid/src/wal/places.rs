//! Where one group's durable records are, in order of their indexes.
//!
//! A log may hold tens of millions of records, and a start learns the place of each. So little is kept of
//! one, and by segment: what has been learnt is never moved to make room for more.
//!
//! Invariants: records follow each other in index and in segment; no run is empty. Between a purge and a
//! truncation there are no gaps, but that is for whoever adds records to see to.

use std::collections::VecDeque;

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

/// What differs between the records of a run.
#[derive(Clone, Copy, Debug)]
struct Record {
    /// From the run's base to the first index.
    after_base: u32,
    offset: u32,
    span: u32,
    count: u32,
}

/// Records of one segment.
#[derive(Debug)]
struct Run {
    segment: u64,
    /// No first index is lower.
    base: u64,
    records: VecDeque<Record>,
}

impl Run {
    fn first_index(&self, record: &Record) -> u64 {
        self.base + u64::from(record.after_base)
    }

    fn end(&self, record: &Record) -> u64 {
        self.first_index(record) + u64::from(record.count)
    }

    fn place(&self, record: &Record) -> Place {
        Place {
            first_index: self.first_index(record),
            segment: self.segment,
            offset: record.offset,
            span: record.span,
            count: record.count,
        }
    }

    fn first(&self) -> Option<Place> {
        self.records.front().map(|record| self.place(record))
    }

    fn last(&self) -> Option<Place> {
        self.records.back().map(|record| self.place(record))
    }
}

/// The entries of a group that one segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) segment: u64,
    pub(super) first_index: u64,
    /// One past the last index.
    pub(super) end: u64,
}

/// The places of a group's records.
#[derive(Debug, Default)]
pub(super) struct Places {
    runs: VecDeque<Run>,
}

impl Places {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(super) fn first(&self) -> Option<Place> {
        self.runs.front()?.first()
    }

    pub(super) fn last(&self) -> Option<Place> {
        self.runs.back()?.last()
    }

    /// Adds a record behind the last.
    pub(super) fn push(&mut self, place: Place) {
        let after_base = |run: &Run| {
            let after = place.first_index.checked_sub(run.base)?;
            let is_here = run.segment == place.segment;
            u32::try_from(after).ok().filter(|_| is_here)
        };
        let record = |after_base| Record {
            after_base,
            offset: place.offset,
            span: place.span,
            count: place.count,
        };
        match self.runs.back_mut() {
            Some(run) if let Some(after) = after_base(run) => run.records.push_back(record(after)),
            _ => self.runs.push_back(Run {
                segment: place.segment,
                base: place.first_index,
                records: VecDeque::from([record(0)]),
            }),
        }
    }

    /// Takes away what the records say from index `end` on.
    pub(super) fn truncate(&mut self, end: u64) {
        while let Some(run) = self.runs.back_mut() {
            while let Some(last) = run.records.back_mut() {
                let first_index = run.base + u64::from(last.after_base);
                if first_index < end {
                    let kept = u32::try_from(end - first_index).unwrap_or(u32::MAX);
                    last.count = last.count.min(kept);
                    return;
                }
                run.records.pop_back();
            }
            self.runs.pop_back();
        }
    }

    /// Lets go of the records that have nothing after `index`.
    pub(super) fn purge_to(&mut self, index: u64) {
        while let Some(run) = self.runs.front_mut() {
            while let Some(first) = run.records.front() {
                if run.end(first).saturating_sub(1) > index {
                    return;
                }
                run.records.pop_front();
            }
            self.runs.pop_front();
        }
    }

    /// The last record that begins at `index` or before.
    pub(super) fn at(&self, index: u64) -> Option<Place> {
        let begins_before = |run: &Run| run.first().is_some_and(|at| at.first_index <= index);
        let run = self.runs.partition_point(begins_before).checked_sub(1)?;
        let run = self.runs.get(run)?;
        let after = run
            .records
            .partition_point(|record| run.first_index(record) <= index);
        let record = run.records.get(after.checked_sub(1)?)?;
        Some(run.place(record))
    }

    /// About how many bytes the records take that have something after `index`: exact for the first
    /// `measured_max` of them, as many for each of the rest.
    pub(super) fn bytes_after(&self, index: u64, measured_max: usize) -> u64 {
        let ends_before = |run: &Run| run.last().is_some_and(|last| last.end() <= index + 1);
        let first_run = self.runs.partition_point(ends_before);
        let Some(run) = self.runs.get(first_run) else {
            return 0;
        };
        let skipped = run
            .records
            .partition_point(|record| run.end(record) <= index + 1);
        let runs = || self.runs.iter().skip(first_run);
        let count = runs().map(|run| run.records.len()).sum::<usize>() - skipped;
        let records = runs().flat_map(|run| run.records.iter()).skip(skipped);
        let spans = records.take(measured_max);
        let bytes: u64 = spans.map(|record| u64::from(record.span)).sum();
        match count.min(measured_max) {
            0 => 0,
            measured => bytes.saturating_mul(count as u64) / measured as u64,
        }
    }

    /// What each segment holds, in order.
    pub(super) fn stretches(&self) -> impl Iterator<Item = Stretch> {
        self.runs.iter().filter_map(|run| {
            Some(Stretch {
                segment: run.segment,
                first_index: run.first()?.first_index,
                end: run.last()?.end(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is done to the places of a group, as the log does it.
    #[derive(Clone, Debug)]
    enum Deed {
        /// So many entries, from so far before the end.
        Append {
            count: u32,
            back: u64,
        },
        NextSegment,
        /// Of the indexes that there are, in 256ths.
        Truncate(u8),
        Purge(u8),
    }

    fn deeds() -> impl Strategy<Value = Vec<Deed>> {
        let deed = prop_oneof![
            8 => (1..40_u32, prop_oneof![9 => Just(0), 1 => 0..60_u64])
                .prop_map(|(count, back)| Deed::Append { count, back }),
            2 => Just(Deed::NextSegment),
            1 => any::<u8>().prop_map(Deed::Truncate),
            1 => any::<u8>().prop_map(Deed::Purge),
        ];
        prop::collection::vec(deed, 1..120)
    }

    fn truncate(model: &mut Vec<Place>, end: u64) {
        model.retain(|place| place.first_index < end);
        if let Some(last) = model.last_mut() {
            last.count = last.count.min((end - last.first_index) as u32);
        }
    }

    fn check(places: &Places, model: &[Place]) {
        assert_eq!(places.is_empty(), model.is_empty());
        assert_eq!(places.first(), model.first().copied());
        assert_eq!(places.last(), model.last().copied());
        let end = model.last().map_or(5, Place::end) + 2;
        for index in 0..end {
            let at = model.iter().rfind(|place| place.first_index <= index);
            assert_eq!(places.at(index), at.copied(), "at {index}");
            let after = model.iter().filter(|place| place.end() > index + 1);
            let spans = after.map(|place| u64::from(place.span));
            assert_eq!(places.bytes_after(index, usize::MAX), spans.sum::<u64>());
        }
        let held: Vec<Stretch> = places.stretches().collect();
        for stretch in &held {
            let mut within = model
                .iter()
                .filter(|place| place.segment == stretch.segment);
            let first = within.clone().next().expect("no run is empty");
            assert_eq!(first.first_index, stretch.first_index);
            assert_eq!(within.next_back().map(Place::end), Some(stretch.end));
        }
        let segments = model.chunk_by(|one, two| one.segment == two.segment);
        assert_eq!(held.len(), segments.count());
    }

    proptest! {
        #[test]
        fn they_are_what_a_plain_list_is(deeds in deeds()) {
            let (mut places, mut model) = (Places::default(), Vec::<Place>::new());
            let (mut segment, mut offset, mut purged) = (1, 64_u32, 0);
            for deed in deeds {
                let first = model.first().map_or(purged + 1, |place| place.first_index);
                let end = model.last().map_or(purged + 1, Place::end);
                let part = |of: u8| first + (end - first) * u64::from(of) / 256;
                match deed {
                    Deed::NextSegment => (segment, offset) = (segment + 1, 64),
                    Deed::Append { count, back } => {
                        let first_index = end.saturating_sub(back).max(purged + 1);
                        let span = 16 * count;
                        let place = Place { first_index, segment, offset, span, count };
                        offset += span;
                        places.truncate(first_index);
                        truncate(&mut model, first_index);
                        places.push(place);
                        model.push(place);
                    }
                    Deed::Truncate(of) => {
                        let end = part(of).max(purged + 1);
                        places.truncate(end);
                        truncate(&mut model, end);
                    }
                    Deed::Purge(of) => {
                        purged = purged.max(part(of).saturating_sub(1));
                        places.purge_to(purged);
                        model.retain(|place| place.end() > purged + 1);
                    }
                }
                check(&places, &model);
            }
        }
    }

    #[test]
    fn what_is_not_measured_counts_as_much_as_what_is() {
        let mut places = Places::default();
        for first_index in 1..=10 {
            places.push(Place {
                first_index,
                segment: 1 + first_index / 4,
                offset: 0,
                span: if first_index <= 5 { 10 } else { 1_000 },
                count: 1,
            });
        }
        assert_eq!(places.bytes_after(0, 5), 100);
        assert_eq!(places.bytes_after(9, 5), 1_000);
        assert_eq!(places.bytes_after(10, 5), 0);
    }
}
