//! Every body that an address takes, as a function from bytes to what is wrong with them: for the fuzzer, and
//! for the test that none is forgotten.

use processing_unit::auction::ItemChoice;
use uuid::Uuid;

use super::admin::{Order, Target};
use super::extract::{parsed, parsed_with_text};
use super::queue::{OpenBody, RateBody};
use crate::convert;
use crate::failure::Failure;
use crate::protocol::amount::AmountText;
use crate::protocol::body::{AuctionBody, BidBody, ConfirmBody, EventBody, HoldBody, ItemBody};
use crate::protocol::message::seat_choice;
use crate::waiting::RoomBody;

type Decoder = fn(&[u8]) -> Result<(), Failure>;

/// By a name that is fit for a folder.
pub(crate) const BODIES: [(&str, Decoder); 11] = [
    ("item", |bytes| {
        let (body, _) = parsed_with_text::<ItemBody>(bytes)?;
        drop(convert::new_item(Uuid::nil(), body));
        Ok(())
    }),
    ("auction", |bytes| {
        let (mut body, _) = parsed_with_text::<AuctionBody>(bytes)?;
        let item = body.item.take();
        let item = item.ok_or_else(|| Failure::bad_request("`item` is missing"))?;
        let item = ItemChoice::New(convert::new_item(Uuid::nil(), item));
        convert::new_auction(Uuid::nil(), item, body).map(drop)
    }),
    ("event", |bytes| {
        let (body, _) = parsed_with_text::<EventBody>(bytes)?;
        convert::new_event(Uuid::nil(), body).map(drop)
    }),
    ("bid", |bytes| {
        let body = parsed::<BidBody>(bytes)?;
        let amount = AmountText::read(&body.amount);
        amount
            .map(drop)
            .map_err(|error| Failure::bad_request(error.to_string()))
    }),
    ("hold", |bytes| {
        let body = parsed::<HoldBody>(bytes)?;
        seat_choice(body.seats, body.section, body.quantity, body.best_available)
            .map(drop)
            .map_err(Failure::bad_request)
    }),
    ("confirm", |bytes| parsed::<ConfirmBody>(bytes).map(drop)),
    ("waiting_room", |bytes| {
        parsed_with_text::<RoomBody>(bytes).map(drop)
    }),
    ("open", |bytes| parsed::<OpenBody>(bytes).map(drop)),
    ("rate", |bytes| parsed::<RateBody>(bytes).map(drop)),
    ("replica", |bytes| parsed::<Target>(bytes).map(drop)),
    ("member", |bytes| parsed::<Order>(bytes).map(drop)),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_body_that_is_read_is_here() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
        let mut reads = 0;
        for folder in [folder.join("admin"), folder] {
            for entry in std::fs::read_dir(folder).expect("the folder") {
                let path = entry.expect("an entry").path();
                let name = path.file_name().and_then(|name| name.to_str());
                if path.is_dir() || matches!(name, Some("extract.rs" | "decoders.rs")) {
                    continue;
                }
                let source = std::fs::read_to_string(&path).expect("a source file");
                reads += source.matches("shared, body)").count();
            }
        }
        assert_eq!(reads, BODIES.len(), "a body has no decoder here");
    }
}
