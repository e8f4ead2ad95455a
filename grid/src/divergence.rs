//! Compares the replicas of a partition with each other, all the time.
//!
//! ```text
//!   leader, every two seconds: ─ which hash have you at these indexes? ─► each other replica
//!          judge all hashes of an index ◄──────────────────────────────── its running hashes
//!          └─ most say otherwise than one ─► that one is told, checks, and stops serving
//! ```
//!
//! A replica that has stopped serving goes on storing the log and acknowledging it, since the log is
//! right and the majority needs it; it answers no query, leads no more, takes and sends no snapshot.
//! That is written down beside its snapshots, so that a restart does not forget it, and ends when the
//! replica is rebuilt (see `rebuild`).
//!
//! Where as many replicas say the one as the other, nobody stops: stopping the wrong one would lose
//! what is right. It is shown as undecided, and compared again until a third replica can tell.
//!
//! What it deliberately does not do: find damage that never shows in a reply or a change. The running
//! hash covers those, not the whole state, whose digest `grid verify` compares.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use grid_config::PARTITIONS_MAX;
use grid_core::{PartitionId, Space, StateHash, codec};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::members::{Member, Members};
use crate::node::NodeId;
use crate::platform::{self, wall_now};
use crate::service::{SERVICE_DIVERGED, SERVICE_HASHES};
use crate::status::Divergence;

/// How often a leader compares.
const PERIOD: Duration = Duration::from_secs(2);
/// How long it waits for a replica's hashes.
const ANSWER_WAIT: Duration = Duration::from_millis(1_500);
/// The most indexes of one partition in a request.
pub(crate) const INDEXES_MAX: usize = 2;

/// Which indexes of which partitions.
pub(crate) type HashesRequest = Vec<(PartitionId, Vec<u64>)>;
/// The hashes there, in the request's order; `None` where the replica no longer or not yet knows, or
/// where it has stopped serving.
pub(crate) type HashesReply = Vec<Vec<Option<StateHash>>>;

/// What a replica is told that differs from the others.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct DivergedOrder {
    pub(crate) partition: PartitionId,
    pub(crate) index: u64,
    /// What most others have there.
    pub(crate) hash: StateHash,
}

/// What the hashes of one index say.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Equal,
    /// Most have `hash`; these nodes have another.
    Wrong {
        hash: StateHash,
        nodes: Vec<NodeId>,
    },
    Undecided,
}

/// The hash that more nodes have than any other is right.
fn judge(hashes: &BTreeMap<NodeId, StateHash>) -> Verdict {
    let mut counts: Vec<(StateHash, usize)> = Vec::new();
    for hash in hashes.values() {
        match counts.iter_mut().find(|(known, _)| known == hash) {
            Some((_, count)) => *count += 1,
            None => counts.push((*hash, 1)),
        }
    }
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    match counts.as_slice() {
        [] | [_] => Verdict::Equal,
        [(_, most), (_, next), ..] if most == next => Verdict::Undecided,
        [(hash, _), ..] => Verdict::Wrong {
            hash: *hash,
            nodes: hashes
                .iter()
                .filter(|(_, found)| *found != hash)
                .map(|(node, _)| *node)
                .collect(),
        },
    }
}

/// Works until stopped.
pub(crate) async fn run<S: Space>(members: Arc<Members<S>>, stop: CancellationToken) {
    let mut before: BTreeMap<PartitionId, u64> = BTreeMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = platform::pause(PERIOD) => {}
        }
        for (_, member) in members.replicas() {
            if member.replica.has_diverged() {
                // Handing over may have failed the last time.
                member.group.step_aside().await;
            }
        }
        if stop
            .run_until_cancelled(compare(&members, &mut before))
            .await
            .is_none()
        {
            return;
        }
    }
}

/// What of a partition is compared this time: where it stood the last time, which the others have
/// reached by now, and the newest mark before that, which a slow one has too.
fn indexes<S: Space>(member: &Member<S>, before: &mut BTreeMap<PartitionId, u64>) -> Vec<u64> {
    let partition = member.replica.partition();
    let applied = member
        .replica
        .read(grid_core::PartitionState::applied_index);
    let earlier = before.insert(partition, applied).unwrap_or(applied);
    let mark = member.replica.mark_before(earlier);
    let mut indexes = vec![earlier];
    indexes.extend(mark.filter(|mark| *mark != earlier));
    indexes
}

async fn compare<S: Space>(members: &Members<S>, before: &mut BTreeMap<PartitionId, u64>) {
    let mut asked: BTreeMap<NodeId, HashesRequest> = BTreeMap::new();
    let mut found: BTreeMap<(PartitionId, u64), BTreeMap<NodeId, StateHash>> = BTreeMap::new();
    for (partition, member) in members.replicas() {
        if !member.leadership.borrow().is_local || member.replica.has_diverged() {
            continue;
        }
        let indexes = indexes(&member, before);
        for &index in &indexes {
            if let Some(hash) = member.replica.hash_at(index) {
                found
                    .entry((partition, index))
                    .or_default()
                    .insert(members.node, hash);
            }
        }
        for node in member.group.state().voters {
            if node != members.node {
                asked
                    .entry(node)
                    .or_default()
                    .push((partition, indexes.clone()));
            }
        }
    }
    let asking = asked.iter().map(|(&node, request)| async move {
        let asked = members
            .ask(node, SERVICE_HASHES, request, ANSWER_WAIT)
            .await;
        let reply: HashesReply = asked?;
        Some((node, request, reply))
    });
    for (node, request, reply) in futures_util::future::join_all(asking)
        .await
        .into_iter()
        .flatten()
    {
        for ((partition, indexes), hashes) in request.iter().zip(reply) {
            for (&index, hash) in indexes.iter().zip(hashes) {
                if let (Some(known), Some(hash)) = (found.get_mut(&(*partition, index)), hash) {
                    known.insert(node, hash);
                }
            }
        }
    }
    for ((partition, index), hashes) in found {
        // Nothing to be learnt from oneself alone.
        if hashes.len() > 1 {
            act(members, partition, index, &hashes).await;
        }
    }
}

