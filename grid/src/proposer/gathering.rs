//! When the next entry leaves.
//!
//! An entry has a fixed cost on every replica: a write and a sync, messages, wake-ups. So commands gather
//! while an entry is in flight, and where they come in a stream for a little longer: entries then keep a
//! distance that follows what they take to commit, so that the slower the machine is, the more commands
//! share one. Enough of them leave at once; and whoever is alone waits for nobody.

use std::time::{Duration, Instant};

use grid_core::entry::ENTRY_COMMANDS_MAX;
use tokio::sync::{Semaphore, mpsc};

/// Entries proposed and not yet applied.
pub(super) const ENTRIES_IN_FLIGHT_MAX: usize = 4;
/// So many commands wait for nothing but a free place in flight.
const PIPELINED_COMMANDS_MIN: usize = 128;
/// An entry of at least this many commands tells of a stream.
const STREAM_COMMANDS_MIN: usize = 8;
/// In a stream, entries keep this many times the distance of what they take to commit...
const ENTRY_SPACING_COMMITS: u32 = 3;
/// ... but no more than this, which is what a client may wait for it.
const ENTRY_SPACING_MAX: Duration = Duration::from_millis(8);

/// How long after an entry of so many commands the next may follow, when entries commit in `delay`.
pub(super) fn entry_spacing(commands: usize, delay: Duration) -> Option<Duration> {
    let is_stream = commands >= STREAM_COMMANDS_MIN;
    is_stream.then(|| ENTRY_SPACING_MAX.min(delay.saturating_mul(ENTRY_SPACING_COMMITS)))
}

/// Takes more of what comes into `waiting` until an entry should leave; `taken` sees each take. One permit
/// of `in_flight` is held by the caller. `false` when nothing can come any more.
pub(super) async fn gather<T>(
    submissions: &mut mpsc::Receiver<T>,
    waiting: &mut Vec<T>,
    in_flight: &Semaphore,
    not_before: Option<Instant>,
    mut taken: impl FnMut(&[T]),
) -> bool {
    let all_others = ENTRIES_IN_FLIGHT_MAX as u32 - 1;
    let mut have_landed = false;
    let spacing = until(not_before);
    tokio::pin!(spacing);
    while waiting.len() < PIPELINED_COMMANDS_MIN {
        let (known, room) = (waiting.len(), ENTRY_COMMANDS_MAX - waiting.len());
        tokio::select! {
            biased;
            landed = in_flight.acquire_many(all_others), if !have_landed => {
                if landed.is_err() {
                    return false;
                }
                have_landed = true;
            }
            () = &mut spacing, if have_landed => return true,
            count = submissions.recv_many(waiting, room) => {
                if count == 0 {
                    return false;
                }
                taken(&waiting[known..]);
            }
        }
    }
    true
}

async fn until(time: Option<Instant>) {
    if let Some(time) = time {
        tokio::time::sleep_until(time.into()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::OwnedSemaphorePermit;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    struct Scene {
        sender: mpsc::Sender<u32>,
        in_flight: Arc<Semaphore>,
        own: OwnedSemaphorePermit,
        waiting: tokio::task::JoinHandle<(Vec<u32>, Duration)>,
    }

    /// One command waits, `others` entries are in flight, and the next entry keeps `spacing`.
    async fn scene(
        others: u32,
        spacing: Option<Duration>,
    ) -> (Scene, Option<OwnedSemaphorePermit>) {
        let in_flight = Arc::new(Semaphore::new(ENTRIES_IN_FLIGHT_MAX));
        let take = |count| Arc::clone(&in_flight).acquire_many_owned(count);
        let own = take(1).await.expect("it is open");
        let flying = match others {
            0 => None,
            _ => take(others).await.ok(),
        };
        let (sender, mut submissions) = mpsc::channel(1024);
        let semaphore = Arc::clone(&in_flight);
        let start = tokio::time::Instant::now();
        let not_before = spacing.map(|spacing| (start + spacing).into_std());
        let waiting = tokio::spawn(async move {
            let mut waiting = vec![0];
            assert!(
                gather(
                    &mut submissions,
                    &mut waiting,
                    &semaphore,
                    not_before,
                    |_| ()
                )
                .await
            );
            (waiting, start.elapsed())
        });
        let scene = Scene {
            sender,
            in_flight,
            own,
            waiting,
        };
        (scene, flying)
    }

    impl Scene {
        async fn send(&self, count: usize) {
            for _ in 0..count {
                self.sender.send(1).await.expect("it listens");
            }
        }

        async fn ended(self) -> (usize, Duration) {
            let (waiting, took) = self.waiting.await.expect("it does not panic");
            drop((self.own, self.in_flight));
            (waiting.len(), took)
        }
    }

    #[test]
    fn entries_keep_a_distance_only_in_a_stream_and_never_a_long_one() {
        assert_eq!(entry_spacing(STREAM_COMMANDS_MIN - 1, ms(2)), None);
        assert_eq!(entry_spacing(STREAM_COMMANDS_MIN, ms(2)), Some(ms(6)));
        assert_eq!(entry_spacing(100, ms(500)), Some(ENTRY_SPACING_MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_alone_waits_for_nothing() {
        let (scene, _) = scene(0, None).await;
        assert_eq!(scene.ended().await, (1, ms(0)));
    }

    #[tokio::test(start_paused = true)]
    async fn commands_gather_until_the_flight_has_ended_and_the_distance_is_kept() {
        let (scene_, flying) = scene(1, Some(ms(8))).await;
        tokio::time::sleep(ms(3)).await;
        scene_.send(5).await;
        drop(flying);
        tokio::time::sleep(ms(3)).await;
        scene_.send(2).await;
        assert_eq!(scene_.ended().await, (8, ms(8)));

        let (scene_, flying) = scene(1, Some(ms(2))).await;
        tokio::time::sleep(ms(5)).await;
        assert!(!scene_.waiting.is_finished(), "an entry is in flight");
        drop(flying);
        assert_eq!(scene_.ended().await, (1, ms(5)));
    }

    #[tokio::test(start_paused = true)]
    async fn enough_commands_leave_at_once() {
        let (scene, _flying) = scene(1, Some(ms(8))).await;
        scene.send(PIPELINED_COMMANDS_MIN - 1).await;
        let (count, took) = scene.ended().await;
        assert_eq!((count, took), (PIPELINED_COMMANDS_MIN, ms(0)));
    }
}
