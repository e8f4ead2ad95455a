//! A block: consecutive log entries as the bytes of one row.
//!
//! ```text
//!   format u8 │ length u32 │ crc32c u32 │ zstd( entry … )          entry = varint │ bytes
//! ```
//!
//! `length` is that of the entries before compression. The varint is 0 for an entry that carries nothing,
//! else one more than the length of the bytes that follow. The checksum covers the partition and the range
//! too, so that a row which was moved to another place is as damaged as one that was altered.
//!
//! zstd at its lowest level (see docs/decisions/0007).

use bytes::Bytes;
use grid::LoggedEntry;

/// The newest format, and the only one so far.
const FORMAT: u8 = 1;
/// Format, length, checksum.
const HEADER_BYTES: usize = 9;
/// The compression level.
const LEVEL: i32 = 1;
/// Entries are gathered in a block up to this many bytes; a single larger one still gets its own.
pub(crate) const BLOCK_ENTRY_BYTES: usize = 1 << 20;
/// The most entries in a block: those that carry nothing have no bytes to count.
pub(crate) const BLOCK_ENTRIES_MAX: u64 = 4_096;
/// What a block may be decompressed to; more is damage.
const RAW_BYTES_MAX: usize = 128 << 20;
/// The longest varint.
const VARINT_BYTES_MAX: u32 = 5;

/// Why bytes are not the block that they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// A newer build wrote it. Use that build.
    #[error("its format is {0}, this build reads up to {FORMAT}; use a newer build")]
    NewerFormat(u8),
    /// It was altered, cut, or moved to another place.
    #[error("{0}")]
    Damaged(&'static str),
}

/// A range of one partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) partition: u32,
    pub(crate) first_index: u64,
    pub(crate) last_index: u64,
}

impl Range {
    fn checksum(self, length: [u8; 4], compressed: &[u8]) -> [u8; 4] {
        let mut crc = crc32c::crc32c(&self.partition.to_le_bytes());
        for index in [self.first_index, self.last_index] {
            crc = crc32c::crc32c_append(crc, &index.to_le_bytes());
        }
        crc = crc32c::crc32c_append(crc, &length);
        crc32c::crc32c_append(crc, compressed).to_le_bytes()
    }
}

fn put_varint(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_varint(input: &mut &[u8]) -> Option<u32> {
    let mut number = 0_u64;
    for place in 0..VARINT_BYTES_MAX {
        let (byte, rest) = input.split_first()?;
        *input = rest;
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return u32::try_from(number).ok();
        }
    }
    None
}

/// The bytes of a row; `None` for entries that no block can hold, which no log has.
pub(crate) fn encode(range: Range, entries: &[LoggedEntry]) -> Option<Vec<u8>> {
    let bytes: usize = entries.iter().map(bytes_of).sum();
    let mut raw = Vec::with_capacity(bytes + entries.len() * 2);
    for entry in entries {
        match &entry.payload {
            Some(payload) => {
                put_varint(&mut raw, u32::try_from(payload.len() + 1).ok()?);
                raw.extend_from_slice(payload);
            }
            None => raw.push(0),
        }
    }
    if raw.len() > RAW_BYTES_MAX {
        return None;
    }
    let length = u32::try_from(raw.len()).ok()?.to_le_bytes();
    let compressed = zstd::bulk::compress(&raw, LEVEL).ok()?;
    let mut block = Vec::with_capacity(HEADER_BYTES + compressed.len());
    block.push(FORMAT);
    block.extend_from_slice(&length);
    block.extend_from_slice(&range.checksum(length, &compressed));
    block.extend_from_slice(&compressed);
    Some(block)
}

/// Bytes of an entry as the log has it.
pub(crate) fn bytes_of(entry: &LoggedEntry) -> usize {
    entry.payload.as_ref().map_or(0, Bytes::len)
}

