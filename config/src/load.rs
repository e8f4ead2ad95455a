//! Defaults, then a file, then the environment, then what the caller lays on top.

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};

use crate::settings::Settings;

/// `SPACEGRID_CLUSTER__PARTITIONS=32` sets `cluster.partitions`.
pub const ENVIRONMENT_PREFIX: &str = "SPACEGRID_";

/// Variables with the prefix that are no settings: a secret is not for a struct that is printed and
/// compared.
const NO_SETTINGS: [&str; 1] = ["admin_token"];

/// A configuration that cannot be used. The operator must correct it; nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The named file is not there.
    #[error("there is no configuration file {}", .0.display())]
    Missing(PathBuf),
    /// A file or variable does not fit the settings.
    #[error("the configuration is wrong: {0}")]
    Unreadable(#[source] Box<figment::Error>),
    /// A value is out of bounds.
    #[error("{setting} must be {rule}")]
    Invalid {
        /// Its name.
        setting: String,
        /// What it must be.
        rule: String,
    },
}

/// Reads the settings: defaults, then `file` (TOML) if given, then the environment.
///
/// # Errors
/// See [`ConfigError`].
pub fn load(file: Option<&Path>) -> Result<Settings, ConfigError> {
    let mut figment = Figment::from(Serialized::defaults(Settings::default()));
    if let Some(path) = file {
        if !path.is_file() {
            return Err(ConfigError::Missing(path.to_owned()));
        }
        figment = figment.merge(Toml::file_exact(path));
    }
    let settings: Settings = figment
        .merge(
            Env::prefixed(ENVIRONMENT_PREFIX)
                .ignore(&NO_SETTINGS)
                .split("__"),
        )
        .extract()
        .map_err(|error| ConfigError::Unreadable(Box::new(error)))?;
    settings.validate()?;
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("temporary file");
        file.write_all(text.as_bytes()).expect("written");
        file
    }

    #[test]
    fn a_file_overrides_defaults() {
        let file = file("[cluster]\npartitions = 4\n[pump]\nretry_min_ms = 7\n");
        let settings = load(Some(file.path())).expect("valid");
        assert_eq!(settings.cluster.partitions, 4);
        assert_eq!(settings.pump.retry_min_ms, 7);
        assert_eq!(settings.cluster.replicas, 3);
    }

    #[test]
    fn mistakes_are_named() {
        let wrong = [
            ("[cluster]\npartition = 4\n", "partition"),
            ("[cluster]\npartitions = 0\n", "cluster.partitions"),
            ("[node]\ntls_ca_file = \"ca.crt\"\n", "tls_key_file"),
            ("[cluster]\nreplicas = 2\n", "cluster.replicas"),
            ("[pump]\nretention_changes_days = 364\n", "at least 365"),
            (
                "[cluster]\nelection_timeout_min_ms = 100\n",
                "cluster.election_timeout_min_ms",
            ),
            (
                "[node]\npump_backlog_max_bytes = 9\npump_backlog_soft_bytes = 9\n",
                "node.pump_backlog_max_bytes",
            ),
            (
                "[node]\nproposal_queue_max = \"many\"\n",
                "proposal_queue_max",
            ),
        ];
        for (text, named) in wrong {
            let error = load(Some(file(text).path()))
                .expect_err("refused")
                .to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
        assert!(matches!(
            load(Some(Path::new("nowhere.toml"))),
            Err(ConfigError::Missing(_))
        ));
    }

    #[test]
    fn the_committed_sample_is_the_defaults() {
        let sample = load(Some(Path::new("spacegrid.toml"))).expect("valid");
        assert_eq!(sample, Settings::default());
    }
}
