//! The state's time never runs back, never ahead of the true time, and at the end it runs with it:
//! whatever single nodes' clocks say. So no hold ends and no auction closes before its time.

use std::collections::BTreeMap;

use grid_core::{PartitionId, Timestamp};

use super::{Fact, Invariant};
use crate::history::History;

/// How far a stamp may be ahead of the true time: half of the longest question that one node asks
/// another about its clock.
const EARLY_MS_MAX: u64 = 600;
/// How far the last command's stamp may be behind it, at the end: a stamp is some retries old when it is
/// seen.
const LATE_MS_MAX: u64 = 20_000;

/// See the module.
#[derive(Default)]
pub(super) struct TimeIsKept {
    clocks: BTreeMap<PartitionId, Timestamp>,
    /// How far the last stamp of each partition was behind the true time when it was first applied.
    late_ms: BTreeMap<PartitionId, u64>,
}

impl Invariant for TimeIsKept {
    fn name(&self) -> &'static str {
        "time_is_kept"
    }

    fn check(&mut self, _history: &History, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Committed(entry) => {
                let place = format!("partition {} entry {}", entry.partition, entry.index);
                let clock = entry.clock;
                if let Some(before) = self.clocks.insert(entry.partition, clock)
                    && before > clock
                {
                    return Err(format!("{place}: time goes back from {before} to {clock}"));
                }
                let true_ms = entry.seen_at.as_millis();
                let early_ms = clock.as_millis().saturating_sub(true_ms);
                if early_ms > EARLY_MS_MAX {
                    return Err(format!("{place}: time is {early_ms} ms early"));
                }
                if entry.entry.is_some() {
                    let late_ms = true_ms.saturating_sub(clock.as_millis());
                    self.late_ms.insert(entry.partition, late_ms);
                }
                Ok(())
            }
            Fact::Settled { .. } => {
                let late = self.late_ms.iter().find(|(_, late)| **late > LATE_MS_MAX);
                late.map_or(Ok(()), |(partition, late_ms)| {
                    Err(format!("partition {partition}: time is {late_ms} ms late"))
                })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use grid::simulation::WALL_EPOCH_MS;
    use grid_core::StateHash;

    use super::*;
    use crate::history::Committed;

    fn entry(index: u64, clock_ms: u64, seen_ms: u64) -> Committed {
        Committed {
            partition: PartitionId(0),
            index,
            by: 1,
            entry: Some(Vec::new()),
            clock: Timestamp::from_millis(WALL_EPOCH_MS + clock_ms),
            seen_at: Timestamp::from_millis(WALL_EPOCH_MS + seen_ms),
            hash: StateHash::default(),
            reference_hash: StateHash::default(),
            outcomes: Vec::new(),
            batch: None,
        }
    }

    fn check(entries: &[Committed]) -> Result<(), String> {
        let (mut time, history) = (TimeIsKept::default(), History::default());
        for entry in entries {
            time.check(&history, &Fact::Committed(entry))?;
        }
        time.check(&history, &Fact::Settled { standing: &[] })
    }

    #[test]
    fn time_that_is_early_late_or_runs_back_is_found() {
        let hour_ms = 3_600_000;
        assert_eq!(check(&[entry(1, 10, 20), entry(2, 30, 30)]), Ok(()));
        assert!(check(&[entry(1, 20, 20), entry(2, 10, 30)]).is_err());
        assert!(check(&[entry(1, hour_ms, 20)]).is_err());
        assert!(check(&[entry(1, 20, hour_ms)]).is_err());
    }
}
