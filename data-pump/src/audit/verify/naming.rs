//! Names for facts that are gone: what they left in the tables that were made from them.

use sqlx::PgConnection;
use uuid::Uuid;

use super::finding::{Fault, Finding};

/// Findings that are looked up; each may read a table through.
const NAMED_MAX: usize = 4;

/// Says of the first facts that are gone what they were, where a bid or a ticket still tells.
pub(super) async fn name_missing(
    connection: &mut PgConnection,
    partition: i32,
    findings: &mut [Finding],
) -> Result<(), sqlx::Error> {
    let missing = findings
        .iter_mut()
        .filter(|finding| finding.fault == Fault::Missing)
        .take(NAMED_MAX);
    for finding in missing {
        let (log_index, seq) = finding.order;
        let found: Option<(String, Uuid)> = sqlx::query_as(
            "SELECT 'bid_placed', auction_id FROM bids JOIN auctions a USING (auction_id)
             WHERE a.partition = $1 AND log_index = $2 AND seq = $3
             UNION ALL
             SELECT 'seats_sold', event_id FROM tickets JOIN events e USING (event_id)
             WHERE e.partition = $1 AND log_index = $2 AND seq = $3
             LIMIT 1",
        )
        .bind(partition)
        .bind(log_index)
        .bind(seq)
        .fetch_optional(&mut *connection)
        .await?;
        if let Some((kind, entity)) = found {
            finding.kind = Some(kind);
            finding.entity = Some(entity);
        }
    }
    Ok(())
}
