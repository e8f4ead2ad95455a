//! Seats: hold, confirm, release, expire.

use gateway::verify_ticket_code;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Grid, person, text};

fn hold(event: &str, seats: &[&str]) -> Value {
    json!({"type": "hold_seats", "event_id": event, "seats": seats})
}

#[tokio::test]
async fn seats_are_held_confirmed_and_released_over_a_websocket() {
    let grid = Grid::start().await;
    let event = grid.event(60).await;
    let mut anna = grid.connect(person(1)).await;
    let mut ben = grid.connect(person(2)).await;

    let held = anna.data(hold(&event, &["A-1-1", "A-1-2"])).await;
    assert_eq!(held["seats"], json!(["A-1-1", "A-1-2"]));
    assert_eq!(
        held["total"],
        json!({"amount": "100.00", "currency": "EUR"})
    );
    let taken = ben
        .refused(hold(&event, &["A-1-2", "A-1-3"]), "seat_taken")
        .await;
    assert_eq!(taken["detail"]["seats"], json!(["A-1-2"]));

    let confirm = json!({"type": "confirm_hold", "event_id": event, "hold_id": held["hold_id"],
                         "payment_reference": "pay-1", "key": "c1"});
    let tickets = anna.data(confirm.clone()).await;
    assert_eq!(anna.data(confirm).await, tickets, "the first reply again");
    let tickets = tickets["tickets"].as_array().expect("tickets").clone();
    assert_eq!(tickets.len(), 2);
    let (_, key) = grid.get("/v1/ticket-key").await;
    for ticket in &tickets {
        let verified = verify_ticket_code(&text(&key["public_key"]), &text(&ticket["code"]))
            .expect("a valid code");
        assert_eq!(verified.seat, text(&ticket["seat"]));
        assert_eq!(verified.event_id.to_string(), event);
    }

    let best = json!({"type": "hold_seats", "event_id": event, "section": "B", "quantity": 3,
                      "best_available": true});
    let held = ben.data(best).await;
    assert_eq!(held["seats"].as_array().map(Vec::len), Some(3));
    let release = json!({"type": "release_hold", "event_id": event, "hold_id": held["hold_id"]});
    assert_eq!(ben.data(release).await["released"], 3);
    let many = json!({"type": "hold_seats", "event_id": event, "quantity": 9,
                      "best_available": true});
    ben.refused(many, "too_many_seats").await;
    let wide = json!({"type": "hold_seats", "event_id": event, "section": "B", "quantity": 6,
                      "best_available": true});
    ben.refused(wide, "not_enough_seats").await;
    grid.stop().await;
}

#[tokio::test]
async fn the_same_sale_over_http() {
    let grid = Grid::start().await;
    let event = grid.event(60).await;
    let anna = person(1);
    let holds = format!("/v1/events/{event}/holds");
    let body = json!({"seats": ["A-2-1"]});
    let key = [("idempotency-key", "h1")];
    let (status, held) = grid
        .call(Method::POST, &holds, Some(anna), &key, Some(body.clone()))
        .await;
    assert_eq!(status, StatusCode::CREATED, "{held}");
    let again = grid
        .call(Method::POST, &holds, Some(anna), &key, Some(body))
        .await;
    assert_eq!(again, (StatusCode::CREATED, held.clone()));
    let other = json!({"seats": ["A-2-2"]});
    let (status, conflict) = grid
        .call(Method::POST, &holds, Some(anna), &key, Some(other))
        .await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(conflict["code"], "idempotency_conflict");

    let (_, mine) = grid
        .call(Method::GET, "/v1/me/holds", Some(anna), &[], None)
        .await;
    assert_eq!(mine["items"][0]["hold_id"], held["hold_id"]);
    let confirm = format!("{holds}/{}/confirm", text(&held["hold_id"]));
    let (status, sold) = grid
        .post(&confirm, anna, json!({"payment_reference": "pay-2"}))
        .await;
    assert_eq!(status, StatusCode::OK, "{sold}");
    let (_, mine) = grid
        .call(Method::GET, "/v1/me/tickets", Some(anna), &[], None)
        .await;
    assert_eq!(
        mine["items"][0]["ticket_id"],
        sold["tickets"][0]["ticket_id"]
    );
    assert_eq!(mine["items"][0]["code"], sold["tickets"][0]["code"]);

    let (_, overview) = grid.get(&format!("/v1/events/{event}/seats")).await;
    assert_eq!(overview["sections"][0]["sold"], 1);
    assert_eq!(overview["sections"][0]["available"], 19);
    let (_, seats) = grid.get(&format!("/v1/events/{event}/seats/A")).await;
    assert_eq!(
        seats["states"],
        format!("{}s{}", "a".repeat(10), "a".repeat(9))
    );
    assert_eq!(seats["labels"][10], "A-2-1");

    let tickets = format!("/v1/events/{event}/tickets");
    let (status, _) = grid
        .call(Method::GET, &tickets, Some(anna), &[], None)
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let manager = [("x-roles", "manager")];
    let (status, all) = grid
        .call(Method::GET, &tickets, Some(anna), &manager, None)
        .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(all["items"][0]["seat"], "A-2-1");
    assert_eq!(all["items"].as_array().map(Vec::len), Some(1));
    grid.stop().await;
}

#[tokio::test]
async fn a_hold_that_runs_out_is_told_to_its_holder_only() {
    let grid = Grid::start().await;
    let event = grid.event(1).await;
    let mut anna = grid.connect(person(1)).await;
    let mut ben = grid.connect(person(2)).await;
    for client in [&mut anna, &mut ben] {
        let snapshot = client
            .ask(json!({"type": "subscribe", "event_id": event}))
            .await;
        assert_eq!(snapshot["type"], "snapshot", "{snapshot}");
    }
    let held = anna.data(hold(&event, &["A-1-1"])).await;
    let expired = anna.expect_type("hold_expired").await;
    assert_eq!(expired["data"]["hold_id"], held["hold_id"]);
    assert_eq!(expired["data"]["seats"], json!(["A-1-1"]));
    // Ben sees the seat come back, and no word of the hold.
    loop {
        let message = ben.expect().await;
        assert_eq!(message["type"], "seats_changed", "{message}");
        if message["data"]["seats"] == json!([["A-1-1", "available"]]) {
            break;
        }
    }
    let confirm = json!({"type": "confirm_hold", "event_id": event, "hold_id": held["hold_id"],
                         "payment_reference": "late"});
    let late = anna.ask(confirm).await;
    assert_eq!(late["type"], "error", "{late}");
    grid.stop().await;
}
