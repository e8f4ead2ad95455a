//! What a database's refusal means for the change that met it: wait, set it aside, or stop.
//!
//! | SQLSTATE | meaning | what the pump does |
//! |---|---|---|
//! | 22, 23, 44, 54, P0 | the data: out of range, a constraint, a view's check, a size, a trigger's `RAISE` | parks the entity |
//! | 42, 3F, 3D, 0A, 28 | the schema or the rights: a column, a table, a privilege | stops the lane |
//! | anything else, and no answer | the moment: connection, deadlock, disk full, read-only, shutdown | tries again |
//!
//! A schema that is not as the pump made it refuses every change alike. Parking them all would empty the
//! log into a table that nobody can use, so the lane stops instead: the log is the better queue, nothing
//! is lost, and the lane goes on by itself when the schema is put right.

/// Classes that refuse the data itself, now and for ever.
const DATA_CLASSES: [&str; 5] = ["22", "23", "44", "54", "P0"];
/// Classes that refuse the statement, whatever the data.
const SCHEMA_CLASSES: [&str; 5] = ["42", "3F", "3D", "0A", "28"];

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may pass: open anew after a pause.
    Retry,
    /// It is this change's own fault: park it.
    Park,
    /// Every change would meet it: stop until somebody has put it right.
    Stop,
}

/// The SQLSTATE that came with an error, if the database sent one.
pub(super) fn sqlstate(error: &sqlx::Error) -> Option<String> {
    match error {
        sqlx::Error::Database(error) => error.code().map(std::borrow::Cow::into_owned),
        _ => None,
    }
}

/// Decides about an error.
pub(super) fn judge(error: &sqlx::Error) -> Verdict {
    match error {
        sqlx::Error::Database(_) => {
            sqlstate(error).map_or(Verdict::Retry, |code| judge_code(&code))
        }
        // A value that has no form on the wire.
        sqlx::Error::Encode(_) => Verdict::Park,
        _ => Verdict::Retry,
    }
}

fn judge_code(code: &str) -> Verdict {
    let is_of = |classes: &[&str]| classes.iter().any(|class| code.starts_with(class));
    if is_of(&DATA_CLASSES) {
        Verdict::Park
    } else if is_of(&SCHEMA_CLASSES) {
        Verdict::Stop
    } else {
        Verdict::Retry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_its_verdict() {
        for (verdict, codes) in [
            // Out of range, NUL in JSON, bad text; unique, check, not null; view check; size; RAISE.
            (
                Verdict::Park,
                &[
                    "22003", "22P05", "22021", "23505", "23514", "23502", "44000", "54000", "P0001",
                ] as &[&str],
            ),
            // Column, table, right; schema; feature.
            (
                Verdict::Stop,
                &["42703", "42P01", "42501", "3F000", "0A000", "28000"],
            ),
            // Connection, read-only, serialization, deadlock, disk, memory, connections, lock, cancel,
            // shutdown, start, I/O, internal.
            (
                Verdict::Retry,
                &[
                    "08006", "25006", "40001", "40P01", "53100", "53200", "53300", "55P03",
                    "57014", "57P01", "57P03", "58030", "XX000",
                ],
            ),
        ] {
            for code in codes {
                assert_eq!(judge_code(code), verdict, "{code}");
            }
        }
        assert_eq!(judge(&sqlx::Error::PoolTimedOut), Verdict::Retry);
    }
}
