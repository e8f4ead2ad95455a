//! Passes: that a person was admitted to an event's sale until some time, signed with the grid's ticket key.
//!
//! A pass is `base64url(version ‖ event id ‖ user id ‖ end in ms, 8 bytes big-endian ‖ Ed25519 signature)`, the
//! same on every gateway, and can be verified offline with the key of `GET /v1/ticket-key`. Its version tells
//! it from a ticket's code, which is signed with the same key.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grid_core::Timestamp;
use uuid::Uuid;

use crate::tickets::TicketSigner;

/// The first byte of a pass; ticket codes have another.
const PASS_VERSION: u8 = 2;
const SIGNED_BYTES: usize = 1 + 16 + 16 + 8;

fn signed(event_id: Uuid, user: Uuid, expires_at: Timestamp) -> [u8; SIGNED_BYTES] {
    let mut bytes = [0; SIGNED_BYTES];
    bytes[0] = PASS_VERSION;
    bytes[1..17].copy_from_slice(event_id.as_bytes());
    bytes[17..33].copy_from_slice(user.as_bytes());
    bytes[33..].copy_from_slice(&expires_at.as_millis().to_be_bytes());
    bytes
}

/// The pass of a person who has been admitted.
pub(super) fn issue(
    signer: &TicketSigner,
    event_id: Uuid,
    user: Uuid,
    expires_at: Timestamp,
) -> String {
    let mut bytes = signed(event_id, user, expires_at).to_vec();
    bytes.extend_from_slice(&signer.sign(&bytes));
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Why a pass is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPass {
    /// Not signed by this grid, or for another person or event.
    Foreign,
    Expired,
}

/// Checks that this is a pass of this person for this event, and not over.
pub(super) fn check(
    signer: &TicketSigner,
    text: &str,
    event_id: Uuid,
    user: Uuid,
    now: Timestamp,
) -> Result<(), NoPass> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NoPass::Foreign)?;
    let (body, signature) = bytes
        .split_at_checked(SIGNED_BYTES)
        .ok_or(NoPass::Foreign)?;
    let end = body[33..].try_into().map_err(|_| NoPass::Foreign)?;
    let expires_at = Timestamp::from_millis(u64::from_be_bytes(end));
    if body != signed(event_id, user, expires_at) || !signer.is_signed(body, signature) {
        return Err(NoPass::Foreign);
    }
    if expires_at <= now {
        return Err(NoPass::Expired);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: Uuid = Uuid::from_u128(1);
    const ANNA: Uuid = Uuid::from_u128(2);

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn a_pass_serves_its_person_its_event_and_its_time() {
        let signer = TicketSigner::new(&[7; 32]);
        let pass = issue(&signer, EVENT, ANNA, at(1_000));
        let check = |event, user, now| check(&signer, &pass, event, user, at(now));
        assert_eq!(check(EVENT, ANNA, 999), Ok(()));
        assert_eq!(check(EVENT, ANNA, 1_000), Err(NoPass::Expired));
        assert_eq!(check(EVENT, EVENT, 999), Err(NoPass::Foreign));
        assert_eq!(check(ANNA, ANNA, 999), Err(NoPass::Foreign));
        let stranger = TicketSigner::new(&[8; 32]);
        let other = super::check(&stranger, &pass, EVENT, ANNA, at(1));
        assert_eq!(other, Err(NoPass::Foreign));
    }

    #[test]
    fn no_changed_or_cut_pass_serves() {
        let signer = TicketSigner::new(&[7; 32]);
        let pass = issue(&signer, EVENT, ANNA, at(1_000));
        let bytes = URL_SAFE_NO_PAD.decode(&pass).expect("own text");
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            for forged in [&changed[..], &bytes[..place]] {
                let forged = URL_SAFE_NO_PAD.encode(forged);
                let checked = check(&signer, &forged, EVENT, ANNA, at(1));
                assert_eq!(checked, Err(NoPass::Foreign), "byte {place}");
            }
        }
        assert_eq!(
            check(&signer, "no pass", EVENT, ANNA, at(1)),
            Err(NoPass::Foreign)
        );
    }
}
