//! `COPY`: the cheapest way into the log of changes, which is the largest part of what is written.
//!
//! A copy has no `ON CONFLICT`. None is needed: the fence lets a change be written once. Where a row is
//! there all the same, because somebody set a checkpoint back, the copy fails, and the writer tries again
//! with statements that leave such rows alone.
//!
//! The format is PostgreSQL's own binary one: a header, rows of fields with their lengths, and a trailer.

use sqlx::PgConnection;
use uuid::Uuid;

use super::super::rows::{ChangeRow, Millis};

/// Below this many rows the copy's second round trip costs more than it saves.
pub(super) const COPY_ROWS_MIN: usize = 64;
/// What is sent at a time.
const PIECE_BYTES: usize = 256 << 10;
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// PostgreSQL counts times from the beginning of 2000.
const EPOCH_2000_MS: Millis = 946_684_800_000;
/// The version byte before a `jsonb` text.
const JSONB_VERSION: u8 = 1;
const COLUMNS: i16 = 7;

/// Writes rows of the log of changes; fails where one is there.
pub(super) async fn changes(
    connection: &mut PgConnection,
    partition: i32,
    rows: &[ChangeRow],
) -> Result<u64, sqlx::Error> {
    let mut copy = connection
        .copy_in_raw(
            "COPY changes (partition, log_index, seq, at, kind, entity, payload)
             FROM STDIN (FORMAT binary)",
        )
        .await?;
    let mut out = Vec::with_capacity(PIECE_BYTES + 1_024);
    begin(&mut out);
    for row in rows {
        change(&mut out, partition, row);
        if out.len() >= PIECE_BYTES {
            copy.send(out.as_slice()).await?;
            out.clear();
        }
    }
    out.extend((-1_i16).to_be_bytes());
    copy.send(out.as_slice()).await?;
    copy.finish().await
}

fn begin(out: &mut Vec<u8>) {
    out.extend(SIGNATURE);
    // No flags, no header extension.
    out.extend([0; 8]);
}

fn change(out: &mut Vec<u8>, partition: i32, row: &ChangeRow) {
    out.extend(COLUMNS.to_be_bytes());
    field(out, &partition.to_be_bytes());
    field(out, &row.log_index.to_be_bytes());
    field(out, &row.seq.to_be_bytes());
    let since_2000_us = (row.at - EPOCH_2000_MS).saturating_mul(1_000);
    field(out, &since_2000_us.to_be_bytes());
    field(out, row.kind.as_bytes());
    let entity: &Uuid = &row.entity;
    field(out, entity.as_bytes());
    length(out, row.payload.len() + 1);
    out.push(JSONB_VERSION);
    out.extend(row.payload.as_bytes());
}

fn field(out: &mut Vec<u8>, bytes: &[u8]) {
    length(out, bytes.len());
    out.extend(bytes);
}

fn length(out: &mut Vec<u8>, bytes: usize) {
    // A gibibyte is the most that PostgreSQL takes; a longer one is refused there, and parked.
    out.extend(i32::try_from(bytes).unwrap_or(i32::MAX).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_seven_fields_with_their_lengths() {
        let row = ChangeRow {
            log_index: 7,
            seq: 2,
            at: EPOCH_2000_MS + 3,
            kind: "k",
            entity: Uuid::from_u128(9),
            payload: "{}".to_owned(),
        };
        let mut out = Vec::new();
        change(&mut out, 5, &row);
        let mut expected = vec![0, 7];
        expected.extend([0, 0, 0, 4, 0, 0, 0, 5]);
        expected.extend([0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7]);
        expected.extend([0, 0, 0, 4, 0, 0, 0, 2]);
        expected.extend([0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0x0b, 0xb8]);
        expected.extend([0, 0, 0, 1, b'k']);
        expected.extend([0, 0, 0, 16]);
        expected.extend(9_u128.to_be_bytes());
        expected.extend([0, 0, 0, 3, 1, b'{', b'}']);
        assert_eq!(out, expected);
    }
}
