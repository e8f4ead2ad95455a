//! What is known of addresses or users: a bounded table in shards.
//!
//! Whoever is under way holds an [`Account`] and pays for it without the table; it is looked up once a
//! connection, and once a request only where a connection carries many clients.
//!
//! Invariant: the table holds no more than [`ACCOUNTS_MAX`] accounts besides those that are held by open
//! connections, which are bounded themselves. When a shard is full, accounts that are as good as new go
//! first, then any that nobody holds: whoever can fill the table with other addresses has no use for the
//! small credit that is forgotten so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use xxhash_rust::xxh3;

use super::rate::Rate;

/// Accounts of one table that nobody holds; about 8 MB.
pub(crate) const ACCOUNTS_MAX: usize = 65_536;
const SHARDS: usize = 64;
const SHARD_ACCOUNTS_MAX: usize = ACCOUNTS_MAX / SHARDS;

/// What one address or one user has open, and how fast it asks.
#[derive(Debug, Default)]
pub(crate) struct Account {
    open: AtomicUsize,
    pub(super) connects: Rate,
    pub(super) requests: Rate,
}

impl Account {
    /// A place among the `max` that may be open at a time.
    pub(super) fn open(self: &Arc<Self>, max: usize) -> Option<Place> {
        self.open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (open < max).then_some(open + 1)
            })
            .ok()?;
        Some(Place(Arc::clone(self)))
    }

    fn is_as_new(&self, now_ns: u64) -> bool {
        self.connects.is_full(now_ns) && self.requests.is_full(now_ns)
    }
}

/// Something open; closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Account>);

impl Place {
    pub(super) fn account(&self) -> &Arc<Account> {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Shard {
    accounts: BTreeMap<u128, Arc<Account>>,
    /// At this length it is looked through.
    sweep_at: usize,
}

impl Shard {
    /// Makes room, so much that the next look is far enough away to pay for this one.
    fn sweep(&mut self, now_ns: u64) {
        let is_held = |account: &Arc<Account>| Arc::strong_count(account) > 1;
        self.accounts
            .retain(|_, account| is_held(account) || !account.is_as_new(now_ns));
        let mut excess = self
            .accounts
            .len()
            .saturating_sub(SHARD_ACCOUNTS_MAX * 3 / 4);
        self.accounts.retain(|_, account| {
            let goes = excess > 0 && !is_held(account);
            excess -= usize::from(goes);
            !goes
        });
        self.sweep_at = SHARD_ACCOUNTS_MAX.max(self.accounts.len() + SHARD_ACCOUNTS_MAX / 4);
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Table {
    shards: Box<[Mutex<Shard>]>,
    /// So that nobody can choose addresses that all lie in one shard.
    seed: u64,
}

impl Table {
    pub(super) fn new(seed: u64) -> Self {
        let shard = || {
            Mutex::new(Shard {
                accounts: BTreeMap::new(),
                sweep_at: SHARD_ACCOUNTS_MAX,
            })
        };
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            seed,
        }
    }

    /// The account of a key; a new one if there is none.
    pub(super) fn account(&self, key: u128, now_ns: u64) -> Arc<Account> {
        let hash = xxh3::xxh3_64_with_seed(&key.to_le_bytes(), self.seed);
        let mut shard = self.shards[hash as usize % SHARDS].lock();
        if let Some(account) = shard.accounts.get(&key) {
            return Arc::clone(account);
        }
        if shard.accounts.len() >= shard.sweep_at {
            shard.sweep(now_ns);
        }
        let account = Arc::default();
        shard.accounts.insert(key, Arc::clone(&account));
        account
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let lengths = self.shards.iter().map(|shard| shard.lock().accounts.len());
        lengths.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::rate::RateLimit;
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let account = Arc::new(Account::default());
        let places: Vec<_> = std::iter::from_fn(|| account.open(3)).collect();
        assert_eq!(places.len(), 3);
        drop(places);
        assert!(account.open(1).is_some());
    }

    #[test]
    fn a_flood_of_addresses_fills_no_memory_and_forgets_nobody_who_is_there() {
        let table = Table::new(7);
        let held = table.account(u128::MAX, 0).open(9).expect("room");
        for key in 0..4 * ACCOUNTS_MAX as u128 {
            let account = table.account(key, 1);
            let _ = account.requests.take(RateLimit::per_s(1), 1);
        }
        assert!(table.len() <= ACCOUNTS_MAX, "{}", table.len());
        let again = table.account(u128::MAX, 2);
        assert!(Arc::ptr_eq(&again, held.account()), "it was forgotten");
    }

    #[test]
    fn those_who_have_rested_go_before_those_who_have_not() {
        let table = Table::new(7);
        let limit = RateLimit::per_s(1);
        let busy = 3;
        assert_eq!(table.account(busy, 0).requests.take(limit, 0), Ok(()));
        for key in 10..10 + 2 * ACCOUNTS_MAX as u128 {
            table.account(key, 1);
        }
        let account = table.account(busy, 1);
        let taken = std::iter::from_fn(|| account.requests.take(limit, 1).ok());
        assert_eq!(taken.take(9).count(), 4, "one of five was gone already");
    }
}
