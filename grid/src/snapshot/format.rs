//! The bytes of a snapshot file.
//!
//! ```text
//!   magic │ frame(header) │ frame(section) … │ frame(end)      frame = length u32 │ crc32c u32 │ bytes
//! ```
//!
//! Every frame has a checksum of its own, so a file can be checked, and read, a piece at a time. What the
//! sections say is the state's business (see `grid_core::snapshot`).

use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use grid_core::codec::{self, CodecError};
use grid_core::snapshot::Restore;
use grid_core::{PartitionId, PartitionState, Space};
use serde::{Deserialize, Serialize};

use crate::platform::fs::File;
use crate::raft::SnapshotPosition;

const MAGIC: &[u8; 8] = b"SGSNAP\r\n";
/// The newest format that this build reads.
pub(crate) const FORMAT: u16 = 1;
/// The longest section; a longer one is damage.
const SECTION_BYTES_MAX: u32 = 256 << 20;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) format: u16,
    pub(crate) grid_id: u128,
    pub(crate) partition: PartitionId,
    pub(crate) position: SnapshotPosition,
}

/// An error that names the file.
pub(crate) fn damaged(path: &Path, what: impl std::fmt::Display) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{}: {what}", path.display()),
    )
}

/// A codec error as a sink's error.
pub(crate) struct SinkError(pub(crate) io::Error);

impl From<CodecError> for SinkError {
    fn from(error: CodecError) -> Self {
        Self(io::Error::new(
            io::ErrorKind::InvalidData,
            error.to_string(),
        ))
    }
}

/// Writes a length, a checksum and the bytes.
pub(crate) fn write_frame(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len())
        .ok()
        .filter(|length| *length <= SECTION_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::other("a section is too long for a snapshot"))?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&crc32c::crc32c(bytes).to_le_bytes())?;
    out.write_all(bytes)
}

/// Reads what [`write_frame`] wrote; `None` at the file's end.
pub(crate) fn read_frame(input: &mut impl Read, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut prefix = [0; 8];
    match input.read_exact(&mut prefix) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let [a, b, c, d, e, f, g, h] = prefix;
    let length = u32::from_le_bytes([a, b, c, d]);
    if length > SECTION_BYTES_MAX {
        return Err(damaged(path, "a section's length is impossible"));
    }
    let mut bytes = vec![0; length as usize];
    input.read_exact(&mut bytes)?;
    if crc32c::crc32c(&bytes) != u32::from_le_bytes([e, f, g, h]) {
        return Err(damaged(path, "a section's checksum is wrong"));
    }
    Ok(Some(bytes))
}

/// Writes what a file begins with.
pub(crate) fn write_header(out: &mut impl Write, header: &Header) -> io::Result<()> {
    out.write_all(MAGIC)?;
    let header = codec::encode(header).map_err(|error| io::Error::other(error.to_string()))?;
    write_frame(out, &header)
}

/// Opens a file and reads its header; the sections follow.
pub(crate) fn open(
    path: &Path,
    grid_id: u128,
    partition: PartitionId,
) -> io::Result<(Header, BufReader<File>)> {
    let mut input = BufReader::with_capacity(1 << 18, File::open(path)?);
    let header = read_header(&mut input, path, grid_id, partition)?;
    Ok((header, input))
}

/// Reads what a file begins with; `path` names it in errors.
fn read_header(
    input: &mut impl Read,
    path: &Path,
    grid_id: u128,
    partition: PartitionId,
) -> io::Result<Header> {
    let mut magic = [0; MAGIC.len()];
    input.read_exact(&mut magic)?;
    if &magic != MAGIC {
        return Err(damaged(path, "not a snapshot"));
    }
    let header = read_frame(input, path)?.ok_or_else(|| damaged(path, "no header"))?;
    let header: Header = codec::decode(&header).map_err(|error| damaged(path, error))?;
    if header.format > FORMAT {
        return Err(damaged(
            path,
            format!("format {} is newer than {FORMAT}", header.format),
        ));
    }
    if header.grid_id != grid_id || header.partition != partition {
        return Err(damaged(
            path,
            "the snapshot is of another grid or partition",
        ));
    }
    Ok(header)
}

/// Reads a whole snapshot.
///
/// # Errors
/// When it is damaged, of another grid or partition, or of a newer format.
pub(crate) fn restore<S: Space>(
    path: &Path,
    grid_id: u128,
    partition: PartitionId,
) -> io::Result<(PartitionState<S>, SnapshotPosition)> {
    let input = BufReader::with_capacity(1 << 18, File::open(path)?);
    restore_from(input, path, grid_id, partition)
}

/// Reads a whole snapshot from its bytes, wherever they are; `path` names it in errors.
///
/// # Errors
/// See [`restore`].
pub(crate) fn restore_from<S: Space>(
    mut input: impl Read,
    path: &Path,
    grid_id: u128,
    partition: PartitionId,
) -> io::Result<(PartitionState<S>, SnapshotPosition)> {
    let header = read_header(&mut input, path, grid_id, partition)?;
    let mut restore = Restore::<S>::default();
    while let Some(section) = read_frame(&mut input, path)? {
        restore
            .section(&section)
            .map_err(|error| damaged(path, error))?;
    }
    let state = restore.finish().map_err(|error| damaged(path, error))?;
    Ok((state, header.position))
}
