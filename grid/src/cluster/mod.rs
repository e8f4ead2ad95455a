//! Which nodes there are and who holds what: the deployment manager of the grid.
//!
//! ```text
//!   admin command ─► meta leader ─► meta group (MapSpace) ═ replicated ═► every holder ─► every node
//!                                        ▲                                                  │
//!   reconciler (on the meta leader) ─────┘ next move: plan(map)                 keeper: opens and
//!        └─► leaders of the groups: add learner, promote, hand over, demote     closes replicas
//! ```
//!
//! The map says what is wanted, each group's own membership what is; the [`reconciler`] brings the two
//! together, one replica at a time. All it knows is in those two places, so that the next meta leader
//! goes on where the last one stopped. Planning ([`plan`]), the next step ([`step`]) and the map's rules
//! ([`map`], [`space`]) are pure.
//!
//! Invariants:
//! * a grid is founded once: by the lowest of its first nodes, after all of them have said that they
//!   know of no grid;
//! * no membership is proposed that a majority of answering voters would not carry;
//! * a node deletes a replica only after the map says that the group's membership is without it;
//! * a disk that has lost its log is let in after every group has let go of it, and then as a learner.
//!
//! What it deliberately does not do: replace a node that merely does not answer (that is an operator's
//! decision), choose leaders, move slots between partitions.

mod admin;
mod founding;
mod gateways;
mod keeper;
mod leaving;
mod map;
mod messages;
mod meta;
mod news;
mod plan;
mod reconciler;
mod revocations;
mod space;
mod step;
#[cfg(test)]
mod tests;

pub use admin::{MemberAction, MemberChange, MembershipStatus, MovePlan};
pub use gateways::GatewayEntry;
pub use map::{ClusterMap, GroupEntry, META, NodeEntry, NodeState};
pub use plan::{Move, MoveReason};
pub use revocations::{Revocation, Revocations};
pub use space::Refusal;

pub(crate) use founding::Founding;
pub(crate) use gateways::{
    Briefing, Gateways, Report, SERVICE_REPORT, is_of_gateways, may_ask, may_follow, serve_gateway,
};
pub(crate) use keeper::{adopt, keep, peer_specs};
pub(crate) use leaving::{Leaving, leave};
pub(crate) use map::NodeInfo;
pub(crate) use messages::{is_of_cluster, serve, serve_visit};
pub(crate) use news::gather;
pub(crate) use plan::first_holders;
#[cfg(test)]
pub(crate) use plan::found;
pub(crate) use reconciler::{Reconciling, reconcile};
pub(crate) use space::MapSpace;
pub(crate) use step::GroupView;
