//! Waiting rooms: join, be told, be admitted, buy; over HTTP and a WebSocket.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Grid, patiently, person, text};

const HOST: u128 = 9;

/// An event with a room that is open from the beginning.
async fn open_room(grid: &Grid, body: Value) -> String {
    let event = grid.event(60).await;
    let path = format!("/v1/events/{event}/waiting-room");
    let manager = [("x-roles", "manager")];
    let (status, room) = grid
        .call(
            Method::POST,
            &path,
            Some(person(HOST)),
            &manager,
            Some(body),
        )
        .await;
    assert_eq!(status, StatusCode::CREATED, "{room}");
    assert_eq!(text(&room["commitment"]).len(), 64);
    assert_eq!(room.get("secret"), None, "{room}");
    event
}

fn hold(event: &str, pass: Option<&Value>) -> Value {
    let mut body =
        json!({"type": "hold_seats", "event_id": event, "quantity": 1, "best_available": true});
    if let Some(pass) = pass {
        body["pass"] = pass.clone();
    }
    body
}

#[tokio::test]
async fn a_buyer_waits_is_admitted_and_buys_with_the_pass() {
    let grid = Grid::start().await;
    let event = open_room(&grid, json!({"rate_per_minute": 60_000})).await;
    let mut anna = grid.connect(person(1)).await;
    let mut ben = grid.connect(person(2)).await;
    ben.refused(hold(&event, None), "waiting_room_required")
        .await;

    let join = json!({"type": "join_queue", "event_id": event});
    let place = anna.data(join.clone()).await;
    let admitted = anna.expect_type("admitted").await;
    assert_eq!(text(&admitted["event_id"]), event);
    let pass = &admitted["data"]["pass"];
    let again = anna.data(join).await;
    assert_eq!(again["number"], place["number"], "one place a person");
    assert_eq!(&again["pass"], pass, "one pass a person");

    // Neither without the pass, nor with another's.
    let refused = anna
        .refused(hold(&event, None), "waiting_room_required")
        .await;
    assert_eq!(refused["detail"]["reason"], "no_pass");
    let refused = ben
        .refused(hold(&event, Some(pass)), "waiting_room_required")
        .await;
    assert_eq!(refused["detail"]["reason"], "pass_invalid");
    let held = anna.data(hold(&event, Some(pass))).await;
    let confirm = json!({"type": "confirm_hold", "event_id": event, "hold_id": held["hold_id"],
                         "payment_reference": "pay-1"});
    anna.data(confirm).await;
    let told = anna.expect_type("queue_position").await;
    assert_eq!(told["data"]["state"], "bought");
    // The signature still holds; the partition knows that the pass has served.
    let refused = anna
        .refused(hold(&event, Some(pass)), "waiting_room_required")
        .await;
    assert_eq!(refused["detail"]["reason"], "not_admitted");
    grid.stop().await;
}

#[tokio::test]
async fn a_paused_room_tells_positions_and_admits_when_it_resumes() {
    let grid = Grid::start().await;
    let event = open_room(&grid, json!({"rate_per_minute": 60_000})).await;
    let room = format!("/v1/events/{event}/waiting-room");
    let queue = format!("/v1/events/{event}/queue");
    let manager = [("x-roles", "manager")];
    let step = async |step: &str, body: Value| {
        let path = format!("{room}/{step}");
        grid.call(
            Method::POST,
            &path,
            Some(person(HOST)),
            &manager,
            Some(body),
        )
        .await
    };
    let (status, _) = grid
        .post(&format!("{room}/pause"), person(1), json!({}))
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN, "a buyer may not");
    let (status, paused) = step("pause", json!({})).await;
    assert_eq!((status, &paused["paused"]), (StatusCode::OK, &json!(true)));

    let (status, first) = grid.post(&queue, person(1), json!({})).await;
    assert_eq!(status, StatusCode::OK, "{first}");
    let mut ben = grid.connect(person(2)).await;
    ben.data(json!({"type": "join_queue", "event_id": event}))
        .await;
    let told = ben.expect_type("queue_position").await;
    assert_eq!(told["data"]["state"], "paused");
    assert_eq!(told["data"]["position"], 2);
    assert_eq!(
        told["data"].get("estimate_s"),
        None,
        "nothing honest to say"
    );

    // Who was before leaves: the next one is told.
    let (status, _) = grid
        .call(Method::DELETE, &queue, Some(person(1)), &[], None)
        .await;
    assert_eq!(status, StatusCode::OK);
    step("rate", json!({"rate_per_minute": 120_000})).await;
    step("resume", json!({})).await;
    ben.expect_type("admitted").await;
    let (_, state) = grid.get(&room).await;
    assert_eq!(
        (
            &state["left"],
            &state["admitted"],
            &state["rate_per_minute"]
        ),
        (&json!(1), &json!(1), &json!(120_000))
    );
    let (status, gone) = grid
        .call(Method::GET, &queue, Some(person(1)), &[], None)
        .await;
    assert_eq!((status, &gone["state"]), (StatusCode::OK, &json!("left")));
    grid.stop().await;
}

#[tokio::test]
async fn a_withheld_secret_opens_the_room_and_the_order_is_public() {
    let grid = Grid::start().await;
    // SHA-256 of "spacegrid room commitment" and 32 bytes of 07.
    let commitment = "ecb62211ea0051aede9a8201264a92bb60fb6b038335b297d36ea55179ba9591";
    let opens_at = (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3)).to_string();
    let body = json!({"rate_per_minute": 60, "commitment": commitment, "opens_at": opens_at});
    let event = open_room(&grid, body).await;
    let room = format!("/v1/events/{event}/waiting-room");
    for number in 1..=5 {
        let (status, place) = grid
            .post(
                &format!("/v1/events/{event}/queue"),
                person(number),
                json!({}),
            )
            .await;
        assert_eq!(
            (status, &place["state"]),
            (StatusCode::OK, &json!("gathering"))
        );
    }
    let sealed = async {
        loop {
            let (_, state) = grid.get(&room).await;
            if state["phase"] == "sealed" {
                return state;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let state = patiently("the list is sealed", sealed).await;
    assert_eq!((&state["early"], state.get("secret")), (&json!(5), None));
    let open = async |digit: &str| {
        let path = format!("{room}/open");
        let body = json!({"secret": digit.repeat(32)});
        let manager = [("x-roles", "manager")];
        grid.call(
            Method::POST,
            &path,
            Some(person(HOST)),
            &manager,
            Some(body),
        )
        .await
    };
    assert_eq!(
        open("08").await.0,
        StatusCode::BAD_REQUEST,
        "another secret"
    );
    let (status, opened) = open("07").await;
    assert_eq!((status, &opened["phase"]), (StatusCode::OK, &json!("open")));
    let (_, order) = grid.get(&format!("{room}/order")).await;
    let mut ranks: Vec<_> = order["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| row["rank"].as_u64().expect("a rank"))
        .collect();
    ranks.sort_unstable();
    assert_eq!(ranks, [0, 1, 2, 3, 4]);
    grid.stop().await;
}
