//! What can go wrong between two nodes, and what the caller should do about it.

/// Why a request has no reply, or a stream ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TransportError {
    /// There is no connection to the peer just now; nothing was sent. Retry, or ask another node.
    #[error("node {peer} cannot be reached")]
    Unreachable {
        /// The node that was asked.
        peer: u64,
    },
    /// The queue towards the peer, or its table of open requests or streams, is full; nothing was
    /// sent. Retry after a pause.
    #[error("the queue to node {peer} is full")]
    Overloaded {
        /// The node that was asked.
        peer: u64,
    },
    /// No reply in time. The peer may or may not have carried the request out.
    #[error("node {peer} did not reply in time")]
    Timeout {
        /// The node that was asked.
        peer: u64,
    },
    /// The connection was lost after the request was handed over. The peer may or may not have
    /// carried it out.
    #[error("the connection to node {peer} was lost")]
    Disconnected {
        /// The node that was asked.
        peer: u64,
    },
    /// The peer received the request and gave up on it without a reply. It may have begun to carry
    /// it out.
    #[error("node {peer} gave no reply to the request")]
    Rejected {
        /// The node that was asked.
        peer: u64,
    },
    /// One side closed the stream; messages sent last may not have been read.
    #[error("the stream is closed")]
    StreamClosed,
    /// The receiver of the stream fell behind its queue, so messages were lost. Open a new stream
    /// and keep a smaller window.
    #[error("the stream was reset, its receiver fell behind")]
    StreamReset,
    /// The payload does not fit a frame. Do not retry; split it.
    #[error("a payload of {bytes} bytes does not fit a frame")]
    TooLarge {
        /// The payload's size.
        bytes: usize,
    },
    /// The node is not a member of the grid, or is this node itself. Do not retry.
    #[error("node {peer} is not a peer")]
    UnknownPeer {
        /// The node that was asked.
        peer: u64,
    },
    /// This node's transport was shut down. Do not retry.
    #[error("the transport is shut down")]
    ShutDown,
}

impl TransportError {
    /// Whether the same call may succeed later.
    #[cfg(test)]
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Overloaded { .. }
            | Self::Timeout { .. }
            | Self::Disconnected { .. }
            | Self::Rejected { .. }
            | Self::StreamClosed
            | Self::StreamReset => true,
            Self::TooLarge { .. } | Self::UnknownPeer { .. } | Self::ShutDown => false,
        }
    }

    /// Whether the peer may have seen the request although there is no reply: what it did is then
    /// unknown, and only a request that bears repeating may be sent again.
    pub(crate) fn may_have_been_sent(&self) -> bool {
        match self {
            Self::Timeout { .. }
            | Self::Disconnected { .. }
            | Self::Rejected { .. }
            | Self::StreamClosed
            | Self::StreamReset => true,
            Self::Unreachable { .. }
            | Self::Overloaded { .. }
            | Self::TooLarge { .. }
            | Self::UnknownPeer { .. }
            | Self::ShutDown => false,
        }
    }
}