/// The entries of a row.
///
/// # Errors
/// See [`BlockError`].
pub(crate) fn decode(range: Range, block: &[u8]) -> Result<Vec<LoggedEntry>, BlockError> {
    let (header, compressed) = block
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or(BlockError::Damaged("it is cut off"))?;
    let [format, a, b, c, d, e, f, g, h] = *header;
    if format > FORMAT {
        return Err(BlockError::NewerFormat(format));
    }
    let length = [a, b, c, d];
    if format != FORMAT || range.checksum(length, compressed) != [e, f, g, h] {
        return Err(BlockError::Damaged("its checksum is wrong"));
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > RAW_BYTES_MAX {
        return Err(BlockError::Damaged("its length is impossible"));
    }
    let raw = zstd::bulk::decompress(compressed, length)
        .map_err(|_| BlockError::Damaged("it cannot be decompressed"))?;
    if raw.len() != length {
        return Err(BlockError::Damaged("its length is wrong"));
    }
    split(range, &Bytes::from(raw))
}

fn split(range: Range, raw: &Bytes) -> Result<Vec<LoggedEntry>, BlockError> {
    let mut rest: &[u8] = raw;
    let mut entries = Vec::new();
    for index in range.first_index..=range.last_index {
        let cut_off = BlockError::Damaged("its entries are cut off");
        let Some(number) = take_varint(&mut rest) else {
            return Err(cut_off);
        };
        let payload = match number.checked_sub(1) {
            Some(length) => {
                let (payload, after) = rest.split_at_checked(length as usize).ok_or(cut_off)?;
                rest = after;
                Some(raw.slice_ref(payload))
            }
            None => None,
        };
        entries.push(LoggedEntry { index, payload });
    }
    if rest.is_empty() {
        Ok(entries)
    } else {
        Err(BlockError::Damaged("bytes follow its last entry"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first_index: u64, entries: &[LoggedEntry]) -> Range {
        Range {
            partition: 3,
            first_index,
            last_index: first_index + entries.len() as u64 - 1,
        }
    }

    fn entries(first_index: u64) -> Vec<LoggedEntry> {
        let payloads = [
            None,
            Some(Bytes::new()),
            Some(Bytes::from_static(b"a hold")),
            None,
            Some(Bytes::from(vec![7; 300])),
            Some(Bytes::from(vec![9; 70_000])),
        ];
        (first_index..)
            .zip(payloads)
            .map(|(index, payload)| LoggedEntry { index, payload })
            .collect()
    }

    #[test]
    fn a_block_gives_back_what_it_was_made_of() {
        for first_index in [0, 1, u64::from(u32::MAX)] {
            let entries = entries(first_index);
            let range = range(first_index, &entries);
            let block = encode(range, &entries).expect("small");
            assert!(block.len() < 500, "{}", block.len());
            assert_eq!(decode(range, &block), Ok(entries));
        }
    }

    #[test]
    fn every_altered_bit_every_cut_and_every_move_is_damage() {
        let entries = entries(10);
        let range = range(10, &entries);
        let block = encode(range, &entries).expect("small");
        for at in 0..block.len() {
            let mut altered = block.clone();
            altered[at] ^= 1 << (at % 8);
            decode(range, &altered).expect_err("altered");
            decode(range, &block[..at]).expect_err("cut");
        }
        for moved in [
            Range {
                partition: 4,
                ..range
            },
            Range {
                first_index: 11,
                last_index: range.last_index + 1,
                ..range
            },
            Range {
                last_index: range.last_index - 1,
                ..range
            },
        ] {
            decode(moved, &block).expect_err("moved");
        }
        let mut newer = block;
        newer[0] = FORMAT + 1;
        assert_eq!(
            decode(range, &newer),
            Err(BlockError::NewerFormat(FORMAT + 1))
        );
    }

    #[test]
    fn numbers_of_any_length_come_back() {
        for number in [0, 1, 127, 128, 16_383, 16_384, u32::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            assert_eq!(take_varint(&mut bytes.as_slice()), Some(number));
            assert_eq!(take_varint(&mut &bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(take_varint(&mut [0xff; 6].as_slice()), None);
    }
}
