//! What a command finds around it: its output, the data directory, the gateways, the database.

use std::path::{Path, PathBuf};

use gateway::AdminToken;

use crate::admin_token;
use crate::api::Api;
use crate::cli::GlobalArgs;
use crate::data_dir::{DataDir, GridFile};
use crate::failure::Failure;
use crate::output::Output;
use data_pump::database::DATABASE_URL_VARIABLE;
use uuid::Uuid;

/// The operator: who acts unless `--user` says otherwise.
const OPERATOR: Uuid = Uuid::from_u128(0x0e7a_7042_0000_4000_8000_0000_0000_0001);

/// A command's surroundings.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where results go.
    pub(crate) output: Output,
    /// Where the grid's data lies.
    pub(crate) data_dir: DataDir,
    /// Who acts.
    pub(crate) user: Uuid,
    /// The same, if the command line says so.
    pub(crate) named_user: Option<Uuid>,
    urls: Vec<String>,
    admin_token_file: Option<PathBuf>,
}

impl Context {
    /// From what every command understands.
    pub(crate) fn new(global: GlobalArgs) -> Self {
        Self {
            output: Output { json: global.json },
            data_dir: DataDir::new(global.data_dir),
            user: global.user.unwrap_or(OPERATOR),
            named_user: global.user,
            urls: global.url,
            admin_token_file: global.admin_token_file,
        }
    }

    /// The grid of the data directory.
    pub(crate) fn grid_file(&self) -> anyhow::Result<GridFile> {
        self.data_dir.read()?.ok_or_else(|| {
            let path = self.data_dir.path().display();
            let text = format!(
                "there is no grid in {path}; start one with `grid up`, or name its directory with \
                 --data-dir or a gateway with --url"
            );
            Failure::Unreachable(text).into()
        })
    }

    /// The gateways' addresses, such as `http://127.0.0.1:7700`.
    pub(crate) fn gateways(&self) -> anyhow::Result<Vec<String>> {
        if self.urls.is_empty() {
            return Ok(self.grid_file()?.gateway_urls());
        }
        self.urls
            .iter()
            .map(|url| {
                let url = url.trim_end_matches('/');
                if url.starts_with("http://") {
                    return Ok(url.to_owned());
                }
                let text = format!("--url {url}: a gateway's address begins with http://");
                Err(Failure::Usage(text).into())
            })
            .collect()
    }

    /// A client of the gateways, acting as the command's user, who is a manager.
    pub(crate) fn api(&self) -> anyhow::Result<Api> {
        let api = Api::new(self.gateways()?, self.user)?;
        // As with the admin token: the directory's key is only for the gateways of that directory.
        let key = match self.urls.is_empty() {
            true => self.data_dir.known_identity_key()?,
            false => None,
        };
        Ok(api
            .with_admin_token(self.admin_token()?)
            .with_identity_key(key))
    }

    /// The file with the admin token that the command line names.
    pub(crate) fn admin_token_file(&self) -> Option<&Path> {
        self.admin_token_file.as_deref()
    }

    /// What admin addresses are shown, if it is known here. The data directory's is only for the gateways
    /// of that directory: it is not given to whatever `--url` names.
    fn admin_token(&self) -> anyhow::Result<Option<AdminToken>> {
        if let Some(path) = &self.admin_token_file {
            return admin_token::from_file(path).map(Some);
        }
        match admin_token::from_environment()? {
            None if self.urls.is_empty() => self.data_dir.known_admin_token(),
            token => Ok(token),
        }
    }

    /// The database that reports and checks read: the given one, the environment's, or the running
    /// grid's.
    pub(crate) fn database_url(&self, given: Option<&str>) -> anyhow::Result<Option<String>> {
        if let Some(url) = given {
            return Ok(Some(url.to_owned()));
        }
        if let Some(url) = std::env::var(DATABASE_URL_VARIABLE)
            .ok()
            .filter(|url| !url.is_empty())
        {
            return Ok(Some(url));
        }
        Ok(self.data_dir.read()?.and_then(|file| file.database_url))
    }
}
