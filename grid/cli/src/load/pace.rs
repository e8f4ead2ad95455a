//! When a connection sends its requests.

use std::time::{Duration, Instant};

/// One connection's schedule.
#[derive(Debug)]
pub(super) enum Pace {
    /// Fixed in advance: the connections take turns at one rate.
    Open {
        /// The first request of all connections.
        start: Instant,
        /// The end of the schedule.
        end: Instant,
        /// Between two requests of all connections.
        interval_s: f64,
        /// The place of this connection's next request in the whole schedule.
        next: u64,
        /// Connections.
        stride: u64,
    },
    /// The next follows the last.
    Closed {
        /// The first.
        start: Instant,
        /// No request is begun after it.
        end: Instant,
    },
}

impl Pace {
    pub(super) fn open(
        start: Instant,
        duration: Duration,
        rate: f64,
        number: usize,
        connections: usize,
    ) -> Self {
        Self::Open {
            start,
            end: start + duration,
            interval_s: 1.0 / rate,
            next: number as u64,
            stride: connections as u64,
        }
    }

    pub(super) fn closed(start: Instant, duration: Duration) -> Self {
        Self::Closed {
            start,
            end: start + duration,
        }
    }

    /// Waits until the next request is due and returns when it was due, which is earlier where the
    /// connection was busy. `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Instant> {
        match self {
            Self::Open {
                start,
                end,
                interval_s,
                next,
                stride,
            } => {
                let due = *start + Duration::from_secs_f64(*interval_s * *next as f64);
                if due >= *end {
                    return None;
                }
                *next += *stride;
                if due > Instant::now() {
                    tokio::time::sleep_until(due.into()).await;
                }
                Some(due)
            }
            Self::Closed { start, end } => {
                let now = Instant::now();
                if now < *start {
                    tokio::time::sleep_until((*start).into()).await;
                    return Some(Instant::now());
                }
                (now < *end).then_some(now)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_open_schedule_does_not_wait_for_the_slow() {
        let start = Instant::now() - Duration::from_secs(10);
        let mut sent = 0;
        for number in 0..4 {
            let mut pace = Pace::open(start, Duration::from_secs(5), 20.0, number, 4);
            let mut last = None;
            while let Some(due) = pace.next().await {
                assert!(last.is_none_or(|last| due > last));
                last = Some(due);
                sent += 1;
            }
        }
        assert_eq!(sent, 100, "all that were due, however late");
    }

    #[tokio::test]
    async fn the_closed_loop_ends() {
        let start = Instant::now() - Duration::from_secs(2);
        assert!(
            Pace::closed(start, Duration::from_secs(1))
                .next()
                .await
                .is_none()
        );
        assert!(
            Pace::closed(start, Duration::from_secs(600))
                .next()
                .await
                .is_some()
        );
    }
}
