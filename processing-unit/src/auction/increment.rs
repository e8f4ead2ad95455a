//! The increment table: how much higher the next bid must be.

use super::messages::{INCREMENT_STEPS_MAX, IncrementStep, Refusal};
use crate::money::AMOUNT_MINOR_MAX;

/// The least rise over `price`: that of the last step that begins at or below it.
///
/// A table that [`check`] passed has a step from 0, so every price has one; without any, the least
/// rise is one minor unit.
pub(super) fn increment_at(table: &[IncrementStep], price: i64) -> i64 {
    let after = table.partition_point(|step| step.from_price <= price);
    match after.checked_sub(1).and_then(|place| table.get(place)) {
        Some(step) => step.increment,
        None => 1,
    }
}

/// Checks a table of new terms.
pub(super) fn check(table: &[IncrementStep]) -> Result<(), Refusal> {
    let invalid = |what: String| Err(Refusal::Invalid(format!("increments: {what}")));
    if table.is_empty() || table.len() > INCREMENT_STEPS_MAX {
        return invalid(format!("between 1 and {INCREMENT_STEPS_MAX} steps"));
    }
    if table[0].from_price != 0 {
        return invalid("the first step is from price 0".to_owned());
    }
    if table
        .windows(2)
        .any(|pair| pair[0].from_price >= pair[1].from_price)
    {
        return invalid("steps ascend by price".to_owned());
    }
    let amounts = 1..=AMOUNT_MINOR_MAX;
    if table
        .iter()
        .any(|step| step.from_price > AMOUNT_MINOR_MAX || !amounts.contains(&step.increment))
    {
        return invalid("an increment is at least 1 and an amount is not too large".to_owned());
    }
    Ok(())
}
