//! A private server as somebody else than its supervisor sees it: its process, and its socket, which can be
//! hidden for a while. For measurements of what the grid does while its database is away or killed.

use std::fs;
use std::path::{Path, PathBuf};

use super::DatabaseError;
use super::socket::{SOCKET_PORT, socket_dir};
use super::supervisor::recorded_pid;

/// The private server of a data directory.
#[derive(Clone, Debug)]
pub struct PrivateServer {
    data: PathBuf,
    socket: PathBuf,
}

/// A server that nobody can connect to. Dropping it gives the server its socket back.
#[derive(Debug)]
pub struct Hidden {
    socket: PathBuf,
    aside: PathBuf,
}

impl PrivateServer {
    /// The server under a data directory; `None` where there is none.
    ///
    /// # Errors
    /// [`DatabaseError::Io`] when the directory cannot be read.
    pub fn of(data_dir: &Path) -> Result<Option<Self>, DatabaseError> {
        let found = fs::canonicalize(data_dir);
        let home = found
            .map_err(DatabaseError::io("the data directory"))?
            .join("postgres");
        let data = home.join("data");
        let socket = socket_dir(&home).join(format!(".s.PGSQL.{SOCKET_PORT}"));
        Ok(data
            .join("PG_VERSION")
            .exists()
            .then_some(Self { data, socket }))
    }

    /// The number of its process, as the server itself has written it down.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        recorded_pid(&self.data)
    }

    /// Hides its socket, so that new connections find nothing at its address; those that are open stay.
    ///
    /// # Errors
    /// [`DatabaseError::Io`] when the socket is not there or cannot be renamed.
    pub fn hide(&self) -> Result<Hidden, DatabaseError> {
        let aside = self.socket.with_extension("hidden");
        fs::rename(&self.socket, &aside).map_err(DatabaseError::io("hide the server's socket"))?;
        Ok(Hidden {
            socket: self.socket.clone(),
            aside,
        })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A server that was started again meanwhile has made a new one, which is as good.
        if !self.socket.exists()
            && let Err(error) = fs::rename(&self.aside, &self.socket)
        {
            tracing::warn!(%error, "the database's socket could not be given back");
        }
    }
}
