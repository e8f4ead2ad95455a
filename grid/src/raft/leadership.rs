//! Leading a group: who stands for election, handing the lead over, and the lease under which a leader may
//! answer reads by itself.
//!
//! The lease: a follower that acknowledged this leader at time *t* helps nobody else to the lead before
//! *t* + the lease. So until then, counted from when the acknowledged message was *sent* and less a
//! margin for clocks that run at different speeds, no other leader can exist, and this replica, which
//! has applied the first entry of its own term, holds every acknowledged write.
//!
//! Invariants: a handover breaks that promise on purpose, so the term in which one was begun never
//! serves under its lease again, whether the handover succeeds or not. A replica that is started again
//! does not remember whom it acknowledged when, so it keeps every promise that it may have made: for as
//! long as one lasts it neither votes nor stands for election.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use grid_core::Space;
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::type_config::TypeConfigExt;
use parking_lot::Mutex;

use super::group::Group;
use super::types::TypeConfig;
use crate::platform::random;

/// The part of the lease that is not used, for clocks that run at different speeds: one in so many.
const LEASE_DRIFT_DIVISOR: u32 = 10;

/// Replicas that are started again begin to stand for election within this part of the lease's length.
const STAND_SPREAD_DIVISOR: f64 = 3.0;

/// What keeps this replica from standing for election: each by itself, whatever becomes of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Obstacles {
    /// Its node is about to stop.
    is_leaving: bool,
    /// Before it was started it may have promised to help nobody else to the lead.
    is_bound: bool,
    /// Its state differs from the others'.
    is_wrong: bool,
    /// It has less than its node had when the group left it.
    is_behind: bool,
}

impl Obstacles {
    /// Its state must not be led with, whoever offers the lead.
    fn is_unfit(self) -> bool {
        self.is_wrong || self.is_behind
    }
}

/// What a replica brings along when it is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Past {
    /// It has voted, so it may have made a promise to somebody else.
    pub(crate) is_bound: bool,
    /// It is the only voter, and elected itself.
    pub(crate) is_alone: bool,
    /// It has less than its node had when the group last left it.
    pub(crate) is_behind: bool,
}

impl Past {
    /// Of a node in a group of these voters, which last voted for `voted_for`.
    pub(crate) fn new(node: u64, voters: &[u64], voted_for: Option<u64>, is_behind: bool) -> Self {
        let is_alone = voters == [node] && voted_for == Some(node);
        Self {
            is_bound: voted_for.is_some() && !is_alone,
            is_alone,
            is_behind,
        }
    }
}

/// The state of a group's lease, shared by all handles on it.
#[derive(Debug)]
pub(crate) struct Lease {
    /// How long a follower keeps its promise.
    promised: Duration,
    length: Duration,
    /// Until when a promise from before the start may bind this replica.
    bound_until: Option<tokio::time::Instant>,
    is_alone: bool,
    obstacles: Mutex<Obstacles>,
    /// The term in which a handover was last begun.
    handed_over_term: AtomicU64,
}

impl Lease {
    /// `election_timeout_max_ms` is how long followers keep their promise.
    pub(crate) fn new(election_timeout_max_ms: u64, past: Past) -> Self {
        let promised = Duration::from_millis(election_timeout_max_ms);
        Self {
            promised,
            length: promised - promised / LEASE_DRIFT_DIVISOR,
            bound_until: past
                .is_bound
                .then(|| tokio::time::Instant::now() + promised),
            is_alone: past.is_alone,
            obstacles: Mutex::new(Obstacles {
                is_bound: past.is_bound,
                is_behind: past.is_behind,
                ..Obstacles::default()
            }),
            handed_over_term: AtomicU64::new(0),
        }
    }

    fn end_for(&self, term: u64) {
        self.handed_over_term.fetch_max(term, Ordering::SeqCst);
    }

