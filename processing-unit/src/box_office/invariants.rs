//! The whole-state check of the box office; linear in the state, for tests and on request.

use std::collections::BTreeSet;

use grid_core::Slot;

use super::index::EventIndex;
use super::space::BoxOfficeSpace;
use super::state::{EXPIRED_HOLDS_KEPT, Event};

impl BoxOfficeSpace {
    /// Checks every invariant of the box office.
    ///
    /// # Errors
    /// The first broken invariant, in words.
    pub fn check_invariants(&self) -> Result<(), String> {
        let mut ids = BTreeSet::new();
        let mut expiries = BTreeSet::new();
        for (slot, state) in self.slots.iter() {
            for (event_id, event) in &state.events {
                let wrong = |what: String| format!("event {event_id}: {what}");
                if Slot::of(event_id.0) != slot {
                    return Err(wrong(format!("is in slot {slot}, not its own")));
                }
                ids.insert(*event_id);
                let holds = event.holds.iter();
                expiries.extend(holds.map(|(_, hold)| (hold.expires_at, *event_id, hold.hold_id)));
                event.check().map_err(wrong)?;
                let Some(index) = self.indexes.get(event_id) else {
                    return Err(wrong("has no index".to_owned()));
                };
                let recounted = EventIndex::new(event);
                index.check_equals(&recounted).map_err(wrong)?;
                let limit = event.terms.max_seats_per_buyer;
                if recounted.buyers.most_seats() > limit {
                    return Err(wrong("a buyer is over the limit".to_owned()));
                }
            }
        }
        if ids != self.ids || ids.len() != self.indexes.len() {
            return Err("box-office index ids differs from a recount".to_owned());
        }
        if expiries != self.expiries {
            return Err("box-office index expiries differs from a recount".to_owned());
        }
        Ok(())
    }
}

impl Event {
    /// No seat has two holders: every hold and sale finds its own number in its seats, and together
    /// they are as many as the seats that are not free.
    fn check(&self) -> Result<(), String> {
        if !self.references_resolve() {
            return Err("seats, holds and sales do not agree".to_owned());
        }
        if self.holds.iter().count() != self.holds.len() as usize {
            return Err("the holds' count is wrong".to_owned());
        }
        if self.holds.iter().any(|(_, hold)| hold.seats.is_empty()) {
            return Err("a hold without seats".to_owned());
        }
        if self.expired.iter().count() > EXPIRED_HOLDS_KEPT {
            return Err("too many expired holds are kept".to_owned());
        }
        let tickets = || self.sales.iter().flat_map(|sale| sale.tickets.iter());
        let ids: BTreeSet<_> = tickets().map(|ticket| ticket.ticket_id).collect();
        if ids.len() != tickets().count() {
            return Err("two tickets with one id".to_owned());
        }
        Ok(())
    }
}

impl EventIndex {
    fn check_equals(&self, recounted: &Self) -> Result<(), String> {
        let parts = [
            ("row_runs", self.row_runs == recounted.row_runs),
            ("section_runs", self.section_runs == recounted.section_runs),
            ("sections", self.sections == recounted.sections),
            ("holds", self.holds == recounted.holds),
            ("expired", self.expired == recounted.expired),
            ("buyers", self.buyers.agrees_with(&recounted.buyers)),
        ];
        match parts.iter().find(|(_, equal)| !equal) {
            Some((name, _)) => Err(format!("index {name} differs from a recount")),
            None => Ok(()),
        }
    }
}
