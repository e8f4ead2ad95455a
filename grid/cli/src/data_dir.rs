//! The data directory of `grid up`.
//!
//! ```text
//!   grid.json      the grid's identity, its nodes and their ports; rewritten as a whole
//!   ticket.key     the secret that ticket codes are signed with, readable by its owner only
//!   identity.key   the secret that the grid's own tokens are signed with, readable by its owner only
//!   identity.pub   the key that checks them, for gateways that are processes of their own
//!   audit.key      the secret that the audit trail is signed with, readable by its owner only
//!   audit.pub      the key that checks it, for everybody
//!   admin.token    what operators show, readable by its owner only
//!   certs/         the CA and the nodes' certificates, where there are any
//!   up.lock        held by the `grid up` that runs
//!   last-event     the sale imported last
//!   node-N/        a node's log and snapshots, node.log, node.pid
//!   gateway-N/     of a gateway that is a process of its own: audit.log, gateway.log, gateway.pid
//!   postgres/      the private database
//! ```

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use data_pump::audit::{AuditKey, AuditPublicKey};
use gateway::{AdminToken, IdentityKey, IdentityPublicKey};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::certs::Certificates;
use crate::failure::Failure;
use crate::private_file;

/// The layout that this build writes.
const FORMAT: u32 = 1;
pub(crate) const TICKET_KEY_BYTES: usize = 32;

/// `grid.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GridFile {
    /// The layout of the directory.
    pub(crate) format: u32,
    /// The grid.
    pub(crate) grid_id: Uuid,
    /// Its partitions, fixed for ever.
    pub(crate) partitions: u32,
    /// Its nodes.
    pub(crate) nodes: Vec<NodeEntry>,
    /// Its gateways that are processes of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) gateways: Vec<GatewayPlace>,
    /// The database of the present or last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) database_url: Option<String>,
}

/// A node in `grid.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeEntry {
    /// From 1.
    pub(crate) id: u64,
    /// Its port for other nodes.
    pub(crate) raft_port: u16,
    /// Its gateway's port.
    pub(crate) gateway_port: u16,
}

/// A gateway of its own in `grid.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GatewayPlace {
    /// From 1.
    pub(crate) id: u64,
    /// Its port.
    pub(crate) port: u16,
}

impl GatewayPlace {
    /// Its address.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl NodeEntry {
    /// Its gateway's address.
    pub(crate) fn gateway_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.gateway_port)
    }
}

impl GridFile {
    /// A grid that is new.
    pub(crate) fn new(grid_id: Uuid, partitions: u32, nodes: Vec<NodeEntry>) -> Self {
        Self {
            format: FORMAT,
            grid_id,
            partitions,
            nodes,
            gateways: Vec::new(),
            database_url: None,
        }
    }

    /// The addresses of the nodes' gateways, which operators can ask too.
    pub(crate) fn gateway_urls(&self) -> Vec<String> {
        self.nodes.iter().map(NodeEntry::gateway_url).collect()
    }
}

/// The directory.
#[derive(Clone, Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
}

/// Held while `grid up` runs.
#[derive(Debug)]
pub(crate) struct UpLock {
    _file: File,
}

impl DataDir {
    /// Names it; nothing is made.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A node's own directory.
    pub(crate) fn node(&self, id: u64) -> PathBuf {
        self.path.join(format!("node-{id}"))
    }

    /// The directory of a gateway of its own.
    pub(crate) fn gateway(&self, id: u64) -> PathBuf {
        self.path.join(format!("gateway-{id}"))
    }

    /// Makes the directory and names it by its full path, which child processes share.
    pub(crate) fn create(&mut self) -> anyhow::Result<()> {
        let made = fs::create_dir_all(&self.path).and_then(|()| fs::canonicalize(&self.path));
        self.path = made.map_err(|error| self.unusable(&format!("cannot be made: {error}")))?;
        Ok(())
    }

    fn unusable(&self, why: &str) -> Failure {
        Failure::DataDirectory(format!("the data directory {} {why}", self.path.display()))
    }

