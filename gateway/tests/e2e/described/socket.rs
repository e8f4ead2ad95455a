//! `/asyncapi.json`.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::document::Document;
use crate::harness::{Client, Grid, auction_body, person, text};

/// What was said and told, checked by the description.
struct Talk {
    document: Document,
    seen: BTreeSet<String>,
}

impl Talk {
    fn check(&mut self, message: &Value) {
        let kind = text(&message["type"]);
        let described = &self.document.0["components"]["messages"][&kind];
        assert!(described.is_object(), "{kind} is not described: {message}");
        self.document.check(&kind, &described["payload"], message);
        self.seen.insert(kind);
    }

    /// Sends a request as described and returns the answer, which is as described.
    async fn say(&mut self, client: &mut Client, request: Value) -> Value {
        let mut whole = request.clone();
        whole["id"] = json!(1);
        self.check(&whole);
        let answer = client.ask(request.clone()).await;
        self.check(&answer);
        if answer["type"] == "reply" {
            let kind = text(&request["type"]);
            let schema = self.document.0["x-reply-data"][&kind].clone();
            assert!(schema.is_object(), "the reply to {kind} is not described");
            self.document.check(&kind, &schema, &answer["data"]);
        }
        answer
    }

    /// The next message of a type; it and those before it are as described.
    async fn told(&mut self, client: &mut Client, kind: &str) -> Value {
        loop {
            let message = client.expect().await;
            self.check(&message);
            if message["type"] == kind {
                return message;
            }
        }
    }

    async fn auction(&mut self, grid: &Grid) {
        let host = person(9);
        let mut body = auction_body();
        body["soft_close"] = json!({"window_s": 86_400, "extend_s": 86_400});
        let id = created(grid, "/v1/auctions", host, body, "auction_id").await;
        let step = async |name: &str| {
            let path = format!("/v1/auctions/{id}/{name}");
            let (status, answer) = grid.call(Method::POST, &path, Some(host), &[], None).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
        };
        let mut client = grid.connect(person(1)).await;
        let subscribe = json!({"type": "subscribe", "auction_id": id});
        let first = self.say(&mut client, subscribe).await;
        assert_eq!(first["type"], "snapshot");
        step("start").await;
        self.told(&mut client, "auction_started").await;
        let bid = |amount: &str| json!({"type": "place_bid", "auction_id": id, "amount": amount, "key": amount});
        let placed = self.say(&mut client, bid("100.00")).await;
        let refused = self.say(&mut client, bid("99.00")).await;
        assert_eq!(refused["type"], "error");
        let event = self.told(&mut client, "bid_placed").await;
        assert_eq!(event["data"]["own"], true);
        self.told(&mut client, "auction_extended").await;
        let withdraw = json!({"type": "withdraw_bid", "auction_id": id,
                              "bid_id": placed["data"]["bid_id"], "key": "w"});
        self.say(&mut client, withdraw).await;
        self.told(&mut client, "bid_withdrawn").await;
        let mut again = grid.connect(person(2)).await;
        let resume = json!({"type": "subscribe", "auction_id": id, "from": event["cursor"]});
        let resumed = self.say(&mut again, resume).await;
        assert_eq!(resumed["type"], "resumed");
        self.told(&mut again, "bid_withdrawn").await;
        self.say(&mut again, bid("130")).await;
        step("close").await;
        let won = self.told(&mut again, "auction_ended").await;
        assert_eq!(won["data"]["own"], true);
        let lost = self.told(&mut client, "auction_ended").await;
        assert_eq!(lost["data"].get("own"), None);

        let id = created(grid, "/v1/auctions", host, auction_body(), "auction_id").await;
        let subscribe = json!({"type": "subscribe", "auction_id": id});
        self.say(&mut client, subscribe).await;
        let path = format!("/v1/auctions/{id}/cancel");
        grid.call(Method::POST, &path, Some(host), &[], None).await;
        self.told(&mut client, "auction_cancelled").await;
        let unsubscribe = json!({"type": "unsubscribe", "auction_id": id});
        self.say(&mut client, unsubscribe).await;
        self.say(&mut client, json!({"type": "ping"})).await;
    }

