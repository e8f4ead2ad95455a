//! Checks a waiting room's order from what is published, as anybody can.
//!
//! ```text
//!   GET …/waiting-room        commitment, secret, entropy, seed, digest of the list
//!   GET …/waiting-room/order  number, pseudonym, rank of every early entry
//! ```
//!
//! `docs/waiting-room/verify_order.py` does the same without any code of this project.

use processing_unit::waiting_room::lottery;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::api::Api;

/// How a room stands, as far as commands need it.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the fields of the protocol")]
pub(crate) struct Room {
    pub(crate) event_id: Uuid,
    pub(crate) phase: String,
    pub(crate) paused: bool,
    pub(crate) opens_at: String,
    pub(crate) rate_per_minute: u32,
    pub(crate) pass_seconds: u64,
    pub(crate) unsold: u32,
    pub(crate) entries: u32,
    pub(crate) early: u32,
    pub(crate) waiting: u32,
    pub(crate) next_rank: u32,
    pub(crate) passes_open: u32,
    pub(crate) passes_open_max: u32,
    pub(crate) admitted: u32,
    pub(crate) bought: u32,
    pub(crate) expired: u32,
    pub(crate) given_back: u32,
    pub(crate) left: u32,
    pub(crate) commitment: String,
    pub(crate) list_digest: String,
    pub(crate) entropy: Option<String>,
    pub(crate) secret: Option<String>,
    pub(crate) seed: Option<String>,
}

/// An early entry of the published list.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Row {
    /// In the order of joining.
    pub(crate) number: u32,
    /// The person's name in the list.
    pub(crate) pseudonym: String,
    /// The order of admission.
    pub(crate) rank: Option<u32>,
}

/// What came of checking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Proof {
    /// Whether everything agrees.
    pub(crate) ok: bool,
    /// Early entries that were checked.
    pub(crate) early: u32,
    /// Published before the first joined.
    pub(crate) commitment: String,
    /// Revealed at the opening.
    pub(crate) secret: String,
    /// Drawn when the list was sealed.
    pub(crate) entropy: String,
    /// What the order follows from.
    pub(crate) seed: String,
    /// What does not agree.
    pub(crate) wrong: Vec<String>,
}

impl Room {
    /// Reads a room.
    pub(crate) async fn read(api: &Api, event_id: &str) -> anyhow::Result<Self> {
        api.get(&format!("/v1/events/{event_id}/waiting-room"))
            .await
    }
}

/// Reads the list of the early ones.
pub(crate) async fn read_order(api: &Api, event_id: &str) -> anyhow::Result<Vec<Row>> {
    api.list(&format!("/v1/events/{event_id}/waiting-room/order"))
        .await
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex<const N: usize>(text: &str, what: &str) -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    let is_hex = text.len() == 2 * N && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    anyhow::ensure!(is_hex, "the {what} is not {N} bytes in hexadecimal digits");
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16)?;
    }
    Ok(bytes)
}

/// What is to be committed to for a secret in hexadecimal digits.
pub(crate) fn commitment(secret: &str) -> anyhow::Result<String> {
    Ok(hex(&lottery::commitment(&from_hex(secret, "secret")?)))
}

/// Checks the whole order. An error means that there is nothing to check yet.
pub(crate) fn verify(room: &Room, rows: &[Row]) -> anyhow::Result<Proof> {
    let (Some(secret), Some(entropy), Some(seed)) = (&room.secret, &room.entropy, &room.seed)
    else {
        anyhow::bail!(
            "the room is `{}`: the secret is revealed when it opens; committed to {}",
            room.phase,
            room.commitment
        );
    };
    let mut wrong = Vec::new();
    let secret_bytes = from_hex(secret, "secret")?;
    if hex(&lottery::commitment(&secret_bytes)) != room.commitment {
        wrong.push("the secret is not the one that was committed to".to_owned());
    }
    let mut digest = lottery::LIST_DIGEST_START;
    for (number, row) in (0..).zip(rows) {
        if row.number != number {
            wrong.push(format!("the list has no entry number {number}"));
            break;
        }
        digest = lottery::extended(&digest, &from_hex(&row.pseudonym, "pseudonym")?);
    }
    if hex(&digest) != room.list_digest {
        wrong.push("the list is not the one that was sealed".to_owned());
    }
    if rows.len() != room.early as usize {
        wrong.push(format!(
            "{} entries, {} were sealed",
            rows.len(),
            room.early
        ));
    }
    let entropy_bytes = from_hex(entropy, "entropy")?;
    let expected = lottery::seed(&secret_bytes, &entropy_bytes, &digest, room.event_id);
    if hex(&expected) != *seed {
        wrong.push("the seed does not follow from secret, entropy and list".to_owned());
    }
    let early = u32::try_from(rows.len())?;
    for (rank, number) in (0u32..).zip(lottery::order(&expected, early)) {
        let row = usize::try_from(number)
            .ok()
            .and_then(|place| rows.get(place));
        if row.and_then(|row| row.rank) != Some(rank) {
            wrong.push(format!(
                "rank {rank} is number {number}'s, and is not given so"
            ));
            break;
        }
    }
    Ok(Proof {
        ok: wrong.is_empty(),
        early,
        commitment: room.commitment.clone(),
        secret: secret.clone(),
        entropy: entropy.clone(),
        seed: seed.clone(),
        wrong,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Room, Vec<Row>) {
        let (secret, entropy, event) = ([1; 32], [2; 16], Uuid::from_u128(3));
        let names: Vec<[u8; 16]> = (0..20).map(|number| [number; 16]).collect();
        let digest = names
            .iter()
            .fold(lottery::LIST_DIGEST_START, |digest, name| {
                lottery::extended(&digest, name)
            });
        let seed = lottery::seed(&secret, &entropy, &digest, event);
        let order = lottery::order(&seed, 20);
        let rows = (0u32..20)
            .map(|number| Row {
                number,
                pseudonym: hex(&names[number as usize]),
                rank: order
                    .iter()
                    .position(|at| *at == number)
                    .and_then(|rank| u32::try_from(rank).ok()),
            })
            .collect();
        let room = serde_json::json!({
            "event_id": event, "phase": "open", "paused": false, "opens_at": "", "rate_per_minute": 1,
            "pass_seconds": 1, "unsold": 1, "entries": 20, "early": 20, "waiting": 20, "next_rank": 0,
            "passes_open": 0, "passes_open_max": 1, "admitted": 0, "bought": 0, "expired": 0,
            "given_back": 0, "left": 0, "commitment": hex(&lottery::commitment(&secret)),
            "list_digest": hex(&digest), "entropy": hex(&entropy), "secret": hex(&secret),
            "seed": hex(&seed),
        });
        (serde_json::from_value(room).expect("a room"), rows)
    }

    #[test]
    fn a_true_order_is_proven_and_every_change_is_found() {
        let (room, rows) = sample();
        assert_eq!(verify(&room, &rows).expect("open").wrong, [""; 0]);

        let mut swapped = rows.clone();
        let (first, second) = (swapped[0].rank, swapped[1].rank);
        (swapped[0].rank, swapped[1].rank) = (second, first);
        let mut renamed = rows.clone();
        renamed[4].pseudonym = hex(&[77; 16]);
        for changed in [&swapped[..], &renamed[..], &rows[..19], &rows[1..]] {
            assert!(!verify(&room, changed).expect("open").ok);
        }
        let mut other = room.clone();
        other.secret = Some(hex(&[9; 32]));
        assert!(!verify(&other, &rows).expect("open").ok);
        other.secret = None;
        assert!(verify(&other, &rows).is_err(), "nothing to check yet");
    }
}
