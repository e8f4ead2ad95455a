//! A visit: one request to a node by its address, from someone who is no member or does not know the
//! members' numbers. A gateway visits as a gateway, anybody else as a guest.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::connection::Connection;
use super::error::TransportError;
use super::handshake::{HandshakeError, Hello, Refusal, Role, WHOEVER, introduce};
use super::tls_error::explain;
use super::{HANDSHAKE_TIMEOUT, Lane, Transport, spawn_tasks, wire};

/// Why a visit had no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VisitError {
    /// The two nodes do not belong together. Do not try again before that is set right.
    #[error("{0}")]
    Refused(Refusal),
    /// Nobody answers there just now. Try again.
    #[error("no node answers at {address}: {why}")]
    Unreachable {
        /// Where.
        address: String,
        /// What happened.
        why: String,
    },
}

impl Transport {
    /// Asks `service` of the node at an address, as a guest or as the gateway that this is.
    ///
    /// # Errors
    /// See [`VisitError`].
    pub(crate) async fn visit(
        &self,
        address: &str,
        service: u8,
        payload: Bytes,
        wait: Duration,
    ) -> Result<Bytes, VisitError> {
        let unreachable = |why: String| VisitError::Unreachable {
            address: address.to_owned(),
            why,
        };
        let hello = Hello {
            to: WHOEVER,
            role: match self.inner.own.role {
                Role::Gateway => Role::Gateway,
                Role::Member | Role::Guest => Role::Guest,
            },
            lane: Lane::Control,
            ..self.inner.own.clone()
        };
        let connecting = async {
            let mut wire = wire::dial(address, &self.inner.security).await?;
            let introduced = introduce(&mut wire, &hello).await;
            let answer = introduced.map_err(|error| match error {
                HandshakeError::Io(error) => explain(error, &format!("the node at {address}")),
                other => other,
            })?;
            let proven = wire.identity().check(answer.from);
            proven.map_err(|refusal| HandshakeError::RefusedHere {
                refusal,
                peer: Some(answer.from),
            })?;
            Ok((wire, answer))
        };
        let connected = timeout(HANDSHAKE_TIMEOUT, connecting).await;
        let (wire, answer) = match connected {
            Ok(Ok(connected)) => connected,
            Ok(Err(
                HandshakeError::RefusedHere { refusal, .. } | HandshakeError::RefusedThere(refusal),
            )) => return Err(VisitError::Refused(refusal)),
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Err(_) => return Err(unreachable("it took too long".to_owned())),
        };
        let connection = Connection::new(answer.from, hello.lane, self.inner.stop.child_token());
        connection.note_guest();
        spawn_tasks(&connection, wire, None, &self.inner.tasks);
        let reply = connection.request(service, payload, wait).await;
        connection.close();
        reply.map_err(|error: TransportError| unreachable(error.to_string()))
    }
}
