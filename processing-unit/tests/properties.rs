//! Random histories of a partition against a naive model of the rules.
//!
//! After every entry: the replies, the changes and the next deadline are the model's, and the
//! invariants hold. Somewhere on the way a copy is restored from a snapshot and goes on beside the
//! original: the same outputs, the same hash, the same digest. At the end the log is replayed.

mod histories;
mod model;

use std::collections::BTreeSet;

use grid_core::snapshot::Restore;
use grid_core::{
    Applied, CodecError, CommandRecord, Entry, IdempotencyKey, Outcome, PartitionId,
    PartitionState, Space as _, Timestamp, codec,
};
use histories::{
    ENTRIES_MAX, EntryDraft, Minted, auction_drafts, box_office_drafts, entries, user,
};
use model::Model;
use processing_unit::{Change, Command, Reply, Unit, auction, box_office};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{
    FailurePersistence, FileFailurePersistence, RngAlgorithm, TestRng, TestRunner,
};

/// Histories a property, unless `PROPTEST_CASES` says otherwise; a few seconds in a debug build.
const CASES: u32 = 100;

/// The texts of invalid terms are for people; the model does not repeat them.
fn without_text(reply: Reply) -> Reply {
    match reply {
        Reply::Auction(Err(auction::Refusal::Invalid(_))) => {
            Reply::Auction(Err(auction::Refusal::Invalid(String::new())))
        }
        Reply::BoxOffice(Err(box_office::Refusal::Invalid(_))) => {
            Reply::BoxOffice(Err(box_office::Refusal::Invalid(String::new())))
        }
        reply => reply,
    }
}

fn encode_entry(index: u64, now: Timestamp, commands: &[Command]) -> Result<Vec<u8>, CodecError> {
    let bodies: Vec<_> = commands
        .iter()
        .map(codec::encode)
        .collect::<Result<_, _>>()?;
    let mut entry = Entry::tick(now, u128::from(index));
    for (number, body) in bodies.iter().enumerate() {
        entry.commands.push(CommandRecord {
            key: IdempotencyKey(u128::from(index) << 32 | number as u128),
            fingerprint: 0,
            body,
        });
    }
    entry.encode()
}

fn restore(state: &PartitionState<Unit>) -> PartitionState<Unit> {
    let mut restore: Restore<Unit> = Restore::default();
    let written = state.view().write_sections(|section| {
        restore.section(section).expect("sections of a view");
        Ok::<(), CodecError>(())
    });
    written.expect("the state can be encoded");
    restore.finish().expect("all sections were taken")
}

fn replies(applied: &Applied<Unit>) -> Vec<Reply> {
    let reply = |outcome: &Outcome<Reply>| match outcome {
        Outcome::Reply {
            reply,
            replayed: false,
        } => reply.clone(),
        other => panic!("every command is new and well-formed: {other:?}"),
    };
    applied.outcomes.iter().map(reply).collect()
}

/// Runs a history; `snapshot_at` is the entry after which a copy is restored. Returns the outputs.
fn check_history(
    history: &[EntryDraft],
    snapshot_at: usize,
) -> Result<(Vec<Reply>, Vec<Change>), TestCaseError> {
    let mut outputs = (Vec::new(), Vec::new());
    let mut state: PartitionState<Unit> = PartitionState::new(PartitionId(0));
    let mut copy: Option<PartitionState<Unit>> = None;
    let mut model = Model::default();
    let mut minted = Minted::default();
    let mut log = Vec::new();
    let mut now = Timestamp::ZERO;
    for (index, draft) in (1u64..).zip(history) {
        now = if draft.wait_ms < 0 {
            now - draft.wait_ms.unsigned_abs()
        } else {
            now + draft.wait_ms.unsigned_abs()
        };
        let commands: Vec<_> = draft
            .drafts
            .iter()
            .filter_map(|draft| minted.command(draft))
            .collect();
        let bytes = encode_entry(index, now, &commands).expect("commands can be encoded");
        let applied = state.apply(index, &bytes).expect("a well-formed entry");
        let (expected, changes) = model.apply(index, now, u128::from(index), &commands);
        let given: Vec<_> = replies(&applied).into_iter().map(without_text).collect();
        prop_assert_eq!(&given, &expected, "replies to {:?}", commands);
        prop_assert_eq!(
            &applied.batch.changes,
            &changes,
            "changes of {:?}",
            commands
        );
        prop_assert_eq!(state.next_deadline(), model.next_deadline());
        prop_assert_eq!(state.check_invariants(), Ok(()));
        if let Some(copy) = &mut copy {
            let again = copy.apply(index, &bytes).expect("a well-formed entry");
            prop_assert_eq!(
                &again.batch.changes,
                &changes,
                "changes of the restored copy"
            );
            prop_assert_eq!(copy.hash(), state.hash());
            prop_assert_eq!(copy.next_deadline(), state.next_deadline());
            prop_assert_eq!(copy.check_invariants(), Ok(()));
        }
        if log.len() == snapshot_at {
            copy = Some(restore(&state));
        }
        minted.note(&changes);
        outputs.0.extend(given);
        outputs.1.extend(changes);
        log.push(bytes);
    }
    let digest = state.view().digest().expect("the state can be encoded");
    if let Some(copy) = &copy {
        prop_assert_eq!(copy.view().digest().expect("as above"), digest);
        prop_assert_eq!(all_answers(copy), all_answers(&state));
    }
    let mut replayed: PartitionState<Unit> = PartitionState::new(PartitionId(0));
    for (index, bytes) in (1u64..).zip(&log) {
        replayed.apply(index, bytes).expect("as before");
    }
    prop_assert_eq!(replayed.hash(), state.hash());
    prop_assert_eq!(replayed.view().digest().expect("as above"), digest);
    Ok(outputs)
}

