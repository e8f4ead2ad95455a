//! For operators: the nodes of the grid, what is being moved, and orders about a node.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use grid::{
    META, MemberAction, MemberChange, MembershipStatus, Move, MoveReason, NodeId, NodeState,
    Refusal,
};
use grid_core::PartitionId;
use serde::{Deserialize, Serialize};

use crate::failure::{Detail, Failure};
use crate::http::extract::{Known, json};
use crate::http::ok;
use crate::http::problem::Problem;
use crate::protocol::code::ErrorCode;
use crate::refusals;
use crate::state::Shared;

#[derive(Serialize)]
struct Members {
    grid_id: String,
    /// Grows with every change of the map.
    epoch: u64,
    slots_epoch: u64,
    partitions: u32,
    replicas: u32,
    /// The rules that the grid follows.
    rules: u16,
    nodes: Vec<NodeView>,
    groups: Vec<GroupView>,
    /// The group that is being moved.
    moving: Option<Group>,
    /// What is done just now, in words.
    activity: Option<String>,
    /// What is still to be moved.
    moves: Vec<MoveView>,
}

#[derive(Serialize)]
struct NodeView {
    node_id: NodeId,
    state: NodeState,
    /// Whether the node that moves replicas reaches it.
    reachable: bool,
    zone: String,
    peer_address: String,
    gateway_address: String,
    /// Stands for its disk.
    incarnation: String,
    /// Whether it has come back with another disk and is not let in yet.
    returning: bool,
    remove_when_empty: bool,
    replaced_by: Option<NodeId>,
    /// How many replicas it is to hold.
    replicas: usize,
    /// The newest rules that its build knows.
    rules: u16,
}

#[derive(Serialize)]
struct GroupView {
    partition: Group,
    replicas: Vec<NodeId>,
    leaving: Vec<NodeId>,
    settled: bool,
    epoch: u64,
}

/// A partition's number, or `"meta"` for the map's own group.
#[derive(Serialize)]
#[serde(untagged)]
enum Group {
    Partition(u32),
    Meta(&'static str),
}

#[derive(Serialize)]
struct MoveView {
    partition: Group,
    from: Option<NodeId>,
    to: Option<NodeId>,
    reason: MoveReason,
}

#[derive(Serialize)]
struct Changed {
    dry_run: bool,
    epoch: u64,
    moves: Vec<MoveView>,
}

/// The options of an order; each order uses those it knows.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::http) struct Order {
    dry_run: bool,
    fewer_copies: bool,
    drain: bool,
    with: Option<NodeId>,
}

fn group(partition: PartitionId) -> Group {
    if partition == META {
        Group::Meta("meta")
    } else {
        Group::Partition(partition.0)
    }
}

fn moves(moves: Vec<Move>) -> Vec<MoveView> {
    let view = |made: Move| MoveView {
        partition: group(made.partition),
        from: made.from,
        to: made.to,
        reason: made.reason,
    };
    moves.into_iter().map(view).collect()
}

fn members(grid_id: String, status: MembershipStatus) -> Members {
    let map = status.map;
    let loads: Vec<usize> = map.nodes.keys().map(|node| map.load(*node)).collect();
    let nodes = map.nodes.into_iter().zip(loads);
    Members {
        grid_id,
        epoch: map.epoch,
        slots_epoch: map.slots_epoch,
        partitions: map.partitions,
        replicas: map.replicas,
        rules: map.rules,
        nodes: nodes
            .map(|((node_id, entry), replicas)| NodeView {
                node_id,
                state: entry.state,
                reachable: entry.state != NodeState::Removed && !status.down.contains(&node_id),
                zone: entry.zone,
                peer_address: entry.peer_address,
                gateway_address: entry.gateway_address,
                incarnation: format!("{:016x}", entry.incarnation),
                returning: entry.returning.is_some(),
                remove_when_empty: entry.remove_when_empty,
                replaced_by: entry.replaced_by,
                replicas,
                rules: entry.rules,
            })
            .collect(),
        groups: map
            .groups
            .into_iter()
            .map(|(partition, entry)| GroupView {
                partition: group(partition),
                replicas: entry.replicas,
                leaving: entry.leaving,
                settled: entry.settled,
                epoch: entry.epoch,
            })
            .collect(),
        moving: status.moving.map(group),
        activity: status.activity,
        moves: moves(status.moves),
    }
}

pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let node = shared.node()?;
    let status = node
        .membership(shared.deadline())
        .await
        .map_err(|error| refusals::grid_error(&error))?;
    ok(&members(node.status().grid_id, status))
}

pub(super) async fn change(
    State(shared): State<Arc<Shared>>,
    known: Known,
    Path((node, action)): Path<(String, String)>,
    body: Body,
) -> Result<Response, Problem> {
    if !known.asker().caller.is_manager {
        let failure = Failure::new(ErrorCode::Forbidden, "only a manager gives such orders");
        return Err(failure.into());
    }
    let node: NodeId = node
        .parse()
        .map_err(|_| Failure::bad_request("a node is a number"))?;
    let Order {
        dry_run,
        fewer_copies,
        drain,
        with,
    } = json(&shared, body).await?;
    let action = match (action.as_str(), with) {
        ("drain", None) => MemberAction::Drain { node, fewer_copies },
        ("activate", None) => MemberAction::Activate { node },
        ("remove", None) => MemberAction::Remove {
            node,
            drain,
            fewer_copies,
        },
        ("replace", Some(with)) => MemberAction::Replace { node, with },
        ("replace", None) => {
            let failure = Failure::bad_request("`with` names the node that takes over");
            return Err(failure.into());
        }
        _ => return Err(Failure::not_found("there is no such order about a node").into()),
    };
    let change = MemberChange { action, dry_run };
    let changed = shared
        .node()?
        .change_members(change, shared.deadline())
        .await
        .map_err(|error| refusals::grid_error(&error))?;
    match changed {
        Ok(plan) => ok(&Changed {
            dry_run,
            epoch: plan.epoch,
            moves: moves(plan.moves),
        }),
        Err(refusal) => Err(membership_refused(&refusal).into()),
    }
}

/// What the grid says no to, in its own words.
pub(super) fn membership_refused(refusal: &Refusal) -> Failure {
    let reason = Detail::Reason {
        reason: refusal.code(),
    };
    Failure::new(ErrorCode::MembershipRefused, refusal.to_string()).with(reason)
}
