//! Why there is no database, and what to do about it.

use std::path::PathBuf;

/// Why a database could not be provided.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// No URL was given and the machine has no PostgreSQL. Install one, or give a URL.
    #[error(
        "no PostgreSQL was found on this machine; install it (Debian, Ubuntu: apt install \
         postgresql), or give --database-url, or build with the feature embedded-postgres"
    )]
    NotInstalled,
    /// The URL cannot be read. Correct it.
    #[error("the database URL is wrong: {0}")]
    Url(String),
    /// The server is too old. Upgrade it.
    #[error("PostgreSQL {found} is too old; {minimum} or newer is needed")]
    TooOld {
        /// Its version.
        found: String,
        /// The oldest that will do.
        minimum: u32,
    },
    /// The cluster's files are of a major version that is not installed. Install it, or move the
    /// folder away to start with an empty database.
    #[error(
        "{} was made by PostgreSQL {needed}, installed: {installed}; install that version, or move \
         the folder away", .path.display()
    )]
    OtherVersion {
        /// The cluster's folder.
        path: PathBuf,
        /// The version that made it.
        needed: String,
        /// The versions found.
        installed: String,
    },
    /// Another server uses the folder. Stop it, or choose another data directory.
    #[error("process {pid} already runs PostgreSQL on {}", .path.display())]
    InUse {
        /// The cluster's folder.
        path: PathBuf,
        /// The other server.
        pid: u32,
    },
    /// PostgreSQL refuses to run as root, and no unprivileged user can reach the folder. Run as
    /// another user, or choose a data directory that others may enter.
    #[error(
        "PostgreSQL does not run as root, and neither the user `{user}` nor a user namespace can \
         write to {}; choose another data directory", .path.display()
    )]
    Unreachable {
        /// The cluster's folder.
        path: PathBuf,
        /// The user that was tried.
        user: String,
    },
    /// It did not start; the text holds the end of its log.
    #[error("PostgreSQL did not start: {0}")]
    Start(String),
    /// It did not stop by itself and was killed; the next start recovers.
    #[error("PostgreSQL did not stop in time and was killed")]
    Stop,
    /// It started but does not answer. Retry.
    #[error("the database does not answer: {0}")]
    NoAnswer(#[source] sqlx::Error),
    /// The operating system said no.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
}

impl DatabaseError {
    /// Whether trying again later may succeed without anybody's help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::NoAnswer(_) | Self::InUse { .. })
    }

    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
