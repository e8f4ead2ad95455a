//! A partition's state over a space that only appends words.

use grid_core::snapshot::Restore;
use grid_core::{
    ApplyContext, ApplyError, CodecError, CommandRecord, Entry, IdempotencyKey, Outcome,
    PartitionId, PartitionState, Slot, Space, SpaceView, Timestamp, codec,
};

#[derive(Clone, Debug, Default)]
struct Words(Vec<String>);

impl SpaceView for Words {
    fn slots(&self) -> Vec<Slot> {
        Slot::new(0).into_iter().collect()
    }

    fn encode_slot(&self, _slot: Slot, out: &mut Vec<u8>) -> Result<(), CodecError> {
        codec::encode_into(&self.0, out)
    }
}

impl Space for Words {
    const RULES: u16 = 1;

    type Command = String;
    type Reply = (usize, u128);
    type Change = String;
    type Query = ();
    type Answer = Vec<String>;
    type View = Self;

    fn apply(&mut self, context: &mut ApplyContext<'_, String>, word: String) -> (usize, u128) {
        context.emit(word.clone());
        self.0.push(word);
        (self.0.len(), context.draw())
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        None
    }

    fn fire_due(&mut self, _context: &mut ApplyContext<'_, String>, _limit: usize) {}

    fn query(&self, (): &()) -> Vec<String> {
        self.0.clone()
    }

    fn view(&self) -> Self {
        self.clone()
    }

    fn restore_slot(&mut self, _slot: Slot, bytes: &[u8]) -> Result<(), CodecError> {
        self.0 = codec::decode(bytes)?;
        Ok(())
    }

    fn check_invariants(&self) -> Result<(), String> {
        Ok(())
    }
}

fn entry(now: u64, commands: &[(u128, u64, &str)]) -> Vec<u8> {
    let bodies: Vec<Vec<u8>> = commands
        .iter()
        .map(|(_, _, word)| codec::encode(word).expect("plain"))
        .collect();
    let mut entry = Entry::tick(Timestamp::from_millis(now), 42);
    entry.commands = commands
        .iter()
        .zip(&bodies)
        .map(|((key, fingerprint, _), body)| CommandRecord {
            key: IdempotencyKey(*key),
            fingerprint: *fingerprint,
            body,
        })
        .collect();
    entry.encode().expect("plain")
}

fn partition() -> PartitionState<Words> {
    PartitionState::new(PartitionId(3))
}

#[test]
fn a_retry_gets_the_first_reply_and_changes_nothing() {
    let mut state = partition();
    let first = state
        .apply(1, &entry(1, &[(7, 1, "one")]))
        .expect("applied");
    let again = state
        .apply(2, &entry(2, &[(7, 1, "one")]))
        .expect("applied");
    let Outcome::Reply {
        reply,
        replayed: false,
    } = first.outcomes[0]
    else {
        panic!("{:?}", first.outcomes)
    };
    assert_eq!(
        again.outcomes,
        [Outcome::Reply {
            reply,
            replayed: true
        }]
    );
    assert!(again.batch.changes.is_empty());
    assert_eq!(state.space().0, ["one"]);
}

#[test]
fn a_key_used_for_another_request_and_bytes_that_are_no_command_do_nothing() {
    let mut state = partition();
    state
        .apply(1, &entry(1, &[(7, 1, "one")]))
        .expect("applied");
    let applied = state
        .apply(2, &entry(2, &[(7, 2, "two"), (8, 1, "three")]))
        .expect("applied");
    assert_eq!(applied.outcomes[0], Outcome::IdempotencyConflict);
    assert!(matches!(applied.outcomes[1], Outcome::Reply { .. }));

    let mut garbage = Entry::tick(Timestamp::from_millis(3), 0);
    let body = [0xff; 3];
    garbage.commands.push(CommandRecord {
        key: IdempotencyKey(9),
        fingerprint: 0,
        body: &body,
    });
    let applied = state
        .apply(3, &garbage.encode().expect("plain"))
        .expect("applied");
    assert_eq!(applied.outcomes, [Outcome::Malformed]);
    assert_eq!(state.space().0, ["one", "three"]);
}

#[test]
fn a_gap_newer_rules_or_garbage_stop_the_replica() {
    let mut state = partition();
    state.apply(1, &entry(1, &[])).expect("applied");
    let gap = state.apply(3, &entry(1, &[]));
    assert!(matches!(
        gap,
        Err(ApplyError::OutOfOrder {
            index: 3,
            applied: 1
        })
    ));

    let mut newer = Entry::tick(Timestamp::ZERO, 0);
    newer.rules += 1;
    let newer = partition().apply(1, &newer.encode().expect("plain"));
    assert!(matches!(
        newer,
        Err(ApplyError::NewerRules { index: 1, .. })
    ));
    let garbage = partition().apply(1, b"\xff\xff\xff");
    assert!(matches!(
        garbage,
        Err(ApplyError::Unreadable { index: 1, .. })
    ));
}

#[test]
fn time_never_runs_backwards_and_the_pump_never_ahead() {
    let mut state = partition();
    state.apply(1, &entry(100, &[])).expect("applied");
    let mut late = Entry::tick(Timestamp::from_millis(50), 0);
    late.pumped_index = Some(1_000);
    let applied = state
        .apply(2, &late.encode().expect("plain"))
        .expect("applied");
    assert_eq!(applied.batch.at, Timestamp::from_millis(100));
    assert_eq!(state.pumped_index(), 2);
    state.check_invariants().expect("holds");
}

#[test]
fn the_same_log_gives_the_same_state_and_another_one_another() {
    let log = [
        entry(1, &[(1, 0, "a"), (2, 0, "b")]),
        entry(2, &[]),
        entry(5, &[(3, 0, "c")]),
    ];
    let replay = |log: &[Vec<u8>]| {
        let mut state = partition();
        for (index, entry) in (1..).zip(log) {
            state.apply(index, entry).expect("applied");
        }
        (state.hash(), state.view().digest().expect("encodable"))
    };
    assert_eq!(replay(&log), replay(&log));
    let mut other = log.clone();
    other[2] = entry(5, &[(3, 0, "d")]);
    assert_ne!(replay(&log).0, replay(&other).0);
    assert_ne!(replay(&log).1, replay(&other).1);
}

#[test]
fn a_restored_snapshot_goes_on_like_the_original() {
    let mut state = partition();
    for index in 1..=3000 {
        let word = index.to_string();
        state
            .apply(index, &entry(index, &[(u128::from(index), 0, &word)]))
            .expect("applied");
    }
    let mut restore = Restore::<Words>::default();
    state
        .view()
        .write_sections(|section| {
            restore.section(section).expect("its own section");
            Ok::<(), CodecError>(())
        })
        .expect("encodable");
    let mut copy = restore.finish().expect("complete");
    assert_eq!(
        copy.view().digest().expect("encodable"),
        state.view().digest().expect("encodable")
    );
    let next = entry(4000, &[(5, 0, "5"), (9999, 0, "new")]);
    let (mine, theirs) = (state.apply(3001, &next), copy.apply(3001, &next));
    assert_eq!(
        mine.expect("applied").outcomes,
        theirs.expect("applied").outcomes
    );
    assert_eq!(copy.hash(), state.hash());
}

#[test]
fn sections_in_a_wrong_order_or_cut_short_are_refused() {
    let mut state = partition();
    state.apply(1, &entry(1, &[(1, 0, "a")])).expect("applied");
    let mut sections = Vec::new();
    state
        .view()
        .write_sections(|section| {
            sections.push(section.to_vec());
            Ok::<(), CodecError>(())
        })
        .expect("encodable");

    let mut headless = Restore::<Words>::default();
    assert!(headless.section(&sections[1]).is_err());
    let mut short = Restore::<Words>::default();
    for section in &sections[..sections.len() - 1] {
        short.section(section).expect("in order");
    }
    assert!(short.finish().is_err());
    let mut twice = Restore::<Words>::default();
    twice.section(&sections[0]).expect("the head");
    assert!(twice.section(&sections[0]).is_err());
}
