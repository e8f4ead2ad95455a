//! Random operations against a naive model.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::RecoveredGroup;
use super::*;

#[derive(Clone, Debug)]
enum Step {
    Append {
        group: u32,
        count: u64,
        payload_bytes: usize,
    },
    Truncate {
        group: u32,
        back: u64,
    },
    Purge {
        group: u32,
        part: u64,
    },
    PurgeBeyond {
        group: u32,
        by: u64,
    },
    Vote {
        group: u32,
        vote: u8,
    },
    Committed {
        group: u32,
        committed: u8,
    },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let group = 0..3_u32;
    prop_oneof![
        8 => (group.clone(), 1..6_u64, 0..400_usize)
            .prop_map(|(group, count, payload_bytes)| Step::Append { group, count, payload_bytes }),
        2 => (group.clone(), 0..12_u64).prop_map(|(group, back)| Step::Truncate { group, back }),
        3 => (group.clone(), 1..=4_u64).prop_map(|(group, part)| Step::Purge { group, part }),
        1 => (group.clone(), 1..9_u64).prop_map(|(group, by)| Step::PurgeBeyond { group, by }),
        1 => (group.clone(), any::<u8>()).prop_map(|(group, vote)| Step::Vote { group, vote }),
        1 => (group, any::<u8>())
            .prop_map(|(group, committed)| Step::Committed { group, committed }),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Debug, Default)]
struct Group {
    entries: BTreeMap<u64, WalEntry>,
    held: RecoveredGroup,
}

impl Group {
    fn purged(&self) -> u64 {
        self.held.purged.as_ref().map_or(0, |(index, _)| *index)
    }

    fn last(&self) -> u64 {
        self.entries
            .keys()
            .next_back()
            .copied()
            .unwrap_or(self.purged())
    }
}

struct Run {
    directory: tempfile::TempDir,
    wal: Option<Wal>,
    groups: BTreeMap<u32, Group>,
    waiting: Vec<Receiver<io::Result<()>>>,
}

impl Run {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let (wal, _) = open(directory.path());
        Self {
            directory,
            wal: Some(wal),
            groups: BTreeMap::new(),
            waiting: Vec::new(),
        }
    }

    fn settle(&mut self) {
        for result in self.waiting.drain(..) {
            result.recv().expect("answered").expect("done");
        }
    }

    fn purge(&mut self, group: u32, index: u64) {
        let meta = Bytes::copy_from_slice(&index.to_le_bytes());
        let held = self.groups.entry(group).or_default();
        held.entries.retain(|present, _| *present > index);
        held.held.purged = Some((index, meta.clone()));
        let (done, result) = completion();
        self.wal
            .as_ref()
            .expect("open")
            .purge_to(group, index, &meta, done);
        self.waiting.push(result);
    }

    fn apply(&mut self, step: &Step) {
        let (done, result) = completion();
        match *step {
            Step::Append {
                group,
                count,
                payload_bytes,
            } => {
                let held = self.groups.entry(group).or_default();
                let first = held.last() + 1;
                let new = entries(first..first + count, payload_bytes);
                held.entries
                    .extend(new.iter().map(|entry| (entry.index, entry.clone())));
                self.wal.as_ref().expect("open").append(group, new, done);
                self.waiting.push(result);
            }
            Step::Truncate { group, back } => {
                let held = self.groups.entry(group).or_default();
                let last = held.last().saturating_sub(back).max(held.purged());
                held.entries.retain(|present, _| *present <= last);
                let last = (last > 0).then_some(last);
                self.wal
                    .as_ref()
                    .expect("open")
                    .truncate_after(group, last, done);
                self.waiting.push(result);
            }
            Step::Purge { group, part } => {
                let held = self.groups.entry(group).or_default();
                let index = held.purged() + (held.last() - held.purged()) * part / 4;
                if index > held.purged() {
                    self.purge(group, index);
                }
            }
            Step::PurgeBeyond { group, by } => {
                let index = self.groups.entry(group).or_default().last() + by;
                self.purge(group, index);
            }
            Step::Vote { group, vote } => {
                let vote = Bytes::copy_from_slice(&[vote]);
                self.groups.entry(group).or_default().held.vote = Some(vote.clone());
                self.wal
                    .as_ref()
                    .expect("open")
                    .save_vote(group, vote, done);
                self.waiting.push(result);
            }
            Step::Committed { group, committed } => {
                let committed = Bytes::copy_from_slice(&[committed]);
                self.groups.entry(group).or_default().held.committed = Some(committed.clone());
                self.wal
                    .as_ref()
                    .expect("open")
                    .save_committed(group, committed);
            }
            Step::Reopen => self.reopen(),
        }
        self.check();
    }

    fn reopen(&mut self) {
        drop(self.wal.take());
        self.settle();
        let (wal, recovered) = open(self.directory.path());
        self.wal = Some(wal);
        assert_eq!(recovered.torn_tail, None);
        for (group, model) in &self.groups {
            let found = recovered.groups.get(group).cloned().unwrap_or_default();
            assert_eq!(found, model.held, "group {group}");
        }
    }

    fn check(&self) {
        let wal = self.wal.as_ref().expect("open");
        for (group, model) in &self.groups {
            let expected: Vec<_> = model.entries.values().cloned().collect();
            assert_eq!(
                read_all(wal, *group, model.purged() + 1),
                expected,
                "group {group}"
            );
            let last = wal
                .last_entry(*group)
                .expect("readable")
                .map(|(index, _)| index);
            assert_eq!(last, model.entries.keys().next_back().copied());
            if model.purged() > 0 {
                let purged = wal.read(*group, model.purged()..u64::MAX, 1);
                assert!(matches!(purged, Err(WalError::Purged { .. })));
            }
        }
    }

    /// Opens a copy taken while the log is open, as after a crash: all that was answered is there.
    fn crash(&mut self) {
        self.settle();
        let copy = copy(self.directory.path());
        let (wal, recovered) = open(copy.path());
        for (group, model) in &self.groups {
            let expected: Vec<_> = model.entries.values().cloned().collect();
            assert_eq!(
                read_all(&wal, *group, model.purged() + 1),
                expected,
                "group {group}"
            );
            let vote = recovered
                .groups
                .get(group)
                .and_then(|held| held.vote.clone());
            assert_eq!(vote, model.held.vote);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_what_the_model_says(steps in prop::collection::vec(step(), 1..80)) {
        let mut run = Run::new();
        for step in steps {
            run.apply(&step);
        }
        run.settle();
        // One more answer, so that no segment is being freed while the copy is taken.
        run.apply(&Step::Vote { group: 0, vote: 0 });
        run.crash();
        run.apply(&Step::Reopen);
    }
}
