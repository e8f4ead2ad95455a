//! What the grid acknowledged, kept by those who were told, for the check afterwards.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use uuid::Uuid;

/// A ticket that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sold {
    /// The seat's place in the layout.
    pub(crate) seat: u32,
    /// The ticket.
    pub(crate) ticket_id: Uuid,
    /// Who has it.
    pub(crate) buyer: Uuid,
}

/// The seats of one event, as their buyers know them.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Who holds or has each seat: a connection's number plus one, or 0.
    holders: Vec<AtomicU64>,
    sold: Vec<AtomicBool>,
    /// How many of them are not known to be sold.
    unsold: AtomicUsize,
    held_twice: AtomicU64,
    holds: AtomicU64,
    tickets: Mutex<Vec<Sold>>,
    unknown: Mutex<Vec<u32>>,
    outstanding: Mutex<Vec<u32>>,
}

/// A ledger that is closed.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Every acknowledged ticket.
    pub(crate) tickets: Vec<Sold>,
    /// Seats whose outcome nobody was told.
    pub(crate) unknown: Vec<u32>,
    /// Seats that were held at the end.
    pub(crate) outstanding: Vec<u32>,
    /// Acknowledged holds of all time.
    pub(crate) holds: u64,
    /// Seats that were acknowledged to two people at one time.
    pub(crate) held_twice: u64,
}

impl Ledger {
    pub(super) fn new(seats: usize) -> Self {
        Self {
            holders: (0..seats).map(|_| AtomicU64::new(0)).collect(),
            sold: (0..seats).map(|_| AtomicBool::new(false)).collect(),
            unsold: AtomicUsize::new(seats),
            held_twice: AtomicU64::new(0),
            holds: AtomicU64::new(0),
            tickets: Mutex::default(),
            unknown: Mutex::default(),
            outstanding: Mutex::default(),
        }
    }

    /// A hold was acknowledged.
    pub(super) fn held(&self, seats: &[u32], holder: usize) {
        self.holds.fetch_add(1, Ordering::Relaxed);
        for seat in seats {
            let Some(place) = self.holders.get(*seat as usize) else {
                continue;
            };
            if place.swap(holder as u64 + 1, Ordering::Relaxed) != 0 {
                self.held_twice.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// A release is about to be sent: from now on others may have the seats.
    pub(super) fn giving_back(&self, seats: &[u32]) {
        for seat in seats {
            if let Some(place) = self.holders.get(*seat as usize) {
                place.store(0, Ordering::Relaxed);
            }
        }
    }

    /// A ticket was acknowledged.
    pub(super) fn sold(&self, ticket: Sold) {
        self.mark_sold(ticket.seat);
        push(&self.tickets, [ticket]);
    }

    /// Whether buyers see the seat as sold.
    pub(super) fn is_sold(&self, seat: u32) -> bool {
        self.sold
            .get(seat as usize)
            .is_some_and(|sold| sold.load(Ordering::Relaxed))
    }

    /// From now on buyers see the seat as sold.
    pub(super) fn mark_sold(&self, seat: u32) {
        if let Some(sold) = self.sold.get(seat as usize)
            && !sold.swap(true, Ordering::Relaxed)
        {
            self.unsold.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether buyers see every seat as sold.
    pub(super) fn is_sold_out(&self) -> bool {
        self.unsold.load(Ordering::Relaxed) == 0
    }

    /// Nobody was told what became of these.
    pub(super) fn unknown(&self, seats: &[u32]) {
        push(&self.unknown, seats.iter().copied());
    }

    /// These are held when the run ends.
    pub(super) fn outstanding(&self, seats: &[u32]) {
        push(&self.outstanding, seats.iter().copied());
    }

    /// Closes it.
    pub(super) fn close(&self) -> Account {
        Account {
            tickets: take(&self.tickets),
            unknown: take(&self.unknown),
            outstanding: take(&self.outstanding),
            holds: self.holds.load(Ordering::Relaxed),
            held_twice: self.held_twice.load(Ordering::Relaxed),
        }
    }
}

/// A poisoned list is one whose writer panicked between two pushes: still a list.
fn push<T>(list: &Mutex<Vec<T>>, entries: impl IntoIterator<Item = T>) {
    list.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .extend(entries);
}

fn take<T>(list: &Mutex<Vec<T>>) -> Vec<T> {
    std::mem::take(
        &mut *list
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_held_twice_is_noticed() {
        let ledger = Ledger::new(3);
        ledger.held(&[0, 1], 7);
        ledger.giving_back(&[0]);
        ledger.held(&[0], 8);
        assert_eq!(ledger.close().held_twice, 0);
        ledger.held(&[1, 2], 9);
        let account = ledger.close();
        assert_eq!((account.held_twice, account.holds), (1, 3));
    }
}
