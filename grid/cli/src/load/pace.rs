//! When a connection sends its requests.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// Ends the schedules of a run early, when what was to be seen has been seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ending(CancellationToken);

impl Ending {
    /// From now on no request is begun.
    pub(crate) fn end(&self) {
        self.0.cancel();
    }

    /// Whether it was ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// One connection's schedule, which may be ended early.
#[derive(Debug)]
pub(super) struct Pace {
    schedule: Schedule,
    ending: Ending,
}

/// When the requests of a connection are due.
#[derive(Debug)]
enum Schedule {
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
        let schedule = Schedule::Open {
            start,
            end: start + duration,
            interval_s: 1.0 / rate,
            next: number as u64,
            stride: connections as u64,
        };
        Self {
            schedule,
            ending: Ending::default(),
        }
    }

    pub(super) fn closed(start: Instant, duration: Duration) -> Self {
        let schedule = Schedule::Closed {
            start,
            end: start + duration,
        };
        Self {
            schedule,
            ending: Ending::default(),
        }
    }

    /// Ends early with `ending`.
    pub(super) fn until(mut self, ending: Ending) -> Self {
        self.ending = ending;
        self
    }

    /// Waits until the next request is due and returns when it was due, which is earlier where the
    /// connection was busy. `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Instant> {
        // A slow schedule's next request may be minutes away.
        tokio::select! {
            biased;
            due = self.schedule.next() => due.filter(|_| !self.ending.has_ended()),
            () = self.ending.0.cancelled() => None,
        }
    }
}

impl Schedule {
    async fn next(&mut self) -> Option<Instant> {
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

    #[tokio::test]
    async fn a_schedule_is_ended_early() {
        let ending = Ending::default();
        let start = Instant::now() - Duration::from_secs(1);
        let open = Pace::open(start, Duration::from_secs(600), 10.0, 0, 1);
        let mut pace = open.until(ending.clone());
        assert!(pace.next().await.is_some());
        ending.end();
        assert!(pace.next().await.is_none());
    }

    #[tokio::test]
    async fn nobody_waits_for_a_request_that_is_no_longer_wanted() {
        let ending = Ending::default();
        let start = Instant::now() + Duration::from_secs(3_600);
        let closed = Pace::closed(start, Duration::from_secs(3_600));
        let mut pace = closed.until(ending.clone());
        let waiting = tokio::spawn(async move { pace.next().await });
        tokio::task::yield_now().await;
        ending.end();
        // A limit only so that a defect does not take an hour.
        let ended = tokio::time::timeout(Duration::from_secs(60), waiting).await;
        assert_eq!(ended.expect("it ends").expect("no panic"), None);
    }
}
