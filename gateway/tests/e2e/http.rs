//! Operators' routes and HTTP's own manners.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::harness::{ADMIN_TOKEN, Grid, person, text};

#[tokio::test]
async fn operators_see_the_grid() {
    let grid = Grid::start().await;
    assert_eq!(grid.get("/health").await.0, StatusCode::OK);
    let (status, ready) = grid.get("/ready").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(ready["partitions"], 4);
    assert_eq!(ready["without_leader"], json!([]));
    let (status, nodes) = grid.admin("/admin/v1/status").await;
    assert_eq!(status, StatusCode::OK);
    let replicas = nodes["nodes"][0]["status"]["replicas"].as_array();
    assert_eq!(replicas.map(Vec::len), Some(4), "{nodes}");
    let (status, digests) = grid.admin("/admin/v1/digests/0").await;
    assert_eq!(status, StatusCode::OK, "{digests}");
    assert_eq!(digests["agree"], true);
    assert_eq!(text(&digests["replicas"][0]["digest"]).len(), 64);
    grid.stop().await;
}

#[tokio::test]
async fn admin_addresses_are_for_holders_of_the_token() {
    let grid = Grid::start().await;
    let wrong = format!("Bearer {}", "0".repeat(64));
    let basic = format!("Basic {ADMIN_TOKEN}");
    for path in [
        "/admin/v1/status",
        "/admin/v1/digests/0",
        "/admin/v1/nowhere",
        "/admin/",
    ] {
        for headers in [
            vec![],
            vec![("authorization", wrong.as_str())],
            vec![("authorization", basic.as_str())],
            vec![("authorization", "Bearer ")],
            vec![("x-user-id", ADMIN_TOKEN), ("x-roles", "admin")],
        ] {
            for method in [Method::GET, Method::POST, Method::DELETE] {
                let (status, problem) = grid.call(method, path, None, &headers, None).await;
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{path} {headers:?}");
                assert_eq!(problem["code"], "unauthenticated", "{path} {headers:?}");
            }
        }
    }
    let (status, _) = grid.admin("/admin/v1/nowhere").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (status, _) = grid.admin("/admin/v1/status").await;
    assert_eq!(status, StatusCode::OK);
    let (status, _) = grid.get("/ready").await;
    assert_eq!(status, StatusCode::OK, "probes need no token");
    grid.stop().await;
}

#[tokio::test]
async fn operators_order_snapshots_and_fetch_them() {
    let grid = Grid::start().await;
    let (status, taken) = grid
        .order("/admin/v1/partitions/0/snapshot", json!({"node": 1}))
        .await;
    assert_eq!(status, StatusCode::OK, "{taken}");
    let response = grid
        .http
        .get(grid.url("/admin/v1/partitions/0/snapshot"))
        .bearer_auth(ADMIN_TOKEN)
        .send()
        .await
        .expect("a response");
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(
        response.headers()["x-snapshot-index"],
        taken["index"].to_string()
    );
    let bytes = response.bytes().await.expect("a body");
    assert!(bytes.starts_with(b"SGSNAP"));
    let rebuild = "/admin/v1/partitions/0/rebuild";
    let (status, refused) = grid.order(rebuild, json!({"node": 1})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "it leads: {refused}");
    let (status, _) = grid.order(rebuild, json!({"node": 9})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (status, own) = grid.admin("/admin/v1/node").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        own["status"]["replicas"][0]["snapshots"][0]["index"],
        taken["index"]
    );
    grid.stop().await;
}

#[tokio::test]
async fn a_request_keeps_its_id_and_gets_one_otherwise() {
    let grid = Grid::start().await;
    let id_of = async |given: Option<&str>| {
        let mut request = grid.http.get(grid.url("/health"));
        if let Some(given) = given {
            request = request.header("x-request-id", given);
        }
        let response = request.send().await.expect("a response");
        let id = response.headers()["x-request-id"].to_str().expect("text");
        id.to_owned()
    };
    assert_eq!(id_of(Some("order-17")).await, "order-17");
    let made = id_of(None).await;
    assert_eq!(made.len(), 32);
    assert_ne!(id_of(None).await, made);
    let long = "x".repeat(200);
    assert_ne!(id_of(Some(&long)).await, long, "not fit for a log");
    grid.stop().await;
}

#[tokio::test]
async fn metrics_come_from_whoever_keeps_them() {
    let grid = Grid::start().await;
    assert_eq!(grid.get("/metrics").await.0, StatusCode::NOT_FOUND);
    let gateway = grid.gateway.as_ref().expect("it runs");
    gateway.serve_metrics(|| "things_total 3\n".to_owned());
    let response = grid.http.get(grid.url("/metrics")).send().await;
    let response = response.expect("a response");
    let kind = response.headers()["content-type"].to_str().expect("text");
    assert!(kind.starts_with("text/plain"), "{kind}");
    assert_eq!(response.text().await.expect("a body"), "things_total 3\n");
    grid.stop().await;
}

#[tokio::test]
async fn items_and_events_are_created_and_read_back() {
    let grid = Grid::start().await;
    let (status, made) = grid
        .post(
            "/v1/items",
            person(1),
            json!({"name": "Vase", "images": ["https://x/1.jpg"]}),
        )
        .await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let (status, item) = grid
        .get(&format!("/v1/items/{}", text(&made["item_id"])))
        .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(item["name"], "Vase");
    assert_eq!(item["owner_id"], person(1).to_string());

    let event = grid.event(60).await;
    let (_, shown) = grid.get(&format!("/v1/events/{event}")).await;
    assert_eq!(shown["hold_seconds"], 60);
    assert_eq!(
        shown["sections"][1]["price"],
        json!({"amount": "20.00", "currency": "EUR"})
    );
    let (_, found) = grid.get("/v1/events?q=concert").await;
    assert_eq!(found["items"][0]["event_id"], event);
    let (_, none) = grid.get("/v1/events?q=opera").await;
    assert_eq!(none["items"], json!([]));
    grid.stop().await;
}

