//! Typed ids: a bid's id cannot be passed where an auction's is wanted.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }
    };
}

id!(
    /// A person, as the identity provider names them.
    UserId
);
id!(
    /// Something that can be auctioned. Partition key of its auctions' slot.
    ItemId
);
id!(
    /// An auction; minted in the slot of its item, so that both live in one partition.
    AuctionId
);
id!(
    /// A bid; lives in its auction's partition.
    BidId
);
id!(
    /// A concert or another event that sells seats; the partition key of everything about it.
    EventId
);
id!(
    /// A buyer's hold on seats of an event.
    HoldId
);
id!(
    /// One sold seat.
    TicketId
);
