//! Accepted means kept: a reply stands in the log, at the position it names, with the words that the
//! rules give there; and at the end the log that all replicas agree on reaches as far as anybody was
//! ever told.

use grid_core::Outcome;

use super::{Fact, Invariant};
use crate::history::History;

/// See the module.
pub(super) struct AcceptedIsKept;

impl Invariant for AcceptedIsKept {
    fn name(&self) -> &'static str {
        "accepted_is_kept"
    }

    fn check(&mut self, history: &History, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Executed {
                partition,
                key,
                executed,
                ..
            } => {
                let index = executed.position.index;
                let place = format!("partition {partition} key {:032x} at {index}", key.0);
                let log = history.get(*partition);
                let mut outcomes = log
                    .into_iter()
                    .flat_map(|log| log.outcomes_at(index, *key))
                    .peekable();
                let first = outcomes.peek().copied();
                let first = first
                    .ok_or_else(|| format!("{place} was acknowledged and is not in the log"))?;
                let said = Outcome::Reply {
                    reply: executed.reply.clone(),
                    replayed: executed.replayed,
                };
                if !outcomes.any(|outcome| *outcome == said) {
                    return Err(format!(
                        "{place}: the client was told {said:?}, the log says {first:?}"
                    ));
                }
            }
            Fact::Settled { standing } => {
                for replica in *standing {
                    let log = history.get(replica.partition);
                    let acknowledged = log.map_or(0, |log| log.acknowledged);
                    if replica.index < acknowledged {
                        return Err(format!(
                            "{replica:?} has not what was acknowledged up to {acknowledged}"
                        ));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}
