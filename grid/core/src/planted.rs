//! Bugs planted on purpose: a simulation that cannot find them proves nothing.

use std::sync::atomic::{AtomicBool, Ordering};

static FORGETS_RETRIES: AtomicBool = AtomicBool::new(false);

/// From now on every fourth idempotency key is not remembered.
pub fn forget_retries() {
    FORGETS_RETRIES.store(true, Ordering::Relaxed);
}

/// Whether a key is one of those.
pub(crate) fn forgets(key: u128) -> bool {
    FORGETS_RETRIES.load(Ordering::Relaxed) && key.is_multiple_of(4)
}
