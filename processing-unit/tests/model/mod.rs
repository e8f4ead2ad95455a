//! The rules once more, as plainly as they can be written: lists, linear scans, no indexes and no
//! counters. The property tests compare every reply and every change of the unit with these.
//!
//! Ids are drawn from the same entropy in the same order, so that outputs are equal as they are.

mod auction;
mod box_office;

use grid_core::entry::RULES_FIRST;
use grid_core::{ApplyContext, PartitionId, Timestamp};
use processing_unit::{Change, Command, Reply};

pub(crate) type Context<'a> = ApplyContext<'a, Change>;

/// A whole partition.
#[derive(Default)]
pub(crate) struct Model {
    clock: Timestamp,
    auctions: auction::Auctions,
    box_office: box_office::BoxOffice,
}

impl Model {
    /// What an entry with these commands must bring about.
    pub(crate) fn apply(
        &mut self,
        index: u64,
        now: Timestamp,
        entropy: u128,
        commands: &[Command],
    ) -> (Vec<Reply>, Vec<Change>) {
        self.clock = self.clock.max(now);
        let mut changes = Vec::new();
        let mut context = ApplyContext::new(
            RULES_FIRST,
            self.clock,
            PartitionId(0),
            index,
            entropy,
            &mut changes,
        );
        self.fire_due(&mut context);
        let replies = commands
            .iter()
            .map(|command| match command.clone() {
                Command::Auction(command) => {
                    Reply::Auction(self.auctions.apply(&mut context, command))
                }
                Command::BoxOffice(command) => {
                    Reply::BoxOffice(self.box_office.apply(&mut context, command))
                }
                Command::WaitingRoom(_) => unreachable!("rooms have a model of their own"),
            })
            .collect();
        (replies, changes)
    }

    fn fire_due(&mut self, context: &mut Context<'_>) {
        loop {
            let auction = self.auctions.next_due();
            let hold = self.box_office.next_due();
            let earliest = [auction.map(|due| due.0), hold.map(|due| due.0)];
            match earliest.into_iter().flatten().min() {
                Some(at) if at <= context.now() => match auction {
                    Some((due, auction_id)) if due == at => self.auctions.fire(context, auction_id),
                    _ => self.box_office.fire(context),
                },
                _ => return,
            }
        }
    }

    /// The earliest time at which a tick would do something.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        let auction = self.auctions.next_due().map(|due| due.0);
        let hold = self.box_office.next_due().map(|due| due.0);
        [auction, hold].into_iter().flatten().min()
    }
}
