//! Chromium without a window, driven over its DevTools protocol: nothing is needed but the browser itself.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use base64::Engine as _;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::PATIENCE;

/// What the browser may be called, and the variable that says where it is.
const NAMES: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];
const PATH_VARIABLE: &str = "TEST_CHROMIUM";
const LISTENING: &str = "DevTools listening on ";

/// A running browser. Dropping it kills it.
pub(crate) struct Browser {
    process: Child,
    address: String,
    _profile: tempfile::TempDir,
}

/// Where the browser is, or a loud word that its tests are left out.
pub(crate) fn chromium() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(PATH_VARIABLE) {
        return Some(path.into());
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders)
        .flat_map(|folder| NAMES.map(|name| folder.join(name)))
        .find(|path| path.is_file());
    if found.is_none() {
        println!(
            "NOT TESTED: the web pages, for there is no {} here. `apt-get install chromium`, or say where \
             it is by {PATH_VARIABLE}.",
            NAMES.join(", ")
        );
    }
    found
}

impl Browser {
    pub(crate) fn start(program: &Path) -> Self {
        let profile = tempfile::tempdir().expect("temporary directory");
        let mut process = Command::new(program)
            .args([
                "--headless=new",
                // Tests run as root in containers, where the browser's own sandbox cannot be had.
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--lang=en-US",
                "--no-proxy-server",
                "--remote-debugging-port=0",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the browser starts");
        let errors = process.stderr.take().expect("piped");
        let (sender, address) = mpsc::sync_channel(1);
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                if let Some(address) = line.strip_prefix(LISTENING) {
                    // The test may have ended.
                    let _ = sender.send(address.to_owned());
                }
            }
        });
        let address = address.recv_timeout(PATIENCE).expect("it listens");
        Self {
            process,
            address,
            _profile: profile,
        }
    }

    /// A page of a visitor of its own, of a size in CSS pixels.
    pub(crate) async fn page(&self, url: &str, size: (u32, u32)) -> Page {
        let (socket, _) = connect_async(&self.address).await.expect("a connection");
        let mut page = Page {
            socket,
            session: Value::Null,
            next_id: 0,
            faults: Vec::new(),
        };
        let context = page.call("Target.createBrowserContext", json!({})).await;
        let context = &context["browserContextId"];
        let target = json!({"url": "about:blank", "browserContextId": context});
        let target = page.call("Target.createTarget", target).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = page.call("Target.attachToTarget", attach).await;
        page.session = attached["sessionId"].clone();
        page.call("Runtime.enable", json!({})).await;
        page.call("Log.enable", json!({})).await;
        let screen = json!({"width": size.0, "height": size.1, "deviceScaleFactor": 1,
                            "mobile": size.0 < 600});
        page.call("Emulation.setDeviceMetricsOverride", screen)
            .await;
        page.call("Page.navigate", json!({"url": url})).await;
        page
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A tab of one visitor.
pub(crate) struct Page {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: Value,
    next_id: u64,
    /// What the page's console complained of.
    faults: Vec<String>,
}

fn evaluation(expression: &str) -> Value {
    json!({"expression": expression, "returnByValue": true, "awaitPromise": true})
}

impl Page {
    async fn call(&mut self, method: &str, parameters: Value) -> Value {
        let answer = self.ask(method, parameters).await;
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// The answer, a refusal included.
    async fn ask(&mut self, method: &str, parameters: Value) -> Value {
        self.next_id += 1;
        let mut request = json!({"id": self.next_id, "method": method, "params": parameters});
        if self.session.is_string() {
            request["sessionId"] = self.session.clone();
        }
        let text = Message::text(request.to_string());
        self.socket.send(text).await.expect("sent");
        let answer = async {
            loop {
                let message = self.socket.next().await.expect("open").expect("a message");
                let Message::Text(text) = message else {
                    continue;
                };
                let message: Value = serde_json::from_str(&text).expect("JSON");
                if message["id"] == request["id"] {
                    return message;
                }
                self.note(&message);
            }
        };
        tokio::time::timeout(PATIENCE, answer)
            .await
            .unwrap_or_else(|_| panic!("{method} took too long"))
    }

    fn note(&mut self, event: &Value) {
        let parameters = &event["params"];
        let is_fault = event["method"] == "Runtime.exceptionThrown"
            || (event["method"] == "Log.entryAdded" && parameters["entry"]["level"] == "error");
        if is_fault {
            self.faults.push(parameters.to_string());
        }
    }

    /// The value of an expression of JavaScript.
    pub(crate) async fn eval(&mut self, expression: &str) -> Value {
        let answer = self.call("Runtime.evaluate", evaluation(expression)).await;
        assert!(
            answer.get("exceptionDetails").is_none(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub(crate) async fn until(&mut self, expression: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        // The document that was there before the navigation has nothing of what is asked for.
        let asked = format!(
            "Boolean((() => {{ try {{ return {expression}; }} catch {{ return false; }} }})())"
        );
        // While the page goes to another document there is none to ask, and the browser says so.
        while self.ask("Runtime.evaluate", evaluation(&asked)).await["result"]["result"]["value"]
            != true
        {
            if tokio::time::Instant::now() > deadline {
                let text = self.eval("document.body.innerText").await;
                panic!("in vain: {expression}\n{:#?}\n{text}", self.faults);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Presses a key, as the keyboard does: `Tab`, `Enter`, `PageDown`, …
    pub(crate) async fn press(&mut self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            " " => 32,
            "PageUp" => 33,
            "PageDown" => 34,
            "ArrowLeft" => 37,
            "ArrowUp" => 38,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            _ => panic!("no such key: {key}"),
        };
        let mut event = json!({"type": "keyDown", "key": key, "code": key,
                               "windowsVirtualKeyCode": code, "nativeVirtualKeyCode": code});
        match key {
            "Enter" => event["text"] = json!("\r"),
            " " => event["text"] = json!(" "),
            _ => {}
        }
        self.call("Input.dispatchKeyEvent", event.clone()).await;
        event["type"] = json!("keyUp");
        self.call("Input.dispatchKeyEvent", event).await;
    }

    /// Writes into what has the focus.
    pub(crate) async fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text})).await;
    }

    /// Presses Tab until the element of that id has the focus.
    pub(crate) async fn tab_to(&mut self, id: &str) {
        for _ in 0..60 {
            if self.eval("document.activeElement?.id").await == id {
                return;
            }
            self.press("Tab").await;
        }
        panic!("the keyboard does not get to {id}");
    }

    /// Keeps a picture where `TEST_SCREENSHOTS` says, for people to look at.
    pub(crate) async fn picture(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("TEST_SCREENSHOTS") else {
            return;
        };
        let wanted = json!({"format": "png"});
        let shot = self.call("Page.captureScreenshot", wanted).await;
        let data = shot["data"].as_str().expect("a picture");
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(data)
            .expect("base64");
        std::fs::write(Path::new(&folder).join(name), bytes).expect("written");
    }

    /// The page did nothing that its console or its policy complains of.
    pub(crate) fn assert_clean(&self) {
        assert!(self.faults.is_empty(), "{:#?}", self.faults);
    }
}
