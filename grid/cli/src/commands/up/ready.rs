//! The ready line: one JSON document, or what a person wants to know first.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;

use super::database::DatabaseState;
use super::demo::Demo;
use crate::context::Context;
use crate::data_dir::GridFile;
use crate::output::Output;
use crate::supervise::NodeProcess;

/// What is said when the grid is ready.
pub(super) struct Ready<'a> {
    /// Where to.
    pub(super) context: &'a Context,
    /// The grid.
    pub(super) grid: &'a GridFile,
    /// Where its gateways speak TLS, in the order of the nodes; none where they do not.
    pub(super) tls: &'a [SocketAddr],
    /// Its nodes.
    pub(super) nodes: &'a [NodeProcess],
    /// Its gateways that are processes of their own.
    pub(super) gateways: &'a [NodeProcess],
    /// Its database.
    pub(super) state: DatabaseState,
    /// How long it took.
    pub(super) took: Duration,
}

impl Ready<'_> {
    /// Prints it.
    pub(super) fn print(&self, output: Output, demo: Option<&Demo>) -> anyhow::Result<()> {
        let nodes: Vec<_> = self
            .grid
            .nodes
            .iter()
            .zip(self.nodes)
            .map(|(entry, node)| {
                json!({
                    "id": entry.id,
                    "pid": node.state().pid,
                    "gateway": entry.gateway_url(),
                    "raft": format!("127.0.0.1:{}", entry.raft_port),
                    "log": node.log(),
                })
            })
            .collect();
        let gateways: Vec<_> = self
            .grid
            .gateways
            .iter()
            .zip(self.gateways)
            .map(|(place, gateway)| {
                json!({
                    "id": place.id,
                    "pid": gateway.state().pid,
                    "gateway": place.url(),
                    "log": gateway.log(),
                })
            })
            .collect();
        let database = match &self.state {
            DatabaseState::None => json!(null),
            DatabaseState::Starting => json!({"state": "starting"}),
            DatabaseState::Running {
                url,
                source,
                version,
                durable,
            } => json!({
                "state": "running", "url": url, "source": source, "version": version,
                "durable": durable,
            }),
            DatabaseState::Failed(error) => json!({"state": "failed", "error": error}),
        };
        let document = json!({
            "ready": true,
            "grid_id": self.grid.grid_id,
            "partitions": self.grid.partitions,
            "gateways": self.grid.gateway_urls(),
            "tls_gateways": self.tls.iter().map(|at| format!("https://{at}")).collect::<Vec<_>>(),
            "nodes": nodes,
            "gateway_processes": gateways,
            "data_dir": self.context.data_dir.path(),
            "database": database,
            "started_in_ms": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            "demo": demo.map(Demo::document),
        });
        output.result(&document, || self.text(demo))
    }

    fn text(&self, demo: Option<&Demo>) -> String {
        let mut text = format!(
            "The grid is ready: {} nodes, {} partitions, in {:.1} s.\n\n",
            self.grid.nodes.len(),
            self.grid.partitions,
            self.took.as_secs_f64()
        );
        for node in &self.grid.nodes {
            let port = node.gateway_port;
            let url = node.gateway_url();
            text.push_str(&format!(
                "  gateway {}   {url}   ws://127.0.0.1:{port}/v1/ws\n",
                node.id
            ));
        }
        for (node, address) in self.grid.nodes.iter().zip(self.tls) {
            text.push_str(&format!(
                "  with TLS {}  https://{address}   wss://{address}/v1/ws\n",
                node.id
            ));
        }
        for gateway in &self.grid.gateways {
            let (id, port, url) = (gateway.id, gateway.port, gateway.url());
            text.push_str(&format!(
                "  gateway-{id}   {url}   ws://127.0.0.1:{port}/v1/ws   a process of its own\n"
            ));
        }
        let directory = self.context.data_dir.path().display();
        text.push_str(&format!("  data        {directory}\n"));
        let database = match &self.state {
            DatabaseState::None => "none; changes are not written to SQL".to_owned(),
            DatabaseState::Starting => "still starting; the grid does not wait for it".to_owned(),
            DatabaseState::Running {
                url,
                source,
                version,
                durable,
            } => {
                let version = version.as_deref().unwrap_or("not reached yet");
                let durable = if *durable {
                    ""
                } else {
                    "; not safe against power loss"
                };
                format!("{source}, PostgreSQL {version}{durable}\n              {url}")
            }
            DatabaseState::Failed(error) => format!("none: {error}"),
        };
        text.push_str(&format!("  database    {database}\n\n"));
        match demo {
            Some(demo) => text.push_str(&demo.text(&self.grid.nodes[0].gateway_url())),
            None => text.push_str(
                "What to type next, in another terminal:\n\
                 \x20 grid import venue samples/arena.json    a sale of 20,000 seats\n\
                 \x20 grid import lots samples/lots.csv       500 auctions\n\
                 \x20 grid load onsale --rate 1000 --duration 10s\n\
                 \x20 grid status\n",
            ),
        }
        if self.context.data_dir.path() != std::path::Path::new("data")
            && self.context.data_dir.path()
                != std::env::current_dir().unwrap_or_default().join("data")
        {
            text.push_str(&format!("(each with --data-dir {directory})\n"));
        }
        text.push_str("Ctrl-C stops the grid; its data stays.\n");
        text
    }
}
