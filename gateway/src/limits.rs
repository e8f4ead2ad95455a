//! The gateway's bounds that are not settings, and the token bucket.

use tokio::time::Instant;

/// Messages a second that one connection may send in the long run.
pub(crate) const MESSAGES_PER_S_MAX: u64 = 2_000;
/// Messages that one connection may send at once after a pause.
pub(crate) const MESSAGES_BURST_MAX: u64 = 4_000;
/// Headers of one request.
pub(crate) const HEADERS_MAX: usize = 64;
/// Buffer of one HTTP connection, in bytes; also the longest request line with its headers.
pub(crate) const HTTP_BUFFER_BYTES_MAX: usize = 32 << 10;
/// The longest idempotency key, in bytes.
pub(crate) const KEY_BYTES_MAX: usize = 256;
/// The most entries of a page.
pub(crate) const PAGE_LIMIT_MAX: usize = 1_000;
/// Entries of a page unless asked otherwise.
pub(crate) const PAGE_LIMIT_DEFAULT: usize = 100;
/// Auctions whose currency is remembered.
pub(crate) const AUCTIONS_CACHED_MAX: usize = 65_536;
/// Events whose layout is remembered; a venue of 20,000 seats takes about 250 kB.
pub(crate) const LAYOUTS_CACHED_MAX: usize = 128;
/// Read buffer of a WebSocket, in bytes; every connection keeps one. Longer messages get a longer one.
pub(crate) const READ_BUFFER_BYTES: usize = 2 << 10;
/// Pings, pongs and the goodbye are handed to the system at this many bytes.
pub(crate) const CONTROL_BUFFER_BYTES: usize = 1 << 10;
/// What waits for a client is written together up to this many bytes, so that many short answers cost one
/// call of the system; a longer message goes alone.
pub(crate) const WRITE_BATCH_BYTES_MAX: usize = 16 << 10;
/// A client that takes nothing for this long is a slow consumer.
pub(crate) const WRITE_TIMEOUT_MS: u64 = 20_000;
/// The longest that a goodbye may take.
pub(crate) const GOODBYE_TIMEOUT_MS: u64 = 4_000;
/// After the goodbye, what the client still sends is read and dropped for this long.
pub(crate) const LINGER_TIMEOUT_MS: u64 = 1_000;
/// See [`LINGER_TIMEOUT_MS`]: at most this many bytes.
pub(crate) const LINGER_BYTES_MAX: usize = 4 << 20;
/// A gateway that others replace sends about so many clients away a second...
pub(crate) const SENT_AWAY_PER_S: u64 = 1_000;
/// ... and all of them within this time, some every [`SEND_AWAY_PAUSE_MS`].
pub(crate) const SEND_AWAY_MS_MAX: u64 = 2_000;
/// See [`SEND_AWAY_MS_MAX`].
pub(crate) const SEND_AWAY_PAUSE_MS: u64 = 10;
/// The clients of a gateway that stops come back spread over so long that the others let in about so many a
/// second...
pub(crate) const RECONNECTS_PER_S: u64 = 4_000;
/// ... and over no less than this.
pub(crate) const RECONNECT_MS_SPREAD_MIN: u64 = 50;
/// A client that was sent away for another reason comes back after this long at the earliest...
pub(crate) const RETRY_AFTER_MS_MIN: u64 = 250;
/// ... and this much later at the latest, by chance, so that not all come at once.
pub(crate) const RETRY_AFTER_MS_SPREAD: u64 = 2_000;
/// The most gateways that a client is told of.
pub(crate) const ROUTE_GATEWAYS_MAX: usize = 16;
/// What a client is told to wait whose address or user has too many connections: one of them may end.
pub(crate) const PLACE_RETRY_AFTER_MS: u64 = 1_000;
/// The longest HTTP body but that of a new event, in bytes.
pub(crate) const SMALL_BODY_BYTES_MAX: usize = 256 << 10;
/// What a client is told to wait when the gateway has too much to do.
pub(crate) const WORK_RETRY_AFTER_MS: u64 = 250;
/// All connections together get this long to end when the gateway stops.
pub(crate) const SHUTDOWN_TIMEOUT_MS: u64 = 5_000;
/// A resuming client gets at most this many events replayed, else a snapshot.
pub(crate) const REPLAY_EVENTS_MAX: usize = 4_096;
/// A resuming client's cursor may be at most this many log entries old, else it gets a snapshot.
pub(crate) const REPLAY_ENTRIES_MAX: u64 = 1_000_000;
/// A replay that takes longer gives way to a snapshot.
pub(crate) const REPLAY_TIMEOUT_MS: u64 = 5_000;
/// A cursor ahead of this node may be caught up with in this time, else it is of another history.
pub(crate) const CATCH_UP_TIMEOUT_MS: u64 = 2_000;
/// The last events of an auction that are kept for clients that come back.
pub(crate) const RING_EVENTS_MAX: usize = 256;
/// The last holds of an event that ran out, kept for their buyers in case they come back.
pub(crate) const EXPIRED_HOLDS_MAX: usize = 1_024;
/// Auctions and events of one partition that nobody watches any more and that are kept for those who come
/// back; the one left longest goes first.
pub(crate) const IDLE_TOPICS_MAX: usize = 64;
/// And for how long they are kept.
pub(crate) const IDLE_TOPIC_MS_MAX: u64 = 120_000;
/// A follower gives way to other work after so many deliveries, each of which is at most one write.
pub(crate) const DELIVERIES_PER_TURN_MAX: usize = 64;
/// Seat changes that wait while an event's board is being loaded.
pub(crate) const BOARD_BACKLOG_MAX: usize = 65_536;
/// What a client is told to wait when an event's board cannot be had just now.
pub(crate) const BOARD_RETRY_AFTER_MS: u64 = 500;
/// A stopped feed is followed again after this long.
pub(crate) const FEED_RETRY_MS: u64 = 200;
/// The accept loop pauses this long when the system has no sockets left.
pub(crate) const ACCEPT_RETRY_MS: u64 = 50;
/// Most bytes of a client's own id of its request; a longer one is replaced.
pub(crate) const REQUEST_ID_BYTES_MAX: usize = 128;
/// How long an operator's order may take before its outcome is no longer waited for.
pub(crate) const OPERATION_TIMEOUT_MS: u64 = 120_000;
/// A snapshot is sent in pieces of this size.
pub(crate) const SNAPSHOT_CHUNK_BYTES: usize = 256 << 10;
/// Histories that one node reads for operators at a time; the next is asked to come again.
pub(crate) const HISTORIES_MAX: usize = 1;
/// A history is sent in pieces of about this size.
pub(crate) const HISTORY_CHUNK_BYTES: usize = 64 << 10;
/// Pieces of a history that wait for the client; reading then rests.
pub(crate) const HISTORY_CHUNKS_MAX: usize = 4;
/// A client that takes nothing of its history for this long gets no more of it.
pub(crate) const HISTORY_STALL_TIMEOUT_MS: u64 = 30_000;

