//! The settings, each with its unit, default and bounds.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::edge::EdgeSettings;
use crate::gateway_tls::GatewayTlsSettings;
use crate::identity::IdentitySettings;
use crate::load::ConfigError;

/// The most partitions of a grid: labels of metrics and messages between nodes count on it.
pub const PARTITIONS_MAX: u32 = 256;

/// With less, a busy node would do nothing but write snapshots.
const REPLAY_BYTES_MIN: u64 = 1 << 20;

/// Purchases are kept for a year at least.
const RETENTION_DAYS_MIN: u32 = 365;

/// Everything that can be set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Must agree on all nodes.
    pub cluster: ClusterSettings,
    /// This node's own.
    pub node: NodeSettings,
    /// This node's gateway.
    pub gateway: GatewaySettings,
    /// This node's pump.
    pub pump: PumpSettings,
}

/// When a positive reply may be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WalSync {
    /// After a majority has synced its write-ahead log. Nothing acknowledged is lost in a power cut.
    #[default]
    Always,
    /// After a majority has written it; a power cut of a majority may lose the last moments. For
    /// measuring what the disk costs.
    Never,
}

/// Settings that must be the same on all nodes of a grid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterSettings {
    /// Partitions of the grid, fixed when it is created. Default 16, 1 to 256.
    pub partitions: u32,
    /// Replicas of each partition, at most one a node. Default 3, 1 to 7, odd.
    pub replicas: u32,
    /// Leaders send a heartbeat this often. Default 150 ms.
    pub heartbeat_interval_ms: u64,
    /// A follower that hears nothing for this long (a random time between the two) stands for
    /// election. Defaults 600 and 1000 ms; the lower at least three heartbeats.
    pub election_timeout_min_ms: u64,
    /// See `election_timeout_min_ms`. It is also how long a leader's lease lasts.
    pub election_timeout_max_ms: u64,
    /// Default `always`.
    pub wal_sync: WalSync,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            partitions: 16,
            replicas: 3,
            heartbeat_interval_ms: 150,
            election_timeout_min_ms: 600,
            election_timeout_max_ms: 1_000,
            wal_sync: WalSync::Always,
        }
    }
}

impl ClusterSettings {
    /// A text that is equal on two nodes exactly when their cluster settings are.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!(
            "partitions={};replicas={};heartbeat={};election={}..{};sync={:?}",
            self.partitions,
            self.replicas,
            self.heartbeat_interval_ms,
            self.election_timeout_min_ms,
            self.election_timeout_max_ms,
            self.wal_sync
        )
    }
}

