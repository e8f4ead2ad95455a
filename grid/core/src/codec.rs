//! The one place that knows how values become bytes in the log, in snapshots and between nodes.
//!
//! bincode 2 with its standard configuration (little endian, variable-length integers). Every
//! container that is stored carries its own format version beside these bytes; the codec has none.
//! Byte strings must be marked `serde_bytes`, else they are encoded one element at a time.

use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned};

/// The longest value that is decoded, in bytes: a length prefix beyond it is treated as corruption
/// rather than as a request for memory.
pub const VALUE_BYTES_MAX: usize = 64 << 20;

/// Bytes that are not the value they should be. The caller must not go on with this input: from a
/// peer it ends the connection, from a disk it is corruption, from a log it stops the replica.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The bytes do not decode.
    #[error("cannot decode: {0}")]
    Decode(String),
    /// The value decoded, but bytes were left over.
    #[error("{0} bytes are left after the value")]
    Trailing(usize),
    /// The value cannot be encoded; only a type that serde cannot describe does this.
    #[error("cannot encode: {0}")]
    Encode(String),
    /// The container was written by another version of the format.
    #[error("format version {found}, this build reads {supported}")]
    Version {
        /// The version in the bytes.
        found: u16,
        /// The version this build reads.
        supported: u16,
    },
}

fn configuration() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<VALUE_BYTES_MAX>()
}

/// Encodes a value into a new buffer.
///
/// # Errors
/// [`CodecError::Encode`] when serde cannot describe the value.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    bincode::serde::encode_to_vec(value, configuration())
        .map_err(|error| CodecError::Encode(error.to_string()))
}

/// Appends a value's encoding to `out`.
///
/// # Errors
/// [`CodecError::Encode`] when serde cannot describe the value; `out` may then hold a partial value.
pub fn encode_into<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    bincode::serde::encode_into_std_write(value, out, configuration())
        .map(|_| ())
        .map_err(|error| CodecError::Encode(error.to_string()))
}

/// Decodes a value that takes up all of `bytes`.
///
/// # Errors
/// [`CodecError::Decode`] or [`CodecError::Trailing`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, used) = bincode::serde::decode_from_slice(bytes, configuration())
        .map_err(|error| CodecError::Decode(error.to_string()))?;
    match bytes.len() - used {
        0 => Ok(value),
        left => Err(CodecError::Trailing(left)),
    }
}

/// Decodes a value that borrows from `bytes` and takes up all of them.
///
/// # Errors
/// [`CodecError::Decode`] or [`CodecError::Trailing`].
pub fn decode_borrowed<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, CodecError> {
    let (value, used) = bincode::serde::borrow_decode_from_slice(bytes, configuration())
        .map_err(|error| CodecError::Decode(error.to_string()))?;
    match bytes.len() - used {
        0 => Ok(value),
        left => Err(CodecError::Trailing(left)),
    }
}

/// Decodes one value at the start of `bytes` and returns it with what follows.
///
/// # Errors
/// [`CodecError::Decode`].
pub fn decode_prefix<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), CodecError> {
    let (value, used) = bincode::serde::decode_from_slice(bytes, configuration())
        .map_err(|error| CodecError::Decode(error.to_string()))?;
    Ok((value, &bytes[used..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_length_is_refused_without_allocating_it() {
        let mut bytes = vec![0xfd];
        bytes.extend_from_slice(&u64::MAX.to_le_bytes());
        assert!(decode::<Vec<u8>>(&bytes).is_err());
    }

    #[test]
    fn left_over_bytes_are_an_error() {
        let mut bytes = encode(&7u32).expect("plain value");
        bytes.push(0);
        assert!(matches!(
            decode::<u32>(&bytes),
            Err(CodecError::Trailing(1))
        ));
    }
}
