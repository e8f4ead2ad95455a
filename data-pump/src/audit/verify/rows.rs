//! Facts as the database has them, beside the hashes that blocks have of them.
//!
//! A row that does not hash to what its block says is a *hole* at its place, and a *stray*: its content
//! may belong elsewhere. After all blocks, strays are tried in holes, which tells rows that were swapped
//! or moved from rows that were edited.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use processing_unit::Change;
use sqlx::PgConnection;
use uuid::Uuid;

use super::finding::{Fault, Finding, Findings};
use crate::audit::canonical::canonical_json;
use crate::audit::fact::Fact;
use crate::audit::hash::Hash;
use crate::audit::tables::Micros;
use crate::pump::planner::kind_and_entity;

/// Holes and strays that are kept for comparing with each other.
const KEPT_MAX: usize = 64;
const US_PER_MS: i64 = 1_000;

/// A fact's place: log index, and number among its entry's changes.
pub(super) type Place = (i64, i32);

/// A row of `changes`, or a change that is parked.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Row {
    log_index: i64,
    seq: i32,
    at: Micros,
    kind: String,
    entity: Uuid,
    payload: String,
}

impl Row {
    fn place(&self) -> Place {
        (self.log_index, self.seq)
    }

    /// Its hash at a place, with its own payload in canonical form; `None` if it can be none.
    fn leaf_at(&self, partition: i32, place: Place, payload: &str) -> Option<Hash> {
        let at_ms = (self.at.0 % US_PER_MS == 0).then_some(self.at.0 / US_PER_MS)?;
        let fact = Fact {
            partition,
            log_index: place.0,
            seq: place.1,
            at_ms,
            kind: &self.kind,
            entity: self.entity,
            payload,
        };
        Some(fact.leaf())
    }

    fn leaf(&self, partition: i32) -> Option<Hash> {
        self.leaf_at(partition, self.place(), &canonical_json(&self.payload)?)
    }
}

/// A fact that is not where a block says, or not as.
#[derive(Debug)]
struct Hole {
    place: Place,
    leaf: Hash,
    /// What is there instead.
    found: Option<Row>,
}

/// What a run of facts came to.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// Facts that are as they were written.
    pub(super) facts: u64,
    /// Of those, facts that are parked or were dropped from there.
    pub(super) parked: u64,
    /// Facts that are gone for their age.
    pub(super) expired: u64,
}

/// Compares rows with hashes, for one partition.
#[derive(Debug)]
pub(super) struct Comparison {
    partition: i32,
    /// Facts up to this index may be gone.
    expired_index: i64,
    /// Whether there are parked changes at all.
    has_parked: bool,
    holes: Vec<Hole>,
    strays: Vec<Row>,
    pub(super) compared: Compared,
}

impl Comparison {
    pub(super) fn new(partition: i32, expired_index: i64, has_parked: bool) -> Self {
        Self {
            partition,
            expired_index,
            has_parked,
            holes: Vec::new(),
            strays: Vec::new(),
            compared: Compared::default(),
        }
    }

    /// Compares the rows with an index above `after`, up to `upto`, with what must be there.
    pub(super) async fn compare(
        &mut self,
        connection: &mut PgConnection,
        (after, upto): (i64, i64),
        expected: &[(Place, Hash)],
        findings: &mut Findings,
    ) -> Result<(), sqlx::Error> {
        let parked = match self.has_parked {
            true => parked(connection, self.partition, (after, upto)).await?,
            false => BTreeMap::new(),
        };
        let mut rows = sqlx::query_as::<_, Row>(
            "SELECT log_index, seq, at, kind, entity, payload::text AS payload FROM changes
             WHERE partition = $1 AND log_index > $2 AND log_index <= $3
             ORDER BY log_index, seq",
        )
        .bind(self.partition)
        .bind(after)
        .bind(upto)
        .fetch(connection);
        let mut expected = expected.iter().peekable();
        while let Some(row) = rows.try_next().await? {
            while let Some((place, leaf)) = expected.next_if(|(place, _)| *place < row.place()) {
                self.absent(*place, *leaf, &parked);
            }
            match expected.next_if(|(place, _)| *place == row.place()) {
                Some((_, leaf)) if row.leaf(self.partition) == Some(*leaf) => {
                    self.compared.facts += 1
                }
                Some((place, leaf)) => {
                    let hole = Hole {
                        place: *place,
                        leaf: *leaf,
                        found: Some(row),
                    };
                    self.keep_hole(hole, findings);
                }
                None => self.keep_stray(row, findings),
            }
        }
        for (place, leaf) in expected {
            self.absent(*place, *leaf, &parked);
        }
        // What is too much to keep was told at once.
        self.spill(findings);
        Ok(())
    }

    fn absent(&mut self, place: Place, leaf: Hash, parked: &BTreeMap<Place, Row>) {
        match parked.get(&place) {
            Some(row) if row.leaf(self.partition) == Some(leaf) => {
                self.compared.facts += 1;
                self.compared.parked += 1;
            }
            found => {
                if found.is_none() && place.0 <= self.expired_index {
                    self.compared.expired += 1;
                    return;
                }
                self.holes.push(Hole {
                    place,
                    leaf,
                    found: found.cloned(),
                });
            }
        }
    }

