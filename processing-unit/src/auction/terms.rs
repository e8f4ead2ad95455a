//! Which items and terms are accepted. Every refusal names the field.

use grid_core::{Slot, Timestamp};

use super::increment;
use super::messages::{
    DESCRIPTION_BYTES_MAX, DURATION_MS_MAX, IMAGES_MAX, ItemChoice, NAME_BYTES_MAX, NewAuction,
    NewItem, Refusal, SoftClose,
};
use crate::ids::ItemId;
use crate::money::AMOUNT_MINOR_MAX;

/// The longest category, in bytes.
const CATEGORY_BYTES_MAX: usize = NAME_BYTES_MAX;
/// The longest address of a picture, in bytes.
const IMAGE_BYTES_MAX: usize = 2_000;

impl ItemChoice {
    /// The id of the item, whether it exists yet or not.
    pub(super) fn item_id(&self) -> ItemId {
        match self {
            Self::Existing(item_id) => *item_id,
            Self::New(item) => item.item_id,
        }
    }
}

fn invalid(field: &str, rule: impl std::fmt::Display) -> Refusal {
    Refusal::Invalid(format!("{field}: {rule}"))
}

fn check_text(field: &str, text: &str, bytes_max: usize) -> Result<(), Refusal> {
    if text.len() > bytes_max {
        return Err(invalid(field, format!("at most {bytes_max} bytes")));
    }
    Ok(())
}

fn check_name(field: &str, text: &str) -> Result<(), Refusal> {
    if text.trim().is_empty() {
        return Err(invalid(field, "must not be empty"));
    }
    check_text(field, text, NAME_BYTES_MAX)
}

/// Checks a new item.
pub(super) fn check_item(item: &NewItem) -> Result<(), Refusal> {
    check_name("name", &item.name)?;
    check_text("description", &item.description, DESCRIPTION_BYTES_MAX)?;
    check_text("category", &item.category, CATEGORY_BYTES_MAX)?;
    if item.images.len() > IMAGES_MAX {
        return Err(invalid("images", format!("at most {IMAGES_MAX}")));
    }
    for image in &item.images {
        check_text("images", image, IMAGE_BYTES_MAX)?;
    }
    Ok(())
}

/// Checks the terms of an auction that is created at `now`.
pub(super) fn check_auction(terms: &NewAuction, now: Timestamp) -> Result<(), Refusal> {
    if Slot::of(terms.auction_id.0) != Slot::of(terms.item.item_id().0) {
        return Err(invalid("auction_id", "must lie in the slot of its item"));
    }
    check_name("title", &terms.title)?;
    check_text("category", &terms.category, CATEGORY_BYTES_MAX)?;
    if !(0..=AMOUNT_MINOR_MAX).contains(&terms.starting_price) {
        return Err(invalid("starting_price", "not negative and not too large"));
    }
    if let Some(reserve) = terms.reserve_price {
        if reserve < terms.starting_price {
            return Err(invalid("reserve_price", "at least the starting price"));
        }
        if reserve > AMOUNT_MINOR_MAX {
            return Err(invalid("reserve_price", "too large"));
        }
    }
    increment::check(&terms.increments)?;
    if terms.end_time <= now {
        return Err(invalid("end_time", "must be in the future"));
    }
    if terms.end_time <= terms.start_time {
        return Err(invalid("end_time", "must be after start_time"));
    }
    let opens_at = terms.start_time.max(now);
    if terms.end_time.millis_since(opens_at) > DURATION_MS_MAX {
        return Err(invalid("end_time", "at most 366 days after the opening"));
    }
    if let Some(soft_close) = &terms.soft_close {
        check_soft_close(soft_close)?;
    }
    Ok(())
}

fn check_soft_close(soft_close: &SoftClose) -> Result<(), Refusal> {
    let lengths = 1..=DURATION_MS_MAX;
    if !lengths.contains(&soft_close.window_ms) {
        return Err(invalid("soft_close.window_ms", "between 1 ms and 366 days"));
    }
    if !lengths.contains(&soft_close.extend_ms) {
        return Err(invalid("soft_close.extend_ms", "between 1 ms and 366 days"));
    }
    Ok(())
}