/// Does what the hashes of an index call for.
async fn act<S: Space>(
    members: &Members<S>,
    partition: PartitionId,
    index: u64,
    hashes: &BTreeMap<NodeId, StateHash>,
) {
    let Some(member) = members.get(partition) else {
        return;
    };
    let (Some(own), Some(other)) = (
        hashes.get(&members.node),
        hashes
            .values()
            .find(|hash| Some(*hash) != hashes.get(&members.node)),
    ) else {
        member.replica.note_compared(index);
        return;
    };
    let words: Vec<String> = hashes
        .iter()
        .map(|(node, hash)| format!("node {node}: {hash}"))
        .collect();
    let (hash, nodes) = match judge(hashes) {
        Verdict::Equal => return,
        Verdict::Undecided => {
            tracing::error!(%partition, index, ?words, "replicas differ, and none is outvoted");
            member.replica.set_divergence(Divergence {
                index,
                own_hash: own.to_string(),
                other_hash: other.to_string(),
                noticed_at_ms: wall_now().as_millis(),
                decided: false,
            });
            return;
        }
        Verdict::Wrong { hash, nodes } => (hash, nodes),
    };
    tracing::error!(%partition, index, ?words, wrong = ?nodes, "replicas differ");
    member.replica.forget_undecided();
    let order = DivergedOrder {
        partition,
        index,
        hash,
    };
    for node in nodes {
        if node == members.node {
            obey(&member, order).await;
        } else if let Ok(payload) = codec::encode(&order) {
            let told = members
                .request(node, SERVICE_DIVERGED, payload, ANSWER_WAIT)
                .await;
            if let Err(error) = told {
                tracing::warn!(%error, node, %partition, "it could not be told; it will be the next time");
            }
        }
    }
}

/// This replica's hashes, for a leader that compares.
pub(crate) fn answer<S: Space>(members: &Members<S>, request: &HashesRequest) -> HashesReply {
    request
        .iter()
        .take(PARTITIONS_MAX as usize)
        .map(|(partition, indexes)| {
            let member = members
                .get(*partition)
                .filter(|member| !member.replica.has_diverged());
            indexes
                .iter()
                .take(INDEXES_MAX)
                .map(|index| member.as_ref()?.replica.hash_at(*index))
                .collect()
        })
        .collect()
}

/// Stops serving, if this replica's hash is indeed another one.
pub(crate) async fn obey<S: Space>(member: &Member<S>, order: DivergedOrder) {
    let Some(own) = member.replica.hash_at(order.index) else {
        return;
    };
    if own == order.hash || member.replica.has_diverged() {
        return;
    }
    let divergence = Divergence {
        index: order.index,
        own_hash: own.to_string(),
        other_hash: order.hash.to_string(),
        noticed_at_ms: wall_now().as_millis(),
        decided: true,
    };
    tracing::error!(
        partition = %order.partition,
        index = divergence.index,
        own = divergence.own_hash,
        others = divergence.other_hash,
        "this replica differs from the others and stops serving; rebuild it"
    );
    metrics::counter!("grid_divergences_total").increment(1);
    if let Err(error) = member.snapshots.mark_diverged(&divergence) {
        tracing::error!(%error, "that the replica differs could not be written down");
    }
    member.replica.set_divergence(divergence);
    member.group.set_may_lead(false);
    member.group.step_aside().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(values: &[u8]) -> BTreeMap<NodeId, StateHash> {
        (1..)
            .zip(values.iter().map(|&byte| StateHash([byte; 32])))
            .collect()
    }

    #[test]
    fn the_one_that_is_outvoted_is_wrong() {
        assert_eq!(judge(&hashes(&[7, 7, 7])), Verdict::Equal);
        for (values, wrong) in [([7, 7, 9], vec![3]), ([9, 7, 7], vec![1])] {
            let hash = StateHash([7; 32]);
            assert_eq!(
                judge(&hashes(&values)),
                Verdict::Wrong { hash, nodes: wrong }
            );
        }
        let verdict = judge(&hashes(&[7, 1, 7, 2, 7]));
        assert!(matches!(verdict, Verdict::Wrong { nodes, .. } if nodes == [2, 4]));
    }

    #[test]
    fn as_many_against_as_many_decides_nothing() {
        assert_eq!(judge(&hashes(&[7, 9])), Verdict::Undecided);
        assert_eq!(judge(&hashes(&[7, 8, 9])), Verdict::Undecided);
        assert_eq!(judge(&hashes(&[7, 7, 9, 9])), Verdict::Undecided);
    }
}
