//! Mode `token`: tickets for WebSockets, and how sessions end.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Client, Grid, person};
use crate::provider::{Provider, RSA, bearer, claims, now_s};

async fn post(grid: &Grid, path: &str, token: &str) -> (StatusCode, Value) {
    let shown = bearer(token);
    let headers = [("authorization", shown.as_str())];
    grid.call(Method::POST, path, None, &headers, None).await
}

async fn ticket(grid: &Grid, token: &str) -> String {
    let (status, issued) = post(grid, "/v1/ws-tickets", token).await;
    assert_eq!(status, StatusCode::CREATED, "{issued}");
    assert_eq!(issued["expires_in_ms"], 30_000);
    format!("ticket={}", issued["ticket"].as_str().expect("a ticket"))
}

async fn connect(grid: &Grid, token: &str) -> Client {
    let shown = bearer(token);
    let headers = [("authorization", shown.as_str())];
    let connected = grid.try_connect("", &headers).await;
    connected.expect("a connection")
}

/// The last message before the server closes.
async fn goodbye(client: &mut Client) -> String {
    let mut last = Value::Null;
    while let Some(message) = client.next().await {
        last = message;
    }
    assert_eq!(last["type"], "goodbye", "{last}");
    last["data"]["reason"]
        .as_str()
        .expect("a reason")
        .to_owned()
}

fn token(number: u128) -> String {
    RSA.sign(&claims(person(number), &["bidder"]))
}

#[tokio::test]
async fn a_ticket_opens_one_socket_of_its_user() {
    let provider = Provider::start(&[RSA]).await;
    let grid = provider.grid(|_| ()).await;
    let (status, _) = grid
        .call(Method::POST, "/v1/ws-tickets", None, &[], None)
        .await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);

    let refused = Some(StatusCode::UNAUTHORIZED);
    let own = ticket(&grid, &token(1)).await;
    let mut anna = grid.try_connect(&own, &[]).await.expect("a connection");
    anna.assert_alive().await;
    assert_eq!(grid.try_connect(&own, &[]).await.err(), refused, "used");
    // With a ticket a bid is its user's: the roles come with it.
    let unheard_of = json!({"type": "place_bid", "auction_id": person(5), "amount": "1.00"});
    anna.refused(unheard_of, "not_found").await;

    // Another's ticket beside one's own token; it is used up by the attempt.
    let annas = ticket(&grid, &token(1)).await;
    let bens = bearer(&token(2));
    let bens = [("authorization", bens.as_str())];
    let both = grid.try_connect(&annas, &bens).await;
    assert_eq!(both.err(), refused, "another's");
    assert_eq!(grid.try_connect(&annas, &[]).await.err(), refused);
    for wrong in [
        "ticket=",
        "ticket=nonsense",
        &format!("ticket={}", token(1)),
    ] {
        assert_eq!(grid.try_connect(wrong, &[]).await.err(), refused, "{wrong}");
    }
    // A name in the address is nobody's word: that is a guest, if anybody.
    let named = format!("user_id={}", person(1));
    let mut guest = grid.try_connect(&named, &[]).await.expect("a guest");
    let bid = json!({"type": "place_bid", "auction_id": person(5), "amount": "1.00"});
    guest.refused(bid, "unauthenticated").await;
    grid.stop().await;
}

#[tokio::test]
async fn a_session_ends_with_its_token_unless_a_fresh_one_comes() {
    let provider = Provider::start(&[RSA]).await;
    let grid = provider.grid(|_| ()).await;
    let short = |number| {
        let mut short = claims(person(number), &["bidder"]);
        short["exp"] = json!(now_s() + 8);
        RSA.sign(&short)
    };
    let mut anna = connect(&grid, &short(1)).await;
    let mut ben = connect(&grid, &short(2)).await;
    let fresh = |token: String| json!({"type": "authenticate", "token": token});
    let refused = anna.refused(fresh(token(2)), "forbidden").await;
    assert!(!refused.to_string().contains("eyJ"), "{refused}");
    anna.refused(fresh("nonsense".to_owned()), "unauthenticated")
        .await;
    anna.data(fresh(token(1))).await;
    assert_eq!(goodbye(&mut ben).await, "session_expired");
    anna.assert_alive().await;
    grid.stop().await;
}

#[tokio::test]
async fn a_logout_closes_every_socket_and_takes_back_older_tokens() {
    let provider = Provider::start(&[RSA]).await;
    let grid = provider.grid(|_| ()).await;
    let (annas, bens) = (token(1), token(2));
    let waiting = ticket(&grid, &annas).await;
    let mut sockets = vec![connect(&grid, &annas).await, connect(&grid, &annas).await];
    let mut ben = connect(&grid, &bens).await;
    let (status, done) = post(&grid, "/v1/logout", &annas).await;
    assert_eq!(status, StatusCode::OK, "{done}");
    for socket in &mut sockets {
        assert_eq!(goodbye(socket).await, "session_revoked");
    }
    let (status, refused) = post(&grid, "/v1/ws-tickets", &annas).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(refused["data"]["reason"], "revoked");
    let unused = grid.try_connect(&waiting, &[]).await;
    assert_eq!(unused.err(), Some(StatusCode::UNAUTHORIZED), "its ticket");
    ben.assert_alive().await;
    post(&grid, "/v1/ws-tickets", &bens).await;
    // A token from after the logout counts.
    let mut later = claims(person(1), &["bidder"]);
    let mut fresh = || {
        later["iat"] = json!(now_s());
        RSA.sign(&later)
    };
    crate::harness::patiently("a token of a later second", async {
        while post(&grid, "/v1/ws-tickets", &fresh()).await.0 != StatusCode::CREATED {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    grid.stop().await;
}

#[tokio::test]
async fn an_operator_takes_sessions_back() {
    let provider = Provider::start(&[RSA]).await;
    let grid = provider.grid(|_| ()).await;
    let mut anna = connect(&grid, &token(1)).await;
    let path = format!("/admin/v1/sessions/{}/revoke", person(1));
    let (status, _) = grid.order(&path, json!({})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "nobody gives the order");
    let secret = bearer(crate::harness::ADMIN_TOKEN);
    let headers = [("authorization", secret.as_str()), ("x-roles", "manager")];
    let by = Some(person(99));
    let (status, done) = grid.call(Method::POST, &path, by, &headers, None).await;
    assert_eq!(status, StatusCode::OK, "{done}");
    assert_eq!(goodbye(&mut anna).await, "session_revoked");
    grid.stop().await;
}

#[tokio::test]
async fn trusted_callers_have_no_sessions() {
    let grid = Grid::start().await;
    for path in ["/v1/ws-tickets", "/v1/logout"] {
        let (status, refused) = grid.post(path, person(1), json!({})).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{refused}");
    }
    grid.stop().await;
}