    /// Waits until no promise from before the start binds this replica.
    pub(super) async fn until_free(&self) {
        if let Some(until) = self.bound_until {
            tokio::time::sleep_until(until).await;
        }
    }

    /// Changes what keeps the replica from standing for election, and has it stand or not. One after the
    /// other, so that the last change decides.
    fn change(&self, change: impl FnOnce(&mut Obstacles), stand: impl FnOnce(bool)) {
        let mut obstacles = self.obstacles.lock();
        change(&mut obstacles);
        stand(*obstacles == Obstacles::default());
    }

    fn has_ended_for(&self, term: u64) -> bool {
        self.handed_over_term.load(Ordering::SeqCst) >= term
    }
}

impl<S: Space> Group<S> {
    /// Begins to hand the lead over to a voter. This node leads no longer in this term, and proposes
    /// nothing more, even if the voter does not take it: then the others elect a leader after their
    /// timeout. Does nothing on a node that does not lead.
    pub(crate) async fn begin_handover(&self, to: u64) {
        let term = self.state().term;
        self.lease.end_for(term);
        if let Err(error) = self.raft.trigger().transfer_leader(to).await {
            tracing::warn!(%error, to, "a leadership could not be handed over");
        }
    }

    fn change_obstacles(&self, change: impl FnOnce(&mut Obstacles)) {
        let stand = |stands| self.raft.runtime_config().elect(stands);
        self.lease.change(change, stand);
    }

    /// Has openraft know from the first moment on whether this replica stands for election.
    pub(super) fn begin_elections(&self) {
        self.change_obstacles(|_| ());
    }

    /// This replica does not stand for election from now on.
    pub(crate) fn leave_elections(&self) {
        self.change_obstacles(|obstacles| obstacles.is_leaving = true);
    }

    /// Lets this replica lead, or not: then it stands for no election and takes no leadership.
    pub(crate) fn set_may_lead(&self, may_lead: bool) {
        self.change_obstacles(|obstacles| obstacles.is_wrong = !may_lead);
    }

    /// Whether this replica takes a leadership that is offered to it.
    pub(super) fn may_lead(&self) -> bool {
        !self.lease.obstacles.lock().is_unfit()
    }

    /// Asks the other voters whether they would elect this replica, and stands for election if most of
    /// them would. Whoever still hears a leader says no, and then nothing has changed. Does nothing while
    /// this replica must not stand.
    pub(crate) async fn stand_if_wanted(&self) {
        let now = tokio::time::Instant::now();
        let is_bound = self.lease.bound_until.is_some_and(|until| now < until);
        let obstacles = *self.lease.obstacles.lock();
        if is_bound || obstacles.is_leaving || obstacles.is_unfit() {
            return;
        }
        if let Err(error) = self.raft.trigger().elect(true).await {
            tracing::debug!(%error, "a replica that has stopped does not stand for election");
        }
    }

    /// Lifts what keeps this replica from standing for election since its start, each as soon as it no
    /// longer holds.
    pub(crate) async fn become_free(&self) {
        tokio::join!(self.keep_promises(), self.catch_up_with_past());
    }

    /// Keeps this replica from standing for election while a promise from before its start may bind it,
    /// and a little longer, by chance, so that nodes that were started together do not stand together. The
    /// only voter of a group stands at once.
    async fn keep_promises(&self) {
        if self.lease.is_alone {
            return self.stand_if_wanted().await;
        }
        if self.lease.bound_until.is_none() {
            return;
        }
        self.lease.until_free().await;
        // Without the system's randomness an election may have to be repeated.
        let number = random::u64().unwrap_or_default() as u16;
        let share = f64::from(number) / f64::from(u16::MAX);
        tokio::time::sleep(self.lease.promised.mul_f64(share / STAND_SPREAD_DIVISOR)).await;
        self.change_obstacles(|obstacles| obstacles.is_bound = false);
    }

