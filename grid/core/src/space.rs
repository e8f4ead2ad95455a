//! What a business domain implements to live in the grid.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::codec::CodecError;
use crate::key::{PartitionId, Slot};
use crate::time::Timestamp;

/// The state of one partition of a domain and the rules that change it.
///
/// `apply` and `fire_due` are the only methods that change state, and both must be deterministic:
/// the same state, context and command give the same reply, changes and next state on every replica
/// and on every replay. A refusal is a reply, not an error: an error would mean that replicas might
/// disagree, and there is no such case in a pure function.
pub trait Space: Default + Send + Sync + 'static {
    /// The newest rules that this build knows, from [`RULES_FIRST`](crate::entry::RULES_FIRST) on.
    ///
    /// A build that decides or encodes anything otherwise than the one before gets a new number, and goes
    /// on deciding as before where [`ApplyContext::rules`] says so: builds are mixed while a grid is
    /// upgraded, and old logs are applied again. Builds know all rules up to their own.
    const RULES: u16;

    /// What clients ask to be done. Stored in the log.
    type Command: Serialize + DeserializeOwned + Debug + Send + Sync + 'static;
    /// The answer to a command, refusals included. Stored in the idempotency records.
    type Reply: Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static;
    /// A fact that a command or deadline brought about; the change feed is exactly these.
    type Change: Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static;
    /// A question that changes nothing.
    type Query: Serialize + DeserializeOwned + Debug + Send + Sync + 'static;
    /// The answer to a query.
    type Answer: Serialize + DeserializeOwned + Debug + Send + Sync + 'static;
    /// An immutable view of the whole space, cheap to take.
    type View: SpaceView;

    /// Whether these rules know the command. One that came with newer rules is malformed to them, as it is to
    /// a build that does not know it, and never gets to [`Self::apply`].
    fn is_known(rules: u16, command: &Self::Command) -> bool {
        let _ = (rules, command);
        true
    }

    /// Carries out one command.
    fn apply(
        &mut self,
        context: &mut ApplyContext<'_, Self::Change>,
        command: Self::Command,
    ) -> Self::Reply;

    /// The earliest time at which something is due by itself (an end, an expiry).
    fn next_deadline(&self) -> Option<Timestamp>;

    /// Carries out what is due at `context.now()`, earliest first, at most `limit` deadlines; what is
    /// left fires at the next tick.
    fn fire_due(&mut self, context: &mut ApplyContext<'_, Self::Change>, limit: usize);

    /// Answers a question from the present state.
    fn query(&self, query: &Self::Query) -> Self::Answer;

    /// Takes a view for a snapshot: some microseconds, whatever the size of the state.
    fn view(&self) -> Self::View;

    /// Adds one slot's state, as [`SpaceView::encode_slot`] wrote it, and rebuilds what is derived
    /// from it (indexes, deadlines).
    ///
    /// # Errors
    /// When the bytes are not such a slot; the space is then unusable and must be dropped.
    fn restore_slot(&mut self, slot: Slot, bytes: &[u8]) -> Result<(), CodecError>;

    /// Checks every invariant of the domain over the whole state.
    ///
    /// # Errors
    /// The first broken invariant, in words. Whoever calls it must stop serving.
    fn check_invariants(&self) -> Result<(), String>;
}

/// A view of a space at one log position, to be encoded slot by slot in the background.
pub trait SpaceView: Send + Sync + 'static {
    /// The slots that hold anything, ascending.
    fn slots(&self) -> Vec<Slot>;

    /// Appends the encoding of one slot's state. Equal states give equal bytes.
    ///
    /// # Errors
    /// When a value cannot be encoded, which is a bug of the domain's types.
    fn encode_slot(&self, slot: Slot, out: &mut Vec<u8>) -> Result<(), CodecError>;
}

/// What the entry gives to `apply`: time, position, entropy; and where changes go.
#[derive(Debug)]
pub struct ApplyContext<'a, C> {
    rules: u16,
    now: Timestamp,
    partition: PartitionId,
    index: u64,
    entropy: u128,
    drawn: u64,
    changes: &'a mut Vec<C>,
}

impl<'a, C> ApplyContext<'a, C> {
    /// A context for one entry, under these rules. `entropy` is the leader's random number for that entry.
    pub fn new(
        rules: u16,
        now: Timestamp,
        partition: PartitionId,
        index: u64,
        entropy: u128,
        changes: &'a mut Vec<C>,
    ) -> Self {
        Self {
            rules,
            now,
            partition,
            index,
            entropy,
            drawn: 0,
            changes,
        }
    }

    /// The rules to follow; at most [`Space::RULES`].
    #[must_use]
    pub fn rules(&self) -> u16 {
        self.rules
    }

    /// The entry's time: never earlier than that of an earlier entry of the partition.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The partition the entry belongs to.
    #[must_use]
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// The entry's log index.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Records a change. Its sequence number within the entry is the order of these calls.
    pub fn emit(&mut self, change: C) {
        self.changes.push(change);
    }

    /// The next random number of this entry: the same on every replica.
    pub fn draw(&mut self) -> u128 {
        self.drawn += 1;
        let mut input = [0u8; 36];
        input[..16].copy_from_slice(&self.entropy.to_le_bytes());
        input[16..24].copy_from_slice(&self.index.to_le_bytes());
        input[24..32].copy_from_slice(&self.drawn.to_le_bytes());
        input[32..].copy_from_slice(&self.partition.0.to_le_bytes());
        xxhash_rust::xxh3::xxh3_128(&input)
    }

    /// A new id, a random UUID by form, drawn from the entry's entropy.
    pub fn mint_id(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(self.draw().to_be_bytes()).into_uuid()
    }
}
