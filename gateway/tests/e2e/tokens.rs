//! Mode `token`: which tokens count, and what their roles allow.

use gateway::{IdentityKey, TokenOrder};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Grid, auction_body, event_body, person, text};
use crate::provider::{EC, ED, Provider, RSA, RSA_NEXT, bearer, claims, now_s, own_key};

/// Asks for something that every known person may see.
async fn show(grid: &Grid, token: &str) -> (StatusCode, Value) {
    let shown = bearer(token);
    let headers = [("authorization", shown.as_str())];
    grid.call(Method::GET, "/v1/me/bids", None, &headers, None)
        .await
}

async fn assert_refused(grid: &Grid, token: &str, reason: &str, what: &str) {
    let (status, problem) = show(grid, token).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{what}: {problem}");
    assert_eq!(problem["code"], "unauthenticated", "{what}");
    assert_eq!(problem["data"]["reason"], reason, "{what}: {problem}");
}

async fn assert_taken(grid: &Grid, token: &str, what: &str) {
    let (status, answer) = show(grid, token).await;
    assert_eq!(status, StatusCode::OK, "{what}: {answer}");
}

fn own_token(key: &IdentityKey, roles: &[&str]) -> String {
    let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
    key.issue(&TokenOrder {
        user: person(7),
        roles: &roles,
        issued_at_s: now_s().unsigned_abs(),
        life_s: 300,
    })
    .expect("a token")
}

#[tokio::test]
async fn tokens_of_each_algorithm_and_of_the_grids_own_key_count() {
    let provider = Provider::start(&[RSA, EC, ED]).await;
    let grid = provider.grid(|_| ()).await;
    for key in [RSA, EC, ED] {
        let token = key.sign(&claims(person(1), &["bidder"]));
        assert_taken(&grid, &token, key.id).await;
    }
    assert_taken(&grid, &own_token(&own_key(), &["bidder"]), "own").await;
    let stranger = IdentityKey::from_seed(&[8; 32]);
    let reason = "unknown_key";
    assert_refused(&grid, &own_token(&stranger, &[]), reason, "another grid's").await;
    grid.stop().await;
}

/// What is signed, and the signature.
fn parts(token: &str) -> (&str, &str) {
    token.rsplit_once('.').expect("a token")
}

#[tokio::test]
async fn tokens_that_are_wrong_in_any_way_are_refused() {
    let provider = Provider::start(&[RSA, EC, ED]).await;
    let grid = provider.grid(|_| ()).await;
    let good = claims(person(1), &["bidder"]);
    let with = |name: &str, value: Value| {
        let mut changed = good.clone();
        changed[name] = value;
        RSA.sign(&changed)
    };
    let own_as_providers = {
        let mut changed = good.clone();
        changed["iss"] = json!("spacegrid");
        RSA.sign(&changed)
    };
    for (token, reason) in [
        (
            with("iss", json!("https://id.example/realms/other")),
            "issuer",
        ),
        (with("iss", Value::Null), "claims"),
        (own_as_providers, "issuer"),
        (with("aud", json!("another")), "audience"),
        (with("aud", json!([])), "audience"),
        (with("aud", Value::Null), "claims"),
        (with("exp", json!(now_s() - 5)), "expired"),
        (with("exp", json!("tomorrow")), "claims"),
        (with("exp", Value::Null), "claims"),
        (with("nbf", json!(now_s() + 60)), "not_yet_valid"),
        (with("nbf", json!("never")), "claims"),
        (with("iat", json!(now_s() + 60)), "not_yet_valid"),
        (with("iat", Value::Null), "claims"),
        (with("exp", json!(now_s() + 90_000)), "life_too_long"),
        (with("sub", json!("")), "claims"),
        (with("sub", Value::Null), "claims"),
        (with("typ", json!("ID")), "claims"),
        (with("typ", json!("Refresh")), "claims"),
        ("nonsense".to_owned(), "malformed"),
        ("a.b.c".to_owned(), "malformed"),
        (String::new(), "malformed"),
        ("x".repeat(20_000), "malformed"),
    ] {
        assert_refused(&grid, &token, reason, &token).await;
    }
    // The signature of other claims.
    let (own, other) = (RSA.sign(&good), with("sub", json!(person(2))));
    let mixed = format!("{}.{}", parts(&own).0, parts(&other).1);
    assert_refused(&grid, &mixed, "signature", "another's signature").await;
    assert_taken(&grid, &RSA.sign(&good), "the good one").await;
    grid.stop().await;
}

