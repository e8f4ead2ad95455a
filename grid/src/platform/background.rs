//! Long work that nobody waits for: on a thread of its own that gives way to all others.

use std::io;
use std::time::Duration;

use tokio::sync::oneshot;

/// How much more readily than others such a thread gives its core away, from 0 to 19. At 10 it gets a
/// tenth of what another one gets that wants the core too, and all of a core that nobody wants.
const NICENESS: i32 = 10;

/// Does `work` on such a thread, and to its end even when nobody waits for it any more.
///
/// # Errors
/// When there can be no thread, or the work panicked.
pub(crate) async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (sender, done) = oneshot::channel();
    let thread = std::thread::Builder::new().name("background".to_owned());
    thread.spawn(move || {
        // On Linux this is the thread's own.
        if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
            tracing::debug!(%error, "the system does not let a thread give way");
        }
        // Who waited may have gone.
        let _ = sender.send(work());
    })?;
    done.await
        .map_err(|_| io::Error::other("work in the background ended early"))
}

/// Lets others have the disk and the core for a while.
pub(crate) fn rest(duration: Duration) {
    std::thread::sleep(duration);
}