    /// Keeps this replica from standing for election until it has all that its node had when the group
    /// left it: whoever counts on that must not see it led without.
    async fn catch_up_with_past(&self) {
        let mut metrics = self.raft.metrics();
        while self.log.is_below_floor() {
            if metrics.changed().await.is_err() {
                return;
            }
        }
        self.change_obstacles(|obstacles| obstacles.is_behind = false);
    }

    /// Whether this replica leads, nobody else can lead just now, and its state holds every
    /// acknowledged write. Costs no message and no wait.
    pub(crate) fn holds_lease(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let Some(acknowledged) = metrics.last_quorum_acked else {
            return false;
        };
        let term = metrics.current_term;
        #[cfg(feature = "planted-bugs")]
        if crate::platform::simulated::is_planted("endless-lease") {
            return metrics.state == ServerState::Leader;
        }
        let has_applied_own = metrics
            .last_applied
            .is_some_and(|id| id.leader_id.term == term);
        metrics.state == ServerState::Leader
            && metrics.running_state.is_ok()
            && metrics.vote.committed
            && metrics.vote.leader_id.voted_for == metrics.id
            && has_applied_own
            && !self.lease.has_ended_for(term)
            && TypeConfig::now() < acknowledged.into_inner() + self.lease.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Past = Past {
        is_bound: true,
        is_alone: false,
        is_behind: false,
    };

    #[test]
    fn a_term_in_which_a_handover_was_begun_has_no_lease() {
        let lease = Lease::new(1_000, Past::default());
        assert_eq!(lease.length, Duration::from_millis(900));
        assert!(!lease.has_ended_for(1));
        lease.end_for(3);
        assert!(lease.has_ended_for(3) && lease.has_ended_for(2));
        assert!(!lease.has_ended_for(4), "the next term's lease is another");
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_has_voted_before_its_start_is_bound_for_a_while() {
        let started = tokio::time::Instant::now();
        Lease::new(1_000, Past::default()).until_free().await;
        assert_eq!(
            started.elapsed(),
            Duration::ZERO,
            "a new one made no promise"
        );
        Lease::new(1_000, Past::new(1, &[1], Some(1), false))
            .until_free()
            .await;
        assert_eq!(started.elapsed(), Duration::ZERO, "to itself alone");
        Lease::new(1_000, BOUND).until_free().await;
        assert!(started.elapsed() >= Duration::from_secs(1));
    }

    #[test]
    fn only_who_promised_nobody_anything_is_free_from_the_start() {
        assert_eq!(Past::new(1, &[], None, false), Past::default());
        assert_eq!(Past::new(1, &[1, 2, 3], None, false), Past::default());
        assert_eq!(Past::new(1, &[1, 2, 3], Some(1), false), BOUND);
        assert_eq!(Past::new(1, &[1, 2, 3], Some(2), false), BOUND);
        assert_eq!(Past::new(1, &[1], Some(2), false), BOUND, "of older voters");
        assert!(Past::new(1, &[1], Some(1), false).is_alone);
        assert!(!Past::new(1, &[1], None, false).is_alone, "it asks itself");
    }

    #[test]
    fn whatever_ends_what_else_keeps_a_replica_from_standing_still_does() {
        let lease = Lease::new(
            1_000,
            Past {
                is_behind: true,
                ..BOUND
            },
        );
        let stands = |change: fn(&mut Obstacles)| {
            let mut stands = None;
            lease.change(change, |now| stands = Some(now));
            stands.expect("decided")
        };
        assert!(!stands(|_| ()), "it may have made a promise");
        assert!(!stands(|obstacles| obstacles.is_wrong = true));
        assert!(
            !stands(|obstacles| obstacles.is_bound = false),
            "it differs"
        );
        assert!(!stands(|obstacles| obstacles.is_wrong = false), "rebuilt");
        assert!(stands(|obstacles| obstacles.is_behind = false));
        assert!(!stands(|obstacles| obstacles.is_leaving = true));
        assert!(!stands(|obstacles| obstacles.is_wrong = false), "it leaves");
    }
}
