//! The thread on which a pump works.
//!
//! Turning changes into rows, hashing and compressing them takes milliseconds at a time, and a node has
//! few threads for its clients: they would wait behind it. The pump's tasks therefore run on one thread
//! of their own, which bounds what all lanes of a node take from the machine as well.

use tokio::runtime::{Builder, Handle, Runtime};

/// Runs the pump's tasks for as long as it lives.
#[derive(Debug)]
pub(super) struct PumpThread(Option<Runtime>);

impl PumpThread {
    /// # Errors
    /// The system's, when it has no thread to give.
    pub(super) fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("pump")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    pub(super) fn handle(&self) -> &Handle {
        match &self.0 {
            Some(runtime) => runtime.handle(),
            None => unreachable!("the runtime is taken only when this is dropped"),
        }
    }
}

impl Drop for PumpThread {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // It may be dropped by a task, which must not wait for others.
            runtime.shutdown_background();
        }
    }
}