#[tokio::test]
async fn a_token_does_not_choose_how_it_is_checked() {
    let provider = Provider::start(&[RSA, EC]).await;
    let grid = provider
        .grid(|identity| identity.jwks_refresh_min_ms = 3_600_000)
        .await;
    let good = claims(person(1), &["admin"]);
    // The provider's public key, known to everybody, as a shared secret.
    let public = serde_json::to_vec(&RSA.public()).expect("JSON");
    for id in [Some(RSA.id), None] {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = id.map(str::to_owned);
        let forged = encode(&header, &good, &EncodingKey::from_secret(&public)).expect("a token");
        assert_refused(&grid, &forged, "algorithm", "a shared secret").await;
    }
    for none in ["none", "None", "NONE"] {
        let part = |json: Value| {
            use base64::Engine;
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json.to_string())
        };
        let header = part(json!({"alg": none, "typ": "JWT", "kid": RSA.id}));
        let forged = format!("{header}.{}.", part(good.clone()));
        assert_refused(&grid, &forged, "algorithm", none).await;
    }
    // Another key and algorithm under a known name; another key under a known name; an unknown key.
    let forged = EC.sign_as(RSA.id, &good);
    assert_refused(&grid, &forged, "algorithm", "confused").await;
    let forged = RSA_NEXT.sign_as(RSA.id, &good);
    assert_refused(&grid, &forged, "signature", "a stranger's").await;
    let forged = RSA_NEXT.sign(&good);
    assert_refused(&grid, &forged, "unknown_key", "unknown").await;
    grid.stop().await;

    let only_ec = |identity: &mut grid_config::IdentitySettings| {
        identity.algorithms = vec![grid_config::TokenAlgorithm::ES256];
    };
    let grid = provider.grid(only_ec).await;
    assert_refused(&grid, &RSA.sign(&good), "algorithm", "not listed").await;
    assert_taken(&grid, &EC.sign(&good), "listed").await;
    grid.stop().await;
}

#[tokio::test]
async fn a_new_key_is_fetched_once_and_the_old_ones_stay_while_the_provider_is_away() {
    let provider = Provider::start(&[RSA]).await;
    let grid = provider
        .grid(|identity| identity.jwks_refresh_min_ms = 1)
        .await;
    let good = claims(person(1), &["bidder"]);
    assert_taken(&grid, &RSA.sign(&good), "the first key").await;
    provider.publish(&[RSA, RSA_NEXT]);
    assert_taken(&grid, &RSA_NEXT.sign(&good), "the next key").await;
    let fetched = provider.fetches();
    assert_taken(&grid, &RSA_NEXT.sign(&good), "known now").await;
    assert_eq!(provider.fetches(), fetched);
    provider.set_away(true);
    assert_refused(&grid, &ED.sign(&good), "unknown_key", "nobody to ask").await;
    assert!(provider.fetches() > fetched);
    assert_taken(&grid, &RSA.sign(&good), "while the provider is away").await;
    provider.set_away(false);
    provider.publish(&[RSA_NEXT]);
    assert_refused(&grid, &EC.sign(&good), "unknown_key", "asked again").await;
    assert_refused(&grid, &RSA.sign(&good), "unknown_key", "taken back").await;
    grid.stop().await;
}

