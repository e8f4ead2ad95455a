//! Gateways, which are no nodes: what they need not know, what they may ask, and with which certificate.

use super::tls::{Authority, Files};
use super::*;

/// A number as gateways have it.
const OUTSIDE: u64 = (1 << 63) | 5;

/// A gateway that knows node 1, and of the grid nothing else.
fn gateway(address: &str, grid_id: u128, security: Security) -> Transport {
    as_role(Role::Gateway, OUTSIDE, address, grid_id, security)
}

fn as_role(
    role: Role,
    node_id: u64,
    address: &str,
    grid_id: u128,
    security: Security,
) -> Transport {
    let (requests, _) = mpsc::channel(1);
    let (streams, _) = mpsc::channel(1);
    Transport::start(TransportOptions {
        node_id,
        role,
        incarnation: node_id,
        grid_id,
        // Members have "f".
        fingerprint: match role {
            Role::Gateway => String::new(),
            Role::Member | Role::Guest => "f".to_owned(),
        },
        listener: None,
        peers: table(&BTreeMap::from([(1, address.to_owned())])),
        security,
        handler: Arc::new(TestHandler { requests, streams }),
    })
    .expect("there is nothing to go wrong")
}

async fn ask(transport: &Transport, service: u8) -> Result<Bytes, TransportError> {
    let question = Bytes::from_static(b"?");
    transport
        .request(1, Lane::Control, service, question, LONG)
        .await
}

async fn connected(transport: &Transport) {
    until("the node is connected", || {
        let lanes = Lane::ALL.iter();
        lanes
            .map(|lane| transport.connection(1, *lane))
            .all(|connection| connection.is_ok())
    })
    .await;
}

fn forbidden(node: &Node) -> u64 {
    let counts = node.transport.refused_counts();
    counts
        .get("forbidden_to_gateways")
        .copied()
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_served_what_gateways_may_ask_and_nothing_else() {
    let (mut one, address, _two) = alone();
    let visitor = gateway(&address, WHICHEVER_GRID, plain());
    let seen = visitor
        .visit(&address, ECHO, Bytes::from_static(b"?"), LONG)
        .await;
    assert_eq!(seen.expect("answered"), Bytes::from_static(b"?"));

    let known = gateway(&address, GRID, plain());
    connected(&known).await;
    assert_eq!(ask(&known, ECHO).await, Ok(Bytes::from_static(b"?")));
    assert_eq!(forbidden(&one), 0);
    let refused = ask(&known, PARK).await;
    assert_eq!(refused, Err(TransportError::Rejected { peer: 1 }));
    assert!(
        one.requests.try_recv().is_err(),
        "the handler never sees it"
    );
    assert_eq!(forbidden(&one), 1);

    let open = |service| known.open_stream(1, Lane::Bulk, service, Bytes::new());
    let (sender, mut receiver) = open(ECHO).expect("connected");
    sender.send(Bytes::from_static(b"!")).await.expect("open");
    let echoed = receiver.recv().await;
    assert_eq!(echoed, Some(Ok(Bytes::from_static(b"!"))));
    let (_sender, mut receiver) = open(PARK).expect("connected");
    assert_eq!(receiver.recv().await, None, "closed at once");
    assert!(one.streams.try_recv().is_err(), "the handler never sees it");
    assert_eq!(forbidden(&one), 2);
    // It is not cut off: a newer build may ask what an older one does not know.
    assert_eq!(ask(&known, ECHO).await, Ok(Bytes::from_static(b"?")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_of_another_grid_is_refused_and_one_with_a_nodes_number_replaces_nobody() {
    let (one, two) = pair().await;
    let stranger = gateway(&one.address, GRID + 1, plain());
    until("it is told why", || {
        let refusal = stranger.refusal(1);
        refusal.is_some_and(|refusal| refusal.reason == RefusalReason::GridId)
    })
    .await;
    let posing = as_role(Role::Gateway, 2, &one.address, GRID, plain());
    connected(&posing).await;
    let refused = ask(&posing, PANIC).await;
    assert_eq!(refused, Err(TransportError::Rejected { peer: 1 }));
    let asked = two.ask(1, ECHO, &Bytes::from_static(b"still here")).await;
    assert_eq!(asked, Ok(Bytes::from_static(b"still here")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_makes_a_gateway_or_a_node_and_never_both() {
    let authority = Authority::new();
    let (listener, address) = listen();
    let members = BTreeMap::from([(1, address.clone()), (2, address.clone())]);
    let security = Files::of(&authority, 1).security();
    let one = start_with(1, GRID, "f", listener, &members, security);

    let of_gateway = Files::of_gateway(&authority);
    let security = of_gateway.security();
    security.check_gateway().expect("it is a gateway's");
    let known = gateway(&address, GRID, security);
    connected(&known).await;
    assert_eq!(ask(&known, ECHO).await, Ok(Bytes::from_static(b"?")));

    // The same files show nobody a node.
    let loopback = "127.0.0.1:1".parse().expect("an address");
    assert!(of_gateway.security().check_start(2, loopback).is_err());
    let posing = as_role(Role::Member, 2, &address, GRID, of_gateway.security());
    // Nor do a node's show a gateway, which would be one that nobody has let in.
    let of_node = Files::of(&authority, 2);
    assert!(of_node.security().check_gateway().is_err());
    let misused = gateway(&address, GRID, of_node.security());
    for refused in [&posing, &misused] {
        until("it is told why", || {
            let refusal = refused.refusal(1);
            refusal.is_some_and(|refusal| refusal.reason == RefusalReason::Certificate)
        })
        .await;
        assert!(!refused.is_reachable(1));
    }
    assert!(one.transport.refused_counts().contains_key("certificate"));
}
