//! Makes this node what the map says it is: its peers, its replicas.
//!
//! The map is kept on disk before it is acted upon, so that a node that starts again holds what it held
//! and knows whom to ask.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use grid_core::{PartitionId, Space};
use tokio_util::sync::CancellationToken;

use super::map::{ClusterMap, GroupEntry, META, NodeState};
use super::news::ask;
use super::revocations;
use super::space::MapSpace;
use crate::error::StartError;
use crate::members::{Member, Members};
use crate::node::NodeId;
use crate::platform::monotonic_now;
use crate::raft::Group;
use crate::transport::{PeerSpec, PeerTable};

/// How long the first voters of a group may take to have their replicas before it begins without them.
const FOUNDERS_WAIT: Duration = Duration::from_secs(3);
/// How often they are asked.
const FOUNDERS_PAUSE: Duration = Duration::from_millis(20);

/// Replicas that are read from the disk at a time when a node starts; each wants a core and, for its
/// newest snapshot, some memory.
const OPENINGS_MAX: usize = 8;

/// How often a full disk is tried again.
const ROOM_RETRY: Duration = Duration::from_secs(1);

/// Follows the map until stopped.
pub(crate) async fn keep<S: Space>(members: Arc<Members<S>>, stop: CancellationToken) {
    let mut map = members.map.subscribe();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = map.changed() => if changed.is_err() { return },
        }
        let present = map.borrow_and_update().clone();
        let Some(present) = present else { continue };
        if let Err(error) = adopt(&members, &present).await {
            tracing::error!(%error, "the node cannot follow the cluster map");
            let text = format!("it cannot follow the cluster map: {error}");
            members.opener.failure.send_replace(Some(text));
            return;
        }
    }
}

/// Acts on a map.
///
/// # Errors
/// See [`StartError`]; the node must stop.
pub(crate) async fn adopt<S: Space>(
    members: &Arc<Members<S>>,
    map: &Arc<ClusterMap>,
) -> Result<(), StartError> {
    store(members, map).await.map_err(|source| StartError::Io {
        what: "cannot keep the cluster map".to_owned(),
        source,
    })?;
    let (node, incarnation) = (members.node, members.info.incarnation);
    if map.has_removed(node, incarnation) {
        members.note_removed();
        return Ok(());
    }
    map.check_build::<S>()?;
    members.opener.rules.store(map.rules, Ordering::Relaxed);
    let peers = peer_specs(map, node, &members.given_addresses);
    members.transport.set_peers(peers);
    if !map.admits(node, incarnation) {
        let Some(entry) = map.nodes.get(&node) else {
            return Ok(());
        };
        if entry.returning == Some(incarnation) {
            return Ok(());
        }
        return Err(StartError::Options(format!(
            "the grid knows node {node} by another disk; give this one an empty directory to join again"
        )));
    }
    open_missing(members, map).await?;
    close_surplus(members, map).await;
    if map.is_leaving(node) {
        members.leaving.want();
    }
    members.adopted_epoch.store(map.epoch, Ordering::Relaxed);
    Ok(())
}

/// Keeps the map on disk; waits for room where there is none, since that may come.
async fn store<S: Space>(members: &Members<S>, map: &Arc<ClusterMap>) -> std::io::Result<()> {
    loop {
        let (directory, stored) = (members.directory.clone(), Arc::clone(map));
        let storing = crate::platform::blocking(move || directory.store_map(&stored)).await;
        match storing.map_err(std::io::Error::other)? {
            Err(error)
                if error.kind() == std::io::ErrorKind::StorageFull
                    && !members.opener.stop.is_cancelled() =>
            {
                tracing::warn!("there is no room on the disk to keep the cluster map");
                tokio::time::sleep(ROOM_RETRY).await;
            }
            stored => return stored,
        }
    }
}

/// The map's nodes but for `own`, with further addresses to try, and those that were removed.
pub(crate) fn peer_specs(
    map: &ClusterMap,
    own: NodeId,
    given_addresses: &BTreeMap<NodeId, String>,
) -> PeerTable {
    let peers: BTreeMap<NodeId, PeerSpec> = map
        .members()
        .filter(|(node, _)| *node != own)
        .map(|(node, entry)| {
            let mut addresses = vec![entry.peer_address.clone()];
            let given = given_addresses.get(&node);
            addresses.extend(given.filter(|given| **given != entry.peer_address).cloned());
            let incarnation = Some(entry.incarnation);
            let spec = PeerSpec {
                addresses,
                incarnation,
            };
            (node, spec)
        })
        .collect();
    let gone = map
        .nodes
        .iter()
        .filter(|(_, entry)| entry.state == NodeState::Removed);
    PeerTable {
        peers,
        removed: gone
            .map(|(node, entry)| (*node, entry.incarnation))
            .collect(),
    }
}