    async fn seats(&mut self, grid: &Grid) {
        let event = grid.event(1).await;
        let mut client = grid.connect(person(1)).await;
        let subscribe = json!({"type": "subscribe", "event_id": event});
        self.say(&mut client, subscribe).await;
        let hold = |rest: Value| {
            let mut message = json!({"type": "hold_seats", "event_id": event});
            for (name, value) in rest.as_object().expect("fields") {
                message[name] = value.clone();
            }
            message
        };
        self.say(&mut client, hold(json!({"seats": ["A-1-1"]})))
            .await;
        self.told(&mut client, "hold_expired").await;
        self.told(&mut client, "seats_changed").await;

        let event = grid.event(60).await;
        let hold = |section: &str| {
            json!({"type": "hold_seats", "event_id": event, "section": section,
                   "quantity": 2, "best_available": true, "key": section})
        };
        let held = self.say(&mut client, hold("A")).await;
        let confirm = json!({"type": "confirm_hold", "event_id": event, "key": "c",
                             "hold_id": held["data"]["hold_id"], "payment_reference": "p"});
        let sold = self.say(&mut client, confirm).await;
        assert_eq!(sold["type"], "reply", "{sold}");
        let held = self.say(&mut client, hold("B")).await;
        let release = json!({"type": "release_hold", "event_id": event, "key": "r",
                             "hold_id": held["data"]["hold_id"]});
        let released = self.say(&mut client, release).await;
        assert_eq!(released["type"], "reply", "{released}");
    }

    async fn waiting_room(&mut self, grid: &Grid) {
        let (host, event) = (person(99), grid.event(60).await);
        let room = format!("/v1/events/{event}/waiting-room");
        let (status, made) = grid
            .post(&room, host, json!({"rate_per_minute": 60_000}))
            .await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        let (status, _) = grid.post(&format!("{room}/pause"), host, json!({})).await;
        assert_eq!(status, StatusCode::OK);
        let (mut first, mut second) =
            (grid.connect(person(1)).await, grid.connect(person(2)).await);
        let join = json!({"type": "join_queue", "event_id": event});
        self.say(&mut first, join.clone()).await;
        self.say(&mut second, join).await;
        self.told(&mut second, "queue_position").await;
        let leave = json!({"type": "leave_queue", "event_id": event});
        let left = self.say(&mut first, leave).await;
        assert_eq!(left["type"], "reply", "{left}");
        grid.post(&format!("{room}/resume"), host, json!({})).await;
        let admitted = self.told(&mut second, "admitted").await;
        let hold = json!({"type": "hold_seats", "event_id": event, "quantity": 1,
                          "pass": admitted["data"]["pass"], "key": "h"});
        let held = self.say(&mut second, hold).await;
        assert_eq!(held["type"], "reply", "{held}");
    }
}

async fn created(grid: &Grid, path: &str, user: Uuid, body: Value, id: &str) -> String {
    let (status, made) = grid.post(path, user, body).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    text(&made[id])
}

#[tokio::test]
async fn every_described_message_is_as_described() {
    let mut grid = Grid::start().await;
    let (_, document) = grid.get("/asyncapi.json").await;
    let mut talk = Talk {
        document: Document::read(&document.to_string()),
        seen: BTreeSet::new(),
    };
    talk.auction(&grid).await;
    talk.seats(&grid).await;
    talk.waiting_room(&grid).await;
    let mut client = grid.connect(person(1)).await;
    client.assert_alive().await;
    let authenticate = json!({"type": "authenticate", "token": "none"});
    let refused = talk.say(&mut client, authenticate).await;
    assert_eq!(refused["code"], "bad_request", "{refused}");
    let gateway = grid.gateway.take().expect("it runs");
    let stopping = tokio::spawn(gateway.shutdown());
    talk.told(&mut client, "goodbye").await;
    drop(client);
    stopping.await.expect("it stops");
    let described: BTreeSet<String> = talk
        .document
        .map("/components/messages")
        .keys()
        .cloned()
        .collect();
    let missed: Vec<_> = described.difference(&talk.seen).collect();
    assert!(missed.is_empty(), "never said here: {missed:?}");
    grid.stop().await;
}

/// The channel and its operations name all messages, each where it belongs.
#[test]
fn the_channel_has_every_message() {
    let document = Document::read(include_str!("../../../web/asyncapi.json"));
    let names =
        |pointer: &str| -> BTreeSet<String> { document.map(pointer).keys().cloned().collect() };
    let messages = names("/components/messages");
    assert_eq!(names("/channels/grid/messages"), messages);
    let mut named = BTreeSet::new();
    for operation in document.map("/operations").values() {
        for message in operation["messages"].as_array().expect("a list") {
            let reference = text(&message["$ref"]);
            assert!(document.resolve(document.resolve(message))["payload"].is_object());
            named.insert(reference.rsplit('/').next().unwrap_or_default().to_owned());
        }
    }
    assert_eq!(named, messages);
}