/// Settings of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeSettings {
    /// Where the node keeps its log and snapshots. Default `data`.
    pub data_dir: PathBuf,
    /// What fails together with this node, such as a rack: copies of a partition are kept in different
    /// zones where there are enough. Default empty, which shares a zone with nobody.
    pub zone: String,
    /// A partition's snapshot is taken after this many log entries. Default 50,000.
    pub snapshot_every_entries: u64,
    /// And when a restart of the node would apply more than this of its log again, the partition with the
    /// largest part of it takes one, in bytes of entries. At least 1 MiB. Default 64 MiB, which is
    /// applied in about a second.
    pub replay_bytes_max: u64,
    /// Commands that wait for a partition's leader; beyond it new ones get `overloaded`. Default 16,384.
    pub proposal_queue_max: usize,
    /// And their bytes. Default 32 MiB.
    pub proposal_queue_bytes_max: usize,
    /// When commands keep waiting longer than this for a partition's leader, new work gets
    /// `overloaded` until they do not. Default 100 ms.
    pub queue_delay_target_ms: u64,
    /// Memory for recent changes of a partition, in bytes of their log entries. Default 16 MiB.
    pub feed_bytes_max: usize,
    /// The certificate of the grid's CA, in PEM; several while one replaces another. With it, the
    /// certificate and the key, connections between nodes are under mutual TLS. The files are read again
    /// when they change. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_ca_file: Option<PathBuf>,
    /// This node's certificate, see `grid certs create-node`. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_certificate_file: Option<PathBuf>,
    /// Its key. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key_file: Option<PathBuf>,
    /// Whether nodes without certificates may talk beyond this machine. Only where nobody else can reach
    /// them. Default `false`.
    pub tls_allow_plaintext: bool,
    /// Whether leaderships are moved by themselves so that every node has its share. Default true.
    pub balance_leaders: bool,
    /// With less than this free on the disk, new commands get `overloaded` and leaderships go to nodes with
    /// room; with less than half of it, entries of other leaders wait too. What is left is for snapshots,
    /// after which old log goes. At least twice the largest partition's snapshot. Default 256 MiB; 0
    /// refuses only when there is no room for a segment.
    pub disk_reserve_bytes: u64,
    /// Log that the database has not got yet: from so many bytes on, of all partitions of the node, new work
    /// is slowed towards the rate at which the pump drains it. Default 4 GiB; 0 for never.
    pub pump_backlog_soft_bytes: u64,
    /// And from so many on it gets `overloaded`; paying, releasing and closing go on. Above the soft
    /// bound. Default 8 GiB; 0 for never.
    pub pump_backlog_max_bytes: u64,
    /// Log of each partition that is kept although the database has it, in bytes, for a database that goes
    /// back in time: a restored backup, or an asynchronous replica that takes over. Default 16 MiB.
    pub log_keep_bytes: u64,
    /// A node whose syncs usually take longer than this, and four times as long as another's, leads
    /// nothing while others can. Default 100 ms; 0 for never.
    pub slow_sync_ms: u64,
    /// Stored files are read again and checked at most this fast. Default 4 MiB a second; 0 for never.
    pub scrub_bytes_per_s: u64,
    /// The pause after all of them were checked. Default 3,600 s.
    pub scrub_interval_s: u64,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data"),
            zone: String::new(),
            snapshot_every_entries: 50_000,
            replay_bytes_max: 64 << 20,
            proposal_queue_max: 16_384,
            proposal_queue_bytes_max: 32 << 20,
            queue_delay_target_ms: 100,
            feed_bytes_max: 16 << 20,
            tls_ca_file: None,
            tls_certificate_file: None,
            tls_key_file: None,
            tls_allow_plaintext: false,
            balance_leaders: true,
            disk_reserve_bytes: 256 << 20,
            pump_backlog_soft_bytes: 4 << 30,
            pump_backlog_max_bytes: 8 << 30,
            log_keep_bytes: 16 << 20,
            slow_sync_ms: 100,
            scrub_bytes_per_s: 4 << 20,
            scrub_interval_s: 3_600,
        }
    }
}

/// Settings of a node's gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewaySettings {
    /// Connections at a time; the next is refused with 503. Default 50,000.
    pub connections_max: usize,
    /// The longest WebSocket message from a client, in bytes. Default 64 KiB.
    pub message_bytes_max: usize,
    /// The longest HTTP body of a new event, in bytes; others have at most 256 KiB. Default 16 MiB (a venue
    /// of 200,000 seats).
    pub body_bytes_max: usize,
    /// Messages waiting for one client; beyond it the client is told goodbye. Default 1,024.
    pub send_queue_max: usize,
    /// Requests of one connection that are under way; the next waits in the socket. Default 64.
    pub requests_in_flight_max: usize,
    /// Requests of all connections together that are under way; beyond it new ones get `overloaded`.
    /// Default 32,768.
    pub work_max: usize,
    /// And the bytes of their bodies. Default 256 MiB.
    pub work_bytes_max: usize,
    /// Subscriptions of one connection. Default 256.
    pub subscriptions_max: usize,
    /// A request is answered within this time, with `unavailable` if need be. Default 10,000 ms.
    pub request_timeout_ms: u64,
    /// A silent client is pinged this often. Default 25,000 ms.
    pub ping_interval_ms: u64,
    /// A client that sends nothing, not even a pong, for this long is closed. Default 60,000 ms.
    pub idle_timeout_ms: u64,
    /// The least time between two seat updates to one subscriber. Default 200 ms (5 a second).
    pub seat_update_interval_ms: u64,
    /// The file with the secret that operators show, 64 hexadecimal digits. The environment's
    /// `SPACEGRID_ADMIN_TOKEN` and the command line come before it. Default: `admin.token` in the data
    /// directory, made at the first start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_token_file: Option<PathBuf>,
    /// How it knows who is asking.
    pub identity: IdentitySettings,
    /// What it bears from one address and one user.
    pub edge: EdgeSettings,
    /// Its encrypted socket.
    pub tls: GatewayTlsSettings,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            connections_max: 50_000,
            message_bytes_max: 64 << 10,
            body_bytes_max: 16 << 20,
            send_queue_max: 1_024,
            requests_in_flight_max: 64,
            work_max: 32_768,
            work_bytes_max: 256 << 20,
            subscriptions_max: 256,
            request_timeout_ms: 10_000,
            ping_interval_ms: 25_000,
            idle_timeout_ms: 60_000,
            seat_update_interval_ms: 200,
            admin_token_file: None,
            identity: IdentitySettings::default(),
            edge: EdgeSettings::default(),
            tls: GatewayTlsSettings::default(),
        }
    }
}

