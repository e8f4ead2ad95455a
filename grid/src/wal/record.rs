//! The bytes of a record.
//!
//! ```text
//!   length u32 │ crc32c u32 │ number u64 │ synced u64 │ kind u8 │ group u32 │ body … │ zeros to 8 bytes
//! ```
//!
//! Little endian. `length` counts from `number` to the end of the body; the checksum covers the
//! segment's salt, the length and those bytes. `number` runs over the whole log without gaps;
//! `synced` is the highest number known to be synced when this record was laid out.

use bytes::{Buf, BufMut, Bytes};

use super::WalEntry;

/// Before the body, the length field included.
pub(super) const HEADER_BYTES: usize = 29;
const LENGTH_AND_CRC_BYTES: usize = 8;
/// Records begin at multiples of this.
pub(super) const ALIGNMENT: usize = 8;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Entries,
    TruncateAfter,
    Vote,
    Committed,
    PurgeTo,
    /// What a checkpoint said in an earlier build, before there were floors.
    CheckpointWithoutFloors,
    /// Every group's vote, committed position, purge mark and floor, at a segment's beginning.
    Checkpoint,
    /// The group is held here no more; nothing before counts but what the body says.
    Forget,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Entries => 1,
            Self::TruncateAfter => 2,
            Self::Vote => 3,
            Self::Committed => 4,
            Self::PurgeTo => 5,
            Self::CheckpointWithoutFloors => 6,
            Self::Forget => 7,
            Self::Checkpoint => 8,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Entries,
            2 => Self::TruncateAfter,
            3 => Self::Vote,
            4 => Self::Committed,
            5 => Self::PurgeTo,
            6 => Self::CheckpointWithoutFloors,
            7 => Self::Forget,
            8 => Self::Checkpoint,
            _ => return None,
        })
    }

    /// Whether somebody waits for it to be on disk.
    pub(super) fn needs_sync(self) -> bool {
        !matches!(self, Self::Committed)
    }
}

/// A record as it was read.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) number: u64,
    pub(super) synced: u64,
    pub(super) kind: Kind,
    pub(super) group: u32,
    pub(super) body: &'a [u8],
    /// From the record's beginning to the next one's.
    pub(super) span: usize,
}

fn checksum(salt: u64, covered: &[u8], length: u32) -> u32 {
    let crc = crc32c::crc32c(&salt.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &length.to_le_bytes());
    crc32c::crc32c_append(crc, covered)
}

/// How many bytes a record with such a body takes.
pub(super) fn span(body_bytes: usize) -> usize {
    (HEADER_BYTES + body_bytes).next_multiple_of(ALIGNMENT)
}

/// Lays a record out at the end of `out`.
pub(super) fn lay_out(
    out: &mut Vec<u8>,
    salt: u64,
    number: u64,
    synced: u64,
    (kind, group): (Kind, u32),
    body: &[u8],
) {
    let start = out.len();
    let length = (HEADER_BYTES - LENGTH_AND_CRC_BYTES + body.len()) as u32;
    out.put_u32_le(length);
    out.put_u32_le(0);
    out.put_u64_le(number);
    out.put_u64_le(synced);
    out.put_u8(kind.code());
    out.put_u32_le(group);
    out.put_slice(body);
    let crc = checksum(salt, &out[start + LENGTH_AND_CRC_BYTES..], length);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    out.resize(start + span(body.len()), 0);
}

/// What stands at the beginning of some bytes.
#[derive(Debug)]
pub(super) enum Read<'a> {
    /// A record.
    Record(Record<'a>),
    /// Zeros: nothing was written here.
    Nothing,
    /// Something else.
    Bad,
}

/// Reads the record at the beginning of `bytes`.
pub(super) fn read(bytes: &[u8], salt: u64) -> Read<'_> {
    if bytes.len() < HEADER_BYTES {
        return if bytes.iter().all(|byte| *byte == 0) {
            Read::Nothing
        } else {
            Read::Bad
        };
    }
    let mut header = &bytes[..HEADER_BYTES];
    let length = header.get_u32_le();
    let crc = header.get_u32_le();
    let number = header.get_u64_le();
    let synced = header.get_u64_le();
    let kind = header.get_u8();
    let group = header.get_u32_le();
    if length == 0 && crc == 0 && number == 0 {
        return Read::Nothing;
    }
    let end = LENGTH_AND_CRC_BYTES + length as usize;
    if end < HEADER_BYTES || end > bytes.len() {
        return Read::Bad;
    }
    if checksum(salt, &bytes[LENGTH_AND_CRC_BYTES..end], length) != crc {
        return Read::Bad;
    }
    let Some(kind) = Kind::from_code(kind) else {
        return Read::Bad;
    };
    let body = &bytes[HEADER_BYTES..end];
    let span = span(body.len());
    if bytes[end..].iter().take(span - end).any(|byte| *byte != 0) {
        return Read::Bad;
    }
    Read::Record(Record {
        number,
        synced,
        kind,
        group,
        body,
        span,
    })
}

