//! Where the admin token comes from.
//!
//! ```text
//!   a command: --admin-token-file, else SPACEGRID_ADMIN_TOKEN, else admin.token of the data directory
//!   a node:    the same with its setting gateway.admin_token_file before the data directory, where a
//!              token is made when there is none
//! ```

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use gateway::AdminToken;

use crate::data_dir::DataDir;
use crate::failure::Failure;

/// The environment's variable with the token itself.
pub(crate) const VARIABLE: &str = "SPACEGRID_ADMIN_TOKEN";
/// Permission bits of a file that others than its owner may read.
const READABLE_BY_OTHERS: u32 = 0o077;

/// The token in a file that was named.
pub(crate) fn from_file(path: &Path) -> anyhow::Result<AdminToken> {
    let unusable = |why: String| Failure::Usage(format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    if let Ok(found) = std::fs::metadata(path)
        && found.permissions().mode() & READABLE_BY_OTHERS != 0
    {
        tracing::warn!(
            path = %path.display(),
            "others may read the admin token; make the file its owner's with chmod 600"
        );
    }
    AdminToken::parse(&text).map_err(|error| unusable(error.to_string()).into())
}

/// The token of the environment, if it has one.
pub(crate) fn from_environment() -> anyhow::Result<Option<AdminToken>> {
    match std::env::var(VARIABLE) {
        Ok(text) if !text.is_empty() => AdminToken::parse(&text)
            .map(Some)
            .map_err(|error| Failure::Usage(format!("{VARIABLE}: {error}")).into()),
        _ => Ok(None),
    }
}

/// A node's token, made in its directory when nothing else is said.
pub(crate) fn of_node(
    flag: Option<&Path>,
    setting: Option<&Path>,
    directory: &Path,
) -> anyhow::Result<AdminToken> {
    if let Some(path) = flag {
        return from_file(path);
    }
    if let Some(token) = from_environment()? {
        return Ok(token);
    }
    match setting {
        Some(path) => from_file(path),
        None => DataDir::new(directory.to_owned()).admin_token(),
    }
}