#[tokio::test]
async fn made_up_keys_cost_the_provider_nothing_and_its_absence_is_said() {
    let provider = Provider::start(&[RSA]).await;
    provider.set_away(true);
    let grid = provider
        .grid(|identity| identity.jwks_refresh_min_ms = 3_600_000)
        .await;
    let good = claims(person(1), &["bidder"]);
    for _ in 0..20 {
        let (status, problem) = show(&grid, &RSA.sign(&good)).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{problem}");
        assert!(problem["data"]["retry_after_ms"].as_u64().is_some());
    }
    assert_eq!(provider.fetches(), 1);
    grid.stop().await;
}

#[tokio::test]
async fn roles_come_from_the_token_alone() {
    let provider = Provider::start(&[RSA]).await;
    let grid = provider.grid(|_| ()).await;
    let call = async |method: Method, path: &str, token: Option<&str>, body: Option<Value>| {
        let shown = token.map(bearer).unwrap_or_default();
        let user = person(50).to_string();
        let mut headers = vec![
            ("x-user-id", user.as_str()),
            ("x-roles", "admin,manager,host"),
        ];
        headers.extend(token.map(|_| ("authorization", shown.as_str())));
        grid.call(method, path, None, &headers, body).await
    };
    let token = |number, roles: &[&str]| RSA.sign(&claims(person(number), roles));
    let (host, bidder, nobody) = (token(9, &["host"]), token(1, &["bidder"]), token(2, &[]));

    let create = |token| call(Method::POST, "/v1/auctions", token, Some(auction_body()));
    assert_eq!(create(None).await.0, StatusCode::UNAUTHORIZED);
    for wrong in [&bidder, &nobody] {
        let (status, refused) = create(Some(wrong)).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{refused}");
        assert_eq!(refused["data"]["reason"], "role_missing");
    }
    let (status, made) = create(Some(&host)).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let auction = text(&made["auction_id"]);
    let start = format!("/v1/auctions/{auction}/start");
    let other_host = token(8, &["host"]);
    let (status, _) = call(Method::POST, &start, Some(&other_host), Some(json!({}))).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "another host's auction");
    let manager = token(3, &["manager"]);
    let (status, started) = call(Method::POST, &start, Some(&manager), Some(json!({}))).await;
    assert_eq!(status, StatusCode::OK, "{started}");

    let bids = format!("/v1/auctions/{auction}/bids");
    let bid = |token| {
        call(
            Method::POST,
            &bids,
            token,
            Some(json!({"amount": "150.00"})),
        )
    };
    assert_eq!(bid(None).await.0, StatusCode::UNAUTHORIZED);
    for wrong in [&nobody, &manager, &other_host] {
        assert_eq!(bid(Some(wrong)).await.0, StatusCode::FORBIDDEN);
    }
    let (status, placed) = bid(Some(&bidder)).await;
    assert_eq!(status, StatusCode::CREATED, "{placed}");

    let (status, event) = call(
        Method::POST,
        "/v1/events",
        Some(&host),
        Some(event_body(60)),
    )
    .await;
    assert_eq!(status, StatusCode::CREATED, "{event}");
    let tickets = format!("/v1/events/{}/tickets", text(&event["event_id"]));
    for wrong in [&bidder, &host] {
        let (status, _) = call(Method::GET, &tickets, Some(wrong), None).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
    }
    let (status, _) = call(Method::GET, &tickets, Some(&manager), None).await;
    assert_eq!(status, StatusCode::OK);
    // A token of a role does not open the operators' addresses, whatever the role.
    let admin = token(4, &["admin"]);
    let (status, _) = call(Method::GET, "/admin/v1/status", Some(&admin), None).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    grid.stop().await;
}

