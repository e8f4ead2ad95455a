//! PostgreSQL inside this process, for machines that have none.
//!
//! It answers one connection at a time (a second one waits until the first is closed) and does not
//! sync its files, so a power cut may damage it; a killed process does not.
//!
//! It unpacks about 100 MB under `$XDG_CACHE_HOME` (else `~/.cache`). A process cannot safely change
//! its own environment, so whoever launches it sets that variable to keep everything in one place.

use std::fmt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use pglite_oxide::PgliteServer;

use super::DatabaseError;
use super::socket::{SOCKET_PORT, private_folder, socket_dir, url};

/// The folder below the data directory.
const FOLDER: &str = "postgres-embedded";
/// The only user and database it has.
const SUPERUSER: &str = "postgres";
const DATABASE_NAME: &str = "template1";

/// The server's thread and its address.
pub(super) struct EmbeddedServer {
    server: PgliteServer,
    url: String,
}

impl fmt::Debug for EmbeddedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedServer")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl EmbeddedServer {
    /// Opens the database under `data_dir`, made if it is not there.
    pub(super) fn start(data_dir: &Path) -> Result<Self, DatabaseError> {
        let home = std::path::absolute(data_dir)
            .map_err(DatabaseError::io("the current directory"))?
            .join(FOLDER);
        private_folder(&home)?;
        let socket_dir = socket_dir(&home);
        private_folder(&socket_dir)?;
        let socket = socket_dir.join(format!(".s.PGSQL.{SOCKET_PORT}"));
        // A killed predecessor leaves its socket; a living one answers.
        if UnixStream::connect(&socket).is_ok() {
            return Err(DatabaseError::Start(format!(
                "another process serves {}; stop it, or choose another data directory",
                home.display()
            )));
        }
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(DatabaseError::io("remove the old socket")(error));
            }
            _ => {}
        }
        let server = PgliteServer::builder()
            .path(home.join("data"))
            .unix(&socket)
            .start()
            .map_err(|error| DatabaseError::Start(format!("{error:#}")))?;
        Ok(Self {
            server,
            url: url(SUPERUSER, DATABASE_NAME, &socket_dir),
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Stops answering and closes the files. Every connection must be closed before.
    pub(super) fn stop(self) -> Result<(), DatabaseError> {
        self.server
            .shutdown()
            .map_err(|error| DatabaseError::Start(format!("stop: {error:#}")))
    }
}
