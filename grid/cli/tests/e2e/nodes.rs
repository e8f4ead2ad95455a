//! Three nodes started one by one, without `grid up` to start them again, and with a door between each
//! two that can be shut.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;

use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::support::{Outcome, grid, grid_command, wait_for};

const NODES: [u64; 3] = [1, 2, 3];

/// Passes connections on while it is open; shutting it ends those that are open.
struct Door {
    address: SocketAddr,
    is_open: watch::Sender<bool>,
}

impl Door {
    /// A door in front of `target`.
    async fn new(target: SocketAddr) -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (is_open, state) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut state = state.clone();
                if !*state.borrow() {
                    continue;
                }
                tokio::spawn(async move {
                    tokio::select! {
                        () = pass_on(client, target) => {}
                        _ = state.wait_for(|open| !*open) => {}
                    }
                });
            }
        });
        Self { address, is_open }
    }
}

async fn pass_on(mut client: TcpStream, target: SocketAddr) {
    if let Ok(mut server) = TcpStream::connect(target).await {
        // Either end may go; that is what the nodes are to notice.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    }
}

/// The nodes. Dropping them kills them.
pub(crate) struct Nodes {
    children: BTreeMap<u64, Child>,
    urls: BTreeMap<u64, String>,
    doors: Arc<BTreeMap<(u64, u64), Door>>,
    directory: PathBuf,
    peers: BTreeMap<u64, SocketAddr>,
    database: String,
    environment: BTreeMap<String, String>,
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("bound")
}

impl Nodes {
    /// Starts three nodes of a new grid and waits until they are ready.
    pub(crate) async fn start(directory: &Path, database: &str) -> Self {
        Self::start_with(directory, database, &[]).await
    }

    /// The same with variables of the environment, in which `{id}` stands for a node's number.
    pub(crate) async fn start_with(
        directory: &Path,
        database: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let peers: BTreeMap<u64, SocketAddr> = NODES.map(|id| (id, free_address())).into();
        let mut doors = BTreeMap::new();
        for from in NODES {
            for to in NODES.into_iter().filter(|to| *to != from) {
                doors.insert((from, to), Door::new(peers[&to]).await);
            }
        }
        let key = directory.join("ticket.key");
        std::fs::write(&key, "07".repeat(32)).expect("written");
        let token = directory.join("admin.token");
        std::fs::write(&token, "0a".repeat(32)).expect("written");
        let owner_only = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&token, owner_only).expect("our file");
        let gateways = NODES.map(|id| (id, format!("http://{}", free_address())));
        let variable = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut nodes = Self {
            children: BTreeMap::new(),
            urls: gateways.into(),
            doors: Arc::new(doors),
            directory: directory.to_owned(),
            peers,
            database: database.to_owned(),
            environment: environment.iter().map(variable).collect(),
        };
        for id in NODES {
            nodes.launch(id);
        }
        for id in NODES {
            nodes.becomes_ready(id).await;
        }
        nodes
    }

    /// Starts a node, for the first time or again.
    pub(crate) fn launch(&mut self, id: u64) {
        let members: Vec<String> = NODES
            .iter()
            .map(|to| match self.doors.get(&(id, *to)) {
                Some(door) => format!("{to}={}", door.address),
                None => format!("{to}={}", self.peers[to]),
            })
            .collect();
        let gateway = self.urls[&id].trim_start_matches("http://");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.join(format!("node-{id}.log")));
        let environment = self.environment.iter();
        let child = grid_command()
            .args(["node", "--grid-id=5bace9d1-0000-4000-8000-000000000001"])
            .args([
                format!("--node-id={id}"),
                format!("--members={}", members.join(",")),
            ])
            .args([
                format!("--raft-listen={}", self.peers[&id]),
                // Nothing listens there, so that the others come through their doors: a node has
                // one address in the cluster map, but a door for each that dials it.
                format!("--peer-address=127.0.0.1:{id}"),
                format!("--gateway-listen={gateway}"),
                format!("--node-dir={}", self.node_directory(id).display()),
                format!(
                    "--ticket-key={}",
                    self.directory.join("ticket.key").display()
                ),
                format!(
                    "--admin-token-file={}",
                    self.directory.join("admin.token").display()
                ),
                "--partitions=4".to_owned(),
                self.database.clone(),
            ])
            .envs(environment.map(|(name, value)| (name, value.replace("{id}", &id.to_string()))))
            .env("RUST_LOG", "info,openraft=warn,request=debug")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log file"))
            .spawn()
            .expect("the binary is built");
        self.children.insert(id, child);
    }

    /// Waits until a node is ready.
    pub(crate) async fn becomes_ready(&self, id: u64) {
        let url = &self.urls[&id];
        wait_for("a node is ready", async || {
            let response = reqwest::get(format!("{url}/ready")).await.ok()?;
            response.status().is_success().then_some(())
        })
        .await;
    }

    /// Waits until a node ends by itself; its exit code.
    pub(crate) async fn ends(&mut self, id: u64) -> Option<i32> {
        let child = self.children.get_mut(&id).expect("one of three");
        let status = wait_for("a node ends", async || child.try_wait().expect("our child"));
        status.await.code()
    }

    /// Whether a node's process runs.
    pub(crate) fn runs(&mut self, id: u64) -> bool {
        let child = self.children.get_mut(&id).expect("one of three");
        child.try_wait().expect("our child").is_none()
    }

    /// Where a node keeps its files.
    pub(crate) fn node_directory(&self, id: u64) -> PathBuf {
        self.directory.join(format!("node-{id}"))
    }

    /// Runs a command against all gateways, or against those of some nodes.
    pub(crate) fn run(&self, of: &[u64], arguments: &[&str]) -> Outcome {
        let urls: Vec<&str> = of.iter().map(|id| self.urls[id].as_str()).collect();
        let urls = urls.join(",");
        let directory = self.directory.join("no-grid-here");
        let token = self.directory.join("admin.token");
        let mut all = vec![
            "--url",
            &urls,
            "--data-dir",
            directory.to_str().expect("plain"),
            "--admin-token-file",
            token.to_str().expect("plain"),
        ];
        all.extend(arguments);
        grid(&all)
    }

    /// A node's gateway.
    pub(crate) fn url(&self, node: u64) -> &str {
        &self.urls[&node]
    }

    /// What a node has logged so far.
    pub(crate) fn log(&self, node: u64) -> String {
        let path = self.directory.join(format!("node-{node}.log"));
        std::fs::read_to_string(path).expect("a log")
    }

    /// Opens or shuts every way to and from a node.
    pub(crate) fn set_reachable(&self, node: u64, is_open: bool) {
        for ((from, to), door) in self.doors.iter() {
            if *from == node || *to == node {
                door.is_open.send_replace(is_open);
            }
        }
    }

    /// Kills a node, which nobody starts again.
    pub(crate) fn kill(&mut self, node: u64) {
        let child = self.children.get_mut(&node).expect("one of three");
        child.kill().expect("our child");
        child.wait().expect("our child");
    }

    /// Waits until the doctor finds something about a subject, and nothing with one of `not`.
    pub(crate) async fn finding(
        &self,
        of: &[u64],
        code: &str,
        subject: &str,
        not: &[&str],
    ) -> Value {
        let what = format!("the doctor finds {code} of {subject}, and not {not:?}");
        wait_for(&what, async || {
            let outcome = self.run(of, &["doctor"]);
            let findings = outcome.json["findings"].as_array()?;
            let has = |code: &str| findings.iter().any(|finding| finding["code"] == code);
            if outcome.code != 1 || not.iter().any(|code| has(code)) {
                return None;
            }
            findings
                .iter()
                .find(|finding| finding["code"] == code && finding["subject"] == subject)
                .cloned()
        })
        .await
    }

    /// Waits until the first node says that the grid is in a state.
    pub(crate) async fn is(&self, state: &str) {
        wait_for(&format!("the grid is {state}"), async || {
            let status = self.run(&[1], &["status"]).json;
            (status["state"] == state).then_some(())
        })
        .await;
    }

    /// Waits until the doctor finds nothing of a kind.
    pub(crate) async fn passes(&self, code: &str) {
        wait_for(&format!("{code} passes"), async || {
            let outcome = self.run(&NODES, &["doctor"]);
            let findings = outcome.json["findings"].as_array()?;
            let is_there = findings.iter().any(|finding| finding["code"] == code);
            (!is_there).then_some(())
        })
        .await;
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in self.children.values_mut() {
            // Some are dead already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
