//! Gateways that are processes of their own: they sell while nodes and leaders go, their clients go on at
//! another when they are killed, and they get no more of the grid than they need.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::{Value, json};

use crate::buyers::Crowd;
use crate::support::{
    Grid, grid_command, kill_at_once, person, ready_line, sample, text, wait_for,
};

/// Bids of the bidder who must not lose a request.
const BIDS: u32 = 60;

/// Sells two seats through a gateway.
async fn sell(grid: &Grid, gateway: &str, event_id: &str) {
    let holds = format!("/v1/events/{event_id}/holds");
    let wish = json!({"quantity": 2, "best_available": true});
    let (status, hold) = grid
        .call_at(gateway, Method::POST, &holds, person(1), wish)
        .await;
    assert_eq!(status, 201, "{hold}");
    let confirm = format!("{holds}/{}/confirm", text(&hold["hold_id"]));
    let payment = json!({"payment_reference": "p-1"});
    let (status, tickets) = grid
        .call_at(gateway, Method::POST, &confirm, person(1), payment)
        .await;
    assert_eq!(status, 200, "{tickets}");
    let codes = tickets["tickets"].as_array().expect("tickets");
    assert_eq!(codes.len(), 2, "{tickets}");
    // Signed with the grid's key: a node's gateway gives the same codes.
    let mut one: Vec<&str> = codes.iter().map(|ticket| text(&ticket["code"])).collect();
    let shown = grid.get("/v1/me/tickets", person(1)).await;
    let other = shown["items"].as_array().expect("tickets").iter();
    let mut other: Vec<&str> = other.map(|ticket| text(&ticket["code"])).collect();
    one.sort_unstable();
    other.sort_unstable();
    assert_eq!(one, other, "{shown}");
}

fn auction(grid: &Grid) -> String {
    let created = grid
        .run(&["auction", "create", "Clock", "--starting-price", "10.00"])
        .done();
    text(&created["auction_id"]).to_owned()
}

async fn bid(
    grid: &Grid,
    gateway: &str,
    auction_id: &str,
    bidder: u128,
    amount: u32,
) -> (u16, Value) {
    let path = format!("/v1/auctions/{auction_id}/bids");
    let body = json!({"amount": format!("{amount}.00")});
    grid.call_at(gateway, Method::POST, &path, person(bidder), body)
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_of_its_own_sells_while_nodes_and_leaders_go() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let grid = Grid::up_with(folder.path(), &["--no-database", "--gateways", "2"]);
    let (one, two) = (grid.gateway_process(0), grid.gateway_process(1));
    let event = grid.run(&["import", "venue", &sample("arena.json")]).done();
    sell(&grid, one, text(&event["event_id"])).await;

    // Everybody knows everybody, and watchers are spread over all.
    wait_for("five gateways are known at each of them", async || {
        let mut known = Vec::new();
        for gateway in [one, two, grid.gateway(0), grid.gateway(2)] {
            let nobody = person(0);
            let route = grid
                .call_at(gateway, Method::GET, "/v1/route", nobody, json!({}))
                .await;
            known.push(route.1["gateways"].as_array().map(Vec::len));
        }
        (known == [Some(5); 4]).then_some(())
    })
    .await;
    let status = grid.run(&["status"]).done();
    let gateways = status["gateways"].as_array().expect("a list");
    let urls: Vec<&str> = gateways.iter().map(|entry| text(&entry["url"])).collect();
    assert!(
        urls.len() == 2 && urls.contains(&one) && urls.contains(&two),
        "{urls:?}"
    );

    // It has no word for operators, whatever they show.
    let (code, refused) = grid
        .call_at(one, Method::GET, "/admin/v1/status", person(0), json!({}))
        .await;
    assert_eq!((code, text(&refused["code"])), (421, "wrong_gateway"));

    // A bidder who sends each request once, while the leaders move and then one of them dies.
    let auction_id = auction(&grid);
    let crowd = Crowd::come(
        &BTreeMap::from([(1, one.to_owned()), (2, two.to_owned())]),
        text(&event["event_id"]),
    );
    let restarting = grid.spawn(&["restart", "--node", "1"]);
    for number in 0..BIDS {
        if number == BIDS / 2 {
            kill_at_once(grid.node_pid(2));
        }
        let bidder = u128::from(number % 2) + 3;
        let (status, answer) = bid(&grid, one, &auction_id, bidder, 10 * (number + 1)).await;
        assert_eq!(status, 201, "bid {number}: {answer}");
    }
    let restarted = restarting.wait_with_output().expect("our child");
    assert!(restarted.status.success(), "{restarted:?}");
    crowd.holds(&[1, 2], 20).await;
    crowd.close().await;
    let shown = grid.run(&["auction", "show", &auction_id]).done();
    assert_eq!(shown["bids"], BIDS, "each once: {shown}");
    grid.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clients_of_a_killed_gateway_go_on_at_another_with_their_cursors() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let grid = Grid::up_with(folder.path(), &["--no-database", "--gateways", "2"]);
    let (one, two) = (grid.gateway_process(0), grid.gateway_process(1));
    let auction_id = auction(&grid);
    let subscribe = json!({"type": "subscribe", "id": 1, "auction_id": auction_id});
    let mut client = Grid::connect_at(one, person(5)).await;
    client.send(&subscribe).await;
    client.next_of("snapshot").await;
    assert_eq!(bid(&grid, two, &auction_id, 3, 10).await.0, 201);
    let seen = client.next_of("bid_placed").await;

    let pid = grid.gateway_process_pid(0);
    kill_at_once(pid);
    assert_eq!(client.next_text().await, None, "it is gone");
    assert_eq!(bid(&grid, two, &auction_id, 4, 11).await.0, 201);
    assert_eq!(bid(&grid, two, &auction_id, 3, 12).await.0, 201);
    let mut resume = subscribe.clone();
    resume["from"] = seen["cursor"].clone();
    let mut client = Grid::connect_at(two, person(5)).await;
    client.send(&resume).await;
    let resumed = client.next().await;
    assert_eq!(resumed["data"]["mode"], "replayed", "{resumed}");
    for amount in ["11.00", "12.00"] {
        let missed = client.next().await;
        assert_eq!(missed["type"], "bid_placed", "{missed}");
        assert_eq!(missed["data"]["amount"]["amount"], amount, "{missed}");
    }

    // It is started again, and serves the same cursor.
    wait_for("the killed gateway is back", async || {
        let back = grid.gateway_process_pid(0) != pid;
        let ready = reqwest::get(format!("{one}/ready")).await;
        (back && ready.is_ok_and(|response| response.status().is_success())).then_some(())
    })
    .await;
    let mut client = Grid::connect_at(one, person(5)).await;
    client.send(&resume).await;
    assert_eq!(client.next().await["data"]["mode"], "replayed");
    for _ in 0..2 {
        assert_eq!(client.next().await["type"], "bid_placed");
    }
    assert_eq!(bid(&grid, one, &auction_id, 4, 13).await.0, 201);
    let live = client.next_of("bid_placed").await;
    assert_eq!(live["data"]["amount"]["amount"], "13.00", "{live}");
    grid.stop().await;
}

