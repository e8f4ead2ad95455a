//! openraft's runtime and the pool for blocking work, without threads and with seeded randomness.

use std::future::Future;
use std::io;
use std::time::Duration;

use openraft::OptionalSend;
use openraft::async_runtime::AsyncRuntime;
use openraft_rt_tokio::TokioRuntime;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::task::JoinHandle;

use super::super::delegated::delegated_to_tokio;
use super::world;

/// tokio as openraft uses it, save that random numbers come from the simulation's seed.
#[derive(Debug)]
pub struct SimulatedRuntime(TokioRuntime);

impl AsyncRuntime for SimulatedRuntime {
    delegated_to_tokio!();

    type ThreadLocalRng = SmallRng;

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn thread_rng() -> SmallRng {
        SmallRng::seed_from_u64(world::draw())
    }

    fn spawn_blocking<F, T>(work: F) -> impl Future<Output = Result<T, io::Error>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let task = blocking(work);
        async { task.await.map_err(io::Error::other) }
    }
}

/// Runs blocking work as a task of its own: on no other thread, and not before the caller yields.
pub(crate) fn blocking<F, T>(work: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    tokio::spawn(async move { work() })
}

/// The same: a simulation has one thread.
pub(crate) async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    blocking(work).await.map_err(io::Error::other)
}

/// Nothing: nobody else would run meanwhile.
pub(crate) fn rest(_duration: Duration) {}