/// Settings of a node's pump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PumpSettings {
    /// The most changes in one SQL transaction, which only a pump that catches up reaches: the more there
    /// are, the more of them are about the same seats. Default 10,000.
    pub batch_changes_max: usize,
    /// How long a change waits for company in its transaction, for each lane that this node runs, at
    /// most 250 ms in all. Default 50 ms.
    pub flush_interval_ms: u64,
    /// SQL connections of the node's pump. Default 2; 1 for a database that allows only one.
    pub connections_max: u32,
    /// The wait before trying a database that is away again, doubled each time up to the second.
    pub retry_min_ms: u64,
    /// See `retry_min_ms`. Defaults 100 and 5,000 ms.
    pub retry_max_ms: u64,
    /// The most changes of one partition that may be set aside because the database refuses them; a
    /// pump that would set aside one more stops and says so. Default 100,000.
    pub parked_changes_max: u64,
    /// Whether the log itself is written to the database too, so that the grid can be restored from the
    /// database alone. Default true.
    pub archive: bool,
    /// A partition's whole state is archived after this much of its log, in bytes of entries: a restore
    /// applies at most about so much. At least 1 MiB. Default 256 MiB.
    pub archive_state_every_bytes: u64,
    /// Log and states in the database that are not needed to restore any moment of this last while are
    /// deleted. Default 744 hours (31 days); 0 keeps everything.
    pub archive_keep_hours: u64,
    /// The file with the grid's key for the audit trail, 64 hexadecimal digits, the same on all nodes. The
    /// command line comes before it. Default none: what is written is chained, and no root is signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit_key_file: Option<PathBuf>,
    /// A root over what is new in the audit trail is signed this often, for each partition. Default 60 s.
    pub audit_root_interval_s: u64,
    /// Or when this many changes are new. Default 65,536.
    pub audit_root_leaves_max: u64,
    /// Months of `changes` are dropped when all of them is this many days old; 0 for never. They hold who
    /// bought what, so at least 365. Default 0.
    pub retention_changes_days: u32,
}

impl Default for PumpSettings {
    fn default() -> Self {
        Self {
            batch_changes_max: 10_000,
            flush_interval_ms: 50,
            connections_max: 2,
            retry_min_ms: 100,
            retry_max_ms: 5_000,
            parked_changes_max: 100_000,
            archive: true,
            archive_state_every_bytes: 256 << 20,
            archive_keep_hours: 744,
            audit_key_file: None,
            audit_root_interval_s: 60,
            audit_root_leaves_max: 65_536,
            retention_changes_days: 0,
        }
    }
}

