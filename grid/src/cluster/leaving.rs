//! A node that is to be removed lets its clients go first.
//!
//! ```text
//!   map: to be removed, holds nothing ─► GridNode::leaving ─► gateway says goodbye
//!                                                                  │ GridNode::clients_are_gone
//!   map: removed ◄── the node asks for it ◄────────────────────────┘
//! ```
//!
//! Until then its peers carry its clients' commands out; a removed node is refused by all of them. The
//! meta leader removes a node that does not answer, or takes too long, without being asked.

use std::sync::Arc;
use std::time::Duration;

use grid_core::Space;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::meta::execute_meta;
use super::space::MapCommand;
use crate::members::Members;
use crate::platform::{self, monotonic_now};

/// How long one attempt may take,
const ASK_WAIT: Duration = Duration::from_millis(3_000);
/// and the pause before the next.
const ASK_PAUSE: Duration = Duration::from_millis(200);

/// How far this node is with it.
#[derive(Debug)]
pub(crate) struct Leaving {
    /// The grid has emptied the node and wants it gone.
    wanted: watch::Sender<bool>,
    /// Whether somebody serves clients here and has not let them go.
    has_clients: watch::Sender<bool>,
}

impl Default for Leaving {
    fn default() -> Self {
        Self {
            wanted: watch::Sender::new(false),
            has_clients: watch::Sender::new(false),
        }
    }
}

impl Leaving {
    pub(super) fn want(&self) {
        self.wanted
            .send_if_modified(|wanted| !std::mem::replace(wanted, true));
    }

    /// Waits until the grid wants the node gone.
    pub(crate) async fn wanted(&self) {
        let mut wanted = self.wanted.subscribe();
        // It ends with the node only.
        let _ = wanted.wait_for(|wanted| *wanted).await;
    }

    /// Says whether clients are served here.
    pub(crate) fn set_clients(&self, has_clients: bool) {
        self.has_clients.send_replace(has_clients);
    }

    async fn clients_gone(&self) {
        let mut has_clients = self.has_clients.subscribe();
        let _ = has_clients.wait_for(|has_clients| !has_clients).await;
    }
}

/// Asks for the node's removal when all is as it should be. Works until stopped.
pub(crate) async fn leave<S: Space>(members: Arc<Members<S>>, stop: CancellationToken) {
    let leaving = async {
        members.leaving.wanted().await;
        members.leaving.clients_gone().await;
        loop {
            let map = members.present_map();
            if map.is_some_and(|map| map.is_leaving(members.node)) {
                let command = MapCommand::Remove { node: members.node };
                let asked = execute_meta(&members, &command, monotonic_now() + ASK_WAIT).await;
                tracing::info!(?asked, "this node has asked to be removed");
            }
            platform::pause(ASK_PAUSE).await;
        }
    };
    stop.run_until_cancelled(leaving).await;
}
