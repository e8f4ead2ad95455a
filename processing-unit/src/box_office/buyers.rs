//! Who holds and owns what: each buyer's count of seats, open holds and sales in one event.
//!
//! Derived from the event's state. Every step is a look-up or two: a buyer's holds are an unordered
//! list, and each hold knows its place in it, so that one buyer with a hundred thousand holds costs
//! no more than a hundred thousand buyers.

use grid_core::ShardedMap;
use smallvec::SmallVec;

use crate::ids::UserId;

/// The buyers of an event.
#[derive(Debug, Default)]
pub(super) struct Buyers {
    buyers: ShardedMap<UserId, Buyer>,
    /// By the number of a hold: its place in its buyer's list. Stale for numbers not in use.
    place_of_hold: Vec<u32>,
}

#[derive(Debug, Default)]
struct Buyer {
    /// Held and sold.
    seats: u32,
    holds: SmallVec<[u32; 4]>,
    /// In the order of confirmation.
    sales: SmallVec<[u32; 4]>,
}

impl Buyers {
    /// How many seats a buyer holds and owns.
    pub(super) fn seats_of(&self, buyer: UserId) -> u32 {
        self.buyers.get(&buyer).map_or(0, |buyer| buyer.seats)
    }

    /// The numbers of a buyer's open holds, in no order.
    pub(super) fn holds_of(&self, buyer: UserId) -> &[u32] {
        let buyer = self.buyers.get(&buyer);
        buyer.map_or(&[], |buyer| buyer.holds.as_slice())
    }

    /// The numbers of a buyer's sales, in the order of confirmation.
    pub(super) fn sales_of(&self, buyer: UserId) -> &[u32] {
        let buyer = self.buyers.get(&buyer);
        buyer.map_or(&[], |buyer| buyer.sales.as_slice())
    }

    /// Notes a new hold.
    pub(super) fn add_hold(&mut self, buyer: UserId, hold: u32, seats: u32) {
        let entry = self.buyers.get_or_insert_with(buyer, Buyer::default);
        entry.seats += seats;
        let place = entry.holds.len() as u32;
        entry.holds.push(hold);
        let number = hold as usize;
        if number >= self.place_of_hold.len() {
            self.place_of_hold.resize(number + 1, 0);
        }
        self.place_of_hold[number] = place;
    }

    /// Forgets a hold; `seats` of it are the buyer's no longer.
    pub(super) fn remove_hold(&mut self, buyer: UserId, hold: u32, seats: u32) {
        let Some(entry) = self.buyers.get_mut(&buyer) else {
            return;
        };
        entry.seats = entry.seats.saturating_sub(seats);
        let place = self.place_of_hold.get(hold as usize).copied();
        if let Some(place) = place.map(|place| place as usize)
            && entry.holds.get(place) == Some(&hold)
        {
            entry.holds.swap_remove(place);
            if let Some(moved) = entry.holds.get(place) {
                self.place_of_hold[*moved as usize] = place as u32;
            }
        }
        if entry.seats == 0 && entry.holds.is_empty() && entry.sales.is_empty() {
            self.buyers.remove(&buyer);
        }
    }

    /// Notes a sale whose seats are `seats` more than the buyer had.
    pub(super) fn add_sale(&mut self, buyer: UserId, sale: u32, seats: u32) {
        let entry = self.buyers.get_or_insert_with(buyer, Buyer::default);
        entry.seats += seats;
        entry.sales.push(sale);
    }

    /// The most seats that one buyer has.
    pub(super) fn most_seats(&self) -> u32 {
        let seats = self.buyers.iter().map(|(_, buyer)| buyer.seats);
        seats.max().unwrap_or(0)
    }

    /// Whether both say the same of every buyer; the order of holds does not matter.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        let sorted = |holds: &[u32]| {
            let mut holds = holds.to_vec();
            holds.sort_unstable();
            holds
        };
        self.buyers.len() == other.buyers.len()
            && self.buyers.iter().all(|(user, buyer)| {
                other.buyers.get(user).is_some_and(|twin| {
                    buyer.seats == twin.seats
                        && sorted(&buyer.holds) == sorted(&twin.holds)
                        && buyer.sales == twin.sales
                })
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_leave_a_long_list_in_any_order() {
        let buyer = UserId(uuid::Uuid::from_u128(1));
        let mut buyers = Buyers::default();
        for hold in 0..100 {
            buyers.add_hold(buyer, hold, 2);
        }
        for hold in (0..100)
            .step_by(3)
            .chain((0..100).filter(|hold| hold % 3 != 0))
        {
            assert!(buyers.holds_of(buyer).contains(&hold));
            buyers.remove_hold(buyer, hold, 2);
            assert!(!buyers.holds_of(buyer).contains(&hold));
        }
        assert_eq!((buyers.seats_of(buyer), buyers.buyers.len()), (0, 0));
    }
}