impl Settings {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with the setting and its bounds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let gateway = &self.gateway;
        let mistake = gateway.identity.mistake();
        let mistake = mistake.or_else(|| gateway.edge.mistake());
        if let Some((setting, rule)) = mistake.or_else(|| gateway.tls.mistake()) {
            let setting = setting.to_owned();
            return Err(ConfigError::Invalid { setting, rule });
        }
        self.validate_bounds()
    }

    fn validate_bounds(&self) -> Result<(), ConfigError> {
        let invalid = |setting: &str, rule: &str| {
            Err(ConfigError::Invalid {
                setting: setting.to_owned(),
                rule: rule.to_owned(),
            })
        };
        let cluster = &self.cluster;
        if !(1..=PARTITIONS_MAX).contains(&cluster.partitions) {
            let rule = format!("between 1 and {PARTITIONS_MAX}");
            return invalid("cluster.partitions", &rule);
        }
        if !(1..=7).contains(&cluster.replicas) || cluster.replicas.is_multiple_of(2) {
            return invalid("cluster.replicas", "1, 3, 5 or 7");
        }
        if cluster.heartbeat_interval_ms < 10 {
            return invalid("cluster.heartbeat_interval_ms", "at least 10");
        }
        if cluster.election_timeout_min_ms < 3 * cluster.heartbeat_interval_ms {
            return invalid(
                "cluster.election_timeout_min_ms",
                "at least three heartbeat intervals",
            );
        }
        if cluster.election_timeout_max_ms <= cluster.election_timeout_min_ms {
            return invalid(
                "cluster.election_timeout_max_ms",
                "above election_timeout_min_ms",
            );
        }
        let node = &self.node;
        let files = [
            &node.tls_ca_file,
            &node.tls_certificate_file,
            &node.tls_key_file,
        ];
        if files.iter().any(|file| file.is_some()) && files.iter().any(|file| file.is_none()) {
            return invalid(
                "node.tls_ca_file, tls_certificate_file and tls_key_file",
                "given together or not at all",
            );
        }
        if self.pump.archive_state_every_bytes < REPLAY_BYTES_MIN {
            return invalid("pump.archive_state_every_bytes", "at least 1048576");
        }
        if node.replay_bytes_max < REPLAY_BYTES_MIN {
            return invalid("node.replay_bytes_max", "at least 1048576");
        }
        if (1..RETENTION_DAYS_MIN).contains(&self.pump.retention_changes_days) {
            let rule = format!(
                "0 (kept for ever), or at least {RETENTION_DAYS_MIN}: they are the log of purchases"
            );
            return invalid("pump.retention_changes_days", &rule);
        }
        if node.pump_backlog_max_bytes > 0
            && node.pump_backlog_max_bytes <= node.pump_backlog_soft_bytes
        {
            return invalid(
                "node.pump_backlog_max_bytes",
                "0, or above pump_backlog_soft_bytes",
            );
        }
        let positive = [
            (
                "node.snapshot_every_entries",
                self.node.snapshot_every_entries > 0,
            ),
            ("node.proposal_queue_max", self.node.proposal_queue_max > 0),
            (
                "node.proposal_queue_bytes_max",
                self.node.proposal_queue_bytes_max > 0,
            ),
            (
                "node.queue_delay_target_ms",
                self.node.queue_delay_target_ms > 0,
            ),
            ("node.scrub_interval_s", self.node.scrub_interval_s > 0),
            ("gateway.connections_max", self.gateway.connections_max > 0),
            ("gateway.send_queue_max", self.gateway.send_queue_max > 0),
            (
                "gateway.requests_in_flight_max",
                self.gateway.requests_in_flight_max > 0,
            ),
            ("gateway.work_max", self.gateway.work_max > 0),
            ("gateway.work_bytes_max", self.gateway.work_bytes_max > 0),
            ("pump.batch_changes_max", self.pump.batch_changes_max > 0),
            ("pump.connections_max", self.pump.connections_max > 0),
            ("pump.retry_min_ms", self.pump.retry_min_ms > 0),
            (
                "pump.audit_root_interval_s",
                self.pump.audit_root_interval_s > 0,
            ),
            (
                "pump.audit_root_leaves_max",
                self.pump.audit_root_leaves_max > 0,
            ),
        ];
        match positive.iter().find(|(_, holds)| !holds) {
            Some((setting, _)) => invalid(setting, "at least 1"),
            None => Ok(()),
        }
    }
}
