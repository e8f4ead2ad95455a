//! Lists over all partitions: asked at once, merged by id.

use futures_util::future::try_join_all;
use grid::Read;
use grid_core::{Cursor, PartitionId};
use processing_unit::{auction, box_office};
use uuid::Uuid;

use crate::failure::Failure;
use crate::protocol::view::Page;
use crate::state::Shared;

/// What `pick` takes of every partition's answer.
async fn gather<A, T, F>(
    shared: &Shared,
    ask: impl Fn(PartitionId) -> F,
    pick: impl Fn(A) -> Option<Vec<T>>,
) -> Result<Vec<T>, Failure>
where
    F: Future<Output = Result<(A, Cursor), Failure>>,
{
    let mut all = Vec::new();
    for (answer, _) in try_join_all(shared.layout.iter().map(ask)).await? {
        all.extend(pick(answer).ok_or_else(|| Failure::unexpected("a list was asked for"))?);
    }
    Ok(all)
}

/// Every partition's answer to an auction query.
pub(super) async fn ask_auctions<T>(
    shared: &Shared,
    query: auction::Query,
    pick: impl Fn(auction::Answer) -> Option<Vec<T>>,
) -> Result<Vec<T>, Failure> {
    let ask = |partition| shared.ask_auctions(partition, query.clone(), Read::Linearizable);
    gather(shared, ask, pick).await
}

/// Every partition's answer to a box-office query.
pub(super) async fn ask_box_office<T>(
    shared: &Shared,
    query: box_office::Query,
    pick: impl Fn(box_office::Answer) -> Option<Vec<T>>,
) -> Result<Vec<T>, Failure> {
    let ask = |partition| shared.ask_box_office(partition, query.clone(), Read::Linearizable);
    gather(shared, ask, pick).await
}

/// The first `limit` entries by id.
pub(super) fn merge<T>(mut all: Vec<T>, limit: usize, id: impl Fn(&T) -> Uuid) -> Page<T> {
    all.sort_by_key(|entry| id(entry));
    all.truncate(limit);
    Page::of(all, limit, id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_in_the_order_of_ids_and_end_somewhere() {
        let ids = |numbers: &[u128]| -> Vec<Uuid> {
            numbers.iter().copied().map(Uuid::from_u128).collect()
        };
        let page = merge(ids(&[5, 1, 9, 3]), 3, |id| *id);
        assert_eq!(page.items, ids(&[1, 3, 5]));
        assert_eq!(page.next.as_deref(), Some(&*Uuid::from_u128(5).to_string()));
        let last = merge(ids(&[9]), 3, |id| *id);
        assert!(last.next.is_none());
    }
}
