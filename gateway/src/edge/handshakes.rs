//! Connections that have not sent a whole request yet.
//!
//! Opening connections and sending nothing, or a byte now and then, costs an attacker little. So there is a
//! bound, and beyond it the one that has waited longest gives way to the next: somebody in earnest sends a
//! request at once and is through long before it is the oldest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::Counter;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// See the module.
pub(crate) struct Handshakes {
    /// By number, so that the first is the oldest.
    waiting: Mutex<BTreeMap<u64, Arc<Notify>>>,
    next: AtomicU64,
    max: usize,
    displaced: Counter,
}

impl std::fmt::Debug for Handshakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handshakes(at most {})", self.max)
    }
}

/// One of them, until it is finished or dropped.
#[derive(Debug)]
pub(crate) struct Handshake {
    all: Arc<Handshakes>,
    number: u64,
    gives_way: Arc<Notify>,
}

impl Handshakes {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::default(),
            next: AtomicU64::new(0),
            max: max.max(1),
            displaced: metrics::counter!("gateway_handshakes_displaced_total"),
        })
    }

    /// One more.
    pub(crate) fn begin(self: &Arc<Self>) -> Handshake {
        let gives_way = Arc::new(Notify::new());
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut waiting = self.waiting.lock();
        while waiting.len() >= self.max
            && let Some((_, oldest)) = waiting.pop_first()
        {
            oldest.notify_one();
            self.displaced.increment(1);
        }
        waiting.insert(number, Arc::clone(&gives_way));
        drop(waiting);
        Handshake {
            all: Arc::clone(self),
            number,
            gives_way,
        }
    }
}

impl Handshake {
    /// A whole request has come: it gives way to nobody any more.
    pub(crate) fn finish(&self) {
        self.all.waiting.lock().remove(&self.number);
    }

    /// Returns when it has to give way; never, once it is finished.
    pub(crate) async fn displaced(&self) {
        self.gives_way.notified().await;
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_oldest_gives_way_and_whoever_is_through_does_not() {
        let all = Handshakes::new(2);
        let is_displaced = |handshake: &Handshake| handshake.displaced().now_or_never().is_some();
        let (first, second) = (all.begin(), all.begin());
        first.finish();
        let third = all.begin();
        assert!(!is_displaced(&first) && !is_displaced(&second));
        let fourth = all.begin();
        assert!(is_displaced(&second) && !is_displaced(&third));
        drop((third, fourth));
        assert!(all.waiting.lock().is_empty());
    }
}
