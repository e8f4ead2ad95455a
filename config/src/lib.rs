//! Spacegrid's configuration: one typed struct, filled from defaults, a file, the environment and
//! flags, in that order, and validated once.
//!
//! [`ClusterSettings`] must agree on all nodes of a grid: their [`ClusterSettings::fingerprint`] is
//! compared when nodes greet each other. [`NodeSettings`], [`GatewaySettings`] and [`PumpSettings`]
//! may differ from node to node.
//!
//! What it deliberately does not do: act on any of it. It reads a file and the environment, nothing
//! else.

mod edge;
mod gateway_tls;
mod identity;
mod load;
mod settings;

pub use edge::EdgeSettings;
pub use gateway_tls::GatewayTlsSettings;
pub use identity::{IdentityMode, IdentitySettings, Network, TokenAlgorithm};
pub use load::{ConfigError, ENVIRONMENT_PREFIX, load};
pub use settings::{
    ClusterSettings, GatewaySettings, NodeSettings, PARTITIONS_MAX, PumpSettings, Settings, WalSync,
};