/// Answers that lean on rebuilt indexes.
fn all_answers(state: &PartitionState<Unit>) -> Vec<processing_unit::Answer> {
    let mut queries = vec![
        processing_unit::Query::Auction(auction::Query::Totals),
        processing_unit::Query::Auction(auction::Query::Auctions {
            status: None,
            category: None,
            text: None,
            after: None,
            limit: 100,
        }),
        processing_unit::Query::BoxOffice(box_office::Query::Events {
            text: None,
            after: None,
            limit: 100,
        }),
    ];
    for number in 0..5 {
        let buyer = user(number);
        let limit = 100;
        queries.push(processing_unit::Query::Auction(auction::Query::BidsOf {
            bidder: buyer,
            limit,
        }));
        queries.push(processing_unit::Query::BoxOffice(
            box_office::Query::HoldsOf { buyer, limit },
        ));
        queries.push(processing_unit::Query::BoxOffice(
            box_office::Query::TicketsOf { buyer, limit },
        ));
    }
    queries
        .iter()
        .map(|query| state.space().query(query))
        .collect()
}

fn configuration() -> ProptestConfig {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/properties.regressions");
    let persistence: Box<dyn FailurePersistence> = Box::new(FileFailurePersistence::Direct(path));
    let default = ProptestConfig::default();
    let is_asked = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig {
        failure_persistence: Some(persistence),
        cases: if is_asked { default.cases } else { CASES },
        ..default
    }
}

proptest! {
    #![proptest_config(configuration())]

    #[test]
    fn auctions_follow_the_model(
        history in entries(auction_drafts()),
        snapshot_at in 0..ENTRIES_MAX,
    ) {
        check_history(&history, snapshot_at)?;
    }

    #[test]
    fn box_office_follows_the_model(
        history in entries(box_office_drafts()),
        snapshot_at in 0..ENTRIES_MAX,
    ) {
        check_history(&history, snapshot_at)?;
    }

    #[test]
    fn both_together_follow_the_model(
        history in entries(prop_oneof![auction_drafts(), box_office_drafts()]),
        snapshot_at in 0..ENTRIES_MAX,
    ) {
        check_history(&history, snapshot_at)?;
    }
}

/// The words of an output that name its variants, such as `Err(BidTooLow`.
fn variant(output: &impl std::fmt::Debug) -> String {
    let text = format!("{output:?}");
    let end = text.find([' ', '{', '"']).unwrap_or(text.len());
    text[..end].trim_end_matches([')', '(']).to_owned()
}

/// Agreement proves nothing about what never happens: the histories reach every kind of reply,
/// refusal and change, but for those that only a script can reach.
#[test]
fn histories_reach_every_rule() {
    let mut runner = TestRunner::new_with_rng(
        ProptestConfig::default(),
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );
    let histories = prop_oneof![entries(auction_drafts()), entries(box_office_drafts())];
    let mut seen = BTreeSet::new();
    for _ in 0..100 {
        let history = histories
            .new_tree(&mut runner)
            .expect("no filters")
            .current();
        let (replies, changes) = check_history(&history, ENTRIES_MAX).expect("as the model");
        seen.extend(replies.iter().map(variant));
        seen.extend(changes.iter().map(variant));
    }
    let expected = [
        "Auction(Ok(ItemCreated Auction(Ok(AuctionCreated Auction(Ok(Started Auction(Ok(Closed \
         Auction(Ok(Cancelled Auction(Ok(BidPlaced Auction(Ok(BidWithdrawn",
        "Auction(Err(AuctionNotFound Auction(Err(ItemNotFound Auction(Err(BidNotFound \
         Auction(Err(IdInUse Auction(Err(ItemAlreadyOnAuction Auction(Err(NotOpen \
         Auction(Err(NotScheduled Auction(Err(BidTooLow Auction(Err(OwnBidLeads \
         Auction(Err(Forbidden Auction(Err(HostMayNotBid Auction(Err(WithdrawalForbidden \
         Auction(Err(Invalid",
        "Auction(ItemCreated Auction(AuctionCreated Auction(AuctionStarted Auction(BidPlaced \
         Auction(BidWithdrawn Auction(AuctionExtended Auction(AuctionEnded \
         Auction(AuctionCancelled",
        "BoxOffice(Ok(EventCreated BoxOffice(Ok(Held BoxOffice(Ok(Confirmed \
         BoxOffice(Ok(Released",
        "BoxOffice(Err(EventNotFound BoxOffice(Err(IdInUse BoxOffice(Err(SeatNotFound \
         BoxOffice(Err(SectionNotFound BoxOffice(Err(SeatTaken BoxOffice(Err(OnSaleClosed \
         BoxOffice(Err(TooManySeats BoxOffice(Err(NotEnoughSeats BoxOffice(Err(HoldNotFound \
         BoxOffice(Err(HoldExpired BoxOffice(Err(Invalid",
        "BoxOffice(EventCreated BoxOffice(SeatsHeld BoxOffice(SeatsReleased BoxOffice(SeatsSold",
    ];
    for name in expected.iter().flat_map(|names| names.split_whitespace()) {
        assert!(seen.contains(name), "no history reached {name}: {seen:#?}");
    }
}