#[tokio::test]
async fn only_the_host_sees_the_reserve() {
    let grid = Grid::start().await;
    let auction = grid.open_auction(person(9)).await;
    let path = format!("/v1/auctions/{auction}");
    let (_, public) = grid.get(&path).await;
    assert_eq!(public.get("reserve_price"), None);
    assert_eq!(public["reserve_met"], false);
    let (_, hosts) = grid
        .call(Method::GET, &path, Some(person(9)), &[], None)
        .await;
    assert_eq!(hosts["reserve_price"]["amount"], "120.00");
    grid.stop().await;
}

#[tokio::test]
async fn errors_are_problem_documents() {
    let grid = Grid::start().await;
    let response = grid
        .http
        .get(grid.url("/v1/nowhere"))
        .send()
        .await
        .expect("a response");
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    let response = grid
        .http
        .patch(grid.url("/v1/items"))
        .send()
        .await
        .expect("a response");
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    grid.stop().await;
}

#[tokio::test]
async fn pages_come_with_their_policy_and_are_not_sent_twice() {
    let grid = Grid::start().await;
    let event = format!("/event/{}", person(1));
    for path in ["/", &event, "/web/spacegrid.js", "/openapi.json"] {
        let sent = grid.http.get(grid.url(path)).send().await.expect("sent");
        assert_eq!(sent.status(), StatusCode::OK, "{path}");
        let headers = sent.headers();
        let policy = headers["content-security-policy"].to_str().expect("text");
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["cache-control"], "no-cache");
        let again = grid.http.get(grid.url(path));
        let again = again.header("if-none-match", &headers["etag"]).send().await;
        let again = again.expect("sent");
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{path}");
        assert_eq!(again.text().await.expect("a body"), "");
    }
    let (status, _) = grid.get("/web/Cargo.toml").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    grid.stop().await;
}

#[tokio::test]
async fn a_read_says_what_it_reflects_and_is_as_fresh_as_it_is_asked_to_be() {
    let grid = Grid::start().await;
    let event = grid.event(60).await;
    let seats = format!("/v1/events/{event}/seats");
    let response = grid.http.get(grid.url(&seats)).send().await.expect("sent");
    let position = response.headers()["grid-position"].to_str().expect("text");
    for read in ["latest", "stale", position] {
        let (status, overview) = grid.get(&format!("{seats}?read={read}")).await;
        assert_eq!(status, StatusCode::OK, "{read}: {overview}");
        assert_eq!(overview["event_id"], event);
    }
    let (partition, _) = position.split_once(':').expect("a cursor");
    let other = format!("{}:1:0", u32::from(partition == "0"));
    for read in ["yesterday", &other] {
        let (status, problem) = grid.get(&format!("{seats}?read={read}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{read}: {problem}");
        assert_eq!(problem["code"], "bad_request");
    }
    grid.stop().await;
}

#[tokio::test]
async fn a_gateway_that_is_about_to_stop_serves_on_and_says_that_it_is_not_ready() {
    let grid = Grid::start().await;
    grid.gateway.as_ref().expect("it runs").announce_stop();
    let (status, ready) = grid.get("/ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ready["draining"], true);
    let (status, _) = grid
        .post("/v1/items", person(1), json!({"name": "Vase"}))
        .await;
    assert_eq!(status, StatusCode::CREATED);
    grid.stop().await;
}

#[tokio::test]
async fn a_gateway_with_too_much_to_do_says_when_to_come_back() {
    // Room for one request of any size at a time, and for nothing beside it.
    let grid = Grid::with(|settings| {
        settings.work_max = 1;
        settings.work_bytes_max = 1;
    })
    .await;
    let asking = (0..40).map(|number| {
        let body = json!({"name": format!("Vase {number}")});
        grid.post("/v1/items", person(1), body)
    });
    let answers = futures_util::future::join_all(asking).await;
    let made = answers
        .iter()
        .filter(|(status, _)| *status == StatusCode::CREATED)
        .count();
    let refused: Vec<_> = answers
        .iter()
        .filter(|(status, _)| *status == StatusCode::SERVICE_UNAVAILABLE)
        .collect();
    assert!(made > 0 && made + refused.len() == 40, "{answers:?}");
    for (_, problem) in refused {
        assert_eq!(problem["code"], "overloaded");
        assert!(problem["data"]["retry_after_ms"].as_u64() > Some(0));
    }
    let (status, _) = grid
        .post("/v1/items", person(1), json!({"name": "The last"}))
        .await;
    assert_eq!(status, StatusCode::CREATED, "room is given back");
    grid.stop().await;
}

#[tokio::test]
async fn clients_are_told_where_to_connect() {
    let grid = Grid::with_address("http://grid.example:7700").await;
    let (status, route) = grid.get("/v1/route").await;
    assert_eq!(status, StatusCode::OK, "{route}");
    let places =
        json!([{"url": "http://grid.example:7700", "websocket": "ws://grid.example:7700/v1/ws"}]);
    assert_eq!(route["gateways"], places);
    assert!(route["retry_after_ms"].as_u64() >= Some(250), "{route}");
    let id = person(1);
    let (status, _) = grid.get(&format!("/v1/route?auction_id={id}")).await;
    assert_eq!(status, StatusCode::OK);
    for query in [
        "auction_id=1".to_owned(),
        format!("auction_id={id}&event_id={id}"),
    ] {
        let (status, problem) = grid.get(&format!("/v1/route?{query}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {problem}");
    }
    grid.stop().await;
}
