//! Reading files for `grid import`. Pure: text in, request bodies or every mistake out.

mod located;
pub(crate) mod lots;
pub(crate) mod venue;

use std::fmt;
use std::path::Path;

use crate::failure::Failure;

/// The largest file that is read, in bytes; the gateway takes no larger body.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Something wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// From 1.
    pub(crate) line: u64,
    /// From 1, where it is known.
    pub(crate) column: Option<u64>,
    /// What it is about, such as `sections[2].price` or a column's name.
    pub(crate) place: String,
    /// What is wrong and what would be right.
    pub(crate) reason: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        if let Some(column) = self.column {
            write!(f, ", column {column}")?;
        }
        if !self.place.is_empty() {
            write!(f, ", {}", self.place)?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// Reads a text file.
pub(crate) fn read_file(path: &Path) -> anyhow::Result<String> {
    let wrong = |why: String| Failure::BadInput(format!("{}: {why}", path.display()));
    let length = std::fs::metadata(path)
        .map_err(|error| wrong(error.to_string()))?
        .len();
    if length > FILE_BYTES_MAX {
        return Err(wrong(format!("larger than {} MiB", FILE_BYTES_MAX >> 20)).into());
    }
    let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..at]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        wrong(format!("line {line}: not UTF-8"))
    })?;
    Ok(text
        .strip_prefix('\u{feff}')
        .map(str::to_owned)
        .unwrap_or(text))
}

/// Tells files apart by their content: 16 hexadecimal digits.
pub(crate) fn file_id(text: &str) -> String {
    blake3::hash(text.as_bytes())
        .to_hex()
        .chars()
        .take(16)
        .collect()
}
