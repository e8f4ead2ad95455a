//! The real machine.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) use super::runtime::GridRuntime as Runtime;
pub(crate) use tokio::fs::File as AsyncFile;
pub(crate) use tokio::task::spawn_blocking as blocking;

/// The part of the file system's interface that this crate uses.
pub(crate) mod fs {
    pub(crate) use std::fs::{
        File, TryLockError, create_dir_all, read, read_dir, remove_file, rename,
    };
    pub(crate) use std::os::unix::fs::FileExt;
    use std::path::Path;
    use std::time::UNIX_EPOCH;

    use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

    use crate::disk::DiskRoom;

    /// Lets what memory holds of a file go, as far as it is on the disk, so that the disk is read. Where
    /// the system does not, memory is read as ever.
    pub(crate) fn forget_cached(file: &File) {
        let advice = PosixFadviseAdvice::POSIX_FADV_DONTNEED;
        if let Err(error) = posix_fadvise(file, 0, 0, advice) {
            tracing::debug!(%error, "the system keeps a file in memory");
        }
    }

    /// The room of the file system that a path is on; `None` where the system does not say.
    pub(crate) fn room(path: &Path) -> Option<DiskRoom> {
        let found = nix::sys::statvfs::statvfs(path).ok()?;
        let unit = found.fragment_size();
        Some(DiskRoom {
            free_bytes: found.blocks_available().saturating_mul(unit),
            total_bytes: found.blocks().saturating_mul(unit),
        })
    }

    /// When a file was last written, in milliseconds since the Unix epoch.
    pub(crate) fn modified_ms(path: &Path) -> Option<u64> {
        let modified = std::fs::metadata(path).ok()?.modified().ok()?;
        let since = modified.duration_since(UNIX_EPOCH).ok()?;
        u64::try_from(since.as_millis()).ok()
    }
}

/// TCP.
pub(crate) mod net {
    use std::io;

    pub(crate) use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
    pub(crate) use tokio::net::{TcpListener, TcpStream};
    use tokio::net::{TcpSocket, lookup_host};

    /// A bound socket, as a node is given it.
    pub(crate) type Listener = std::net::TcpListener;

    /// Takes a bound socket into the runtime.
    pub(crate) fn listen(listener: Listener) -> io::Result<TcpListener> {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    }

    /// Connects to the first address that answers.
    pub(crate) async fn dial(address: &str) -> io::Result<TcpStream> {
        let mut last = None;
        for address in lookup_host(address).await? {
            let socket = if address.is_ipv4() {
                TcpSocket::new_v4()?
            } else {
                TcpSocket::new_v6()?
            };
            socket.set_nodelay(true)?;
            socket.set_keepalive(true)?;
            match socket.connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no address")))
    }
}

/// Randomness.
pub(crate) mod random {
    pub(crate) use getrandom::{fill, u64};
}

/// Milliseconds since the Unix epoch.
pub(super) fn wall_clock_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