/// The port for other nodes of a grid's first node.
fn first_port(data: &Path) -> u64 {
    let file = std::fs::read(data.join("grid.json")).expect("written");
    let file: Value = serde_json::from_slice(&file).expect("JSON");
    file["nodes"][0]["raft_port"].as_u64().expect("a port")
}

/// Someone who has written the nodes' protocol anew, and says that it is a gateway.
struct Rogue {
    socket: TcpStream,
}

impl Rogue {
    fn connect(port: u64) -> Self {
        let mut socket = TcpStream::connect(format!("127.0.0.1:{port}")).expect("it listens");
        let mut body = Vec::new();
        body.extend([0; 16]); // whichever grid
        body.extend(99_u64.to_le_bytes());
        body.extend(0_u64.to_le_bytes()); // whoever it is
        body.extend(99_u64.to_le_bytes());
        body.push(2); // a gateway
        body.push(0); // the control lane
        body.extend(0_u16.to_le_bytes()); // no settings
        let mut hello = b"gridnode".to_vec();
        hello.extend(3_u16.to_le_bytes());
        hello.extend(u16::try_from(body.len()).expect("short").to_le_bytes());
        hello.extend(body);
        socket.write_all(&hello).expect("sent");
        let mut prefix = [0; 12];
        socket.read_exact(&mut prefix).expect("an answer");
        let mut answer = vec![0; usize::from(u16::from_le_bytes([prefix[10], prefix[11]]))];
        socket.read_exact(&mut answer).expect("an answer");
        assert_eq!(answer[0], 0, "it is welcome");
        Self { socket }
    }

