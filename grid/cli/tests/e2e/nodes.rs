//! Three nodes started one by one, without `grid up` to start them again, and with a network between them
//! that can be cut: proxies, or network namespaces where the machine allows them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::link::{Links, Way};
use crate::namespaces::Namespaces;
use crate::support::{Outcome, PATIENCE, grid, grid_command, person, wait_for};

/// Of each node's log, when a test fails.
const LOG_LINES_SHOWN: usize = 40;
/// What admin addresses are shown.
const ADMIN_TOKEN: &str = "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a";
pub(crate) const NODES: [u64; 3] = [1, 2, 3];

/// What lies between the nodes.
enum Network {
    Links(Links),
    Namespaces(Namespaces),
}

/// The nodes. Dropping them kills them.
pub(crate) struct Nodes {
    children: BTreeMap<u64, Child>,
    urls: BTreeMap<u64, String>,
    arguments: BTreeMap<u64, Vec<String>>,
    network: Network,
    directory: PathBuf,
    /// Of the nodes' processes; `{id}` stands for a node's number.
    environment: Vec<(String, String)>,
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("bound")
}

impl Nodes {
    /// Starts three nodes of a new grid, with proxies between them, and waits until they are ready.
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
        let links = Links::between(&peers).await;
        let mut nodes = Self::new(directory, Network::Links(links));
        nodes.environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        for id in NODES {
            let gateway = free_address();
            let Network::Links(links) = &nodes.network else {
                unreachable!("made so");
            };
            let members: Vec<String> = peers
                .iter()
                .map(|(to, address)| match *to == id {
                    true => format!("{to}={address}"),
                    false => format!("{to}={}", links.address(id, *to)),
                })
                .collect();
            let own = [
                format!("--members={}", members.join(",")),
                format!("--raft-listen={}", peers[&id]),
                // Nothing listens there, so that the others come through their proxies: a node has
                // one address in the cluster map, but a proxy for each that dials it.
                format!("--peer-address=127.0.0.1:{id}"),
                format!("--gateway-listen={gateway}"),
                database.to_owned(),
            ];
            nodes.add(id, format!("http://{gateway}"), own);
        }
        nodes.ready().await;
        nodes
    }

    /// Starts three nodes in network namespaces, without a database.
    pub(crate) async fn start_in(namespaces: Namespaces, directory: &Path) -> Self {
        let members = NODES.map(|id| format!("{id}={}", Namespaces::address(id)));
        let gateway: SocketAddr = (Ipv4Addr::LOCALHOST, 7700).into();
        let mut doors = BTreeMap::new();
        for id in NODES {
            doors.insert(id, namespaces.door_into(id, gateway).await);
        }
        let mut nodes = Self::new(directory, Network::Namespaces(namespaces));
        for id in NODES {
            let own = [
                format!("--members={}", members.join(",")),
                format!("--raft-listen={}", Namespaces::address(id)),
                "--allow-plaintext".to_owned(),
                format!("--gateway-listen={gateway}"),
                "--no-database".to_owned(),
            ];
            nodes.add(id, format!("http://{}", doors[&id]), own);
        }
        nodes.ready().await;
        nodes
    }

    fn new(directory: &Path, network: Network) -> Self {
        std::fs::write(directory.join("ticket.key"), "07".repeat(32)).expect("written");
        let token = directory.join("admin.token");
        std::fs::write(&token, ADMIN_TOKEN).expect("written");
        let owner_only = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&token, owner_only).expect("our file");
        Self {
            children: BTreeMap::new(),
            urls: BTreeMap::new(),
            arguments: BTreeMap::new(),
            network,
            directory: directory.to_owned(),
            environment: Vec::new(),
        }
    }

    fn add<const N: usize>(&mut self, id: u64, url: String, own: [String; N]) {
        let path = |name: &str| self.directory.join(name).display().to_string();
        let mut arguments = vec![
            "node".to_owned(),
            "--grid-id=5bace9d1-0000-4000-8000-000000000001".to_owned(),
            format!("--node-id={id}"),
            format!("--node-dir={}", path(&format!("node-{id}"))),
            format!("--ticket-key={}", path("ticket.key")),
            format!("--admin-token-file={}", path("admin.token")),
            "--partitions=4".to_owned(),
        ];
        arguments.extend(own);
        self.arguments.insert(id, arguments);
        self.urls.insert(id, url);
        self.run_node(id);
    }

    /// Starts a node, or starts it again after it was killed.
    pub(crate) fn run_node(&mut self, id: u64) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.join(format!("node-{id}.log")));
        let mut command = grid_command();
        command
            .args(&self.arguments[&id])
            .env("RUST_LOG", "info,openraft=warn,request=debug")
            .env("SPACEGRID_GATEWAY__REQUEST_TIMEOUT_MS", "4000")
            .envs(
                self.environment
                    .iter()
                    .map(|(name, value)| (name, value.replace("{id}", &id.to_string()))),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log file"));
        let child = match &self.network {
            Network::Links(_) => command.spawn().expect("the binary is built"),
            Network::Namespaces(namespaces) => namespaces.spawn(id, command),
        };
        self.children.insert(id, child);
    }

    async fn ready(&self) {
        for id in self.urls.keys() {
            self.becomes_ready(*id).await;
        }
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

    /// All gateways.
    pub(crate) fn urls(&self) -> &BTreeMap<u64, String> {
        &self.urls
    }

    /// The namespaces, where there are some.
    pub(crate) fn namespaces(&self) -> &Namespaces {
        match &self.network {
            Network::Namespaces(namespaces) => namespaces,
            Network::Links(_) => panic!("not in namespaces"),
        }
    }

    /// Changes what becomes of what one node sends to another.
    pub(crate) fn set_way(&self, from: u64, to: u64, way: Way) {
        match &self.network {
            Network::Links(links) => links.set(from, to, way),
            Network::Namespaces(namespaces) => namespaces.set(from, to, way),
        }
    }

    /// Changes every way there is.
    pub(crate) fn set_all_ways(&self, way: Way) {
        for from in NODES {
            for to in NODES.into_iter().filter(|to| *to != from) {
                self.set_way(from, to, way);
            }
        }
    }

    /// Opens or shuts every way to and from a node; connections end.
    pub(crate) fn set_reachable(&self, node: u64, is_open: bool) {
        let way = if is_open { Way::Open } else { Way::Refused };
        for other in NODES.into_iter().filter(|other| *other != node) {
            self.set_way(node, other, way);
            self.set_way(other, node, way);
        }
    }

    /// The process of a node.
    pub(crate) fn pid(&self, node: u64) -> i32 {
        i32::try_from(self.children[&node].id()).expect("a process number")
    }

    /// What a node knows of the grid, if it answers.
    pub(crate) async fn status(&self, node: u64) -> Option<Value> {
        let asked = reqwest::Client::new()
            .get(format!("{}/admin/v1/status", self.urls[&node]))
            .header("x-user-id", person(0).to_string())
            .header("x-roles", "manager")
            .bearer_auth(ADMIN_TOKEN)
            .timeout(PATIENCE)
            .send();
        serde_json::from_slice(&asked.await.ok()?.bytes().await.ok()?).ok()
    }

    /// The leader of a partition, as a node knows it: of two that say so the one of the later term.
    pub(crate) async fn leader(&self, asked: u64, partition: u32) -> Option<u64> {
        leader_in(&self.status(asked).await?, partition)
    }

    /// Kills a node, which nobody starts again.
    pub(crate) fn kill(&mut self, node: u64) {
        let child = self.children.get_mut(&node).expect("one of three");
        child.kill().expect("our child");
        child.wait().expect("our child");
    }

    /// Sends a node a signal.
    pub(crate) fn signal(&self, node: u64, signal: Signal) {
        kill(Pid::from_raw(self.pid(node)), signal).expect("our child");
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

/// The leader of a partition in a grid's status.
pub(crate) fn leader_in(status: &Value, partition: u32) -> Option<u64> {
    let leads = |node: &Value| {
        let replicas = node["status"]["replicas"].as_array()?;
        let replica = replicas
            .iter()
            .find(|replica| replica["partition"] == partition && replica["role"] == "leader")?;
        Some((replica["term"].as_u64()?, node["node_id"].as_u64()?))
    };
    let found = status["nodes"].as_array()?.iter().filter_map(leads).max();
    found.map(|(_, node)| node)
}

impl Nodes {
    /// The ends of the logs, for whoever looks into a failure; the files go with the test.
    fn print_logs(&self) {
        for id in self.children.keys() {
            let log = self.log(*id);
            let lines = log.lines().filter(|line| !line.contains(" request: "));
            let lines: Vec<&str> = lines.collect();
            let end = lines.len().saturating_sub(LOG_LINES_SHOWN);
            println!(
                "--- node {id}, the end of its log:\n{}",
                lines[end..].join("\n")
            );
        }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_logs();
        }
        for child in self.children.values_mut() {
            // Some are dead already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
