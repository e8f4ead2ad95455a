//! What callers of the log, its writer and its helpers share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::index::Index;
use super::pins::Pins;
use super::record::Kind;
use super::room::{Room, RoomLevel};
use super::segment::Segment;
use super::spare::SpareState;
use super::sync_times::SyncTimes;
use super::{Done, WalStats};
use crate::platform::monotonic_now;

/// Something to be written.
pub(super) struct Operation {
    pub(super) kind: Kind,
    pub(super) group: u32,
    pub(super) body: Vec<u8>,
    /// The index's number of an append, else 0.
    pub(super) number: u64,
    pub(super) done: Option<Done>,
}

impl Operation {
    pub(super) fn new(kind: Kind, group: u32, body: Vec<u8>) -> Self {
        Self {
            kind,
            group,
            body,
            number: 0,
            done: None,
        }
    }
}

/// What callers and the threads share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) index: Mutex<Index>,
    pub(super) segments: Mutex<BTreeMap<u64, Arc<Segment>>>,
    pub(super) pins: Mutex<Pins>,
    /// Committed positions that wait for the next batch.
    pub(super) committed: Mutex<BTreeMap<u32, Bytes>>,
    pub(super) spares: Arc<SpareState>,
    /// Why nothing is written any more.
    pub(super) failure: watch::Sender<Option<String>>,
    pub(super) room: Room,
    pub(super) segment_bytes: u64,
    pub(super) times: Mutex<SyncTimes>,
    /// The number of the last record that is synced.
    pub(super) synced_number: AtomicU64,
    /// Set by who wants the present segment to end although it has room.
    pub(super) seal_wanted: AtomicBool,
    /// The newest segment that was found damaged; 0 for none.
    pub(super) condemned: AtomicU64,
}

impl Shared {
    pub(super) fn new(
        index: Index,
        segments: BTreeMap<u64, Arc<Segment>>,
        pins: Pins,
        segment_bytes: u64,
    ) -> Self {
        Self {
            index: Mutex::new(index),
            segments: Mutex::new(segments),
            pins: Mutex::new(pins),
            committed: Mutex::default(),
            spares: Arc::default(),
            failure: watch::Sender::new(None),
            room: Room::new(segment_bytes),
            segment_bytes,
            times: Mutex::new(SyncTimes::new(monotonic_now())),
            synced_number: AtomicU64::new(0),
            seal_wanted: AtomicBool::new(false),
            condemned: AtomicU64::new(0),
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    pub(super) fn room_level(&self) -> RoomLevel {
        self.room.level(self.spares.is_ready())
    }

    pub(super) fn stats(&self) -> WalStats {
        let segments = self.segments.lock();
        let mut times = self.times.lock();
        let now = monotonic_now();
        WalStats {
            segments: segments.len() as u64,
            bytes: segments.values().map(|segment| segment.bytes).sum(),
            syncs: times.count,
            last_sync_us: times.last_us,
            slowest_sync_us: times.slowest_us(now),
            usual_sync_us: times.usual_us(now),
            spare_ready: self.spares.is_ready(),
            segment_bytes: self.segment_bytes,
        }
    }
}
