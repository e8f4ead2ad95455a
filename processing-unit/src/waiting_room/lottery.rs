//! The draw that orders the early ones, so that anybody can check it with SHA-256 alone.
//!
//! ```text
//!   commitment     = SHA-256("spacegrid room commitment" ‖ secret)                  published at creation
//!   pseudonym(u)   = first 16 bytes of SHA-256("spacegrid room pseudonym" ‖ salt ‖ event ‖ u)
//!   list digest    = D(n), D(0) = 32 zero bytes, D(k) = SHA-256(D(k-1) ‖ pseudonym of number k-1)
//!   seed           = SHA-256("spacegrid room seed" ‖ secret ‖ entropy ‖ list digest ‖ event)
//!   score(number)  = SHA-256("spacegrid room score" ‖ seed ‖ number as 4 bytes, big-endian)
//!   rank           = place of the entry when all early ones are sorted by (score, number)
//! ```
//!
//! Who could cheat, and why they cannot:
//! - *A buyer* knows neither the secret nor the entropy, and joining twice gives one place.
//! - *The host* has committed to the secret before the first joins; the entropy is drawn by the leader at the
//!   log entry that seals the list, after which nobody is added: no secret can be chosen to suit.
//! - *The leader* of the partition draws the entropy. With a secret that the host withholds, it does not know
//!   what the entropy will lead to, and with a kept one it does: a manipulated leader could then try numbers
//!   until it likes the order. Whoever does not trust the machines of the grid withholds the secret.
//! - *The host of a withheld secret* may not reveal it at all. Then nobody is admitted, for all to see.
//! - *Nobody* can add, drop or swap entries of the published list afterwards: the digest in the seed is over
//!   all of them, and each person knows their number and pseudonym from the moment of joining.
//!
//! The entropy is the leader's random number of that log entry, never used for anything before it is logged.
//! The kept secret and the salt come from the operating system of the gateway that made the room.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// A SHA-256.
pub type Digest = [u8; 32];
/// What the room's host or gateway chose at random.
pub type Secret = [u8; 32];
/// What the leader drew when the list was sealed.
pub type Entropy = [u8; 16];
/// A user in the published list of one room.
pub type Pseudonym = [u8; 16];

/// The digest of a list without entries.
pub const LIST_DIGEST_START: Digest = [0; 32];

fn hash(name: &str, parts: &[&[u8]]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(name.as_bytes());
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// What is published of a secret before it is used.
#[must_use]
pub fn commitment(secret: &Secret) -> Digest {
    hash("spacegrid room commitment", &[secret])
}

/// By what name a user stands in a room's published list.
#[must_use]
pub fn pseudonym(salt: &Secret, event: Uuid, user: Uuid) -> Pseudonym {
    let digest = hash(
        "spacegrid room pseudonym",
        &[salt, event.as_bytes(), user.as_bytes()],
    );
    let mut pseudonym = [0; 16];
    pseudonym.copy_from_slice(&digest[..16]);
    pseudonym
}

/// The digest of a list with one entry more.
#[must_use]
pub fn extended(list_digest: &Digest, pseudonym: &Pseudonym) -> Digest {
    hash("", &[list_digest, pseudonym])
}

/// What the order follows from.
#[must_use]
pub fn seed(secret: &Secret, entropy: &Entropy, list_digest: &Digest, event: Uuid) -> Digest {
    hash(
        "spacegrid room seed",
        &[secret, entropy, list_digest, event.as_bytes()],
    )
}

/// What an entry is sorted by.
#[must_use]
pub fn score(seed: &Digest, number: u32) -> Digest {
    hash("spacegrid room score", &[seed, &number.to_be_bytes()])
}

/// The numbers of so many early entries in the order of their ranks.
#[must_use]
pub fn order(seed: &Digest, early: u32) -> Vec<u32> {
    let mut scored: Vec<(Digest, u32)> = (0..early)
        .map(|number| (score(seed, number), number))
        .collect();
    scored.sort_unstable();
    scored.into_iter().map(|(_, number)| number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_gets_one_rank_and_another_seed_gives_another_order() {
        let first = order(&[1; 32], 1_000);
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..1_000));
        assert_ne!(first, order(&[2; 32], 1_000));
    }

    /// What Python's hashlib gives for the same input, so that a change of the formula is seen.
    #[test]
    fn the_formula_is_the_published_one() {
        let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
        let secret = [7; 32];
        let event = Uuid::from_u128(1);
        let name = pseudonym(&[9; 32], event, Uuid::from_u128(2));
        let list = extended(&LIST_DIGEST_START, &name);
        let seed = seed(&secret, &[3; 16], &list, event);
        assert_eq!(
            hex(&commitment(&secret)),
            "ecb62211ea0051aede9a8201264a92bb60fb6b038335b297d36ea55179ba9591"
        );
        assert_eq!(hex(&name), "fe88323aed9441b8f0d8f2a1987fc23b");
        assert_eq!(
            hex(&list),
            "e0e3c107c232378a764197c225e469b12eec872cdaba34066e783c92fc471aea"
        );
        assert_eq!(
            hex(&seed),
            "2731837b8dbf28b78365383b529434190a2a83ed347c7585bf82d966af7903ee"
        );
        assert_eq!(
            hex(&score(&seed, 5)),
            "3da474a4ce5e85d60cf7b9beb74c02f324ca414964ec19e34ef340aac8e33879"
        );
        assert_eq!(order(&seed, 6), [4, 1, 5, 2, 0, 3]);
    }
}
