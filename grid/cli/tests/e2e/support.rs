//! A grid of its own for a test, started by `grid up` and gone with the test.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use uuid::Uuid;

/// How long anything may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
const LOOK_PAUSE: Duration = Duration::from_millis(25);

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) json: Value,
    pub(crate) errors: String,
}

/// The built binary, away from the developer's own environment.
pub(crate) fn grid_command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grid"));
    command.env_remove("DATABASE_URL").env_remove("RUST_LOG");
    command
}

/// Runs `grid --json …` to its end.
pub(crate) fn grid(arguments: &[&str]) -> Outcome {
    let output = grid_command()
        .arg("--json")
        .args(arguments)
        .output()
        .expect("the binary is built");
    Outcome {
        code: output.status.code().expect("not killed"),
        json: serde_json::from_slice(&output.stdout).unwrap_or(Value::Null),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Outcome {
    /// Its document, where it must have succeeded.
    pub(crate) fn done(self) -> Value {
        assert_eq!(self.code, 0, "{} {}", self.json, self.errors);
        self.json
    }
}

/// Waits until `look` finds something.
pub(crate) async fn wait_for<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// A process, and a killed one that nobody has waited for yet, are told apart.
pub(crate) fn is_running(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    status.is_ok_and(|text| !text.contains(") Z "))
}

pub(crate) fn kill_at_once(pid: i32) {
    // A process that is gone is what is wanted.
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

/// The JSON line by which a command says that it is ready, once it does.
pub(crate) fn ready_line(process: &mut Child) -> Value {
    let output = process.stdout.take().expect("piped");
    let (sender, line) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut line = String::new();
        // The test may have ended.
        let _ = BufReader::new(output)
            .read_line(&mut line)
            .map(|_| sender.send(line));
    });
    let line = line.recv_timeout(PATIENCE).expect("a ready line");
    serde_json::from_str(&line).unwrap_or_else(|_| panic!("JSON: {line}"))
}

/// A running `grid up`. Dropping it kills it, and with it its nodes and its database.
pub(crate) struct Grid {
    up: Child,
    pub(crate) ready: Value,
    data_dir: PathBuf,
    http: reqwest::Client,
}

impl Grid {
    /// Starts a grid of three nodes and four partitions in a directory, or starts it again.
    pub(crate) fn up(data_dir: &Path) -> Self {
        Self::up_with(data_dir, &[])
    }

    /// The same with further arguments.
    pub(crate) fn up_with(data_dir: &Path, arguments: &[&str]) -> Self {
        let path = data_dir.to_str().expect("a plain path");
        let mut up = grid_command()
            .args([
                "--json",
                "--data-dir",
                path,
                "up",
                "--port",
                "0",
                "--partitions",
                "4",
            ])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the binary is built");
        let ready = ready_line(&mut up);
        assert_eq!(ready["ready"], true, "{ready}");
        let http = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client");
        Self {
            up,
            ready,
            data_dir: data_dir.to_owned(),
            http,
        }
    }

    /// Whether there is a database; where PostgreSQL is not installed, SQL is not tested.
    pub(crate) fn has_database(&self) -> bool {
        let has = self.ready["database"]["state"] == "running";
        if !has {
            println!(
                "NOT TESTED: SQL, for there is no database: {}",
                self.ready["database"]
            );
        }
        has
    }

    /// Runs a command against it.
    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        let path = self.data_dir.to_str().expect("a plain path");
        let mut all = vec!["--data-dir", path];
        all.extend(arguments);
        grid(&all)
    }

    /// Starts a command against it, with its output to be read later.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        grid_command()
            .args([
                "--json",
                "--data-dir",
                self.data_dir.to_str().expect("a plain path"),
            ])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the binary is built")
    }

    pub(crate) fn gateway(&self, place: usize) -> &str {
        self.ready["gateways"][place].as_str().expect("an address")
    }

    /// A gateway that is a process of its own.
    pub(crate) fn gateway_process(&self, place: usize) -> &str {
        let process = &self.ready["gateway_processes"][place];
        process["gateway"].as_str().expect("an address")
    }

    /// Its present process.
    pub(crate) fn gateway_process_pid(&self, place: usize) -> i32 {
        let path = format!("gateway-{0}/gateway.pid", place + 1);
        std::fs::read_to_string(self.data_dir.join(path))
            .expect("written")
            .trim()
            .parse()
            .expect("a number")
    }

    /// What admin addresses are shown.
    pub(crate) fn admin_token(&self) -> String {
        let text = std::fs::read_to_string(self.data_dir.join("admin.token")).expect("written");
        text.trim().to_owned()
    }

    /// The process of `grid up`.
    pub(crate) fn up_pid(&self) -> i32 {
        i32::try_from(self.up.id()).expect("a process number")
    }

    /// The present process of a node.
    pub(crate) fn node_pid(&self, node: u64) -> i32 {
        let path = self.data_dir.join(format!("node-{node}/node.pid"));
        std::fs::read_to_string(path)
            .expect("written")
            .trim()
            .parse()
            .expect("a number")
    }

    /// Ends as by Ctrl-C and waits.
    pub(crate) async fn stop(mut self) {
        kill(Pid::from_raw(self.up_pid()), Signal::SIGINT).expect("our child");
        let status = wait_for("grid up ends", async || {
            self.up.try_wait().expect("our child")
        })
        .await;
        assert!(status.success(), "{status}");
    }

    /// A request to one gateway, with its status and JSON.
    pub(crate) async fn call(
        &self,
        gateway: usize,
        method: Method,
        path: &str,
        user: Uuid,
        body: Value,
    ) -> (u16, Value) {
        self.call_at(self.gateway(gateway), method, path, user, body)
            .await
    }

    /// The same to a gateway by its address.
    pub(crate) async fn call_at(
        &self,
        gateway: &str,
        method: Method,
        path: &str,
        user: Uuid,
        body: Value,
    ) -> (u16, Value) {
        let request = self
            .http
            .request(method, format!("{gateway}{path}"))
            .header("x-user-id", user.to_string())
            .header("content-type", "application/json")
            .body(body.to_string());
        let response = request.send().await.expect("a response");
        let status = response.status().as_u16();
        let text = response.text().await.expect("a body");
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    pub(crate) async fn post(&self, path: &str, user: Uuid, body: Value) -> Value {
        let (status, answer) = self.call(0, Method::POST, path, user, body).await;
        assert!(status < 300, "{path}: {status} {answer}");
        answer
    }

    pub(crate) async fn get(&self, path: &str, user: Uuid) -> Value {
        let (status, answer) = self.call(0, Method::GET, path, user, json!({})).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    pub(crate) async fn connect(&self, gateway: usize, user: Uuid) -> Client {
        Self::connect_at(self.gateway(gateway), user).await
    }

    /// The same to a gateway by its address.
    pub(crate) async fn connect_at(gateway: &str, user: Uuid) -> Client {
        let authority = gateway.strip_prefix("http://").expect("an address");
        let address = format!("ws://{authority}/v1/ws?user_id={user}");
        let mut request = address.into_client_request().expect("a request");
        let protocol = gateway::SUBPROTOCOL.parse().expect("a header");
        request
            .headers_mut()
            .insert("sec-websocket-protocol", protocol);
        let (socket, _) = connect_async(request).await.expect("a connection");
        Client { socket }
    }
}

impl Drop for Grid {
    fn drop(&mut self) {
        // Its nodes and its database end with it.
        let _ = self.up.kill();
        let _ = self.up.wait();
    }
}

/// A WebSocket client.
pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    pub(crate) async fn send(&mut self, message: &Value) {
        self.socket
            .send(Message::text(message.to_string()))
            .await
            .expect("sent");
    }

    pub(crate) async fn next(&mut self) -> Value {
        let next = async {
            loop {
                match self.socket.next().await.expect("open").expect("a message") {
                    Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                    _ => continue,
                }
            }
        };
        tokio::time::timeout(PATIENCE, next)
            .await
            .expect("a message in time")
    }

    /// The next message as it came; `None` when the connection is cut.
    pub(crate) async fn next_text(&mut self) -> Option<String> {
        let next = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => return Some(text.to_string()),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                    Some(Ok(_)) => continue,
                }
            }
        };
        tokio::time::timeout(PATIENCE, next)
            .await
            .expect("a message in time")
    }

    /// The next message of a type.
    pub(crate) async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let message = self.next().await;
            if message["type"] == kind {
                return message;
            }
        }
    }
}

/// A person for one test.
pub(crate) fn person(number: u128) -> Uuid {
    Uuid::from_u128((0xb0b << 64) | number)
}

/// A JSON string's text.
pub(crate) fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("a string, not {value}"))
}

/// A file under `samples/`.
pub(crate) fn sample(name: &str) -> String {
    format!("{}/../../samples/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Seats of an event that are sold.
pub(crate) fn sold(event: &Value) -> u64 {
    let sections = event["sections"].as_array().expect("sections");
    sections
        .iter()
        .filter_map(|section| section["sold"].as_u64())
        .sum()
}
