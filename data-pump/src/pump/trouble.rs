//! What kind of trouble a lane has, for whoever must say what to do about it.

use serde::{Deserialize, Serialize};

use super::lane::LaneError;
use super::writer::WriteError;
use crate::schema::SchemaError;

/// A lane's trouble, as far as it decides what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaneTrouble {
    /// Nothing answers at the database's address, or it is starting or stopping. Start it.
    DatabaseUnreachable,
    /// The database answers and refuses: rights, schema, version. The text says which.
    DatabaseRefuses,
    /// The database holds another grid's data. Choose another database.
    ForeignDatabase,
    /// The log no longer reaches back to where the database is. It must be written anew.
    ResyncNeeded,
    /// The database has more than the grid: it is of a later time than the grid's data.
    DatabaseAhead,
    /// The tables are not as the pump made them, so that nothing can be written. Put them right.
    SchemaChanged,
    /// As many changes are parked as may be. Retry or drop them.
    TooManyParked,
    /// It passes by itself: another pump, a change of leadership, a deadlock.
    Passing,
}

fn of_sqlx(error: &sqlx::Error) -> LaneTrouble {
    match error {
        sqlx::Error::Database(error) => {
            // Class 08: connections; 57P: being shut down or started.
            let code = error.code().unwrap_or_default();
            if code.starts_with("08") || code.starts_with("57P") {
                LaneTrouble::DatabaseUnreachable
            } else if code.starts_with("40") || code.starts_with("55") || code == "57014" {
                // Deadlocks, locks, a statement that was cancelled or took too long.
                LaneTrouble::Passing
            } else {
                LaneTrouble::DatabaseRefuses
            }
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed => LaneTrouble::DatabaseUnreachable,
        _ => LaneTrouble::DatabaseRefuses,
    }
}

impl LaneTrouble {
    pub(super) fn of(error: &LaneError) -> Self {
        match error {
            LaneError::Write(WriteError::Database(error))
            | LaneError::Schema(SchemaError::Database(error)) => of_sqlx(error),
            LaneError::Write(WriteError::NoConnection { .. }) | LaneError::TimedOut => {
                Self::DatabaseUnreachable
            }
            LaneError::Write(WriteError::ForeignGrid { .. }) => Self::ForeignDatabase,
            LaneError::Schema(SchemaError::Migration(_) | SchemaError::TooOld { .. }) => {
                Self::DatabaseRefuses
            }
            LaneError::ResyncNeeded => Self::ResyncNeeded,
            LaneError::DatabaseAhead => Self::DatabaseAhead,
            LaneError::Write(WriteError::Schema { .. }) => Self::SchemaChanged,
            LaneError::Write(WriteError::TooManyParked { .. }) => Self::TooManyParked,
            LaneError::Write(
                WriteError::CheckpointMoved { .. }
                | WriteError::Deposed { .. }
                | WriteError::Paused { .. },
            )
            | LaneError::ReplicaStopped => Self::Passing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_away_is_told_from_one_that_needs_somebody() {
        let away = sqlx::Error::Io(std::io::ErrorKind::ConnectionRefused.into());
        let away = LaneError::Write(WriteError::Database(away));
        assert_eq!(LaneTrouble::of(&away), LaneTrouble::DatabaseUnreachable);
        assert_eq!(
            LaneTrouble::of(&LaneError::ResyncNeeded),
            LaneTrouble::ResyncNeeded
        );
        let odd = LaneError::Write(WriteError::Database(sqlx::Error::RowNotFound));
        assert_eq!(LaneTrouble::of(&odd), LaneTrouble::DatabaseRefuses);
    }
}
