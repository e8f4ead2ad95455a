//! Why a command failed, and the exit code that says so.
//!
//! Everything that a person or script should tell apart is a [`Failure`]; whatever else goes wrong
//! travels as a plain `anyhow` error and ends with code 1.

/// The table in `grid --help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  a check failed, or the grid refused
  2  the command line or the configuration is wrong
  3  the grid cannot be reached
  4  an input file is wrong; nothing of it was applied
  5  the database cannot be used
  6  the data directory cannot be used (in use, of another or a newer grid)
  7  a node stopped by itself
  8  the node was removed from the grid: starting it again is of no use";

/// A failure with an exit code of its own. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The result, printed already, says what is wrong.
    #[error("the check failed")]
    Reported,
    /// The grid understood and said no.
    #[error("{message} ({code})")]
    Refused {
        /// The protocol's code.
        code: String,
        /// The protocol's text.
        message: String,
    },
    /// The command line or the configuration.
    #[error("{0}")]
    Usage(String),
    /// No gateway answered.
    #[error("{0}")]
    Unreachable(String),
    /// An input file, with every mistake in it.
    #[error("{0}")]
    BadInput(String),
    /// The database.
    #[error("{0}")]
    Database(String),
    /// The data directory.
    #[error("{0}")]
    DataDirectory(String),
    /// A node.
    #[error("{0}")]
    NodeStopped(String),
    /// A node that is a member no more.
    #[error("{0}")]
    NodeRemoved(String),
}

/// The exit code of a node that was removed from the grid.
pub(crate) const NODE_REMOVED: u8 = 8;

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Reported | Self::Refused { .. } => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
            Self::BadInput(_) => 4,
            Self::Database(_) => 5,
            Self::DataDirectory(_) => 6,
            Self::NodeStopped(_) => 7,
            Self::NodeRemoved(_) => NODE_REMOVED,
        }
    }

    fn kind(&self) -> &str {
        match self {
            Self::Reported => "check_failed",
            Self::Refused { code, .. } => code,
            Self::Usage(_) => "usage",
            Self::Unreachable(_) => "unreachable",
            Self::BadInput(_) => "bad_input",
            Self::Database(_) => "database",
            Self::DataDirectory(_) => "data_directory",
            Self::NodeStopped(_) => "node_stopped",
            Self::NodeRemoved(_) => "node_removed",
        }
    }
}

/// The exit code of an error.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    error
        .downcast_ref::<Failure>()
        .map_or(1, Failure::exit_code)
}

/// The error as a JSON document; `None` where the result itself was one.
pub(crate) fn document(error: &anyhow::Error) -> Option<serde_json::Value> {
    let kind = match error.downcast_ref::<Failure>() {
        Some(Failure::Reported) => return None,
        Some(failure) => failure.kind(),
        None => "failed",
    };
    Some(serde_json::json!({
        "error": {"code": kind, "message": format!("{error:#}"), "exit_code": exit_code(error)}
    }))
}
