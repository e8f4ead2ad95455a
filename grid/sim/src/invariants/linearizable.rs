//! Linearizable: what was acknowledged to anybody before a request began lies at or before the
//! request's position, and a read shows the seats and bids as they stand at its position. A stale read
//! may lie further back, but shows one position all the same.

use std::collections::BTreeMap;

use grid::Read;
use grid_core::PartitionId;
use processing_unit::{Answer, Query, auction, box_office};

use super::{Fact, Invariant};
use crate::history::{History, Log};
use crate::model::{Holder, Model};

/// See the module.
#[derive(Default)]
pub(super) struct Linearizable {
    models: BTreeMap<PartitionId, Model>,
}

impl Linearizable {
    fn compare(
        &self,
        partition: PartitionId,
        index: u64,
        query: &Query,
        answer: &Answer,
    ) -> Result<(), String> {
        let nothing = Model::default();
        let model = self.models.get(&partition).unwrap_or(&nothing);
        let wrong = |expected: &dyn std::fmt::Debug| {
            Err(format!(
                "partition {partition} at {index}: {query:?} gives {answer:?}, expected {expected:?}"
            ))
        };
        match (query, answer) {
            (
                Query::BoxOffice(box_office::Query::Seats { event_id, .. }),
                Answer::BoxOffice(box_office::Answer::Seats(seats)),
            ) => {
                let letter = |holder| match holder {
                    Holder::Nobody => b'a',
                    Holder::Held { .. } => b'h',
                    Holder::Sold => b's',
                };
                let expected: Option<Vec<u8>> = model.events.get(event_id).and_then(|seats| {
                    let states = seats.iter().map(|seat| seat.at(index).map(letter));
                    states.collect()
                });
                if seats.as_ref().map(|seats| &seats.states) != expected.as_ref() {
                    return wrong(&expected);
                }
            }
            (
                Query::Auction(auction::Query::Auction { auction_id }),
                Answer::Auction(auction::Answer::Auction(view)),
            ) => {
                let standing = model.auctions.get(auction_id);
                let standing = standing.and_then(|auction| auction.at(index));
                let expected = standing.map(|standing| (standing.bids, standing.highest));
                let seen = view
                    .as_ref()
                    .map(|view| (view.bids, view.current_price.zip(view.leader)));
                if seen != expected {
                    return wrong(&expected);
                }
            }
            _ => return wrong(&"an answer to the query"),
        }
        Ok(())
    }
}

impl Invariant for Linearizable {
    fn name(&self) -> &'static str {
        "linearizable"
    }

    fn check(&mut self, history: &History, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Committed(entry) => {
                if let Some(batch) = &entry.batch {
                    // Whether the changes are possible is another invariant's.
                    let _ = self.models.entry(entry.partition).or_default().take(batch);
                }
                Ok(())
            }
            Fact::Executed {
                partition,
                key,
                executed,
                floor,
            } => {
                let index = executed.position.index;
                // A repeated command has its position of this attempt.
                if index <= *floor {
                    return Err(format!(
                        "partition {partition} key {:032x} is at {index}, not after {floor}",
                        key.0
                    ));
                }
                Ok(())
            }
            Fact::Answered {
                partition,
                query,
                read,
                answered,
                floor,
            } => {
                let index = answered.position.index;
                let least = match read {
                    Read::Linearizable => *floor,
                    Read::AtLeast(position) => position.index,
                    Read::Stale => 0,
                };
                if index < least {
                    return Err(format!(
                        "partition {partition}: a read {read:?} is at {index}, before {least}"
                    ));
                }
                let known = history.get(*partition).map_or(0, Log::last_index);
                if index > known {
                    return Err(format!(
                        "partition {partition}: a read is at {index}, which nobody applied"
                    ));
                }
                self.compare(*partition, index, query, &answered.answer)
            }
            _ => Ok(()),
        }
    }
}