    /// The kind of the frame that answers a request, or a stream's opening.
    fn ask(&mut self, kind: u8, id: u64, service: u8, payload: &[u8]) -> u8 {
        let mut frame = u32::try_from(10 + payload.len())
            .expect("short")
            .to_le_bytes()
            .to_vec();
        frame.push(kind);
        frame.extend(id.to_le_bytes());
        frame.push(service);
        frame.extend(payload);
        self.socket.write_all(&frame).expect("sent");
        loop {
            let mut length = [0; 4];
            self.socket.read_exact(&mut length).expect("a frame");
            let length = usize::try_from(u32::from_le_bytes(length)).expect("short");
            let mut frame = vec![0; length];
            self.socket.read_exact(&mut frame).expect("a frame");
            if frame[1..9] == id.to_le_bytes() {
                return frame[0];
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_asks_what_only_nodes_may_is_refused_and_counted() {
    const REQUEST: u8 = 1;
    const OPEN: u8 = 4;
    const REJECT: u8 = 3;
    const CLOSE: u8 = 6;
    let folder = tempfile::tempdir().expect("temporary directory");
    let arguments = ["--no-database", "--nodes", "1", "--gateways", "1"];
    let grid = Grid::up_with(folder.path(), &arguments);
    let mut rogue = Rogue::connect(first_port(folder.path()));
    // Consensus, a node's state, news and maps, the map's commands, membership, rebuilding.
    let asked = [
        1, 13, 14, 20, 21, 22, 23, 24, 25, 26, 27, 40, 41, 42, 43, 60,
    ];
    let mut id = 0;
    for service in asked {
        id += 1;
        let answer = rogue.ask(REQUEST, id, service, &[0; 8]);
        assert_eq!(answer, REJECT, "service {service}");
    }
    // Appending to logs, snapshots.
    let opened = [2, 3, 44];
    for service in opened {
        id += 1;
        let answer = rogue.ask(OPEN, id, service, &[0; 8]);
        assert_eq!(answer, CLOSE, "service {service}");
    }
    let status = grid.run(&["status"]).done();
    let counts = &status["nodes"][0]["status"]["refused_connections"];
    let expected = (asked.len() + opened.len()) as u64;
    assert_eq!(counts["forbidden_to_gateways"], expected, "{counts}");
    // The gateway that does as it should is not among them.
    let event = grid.run(&["import", "venue", &sample("arena.json")]).done();
    sell(&grid, grid.gateway_process(0), text(&event["event_id"])).await;
    grid.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_of_their_own_over_mutual_tls_need_a_certificate_of_their_own() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let data = folder.path().join("data");
    let arguments = ["--tls", "--no-database", "--gateways", "1"];
    let grid = Grid::up_with(&data, &arguments);
    let event = grid.run(&["import", "venue", &sample("arena.json")]).done();
    let event_id = text(&event["event_id"]);
    sell(&grid, grid.gateway_process(0), event_id).await;

    // One more by hand: without a certificate, with a node's, and with one of its own.
    let node = format!("--nodes=127.0.0.1:{}", first_port(&data));
    let certs = format!("--certs={}", data.join("certs").display());
    let own = format!("--gateway-dir={}", folder.path().join("own").display());
    let arguments = ["gateway", &node, "--listen=127.0.0.1:0", &own];
    let refused = grid.run(&arguments);
    assert_eq!(refused.code, 3, "{} {}", refused.json, refused.errors);
    let created = ["certs", "create-gateway", "--name", "gateway-9"];
    grid.run(&created).done();
    let place = data.join("certs");
    let (crt, key) = (place.join("gateway-8.crt"), place.join("gateway-8.key"));
    std::fs::copy(place.join("node-1.crt"), crt).expect("copied");
    std::fs::copy(place.join("node-1.key"), key).expect("copied");
    let with = |name| [&arguments[..], &[certs.as_str(), "--name", name]].concat();
    let refused = grid.run(&with("gateway-8"));
    assert_eq!(refused.code, 2, "{} {}", refused.json, refused.errors);

    let mut gateway = grid_command()
        .args(["--json", "--data-dir", data.to_str().expect("plain")])
        .args(with("gateway-9"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the binary is built");
    let ready = ready_line(&mut gateway);
    let url = text(&ready["gateway"]).to_owned();
    let auction_id = auction(&grid);
    let (status, answer) = bid(&grid, &url, &auction_id, 3, 10).await;
    assert_eq!(status, 201, "{answer}");
    let metrics = reqwest::get(format!("{url}/metrics")).await;
    assert!(metrics.expect("served").status().is_success());
    wait_for("it is on the list", async || {
        listed(&grid, &url).then_some(())
    })
    .await;

    // It tells its clients where they stand before it goes, and the grid that it is gone.
    let mut client = Grid::connect_at(&url, person(5)).await;
    let subscribe = json!({"type": "subscribe", "id": 1, "auction_id": auction_id});
    client.send(&subscribe).await;
    client.next_of("snapshot").await;
    let pid = i32::try_from(gateway.id()).expect("a process number");
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("our child");
    let goodbye = client.next_of("goodbye").await;
    assert_eq!(goodbye["data"]["reason"], "draining", "{goodbye}");
    let status = wait_for("it ends", async || gateway.try_wait().expect("our child")).await;
    assert!(status.success(), "{status}");
    assert!(!listed(&grid, &url), "it has said goodbye");
    grid.stop().await;
}

fn listed(grid: &Grid, url: &str) -> bool {
    let status = grid.run(&["status"]).done();
    let gateways = status["gateways"].as_array().expect("a list");
    gateways.iter().any(|entry| entry["url"] == url)
}
