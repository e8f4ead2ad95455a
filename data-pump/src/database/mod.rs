//! Where the SQL database comes from.
//!
//! ```text
//!   a URL was given ──────────────► Given       checked: PostgreSQL 13 or newer
//!   PostgreSQL is installed ──────► Supervised  a private cluster in the data directory, socket only
//!   feature `embedded-postgres` ──► Embedded    PostgreSQL 17 in this process, one connection at a time
//!   otherwise ────────────────────► an error that names what to install
//! ```
//!
//! Invariants: a private cluster listens on no network, its socket directory belongs to its user
//! alone, it ends with the process that started it (also when that is killed), and its files are
//! never opened by another major version.
//!
//! What it deliberately does not do: create databases or roles in a given server, back anything up,
//! or move a cluster between versions.

mod autogroup;
mod binaries;
mod cluster;
#[cfg(feature = "embedded-postgres")]
mod embedded;
mod error;
mod given;
mod private;
mod run_as;
mod socket;
mod supervisor;

use std::path::PathBuf;

pub use error::DatabaseError;
pub use given::SERVER_MAJOR_MIN;
pub(crate) use given::check_version as check_server_version;
pub use private::{Hidden, PrivateServer};

/// The environment variable that names a database when no option does.
pub const DATABASE_URL_VARIABLE: &str = "DATABASE_URL";

/// Where a database came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseSource {
    /// Somebody else runs it; its URL was given.
    Given(String),
    /// A private cluster of PostgreSQL binaries found on the machine, started and stopped by us.
    Supervised,
    /// PostgreSQL inside this process.
    Embedded,
}

/// Which sources may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DatabaseChoice {
    /// The first that there is, in the order of the module's picture.
    #[default]
    Automatic,
    /// Only a private cluster, whatever the environment says.
    Supervised,
    /// Only the embedded one, whatever the environment says.
    Embedded,
}

/// What [`provide`] needs to know.
#[derive(Clone, Debug)]
pub struct DatabaseOptions {
    /// A PostgreSQL that is there; without one, `DATABASE_URL` is read.
    pub database_url: Option<String>,
    /// Where a private cluster is kept, in a folder `postgres` of its own.
    pub data_dir: PathBuf,
    /// Which sources may be used.
    pub choice: DatabaseChoice,
}

impl DatabaseOptions {
    /// The first source that there is, private clusters under `data_dir`.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            database_url: None,
            data_dir: data_dir.into(),
            choice: DatabaseChoice::Automatic,
        }
    }
}

/// A database to write to. Dropping it stops one that we started.
#[derive(Debug)]
pub struct Database {
    /// Where to connect, as sqlx and psql understand it.
    pub url: String,
    /// Where it came from.
    pub source: DatabaseSource,
    /// Whether a second connection waits until the first is closed.
    pub single_connection: bool,
    /// Whether what it committed survives a power cut, as far as we know.
    pub durable: bool,
    /// The server's version, such as `15.18`; `None` when a given one could not be reached yet.
    pub version: Option<String>,
    running: Running,
}

#[derive(Debug)]
enum Running {
    Elsewhere,
    Cluster(supervisor::Supervisor),
    #[cfg(feature = "embedded-postgres")]
    Embedded(Box<embedded::EmbeddedServer>),
}

impl Database {
    /// Stops a database that we started and waits until its files are closed; a given one stays.
    ///
    /// # Errors
    /// [`DatabaseError::Stop`] when it had to be killed; the next start recovers.
    pub async fn stop(self) -> Result<(), DatabaseError> {
        match self.running {
            Running::Elsewhere => Ok(()),
            Running::Cluster(supervisor) => blocking(move || supervisor.stop()).await,
            #[cfg(feature = "embedded-postgres")]
            Running::Embedded(server) => blocking(move || server.stop()).await,
        }
    }
}

/// Finds or starts a database.
///
/// A given one that cannot be reached just now is no error: the grid sells without it, and the pump
/// waits for it.
///
/// # Errors
/// See [`DatabaseError`].
pub async fn provide(options: DatabaseOptions) -> Result<Database, DatabaseError> {
    if options.choice == DatabaseChoice::Automatic {
        let url = options
            .database_url
            .clone()
            .or_else(|| std::env::var(DATABASE_URL_VARIABLE).ok())
            .filter(|url| !url.is_empty());
        if let Some(url) = url {
            return given::given(url).await;
        }
    }
    if options.choice != DatabaseChoice::Embedded {
        let data_dir = options.data_dir.clone();
        match blocking(move || cluster::start(&data_dir)).await {
            Ok(started) => {
                given::wait_until_it_answers(&started.url).await?;
                return Ok(Database {
                    url: started.url,
                    source: DatabaseSource::Supervised,
                    single_connection: false,
                    durable: true,
                    version: Some(started.version),
                    running: Running::Cluster(started.supervisor),
                });
            }
            Err(DatabaseError::NotInstalled) if options.choice == DatabaseChoice::Automatic => {}
            Err(error) => return Err(error),
        }
    }
    embedded_database(options).await
}

#[cfg(feature = "embedded-postgres")]
async fn embedded_database(options: DatabaseOptions) -> Result<Database, DatabaseError> {
    let server = blocking(move || embedded::EmbeddedServer::start(&options.data_dir)).await?;
    let url = server.url().to_owned();
    let version = given::wait_until_it_answers(&url).await?;
    Ok(Database {
        url,
        source: DatabaseSource::Embedded,
        single_connection: true,
        durable: false,
        version: Some(version),
        running: Running::Embedded(Box::new(server)),
    })
}

#[cfg(not(feature = "embedded-postgres"))]
async fn embedded_database(_options: DatabaseOptions) -> Result<Database, DatabaseError> {
    Err(DatabaseError::NotInstalled)
}

/// Runs something that waits for processes where it may wait.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DatabaseError> + Send + 'static,
) -> Result<T, DatabaseError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(DatabaseError::Start(format!(
            "the starting task ended early: {error}"
        ))),
    }
}