#[tokio::test]
async fn guests_watch_and_do_nothing_else() {
    let provider = Provider::start(&[RSA]).await;
    let grid = provider.grid(|_| ()).await;
    let host = RSA.sign(&claims(person(9), &["host"]));
    let shown = bearer(&host);
    let headers = [("authorization", shown.as_str())];
    let path = "/v1/auctions";
    let made = grid.call(Method::POST, path, None, &headers, Some(auction_body()));
    let auction = text(&made.await.1["auction_id"]);
    assert_eq!(grid.get(path).await.0, StatusCode::OK);
    // A token that does not count is not taken for a guest's.
    let wrong = [("authorization", "Bearer nonsense")];
    let (status, _) = grid.call(Method::GET, path, None, &wrong, None).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        grid.try_connect("", &wrong).await.err(),
        Some(StatusCode::UNAUTHORIZED)
    );

    let mut guest = grid.try_connect("", &[]).await.expect("a guest");
    let snapshot = guest
        .ask(json!({"type": "subscribe", "auction_id": auction}))
        .await;
    assert_eq!(snapshot["type"], "snapshot");
    guest.assert_alive().await;
    for request in [
        json!({"type": "place_bid", "auction_id": auction, "amount": "150.00"}),
        json!({"type": "hold_seats", "event_id": auction, "seats": ["A-1-1"]}),
        json!({"type": "withdraw_bid", "auction_id": auction, "bid_id": auction}),
    ] {
        guest.refused(request, "unauthenticated").await;
    }
    let token = RSA.sign(&claims(person(1), &["bidder"]));
    let become_known = json!({"type": "authenticate", "token": token});
    guest.refused(become_known, "forbidden").await;
    grid.stop().await;

    let grid = provider
        .grid(|identity| identity.guests_may_watch = false)
        .await;
    assert_eq!(grid.get(path).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(grid.get("/ready").await.0, StatusCode::OK);
    let refused = grid.try_connect("", &[]).await;
    assert_eq!(refused.err(), Some(StatusCode::UNAUTHORIZED));
    grid.stop().await;
}

#[tokio::test]
async fn nothing_public_tells_who_bids() {
    let provider = Provider::start(&[RSA]).await;
    let grid = provider.grid(|_| ()).await;
    let token = |user: Uuid, roles: &[&str]| bearer(&RSA.sign(&claims(user, roles)));
    let (anna, ben) = (person(0xA11A), person(0xBE17));
    let host = token(person(9), &["host"]);
    let host = [("authorization", host.as_str())];
    let create = grid.call(
        Method::POST,
        "/v1/auctions",
        None,
        &host,
        Some(auction_body()),
    );
    let auction = text(&create.await.1["auction_id"]);
    let path = format!("/v1/auctions/{auction}");
    grid.call(
        Method::POST,
        &format!("{path}/start"),
        None,
        &host,
        Some(json!({})),
    )
    .await;
    let mut guest = grid.try_connect("", &[]).await.expect("a guest");
    let mut seen = String::new();
    let subscribe = json!({"type": "subscribe", "auction_id": auction});
    seen += &guest.ask(subscribe.clone()).await.to_string();
    for (user, amount) in [(anna, "130.00"), (ben, "140.00")] {
        let shown = token(user, &["bidder"]);
        let mut bidder = grid
            .try_connect("", &[("authorization", shown.as_str())])
            .await
            .expect("a bidder");
        bidder.ask(subscribe.clone()).await;
        let bid = json!({"type": "place_bid", "auction_id": auction, "amount": amount});
        bidder.data(bid).await;
        assert_eq!(bidder.expect_type("bid_placed").await["data"]["own"], true);
        let told = guest.expect_type("bid_placed").await;
        assert_eq!(told["data"].get("own"), None);
        seen += &told.to_string();
    }
    seen += &grid.get(&format!("{path}/bids")).await.1.to_string();
    seen += &grid.get(&path).await.1.to_string();
    grid.call(
        Method::POST,
        &format!("{path}/close"),
        None,
        &host,
        Some(json!({})),
    )
    .await;
    let ended = guest.expect_type("auction_ended").await;
    assert_eq!(ended["data"]["winner"], "bidder-2");
    seen += &ended.to_string();
    seen += &grid.get("/v1/auctions").await.1.to_string();
    assert!(seen.contains("bidder-1") && seen.contains("bidder-2"));
    for user in [anna, ben] {
        assert!(!seen.contains(&user.to_string()), "{seen}");
    }
    grid.stop().await;
}