/// How many bytes the record at the beginning of `bytes` takes by its own account, right or wrong.
pub(super) fn claimed_span(mut bytes: &[u8]) -> Option<u64> {
    if bytes.len() < LENGTH_AND_CRC_BYTES {
        return None;
    }
    let length = u64::from(bytes.get_u32_le());
    Some((LENGTH_AND_CRC_BYTES as u64 + length).next_multiple_of(ALIGNMENT as u64))
}

/// How many bytes an entry takes in an entries record.
pub(super) fn entry_bytes(entry: &WalEntry) -> usize {
    entry.meta.len() + entry.payload.len() + 5
}

/// Whether `bytes` begin like a record with a number after `number`; cheap, so that a search does not
/// compute a checksum at every offset.
pub(super) fn may_be_after(mut bytes: &[u8], number: u64) -> bool {
    if bytes.len() < HEADER_BYTES {
        return false;
    }
    let end = LENGTH_AND_CRC_BYTES + bytes.get_u32_le() as usize;
    bytes.advance(4);
    let (found, synced) = (bytes.get_u64_le(), bytes.get_u64_le());
    // A segment holds fewer records than bytes.
    let numbers = number + 1..number.saturating_add(1 << 32);
    end >= HEADER_BYTES && numbers.contains(&found) && synced < found
}

/// The body of an entries record: first index, count, then length-prefixed meta and payload each.
pub(super) fn encode_entries(entries: &[WalEntry]) -> Vec<u8> {
    let size: usize = entries.iter().map(entry_bytes).sum();
    let mut body = Vec::with_capacity(12 + size);
    body.put_u64_le(entries.first().map_or(0, |entry| entry.index));
    body.put_u32_le(entries.len() as u32);
    for entry in entries {
        body.put_u8(entry.meta.len() as u8);
        body.put_u32_le(entry.payload.len() as u32);
        body.put_slice(&entry.meta);
        body.put_slice(&entry.payload);
    }
    body
}

/// First index and count of an entries record's body.
pub(super) fn entries_range(mut body: &[u8]) -> Option<(u64, u32)> {
    (body.len() >= 12).then(|| (body.get_u64_le(), body.get_u32_le()))
}

/// Reads an entries record's body back.
pub(super) fn decode_entries(mut body: Bytes) -> Option<Vec<WalEntry>> {
    let (first, count) = entries_range(&body)?;
    body.advance(12);
    let mut entries = Vec::with_capacity(count.min(65_536) as usize);
    for place in 0..u64::from(count) {
        if body.len() < 5 {
            return None;
        }
        let meta = usize::from(body.get_u8());
        let payload = body.get_u32_le() as usize;
        if body.len() < meta.saturating_add(payload) {
            return None;
        }
        let meta = body.split_to(meta);
        let payload = body.split_to(payload);
        entries.push(WalEntry {
            index: first + place,
            meta,
            payload,
        });
    }
    body.is_empty().then_some(entries)
}

/// The body of a truncation: whether anything stays, and up to where.
pub(super) fn encode_truncate(last: Option<u64>) -> Vec<u8> {
    let mut body = vec![u8::from(last.is_some())];
    body.put_u64_le(last.unwrap_or(0));
    body
}

/// Reads it back.
pub(super) fn decode_truncate(mut body: &[u8]) -> Option<Option<u64>> {
    if body.len() != 9 {
        return None;
    }
    let some = body.get_u8() == 1;
    let last = body.get_u64_le();
    Some(some.then_some(last))
}

/// The body of a purge: the index and its entry's meta.
pub(super) fn encode_purge(index: u64, meta: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(8 + meta.len());
    body.put_u64_le(index);
    body.put_slice(meta);
    body
}

/// Reads it back.
pub(super) fn decode_purge(mut body: &[u8]) -> Option<(u64, Bytes)> {
    (body.len() >= 8).then(|| (body.get_u64_le(), Bytes::copy_from_slice(body)))
}
