//! A network of its own for a test: every node in a network namespace, joined by a bridge that lies in
//! one too, so that nothing of this machine's own network is touched.
//!
//! ```text
//!   node 1 [eth0]──veth──┐                      a node's gateway listens on its own loopback; the test
//!   node 2 [eth0]──veth──┤ bridge, in the hub   reaches it through a thread that has entered the
//!   node 3 [eth0]──veth──┘                      node's namespace
//! ```
//!
//! One direction between two nodes is cut by giving the receiver a wrong hardware address at the
//! sender: its packets are sent, and no one takes them, as with a switch that drops them.

use std::fs::File;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use nix::sched::{CloneFlags, setns};

use crate::link::Way;

/// Nobody's hardware address.
const NOBODY: &str = "02:00:00:00:00:ff";

type Job = Box<dyn FnOnce() + Send>;

/// A thread inside a namespace. It lives as long as the test's process.
struct Inside(mpsc::SyncSender<Job>);

impl Inside {
    fn enter(namespace: &str) -> Self {
        let file = File::open(format!("/var/run/netns/{namespace}")).expect("just made");
        let (jobs, queue) = mpsc::sync_channel::<Job>(64);
        std::thread::spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET).expect("whoever makes a namespace may enter it");
            while let Ok(job) = queue.recv() {
                job();
            }
        });
        Self(jobs)
    }

    /// Does something there and waits for it.
    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, done) = mpsc::sync_channel(1);
        let job = Box::new(move || {
            // Whoever asked waits below.
            let _ = sender.send(job());
        });
        self.0.send(job).expect("the thread lives");
        done.recv().expect("the thread lives")
    }
}

/// The namespaces. Dropping them removes them.
pub(crate) struct Namespaces {
    prefix: String,
    nodes: Vec<(u64, Inside)>,
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    tool("ip", arguments)
}

