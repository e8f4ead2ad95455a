//! Ticket codes: a ticket's facts with an Ed25519 signature, as text for a QR code.
//!
//! A code is `base64url(version ‖ ticket id ‖ event id ‖ seat ‖ signature)`, the same for the same
//! ticket and key, and can be verified offline with the public key. The secret key never enters the
//! log: the grid stores tickets, the edge signs them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use uuid::Uuid;

/// The first byte of a code.
const CODE_VERSION: u8 = 1;
const SIGNATURE_BYTES: usize = 64;
const SEAT_START: usize = 1 + 16 + 16;

/// Signs ticket codes.
pub(crate) struct TicketSigner {
    key: SigningKey,
}

impl std::fmt::Debug for TicketSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TicketSigner")
    }
}

impl TicketSigner {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self {
            key: SigningKey::from_bytes(key),
        }
    }

    /// The key that verifies, 32 bytes in base64url.
    pub(crate) fn public_key(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.key.verifying_key().as_bytes())
    }

    /// Signs other bytes, which must not begin with [`CODE_VERSION`].
    pub(crate) fn sign(&self, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.key.sign(bytes).to_bytes()
    }

    /// Whether it was this key that signed.
    pub(crate) fn is_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.key.verifying_key().verify(bytes, &signature).is_ok())
    }

    /// The code of a ticket.
    pub(crate) fn code(&self, ticket_id: Uuid, event_id: Uuid, seat: &str) -> String {
        let mut bytes = Vec::with_capacity(SEAT_START + seat.len() + SIGNATURE_BYTES);
        bytes.push(CODE_VERSION);
        bytes.extend_from_slice(ticket_id.as_bytes());
        bytes.extend_from_slice(event_id.as_bytes());
        bytes.extend_from_slice(seat.as_bytes());
        let signature = self.key.sign(&bytes);
        bytes.extend_from_slice(&signature.to_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

/// What a valid ticket code says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedTicket {
    /// The ticket.
    pub ticket_id: Uuid,
    /// The event it admits to.
    pub event_id: Uuid,
    /// The seat's label.
    pub seat: String,
}

/// Reads a ticket code; `None` unless it was signed by the owner of `public_key`, the text that
/// `GET /v1/ticket-key` gives.
#[must_use]
pub fn verify_ticket_code(public_key: &str, code: &str) -> Option<VerifiedTicket> {
    let key: [u8; 32] = URL_SAFE_NO_PAD.decode(public_key).ok()?.try_into().ok()?;
    let key = VerifyingKey::from_bytes(&key).ok()?;
    let bytes = URL_SAFE_NO_PAD.decode(code).ok()?;
    let signed_len = bytes.len().checked_sub(SIGNATURE_BYTES)?;
    let (signed, signature) = bytes.split_at(signed_len);
    key.verify(signed, &Signature::from_slice(signature).ok()?)
        .ok()?;
    if signed.first() != Some(&CODE_VERSION) || signed.len() < SEAT_START {
        return None;
    }
    Some(VerifiedTicket {
        ticket_id: Uuid::from_slice(&signed[1..17]).ok()?,
        event_id: Uuid::from_slice(&signed[17..SEAT_START]).ok()?,
        seat: std::str::from_utf8(&signed[SEAT_START..]).ok()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_stable_and_verifies_only_under_its_key() {
        let signer = TicketSigner::new(&[7; 32]);
        let (ticket_id, event_id) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let code = signer.code(ticket_id, event_id, "A-1-12");
        assert_eq!(code, signer.code(ticket_id, event_id, "A-1-12"));
        assert_eq!(
            verify_ticket_code(&signer.public_key(), &code),
            Some(VerifiedTicket {
                ticket_id,
                event_id,
                seat: "A-1-12".to_owned()
            })
        );
        let stranger = TicketSigner::new(&[8; 32]);
        assert_eq!(verify_ticket_code(&stranger.public_key(), &code), None);
    }

    #[test]
    fn no_changed_or_cut_code_verifies() {
        let signer = TicketSigner::new(&[7; 32]);
        let code = signer.code(Uuid::from_u128(1), Uuid::from_u128(2), "A-1-12");
        let bytes = URL_SAFE_NO_PAD.decode(&code).expect("own text");
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            let changed = URL_SAFE_NO_PAD.encode(changed);
            assert_eq!(verify_ticket_code(&signer.public_key(), &changed), None);
            let cut = URL_SAFE_NO_PAD.encode(&bytes[..place]);
            assert_eq!(verify_ticket_code(&signer.public_key(), &cut), None);
        }
    }
}