/// Events that are remembered to have a waiting room.
pub(crate) const ROOMS_CACHED_MAX: usize = 4_096;
/// How far apart the rounds are in which those who wait are told where they are.
pub(crate) const QUEUE_ROUND_MS: u64 = 1_000;
/// Whoever is near the front is told no more often than this...
pub(crate) const TOLD_NEAR_MS: u64 = 900;
/// ... whoever is farther away ...
pub(crate) const TOLD_MIDDLE_MS: u64 = 5_000;
/// ... and whoever is far away.
pub(crate) const TOLD_FAR_MS: u64 = 15_000;
/// How often it is looked whether the pass of somebody who waits here is over.
pub(crate) const PASS_LOOK_MS: u64 = 3_000;
/// People of one room that a round tells; the others are told in the next.
pub(crate) const TELLS_PER_ROUND_MAX: usize = 4_000;
/// People of one room about whom a round asks the partition.
pub(crate) const PLACES_PER_ROUND_MAX: usize = 10_000;

/// A bucket of message tokens: refilled with time, one taken a message.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    /// In thousandths of a token, so that a millisecond's refill is exact.
    millitokens: u64,
    refilled: Instant,
}

impl TokenBucket {
    pub(crate) fn full(now: Instant) -> Self {
        Self {
            millitokens: MESSAGES_BURST_MAX * 1_000,
            refilled: now,
        }
    }

    /// Takes one token.
    ///
    /// # Errors
    /// The time in ms after which there will be one.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), u64> {
        let elapsed_us = now.saturating_duration_since(self.refilled).as_micros() as u64;
        let refill = elapsed_us.saturating_mul(MESSAGES_PER_S_MAX) / 1_000;
        if refill > 0 {
            self.millitokens = (self.millitokens + refill).min(MESSAGES_BURST_MAX * 1_000);
            self.refilled = now;
        }
        if self.millitokens >= 1_000 {
            self.millitokens -= 1_000;
            return Ok(());
        }
        Err(1 + (1_000 - self.millitokens) / MESSAGES_PER_S_MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let start = Instant::now();
        let mut bucket = TokenBucket::full(start);
        for _ in 0..MESSAGES_BURST_MAX {
            assert_eq!(bucket.take(start), Ok(()));
        }
        let wait_ms = bucket.take(start).expect_err("empty");
        assert!((1..=10).contains(&wait_ms), "{wait_ms}");
        let later = start + Duration::from_millis(wait_ms);
        assert_eq!(bucket.take(later), Ok(()));

        let second = later + Duration::from_secs(1);
        let passed = (0..MESSAGES_BURST_MAX)
            .filter(|_| bucket.take(second).is_ok())
            .count() as u64;
        assert!(passed.abs_diff(MESSAGES_PER_S_MAX) <= 2, "{passed}");
    }

    #[test]
    fn a_long_pause_gives_no_more_than_a_burst() {
        let start = Instant::now();
        let mut bucket = TokenBucket::full(start);
        let later = start + Duration::from_secs(3_600);
        let passed = (0..2 * MESSAGES_BURST_MAX)
            .filter(|_| bucket.take(later).is_ok())
            .count() as u64;
        assert_eq!(passed, MESSAGES_BURST_MAX);
    }
}
