//! What a group does for the same group on other nodes: votes, appends, takes snapshots.

use std::io;

use bytes::Bytes;
use futures_util::StreamExt;
use grid_core::{Space, codec};
use openraft::raft::AppendEntriesRequest;
use openraft::storage::Snapshot;
#[cfg(not(feature = "sim"))]
use tokio::io::AsyncWriteExt;

use super::group::Group;
use super::network::{RaftEnvelope, RaftRequest, SnapshotHeader};
#[cfg(feature = "planted-bugs")]
use super::types::AppendResult;
use super::types::{LeaderTerm, SnapshotPosition, TypeConfig};
use crate::platform::{self, AsyncFile};
use crate::snapshot::{self, SnapshotFile};
use crate::transport::{Replier, StreamReceiver, StreamSender};

/// Reads the envelope of a request from a peer.
pub(crate) fn open_envelope(payload: &[u8]) -> Option<(u32, RaftRequest)> {
    let envelope: RaftEnvelope = codec::decode(payload).ok()?;
    Some((envelope.group, envelope.request))
}

impl<S: Space> Group<S> {
    /// Serves a request of the same group on another node.
    pub(crate) async fn serve(&self, request: RaftRequest, reply: Replier) {
        let bytes = match request {
            RaftRequest::Append(request)
                if !request.entries.is_empty() && !self.log.wait_for_room().await =>
            {
                None
            }
            RaftRequest::Append(request) => self
                .raft
                .append_entries(request)
                .await
                .ok()
                .map(|reply| codec::encode(&reply)),
            // As one who voted with the entries that it no longer has would, see [`LogStore::floor`].
            RaftRequest::Vote(request) | RaftRequest::PreVote(request)
                if self.log.outranks(request.last_log_id.as_ref()) =>
            {
                None
            }
            RaftRequest::Vote(request) => {
                self.lease.until_free().await;
                let reply = self.raft.vote(request).await;
                reply.ok().map(|reply| codec::encode(&reply))
            }
            RaftRequest::PreVote(request) => self
                .raft
                .pre_vote(request)
                .await
                .ok()
                .map(|reply| codec::encode(&reply)),
            RaftRequest::TransferLeader(_) if !self.may_lead() => None,
            RaftRequest::TransferLeader(request) => self
                .raft
                .handle_transfer_leader(request)
                .await
                .ok()
                .map(|reply| codec::encode(&reply)),
        };
        // Without an answer the replier is dropped, which the peer sees as a failure.
        if let Some(Ok(bytes)) = bytes {
            reply.send(bytes.into());
        }
    }

    /// Serves a stream of append requests. While the disk has no room, entries are not taken: the stream
    /// ends, and the leader, whose heartbeats are still answered, offers them again.
    pub(crate) async fn serve_appends(&self, sender: StreamSender, receiver: StreamReceiver) {
        let log = self.log.clone();
        let requests =
            futures_util::stream::unfold((receiver, log), |(mut receiver, log)| async move {
                let bytes = receiver.recv().await?.ok()?;
                let request: AppendEntriesRequest<TypeConfig> = codec::decode(&bytes).ok()?;
                if !request.entries.is_empty() && !log.wait_for_room().await {
                    return None;
                }
                Some((request, (receiver, log)))
            });
        #[cfg(feature = "planted-bugs")]
        if platform::simulated::is_planted("reply-before-commit") {
            return self.serve_appends_too_early(sender, requests).await;
        }
        let replies = self.raft.stream_append(requests);
        futures_util::pin_mut!(replies);
        while let Some(Ok(result)) = replies.next().await {
            let Ok(bytes) = codec::encode(&result) else {
                return;
            };
            if sender.send(bytes.into()).await.is_err() {
                return;
            }
        }
    }

    /// The planted bug: says yes to entries that were received, before they are checked and synced.
    #[cfg(feature = "planted-bugs")]
    async fn serve_appends_too_early(
        &self,
        sender: StreamSender,
        requests: impl futures_util::Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + 'static,
    ) {
        let (forward, received) = tokio::sync::mpsc::channel(64);
        let received = futures_util::stream::unfold(received, |mut received| async move {
            Some((received.recv().await?, received))
        });
        let raft = self.raft.clone();
        tokio::spawn(async move {
            let replies = raft.stream_append(received);
            futures_util::pin_mut!(replies);
            while replies.next().await.is_some() {}
        });
        futures_util::pin_mut!(requests);
        while let Some(request) = requests.next().await {
            let last = request.entries.last().map(|entry| entry.log_id);
            let early: AppendResult = Ok(last.or(request.prev_log_id));
            if forward.send(request).await.is_err() {
                return;
            }
            let Ok(bytes) = codec::encode(&early) else {
                return;
            };
            if sender.send(bytes.into()).await.is_err() {
                return;
            }
        }
    }

    /// Receives a snapshot and installs it.
    pub(crate) async fn serve_snapshot(
        &self,
        header: SnapshotHeader,
        sender: StreamSender,
        mut receiver: StreamReceiver,
    ) {
        let received = self.receive_snapshot(&header, &sender, &mut receiver).await;
        let snapshot = match received {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::warn!(%error, "a snapshot from a peer was not received");
                return;
            }
        };
        let snapshot: Snapshot<LeaderTerm, u64, (), SnapshotFile> = Snapshot {
            meta: header.meta,
            snapshot,
        };
        match self.raft.install_full_snapshot(header.vote, snapshot).await {
            Ok(response) => {
                if let Ok(bytes) = codec::encode(&response) {
                    // If the peer is gone it will ask again.
                    let _ = sender.send(bytes.into()).await;
                }
            }
            Err(error) => tracing::warn!(%error, "a snapshot was not installed"),
        }
    }

    /// Receives a snapshot into a file and checks it: one that is damaged must not be installed.
    async fn receive_snapshot(
        &self,
        header: &SnapshotHeader,
        sender: &StreamSender,
        receiver: &mut StreamReceiver,
    ) -> io::Result<SnapshotFile> {
        let file = self
            .snapshots
            .incoming(&SnapshotPosition(header.meta.clone()));
        let received = async {
            self.snapshots.check_room(header.bytes)?;
            let mut out = AsyncFile::create(&file.path).await?;
            let mut left = header.bytes;
            while left > 0 {
                let chunk = receiver.recv().await.ok_or(io::ErrorKind::UnexpectedEof)?;
                let chunk = chunk.map_err(io::Error::other)?;
                left = left
                    .checked_sub(chunk.len() as u64)
                    .ok_or(io::ErrorKind::InvalidData)?;
                out.write_all(&chunk).await?;
                sender.send(Bytes::new()).await.map_err(io::Error::other)?;
            }
            out.sync_all().await?;
            let (snapshots, checked) = (self.snapshots.clone(), file.clone());
            let checking = platform::blocking(move || snapshots.check(&checked));
            checking.await.map_err(io::Error::other)?
        };
        match received.await {
            Ok(()) => Ok(file),
            Err(error) => {
                snapshot::discard(&file.path);
                Err(error)
            }
        }
    }
}