    /// Makes sure that no other `grid up` uses it.
    pub(crate) fn lock(&self) -> anyhow::Result<UpLock> {
        let path = self.path.join("up.lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let file = file.map_err(|error| self.unusable(&format!("cannot be used: {error}")))?;
        if file.try_lock().is_err() {
            let why = "is used by another `grid up`; stop that one, or choose another directory \
                       with --data-dir";
            return Err(self.unusable(why).into());
        }
        Ok(UpLock { _file: file })
    }

    /// The grid in it, if there is one.
    pub(crate) fn read(&self) -> anyhow::Result<Option<GridFile>> {
        let path = self.path.join("grid.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.unusable(&format!("cannot be read: {error}")).into()),
        };
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let damaged = |error| self.unusable(&format!("has a damaged grid.json: {error}"));
        let Format { format } = serde_json::from_slice(&text).map_err(damaged)?;
        if format > FORMAT {
            let why = format!(
                "has format {format}, and this build reads up to {FORMAT}; use a newer build"
            );
            return Err(self.unusable(&why).into());
        }
        Ok(Some(serde_json::from_slice(&text).map_err(damaged)?))
    }

    /// Replaces `grid.json`. Only its owner may read it: the database's address may hold a password.
    pub(crate) fn write(&self, grid: &GridFile) -> anyhow::Result<()> {
        self.replace("grid.json", &serde_json::to_vec_pretty(grid)?)
    }

    /// The secret for ticket codes, made at the first call.
    pub(crate) fn ticket_key(&self) -> anyhow::Result<[u8; TICKET_KEY_BYTES]> {
        self.secret("ticket.key")
    }

    /// The secret for the grid's own tokens, made at the first call.
    pub(crate) fn identity_key(&self) -> anyhow::Result<IdentityKey> {
        let key = IdentityKey::from_seed(&self.secret("identity.key")?);
        self.publish(&self.identity_public_key_path(), &key.public().to_string())?;
        Ok(key)
    }

    /// Where its public half lies.
    pub(crate) fn identity_public_key_path(&self) -> PathBuf {
        self.path.join("identity.pub")
    }

    /// Writes a public key, unless it is there.
    fn publish(&self, path: &Path, key: &str) -> anyhow::Result<()> {
        let public = format!("{key}\n");
        if fs::read_to_string(path).is_ok_and(|text| text == public) {
            return Ok(());
        }
        fs::write(path, public)
            .map_err(|error| self.unusable(&format!("cannot be written: {error}")).into())
    }

    /// The same, if one was made here.
    pub(crate) fn known_identity_key(&self) -> anyhow::Result<Option<IdentityKey>> {
        match self.identity_key_path().exists() {
            true => self.identity_key().map(Some),
            false => Ok(None),
        }
    }

    /// Where it lies.
    pub(crate) fn identity_key_path(&self) -> PathBuf {
        self.path.join("identity.key")
    }

    /// The secret with which the audit trail is signed, made at the first call, with the public key for
    /// others beside it.
    pub(crate) fn audit_key(&self) -> anyhow::Result<AuditKey> {
        let key = AuditKey::from_seed(&self.secret("audit.key")?)
            .map_err(|error| self.unusable(&format!("has a damaged audit.key: {error}")))?;
        self.publish(&self.path.join("audit.pub"), &key.public().to_string())?;
        Ok(key)
    }

    /// The key that checks the audit trail, if one was made here.
    pub(crate) fn audit_public_key(&self) -> anyhow::Result<Option<AuditPublicKey>> {
        if !self.audit_key_path().exists() {
            return Ok(None);
        }
        Ok(Some(self.audit_key()?.public()))
    }

    /// Where the audit key lies.
    pub(crate) fn audit_key_path(&self) -> PathBuf {
        self.path.join("audit.key")
    }

    /// A secret of 32 bytes, made at the first call.
    fn secret(&self, name: &str) -> anyhow::Result<[u8; TICKET_KEY_BYTES]> {
        match fs::read_to_string(self.path.join(name)) {
            Ok(text) => parse_ticket_key(text.trim())
                .ok_or_else(|| self.unusable(&format!("has a damaged {name}")).into()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut key = [0; TICKET_KEY_BYTES];
                getrandom::fill(&mut key).map_err(|error| anyhow::anyhow!("{error}"))?;
                let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
                self.replace(name, text.as_bytes())?;
                Ok(key)
            }
            Err(error) => Err(self.unusable(&format!("cannot be read: {error}")).into()),
        }
    }

    /// The admin token, if one was made here.
    pub(crate) fn known_admin_token(&self) -> anyhow::Result<Option<AdminToken>> {
        match fs::read_to_string(self.admin_token_path()) {
            Ok(text) => AdminToken::parse(&text).map(Some).map_err(|error| {
                self.unusable(&format!("has a damaged admin.token: {error}"))
                    .into()
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let why = format!("has an admin.token that cannot be read: {error}");
                Err(self.unusable(&why).into())
            }
        }
    }

    /// The admin token, made at the first call.
    pub(crate) fn admin_token(&self) -> anyhow::Result<AdminToken> {
        if let Some(token) = self.known_admin_token()? {
            return Ok(token);
        }
        let token = AdminToken::random().context("no random bytes")?;
        self.replace("admin.token", token.reveal().as_bytes())?;
        Ok(token)
    }

    /// Where the admin token lies.
    pub(crate) fn admin_token_path(&self) -> PathBuf {
        self.path.join("admin.token")
    }

    /// The certificates of the nodes.
    pub(crate) fn certificates(&self) -> Certificates {
        Certificates::new(self.path.join("certs"))
    }

    /// Where the ticket key lies.
    pub(crate) fn ticket_key_path(&self) -> PathBuf {
        self.path.join("ticket.key")
    }

    /// Remembers the sale imported last; without a data directory there is nothing to remember.
    pub(crate) fn remember_event(&self, event_id: &str) {
        if self.path.join("grid.json").exists() {
            // Only a convenience is lost.
            let _ = self.replace("last-event", event_id.as_bytes());
        }
    }

    /// The sale imported last.
    pub(crate) fn last_event(&self) -> Option<String> {
        let text = fs::read_to_string(self.path.join("last-event")).ok()?;
        Some(text.trim().to_owned())
    }

    fn replace(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        private_file::replace(&self.path.join(name), content)
    }
}

/// The secret for the grid's own tokens in a file that was named.
pub(crate) fn identity_key_of(path: &Path) -> anyhow::Result<IdentityKey> {
    let unusable = |why: &str| Failure::Usage(format!("{}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| unusable(&error.to_string()))?;
    let seed = parse_ticket_key(text.trim())
        .ok_or_else(|| unusable("an identity key has 64 hexadecimal digits"))?;
    Ok(IdentityKey::from_seed(&seed))
}

/// The key in a file that was named with which the grid's own tokens are checked.
pub(crate) fn identity_public_key_of(path: &Path) -> anyhow::Result<IdentityPublicKey> {
    let unusable = |why: String| Failure::Usage(format!("{}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    text.parse()
        .map_err(|error: gateway::IdentityPublicKeyError| unusable(error.to_string()).into())
}

/// The secret for ticket codes in a file that was named.
pub(crate) fn ticket_key_of(path: &Path) -> Result<[u8; TICKET_KEY_BYTES], Failure> {
    let text = fs::read_to_string(path).ok();
    text.and_then(|text| parse_ticket_key(text.trim()))
        .ok_or_else(|| {
            let path = path.display();
            Failure::Usage(format!(
                "{path} holds no ticket key (64 hexadecimal digits)"
            ))
        })
}

/// Reads a key of hexadecimal digits.
pub(crate) fn parse_ticket_key(text: &str) -> Option<[u8; TICKET_KEY_BYTES]> {
    if text.len() != 2 * TICKET_KEY_BYTES || !text.is_ascii() {
        return None;
    }
    let mut key = [0; TICKET_KEY_BYTES];
    for (place, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn directory() -> (tempfile::TempDir, DataDir) {
        let folder = tempfile::tempdir().expect("temporary directory");
        let mut directory = DataDir::new(folder.path().join("data"));
        directory.create().expect("made");
        (folder, directory)
    }

    #[test]
    fn the_ticket_key_is_made_once_and_is_its_owners() {
        let (_folder, directory) = directory();
        let key = directory.ticket_key().expect("made");
        assert_eq!(directory.ticket_key().expect("read"), key);
        let mode = fs::metadata(directory.ticket_key_path())
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn the_audit_key_is_made_once_and_only_its_public_half_is_for_others() {
        let (_folder, directory) = directory();
        assert_eq!(directory.audit_public_key().expect("readable"), None);
        let key = directory.audit_key().expect("made").public();
        assert_eq!(directory.audit_public_key().expect("read"), Some(key));
        let mode = |name: &str| {
            let found = fs::metadata(directory.path().join(name)).expect("there");
            found.permissions().mode() & 0o777
        };
        assert_eq!(mode("audit.key"), 0o600);
        let public = fs::read_to_string(directory.path().join("audit.pub")).expect("there");
        assert_eq!(public.parse(), Ok(key));
    }

    #[test]
    fn the_admin_token_is_made_once_and_is_its_owners() {
        let (_folder, directory) = directory();
        assert!(directory.known_admin_token().expect("readable").is_none());
        let token = directory.admin_token().expect("made");
        let again = directory.admin_token().expect("read");
        assert!(again.matches(&token.reveal()));
        let mode = fs::metadata(directory.admin_token_path())
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(directory.admin_token_path(), "short").expect("written");
        let error = directory.admin_token().expect_err("damaged");
        assert_eq!(crate::failure::exit_code(&error), 6, "{error:#}");
    }

    #[test]
    fn a_newer_format_is_refused() {
        let (_folder, directory) = directory();
        assert!(directory.read().expect("readable").is_none());
        let grid = GridFile {
            format: FORMAT + 1,
            ..GridFile::new(Uuid::nil(), 4, Vec::new())
        };
        directory.write(&grid).expect("written");
        let error = directory.read().expect_err("refused");
        assert_eq!(crate::failure::exit_code(&error), 6, "{error:#}");
        assert!(format!("{error}").contains("newer"), "{error}");
    }

    #[test]
    fn one_up_at_a_time() {
        let (_folder, directory) = directory();
        let lock = directory.lock().expect("free");
        assert_eq!(
            crate::failure::exit_code(&directory.lock().expect_err("held")),
            6
        );
        drop(lock);
        directory.lock().expect("free again");
    }
}