fn tool(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program} (package iproute2): {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{program} {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

/// Removes the namespaces of tests whose process was killed.
fn remove_orphans() {
    for entry in std::fs::read_dir("/var/run/netns")
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix("sg") else {
            continue;
        };
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        if !digits.is_empty() && !std::path::Path::new(&format!("/proc/{digits}")).exists() {
            // Another test may have been faster.
            let _ = ip(&["netns", "del", &name]);
        }
    }
}

fn mac(node: u64) -> String {
    format!("02:00:00:00:00:{node:02x}")
}

impl Namespaces {
    /// Makes the network, or says why this machine does not allow it.
    pub(crate) fn make(name: &str, nodes: &[u64]) -> Result<Self, String> {
        let mut made = Self {
            prefix: format!("sg{}{name}", std::process::id()),
            nodes: Vec::new(),
        };
        remove_orphans();
        let hub = made.hub();
        ip(&["netns", "add", &hub])?;
        ip(&["-n", &hub, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", &hub, "link", "set", "br0", "up"])?;
        for &node in nodes {
            let namespace = made.namespace(node);
            let port = format!("n{node}");
            ip(&["netns", "add", &namespace])?;
            ip(&[
                "-n",
                &hub,
                "link",
                "add",
                &port,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "address",
                &mac(node),
                "netns",
                &namespace,
            ])?;
            ip(&["-n", &hub, "link", "set", &port, "master", "br0", "up"])?;
            ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
            let address = format!("{}/24", Self::ip_of(node));
            ip(&["-n", &namespace, "addr", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &namespace, "link", "set", "eth0", "up"])?;
            made.nodes.push((node, Inside::enter(&namespace)));
        }
        for &from in nodes {
            for &to in nodes.iter().filter(|to| **to != from) {
                made.set(from, to, Way::Open);
            }
        }
        Ok(made)
    }

    fn hub(&self) -> String {
        format!("{}hub", self.prefix)
    }

    fn namespace(&self, node: u64) -> String {
        format!("{}n{node}", self.prefix)
    }

    fn ip_of(node: u64) -> String {
        format!("10.77.0.{node}")
    }

    /// Where a node listens for the others.
    pub(crate) fn address(node: u64) -> SocketAddr {
        let address = format!("{}:7801", Self::ip_of(node));
        address.parse().expect("written so")
    }

    fn inside(&self, node: u64) -> &Inside {
        let found = self.nodes.iter().find(|(known, _)| *known == node);
        &found.expect("one of the nodes").1
    }

    /// Starts a process in a node's namespace.
    pub(crate) fn spawn(&self, node: u64, mut command: Command) -> Child {
        let spawned = self.inside(node).run(move || command.spawn());
        spawned.expect("the binary is built")
    }

    /// An address here that leads to one in a node's namespace.
    pub(crate) async fn door_into(&self, node: u64, target: SocketAddr) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let jobs = self.inside(node).0.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (sender, dialled) = tokio::sync::oneshot::channel();
                let dial = Box::new(move || {
                    // The test may have ended.
                    let _ = sender.send(std::net::TcpStream::connect(target));
                });
                if jobs.send(dial).is_err() {
                    return;
                }
                tokio::spawn(async move {
                    let Ok(Ok(server)) = dialled.await else {
                        return;
                    };
                    server.set_nonblocking(true).expect("a socket");
                    let mut server = tokio::net::TcpStream::from_std(server).expect("a socket");
                    // Either end may go.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        address
    }

    /// Changes what becomes of the packets from one node to another.
    pub(crate) fn set(&self, from: u64, to: u64, way: Way) {
        let address = Self::ip_of(to);
        let hardware = match way {
            Way::Open => mac(to),
            Way::Silent => NOBODY.to_owned(),
            Way::Bad { .. } | Way::Refused => panic!("not in namespaces: {way:?}"),
        };
        let namespace = self.namespace(from);
        ip(&[
            "-n",
            &namespace,
            "neigh",
            "replace",
            &address,
            "lladdr",
            &hardware,
            "dev",
            "eth0",
            "nud",
            "permanent",
        ])
        .expect("it was allowed before");
    }

    /// Loses packets on the way out of every node: by chance where the kernel can, else all that exceed
    /// a narrow line with hardly any queue. Says which.
    pub(crate) fn lose_packets(&self) -> Result<&'static str, String> {
        let by_chance = ["netem", "loss", "3%", "delay", "5ms"];
        let narrow = ["tbf", "rate", "512kbit", "burst", "2kb", "limit", "3kb"];
        let mut how = Ok("by chance");
        for (node, _) in &self.nodes {
            let namespace = self.namespace(*node);
            let set = |what: &[&str]| {
                let base = ["-n", &namespace, "qdisc", "replace", "dev", "eth0", "root"];
                tool("tc", &[&base[..], what].concat())
            };
            if set(&by_chance).is_err() {
                set(&narrow)?;
                how = Ok("on a narrow line");
            }
        }
        how
    }

    /// How many packets were lost on the way out of a node.
    pub(crate) fn lost_packets(&self, node: u64) -> u64 {
        let namespace = self.namespace(node);
        let shown = Command::new("tc")
            .args(["-n", &namespace, "-s", "qdisc", "show", "dev", "eth0"])
            .output()
            .expect("it was used before");
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        let dropped = text.split("dropped ").nth(1);
        dropped
            .and_then(|rest| rest.split([',', ' ']).next())
            .and_then(|count| count.parse().ok())
            .unwrap_or_else(|| panic!("a count of drops: {text}"))
    }

    /// Ends that.
    pub(crate) fn lose_none(&self) {
        for (node, _) in &self.nodes {
            let namespace = self.namespace(*node);
            tool(
                "tc",
                &["-n", &namespace, "qdisc", "del", "dev", "eth0", "root"],
            )
            .expect("it was set");
        }
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // Their interfaces go with them.
        for (node, _) in &self.nodes {
            let _ = ip(&["netns", "del", &self.namespace(*node)]);
        }
        let _ = ip(&["netns", "del", &self.hub()]);
    }
}