async fn open_missing<S: Space>(
    members: &Arc<Members<S>>,
    map: &ClusterMap,
) -> Result<(), StartError> {
    let (node, incarnation) = (members.node, members.info.incarnation);
    let mut missing = Vec::new();
    for (&partition, group) in &map.groups {
        if !map.is_holder(partition, node, incarnation) || members.is_open(partition) {
            continue;
        }
        let Some(leadership) = members.leaderships.get(&partition).cloned() else {
            return Err(StartError::Options(format!(
                "the cluster map has a partition {partition} that this grid does not have"
            )));
        };
        let is_first = group.epoch == 1;
        if partition == META {
            let opening = members.opener.open(partition, leadership, is_first);
            let meta = Arc::new(opening.await?);
            *members.meta.write() = Some(Arc::clone(&meta));
            follow_meta(members, Arc::clone(&meta));
            if let Some(voters) = founders(node, group) {
                begin(members, &meta.group, voters);
            }
        } else {
            missing.push((partition, leadership, is_first));
        }
    }
    let opening = missing
        .into_iter()
        .map(|(partition, leadership, is_first)| {
            let members = Arc::clone(members);
            async move {
                let opened = tokio::spawn(async move {
                    let opener = &members.opener;
                    opener.open::<S>(partition, leadership, is_first).await
                });
                let opened = opened.await;
                let opened = opened.map_err(|error| StartError::Damaged(error.to_string()))?;
                Ok::<_, StartError>((partition, Arc::new(opened?)))
            }
        });
    let mut opening = stream::iter(opening).buffered(OPENINGS_MAX);
    while let Some(opened) = opening.next().await {
        let (partition, member) = opened?;
        members
            .replicas
            .write()
            .insert(partition, Arc::clone(&member));
        if let Some(voters) = map
            .groups
            .get(&partition)
            .and_then(|group| founders(node, group))
        {
            begin(members, &member.group, voters);
        }
        // Whoever drains the node has left the elections of all that it held then. It says so before it
        // looks what there is, and this looks after there is one more: one of the two sees the other.
        if members.draining.load(Ordering::SeqCst)
            && let Some(held) = members.held(partition)
        {
            held.leave_elections();
        }
    }
    Ok(())
}

/// The group's first voters, if it is this node that names them. Only the holders of the founding do,
/// with the disks they had then: every later one comes as a learner.
fn founders(node: NodeId, group: &GroupEntry) -> Option<BTreeSet<NodeId>> {
    let is_first = group.epoch == 1 && group.replicas.first() == Some(&node);
    is_first.then(|| group.replicas.iter().copied().collect())
}

/// Gives a group its first voters, as soon as they have their replicas: an election that nobody answers
/// would cost a whole timeout.
fn begin<T: Space, S: Space>(
    members: &Arc<Members<T>>,
    group: &Group<S>,
    voters: BTreeSet<NodeId>,
) {
    let (members, group) = (Arc::clone(members), group.clone());
    let tasks = members.opener.tasks.clone();
    tasks.spawn(async move {
        let stop = members.opener.stop.clone();
        let beginning = async {
            let patience = monotonic_now() + FOUNDERS_WAIT;
            while !group.is_initialized().await
                && !has_adopted(&members, &voters).await
                && monotonic_now() < patience
            {
                tokio::time::sleep(FOUNDERS_PAUSE).await;
            }
            group.initialize(voters).await
        };
        if let Some(Err(error)) = stop.run_until_cancelled(beginning).await {
            tracing::error!(%error, "a group could not be founded");
            let text = format!("a group could not be founded: {error}");
            members.opener.failure.send_replace(Some(text));
        }
    });
}

/// Whether all of these nodes have acted upon the founding map.
async fn has_adopted<S: Space>(members: &Members<S>, nodes: &BTreeSet<NodeId>) -> bool {
    for node in nodes {
        let adopted = if *node == members.node {
            members.adopted_epoch.load(Ordering::Relaxed)
        } else {
            ask(members, *node)
                .await
                .map_or(0, |news| news.adopted_epoch)
        };
        if adopted == 0 {
            return false;
        }
    }
    true
}

/// Publishes the map as this node's replica of it changes.
fn follow_meta<S: Space>(members: &Arc<Members<S>>, meta: Arc<Member<MapSpace>>) {
    let followed = Arc::clone(members);
    let stop = meta.stop.clone();
    members.opener.tasks.spawn(async move {
        let mut applied = meta.replica.applied();
        let following = async {
            loop {
                let map = meta.replica.read(|state| state.space().map().cloned());
                if let Some(map) = map {
                    followed.learn_map(map);
                }
                meta.replica
                    .read(|state| revocations::publish(&followed, state.space().revocations()));
                if applied.changed().await.is_err() {
                    return;
                }
            }
        };
        let _: Option<()> = stop.run_until_cancelled(following).await;
    });
}

async fn close_surplus<S: Space>(members: &Arc<Members<S>>, map: &ClusterMap) {
    let (node, incarnation) = (members.node, members.info.incarnation);
    let is_held = |partition: PartitionId| map.is_holder(partition, node, incarnation);
    for (partition, member) in members.replicas() {
        if !is_held(partition) {
            members.replicas.write().remove(&partition);
            report(partition, members.opener.close(partition, &member).await);
        }
    }
    if let Some(meta) = members.meta()
        && !is_held(META)
    {
        *members.meta.write() = None;
        report(META, members.opener.close(META, &meta).await);
    }
    for partition in members.opener.unopened() {
        if !is_held(partition) {
            match members.opener.close_unopened(partition).await {
                Ok(false) => {}
                Ok(true) => report(partition, Ok(())),
                Err(error) => report(partition, Err(error)),
            }
        }
    }
}

fn report(partition: PartitionId, closed: std::io::Result<()>) {
    match closed {
        Ok(()) => tracing::info!(%partition, "a replica has left this node"),
        // It is tried again when the node starts.
        Err(error) => tracing::error!(%partition, %error, "a replica could not be removed"),
    }
}
