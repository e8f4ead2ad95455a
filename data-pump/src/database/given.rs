//! A database that is there: is it reachable, and is it new enough?

use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};

use super::{Database, DatabaseError, DatabaseSource, Running};

/// The oldest PostgreSQL that will do.
pub const SERVER_MAJOR_MIN: u32 = 13;

/// How long a given database may take to answer before we go on without it.
const ANSWER_WAIT: Duration = Duration::from_secs(3);
/// How long a database that we started may take to answer; it may be recovering from a crash.
const RECOVERY_WAIT: Duration = Duration::from_secs(120);
/// The pause between two attempts to connect.
const CONNECT_PAUSE: Duration = Duration::from_millis(50);

/// Takes a given database, checked if it answers.
pub(super) async fn given(url: String) -> Result<Database, DatabaseError> {
    let version = match tokio::time::timeout(ANSWER_WAIT, server_version(&url)).await {
        Ok(Ok(version)) => {
            check_version(&version)?;
            Some(version)
        }
        Ok(Err(sqlx::Error::Configuration(error))) => {
            return Err(DatabaseError::Url(error.to_string()));
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "the database cannot be reached yet; the pump will wait for it");
            None
        }
        Err(_) => {
            tracing::warn!("the database does not answer yet; the pump will wait for it");
            None
        }
    };
    Ok(Database {
        source: DatabaseSource::Given(url.clone()),
        url,
        single_connection: false,
        durable: true,
        version,
        running: Running::Elsewhere,
    })
}

/// Waits until a database that we started answers, through a crash recovery if need be.
pub(super) async fn wait_until_it_answers(url: &str) -> Result<String, DatabaseError> {
    let deadline = Instant::now() + RECOVERY_WAIT;
    loop {
        match server_version(url).await {
            Ok(version) => {
                check_version(&version)?;
                return Ok(version);
            }
            Err(error) if Instant::now() >= deadline => return Err(DatabaseError::NoAnswer(error)),
            Err(_) => tokio::time::sleep(CONNECT_PAUSE).await,
        }
    }
}

async fn server_version(url: &str) -> Result<String, sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    let version: String = sqlx::query_scalar("SHOW server_version")
        .fetch_one(&mut connection)
        .await?;
    // The embedded database serves one connection: an orderly goodbye lets the next one in.
    connection.close().await?;
    Ok(version)
}

/// Checks a server's version text, such as `15.18 (Debian 15.18-0+deb12u1)`.
pub(crate) fn check_version(version: &str) -> Result<(), DatabaseError> {
    match major_of(version) {
        Some(major) if major >= SERVER_MAJOR_MIN => Ok(()),
        _ => Err(DatabaseError::TooOld {
            found: version.to_owned(),
            minimum: SERVER_MAJOR_MIN,
        }),
    }
}

/// The leading number of a version text.
pub(super) fn major_of(version: &str) -> Option<u32> {
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_refused() {
        assert!(check_version("13.0").is_ok());
        assert!(check_version("15.18 (Debian 15.18-0+deb12u1)").is_ok());
        assert!(check_version("18beta1").is_ok());
        for old in ["12.22", "9.6.24", "", "devel"] {
            assert!(check_version(old).is_err(), "{old}");
        }
    }

    #[tokio::test]
    async fn a_given_database_that_is_away_is_no_error() {
        let database = given("postgres://nobody@127.0.0.1:1/nothing".to_owned())
            .await
            .expect("taken as given");
        assert_eq!(database.version, None);
        assert!(matches!(database.source, DatabaseSource::Given(_)));
    }

    #[tokio::test]
    async fn a_url_that_is_none_is_an_error() {
        assert!(matches!(
            given("not a url".to_owned()).await,
            Err(DatabaseError::Url(_))
        ));
    }
}