    fn keep_hole(&mut self, hole: Hole, findings: &mut Findings) {
        if self.holes.len() < KEPT_MAX {
            self.holes.push(hole);
        } else {
            let finding = self.alone(&hole);
            findings.push(finding);
        }
    }

    fn keep_stray(&mut self, row: Row, findings: &mut Findings) {
        if self.strays.len() < KEPT_MAX {
            self.strays.push(row);
        } else {
            findings.push(self.added(&row));
        }
    }

    /// Tells the holes beyond what is kept; many may be missing in a row.
    fn spill(&mut self, findings: &mut Findings) {
        if self.holes.len() > KEPT_MAX {
            for hole in self.holes.split_off(KEPT_MAX) {
                findings.push(self.alone(&hole));
            }
        }
    }

    /// Tells what holes and strays are.
    pub(super) fn finish(mut self, findings: &mut Findings) -> Compared {
        let strays = std::mem::take(&mut self.strays);
        let mut is_explained = vec![false; strays.len()];
        for hole in &self.holes {
            let moved = strays.iter().position(|row| self.fills(row, hole));
            if let Some(number) = moved {
                is_explained[number] = true;
            }
            let from = moved.map(|number| &strays[number]).or_else(|| {
                let others = self.holes.iter().filter(|other| other.place != hole.place);
                let mut rows = others.filter_map(|other| other.found.as_ref());
                rows.find(|row| self.fills(row, hole))
            });
            findings.push(match from {
                Some(row) => self.reordered(hole, row),
                None => self.alone(hole),
            });
        }
        for (row, is_explained) in strays.iter().zip(is_explained) {
            if !is_explained {
                findings.push(self.added(row));
            }
        }
        self.compared
    }

    /// Whether a hole is filled by what another row holds: all of it, or all but what the row at the
    /// hole's place has of its own.
    fn fills(&self, row: &Row, hole: &Hole) -> bool {
        let Some(payload) = canonical_json(&row.payload) else {
            return false;
        };
        let mut tries = vec![row.clone()];
        if let Some(found) = &hole.found {
            tries.push(Row {
                at: found.at,
                ..row.clone()
            });
            tries.push(found.clone());
        }
        tries
            .iter()
            .any(|row| row.leaf_at(self.partition, hole.place, &payload) == Some(hole.leaf))
    }

    fn finding(&self, fault: Fault, place: Place, row: Option<&Row>, detail: String) -> Finding {
        Finding {
            fault,
            place: Some(format!("{}:{}:{}", self.partition, place.0, place.1)),
            kind: row.map(|row| row.kind.clone()),
            entity: row.map(|row| row.entity),
            detail,
            order: place,
        }
    }

    fn alone(&self, hole: &Hole) -> Finding {
        match &hole.found {
            Some(row) => {
                let detail = self.what_differs(row, &hole.leaf);
                self.finding(Fault::Altered, hole.place, Some(row), detail)
            }
            None => {
                let detail =
                    "the row is neither in changes nor among the parked changes".to_owned();
                self.finding(Fault::Missing, hole.place, None, detail)
            }
        }
    }

    fn added(&self, row: &Row) -> Finding {
        let detail = "no block has a row at this place".to_owned();
        self.finding(Fault::Added, row.place(), Some(row), detail)
    }

    fn reordered(&self, hole: &Hole, row: &Row) -> Finding {
        let (index, seq) = row.place();
        let detail = format!(
            "what belongs here is at {}:{index}:{seq}, a {} of {}",
            self.partition, row.kind, row.entity
        );
        let here = hole.found.as_ref().unwrap_or(row);
        self.finding(Fault::Reordered, hole.place, Some(here), detail)
    }

    /// Which column it is, as far as that can be had: the payload says kind and entity once more.
    fn what_differs(&self, row: &Row, leaf: &Hash) -> String {
        if row.at.0 % US_PER_MS != 0 {
            return "column at has fractions of a millisecond".to_owned();
        }
        let Some(payload) = canonical_json(&row.payload) else {
            return "column payload is not what the pump writes".to_owned();
        };
        let Ok(change) = serde_json::from_str::<Change>(&row.payload) else {
            return "column payload is no change that this build knows".to_owned();
        };
        let (kind, entity) = kind_and_entity(&change);
        let mended = Row {
            kind: kind.to_owned(),
            entity,
            ..row.clone()
        };
        if mended.leaf_at(self.partition, row.place(), &payload) != Some(*leaf) {
            return "column payload or at".to_owned();
        }
        match (row.kind == kind, row.entity == entity) {
            (false, true) => format!("column kind, which was {kind}"),
            (true, _) => format!("column entity, which was {entity}"),
            (false, false) => format!("columns kind and entity, which were {kind} and {entity}"),
        }
    }
}

/// Parked changes, and those that were dropped from there, by their places.
async fn parked(
    connection: &mut PgConnection,
    partition: i32,
    (after, upto): (i64, i64),
) -> Result<BTreeMap<Place, Row>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT log_index, seq, at, kind, entity, payload FROM dead_letter
         WHERE partition = $1 AND log_index > $2 AND log_index <= $3
               AND reason IN ('rejected', 'behind')
         UNION ALL
         SELECT log_index, seq, at, kind, entity, payload FROM dead_letter_dropped
         WHERE partition = $1 AND log_index > $2 AND log_index <= $3",
    )
    .bind(partition)
    .bind(after)
    .bind(upto)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.place(), row)).collect())
}
