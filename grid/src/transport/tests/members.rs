//! Peers that come and go while the transport runs, and guests.

use super::super::handshake::WHOEVER;
use super::*;

fn spec(address: &str, incarnation: Option<u64>) -> PeerSpec {
    PeerSpec {
        addresses: vec![address.to_owned()],
        incarnation,
    }
}

fn only(peer: u64, spec: PeerSpec) -> PeerTable {
    PeerTable {
        peers: BTreeMap::from([(peer, spec)]),
        removed: BTreeMap::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_peer_is_cut_off_and_told_why() {
    let (one, two) = pair().await;
    // Node 2 came with incarnation 2; a table that says so changes nothing.
    let known = only(2, spec(&two.address, Some(2)));
    let before = one.lane(2, Lane::Control).expect("connected");
    one.transport.set_peers(known);
    assert!(!before.is_closed());
    assert!(one.transport.is_reachable(2));

    one.transport.set_peers(PeerTable {
        peers: BTreeMap::new(),
        removed: BTreeMap::from([(2, 2)]),
    });
    until("the connection is closed", || before.is_closed()).await;
    let asked = one.ask(2, ECHO, &Bytes::new()).await;
    assert_eq!(asked, Err(TransportError::UnknownPeer { peer: 2 }));
    until("the other is told", || {
        let refusal = two.transport.refusal(1);
        refusal.is_some_and(|refusal| refusal.reason == RefusalReason::Removed)
    })
    .await;
    assert!(!two.transport.is_reachable(1));

    // Let in again: both find each other by themselves.
    one.transport
        .set_peers(only(2, spec(&two.address, Some(2))));
    one.connected(2).await;
    two.connected(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_disk_under_a_known_number_is_refused_by_both_sides() {
    let (one, two) = pair().await;
    one.transport
        .set_peers(only(2, spec(&two.address, Some(77))));
    for (node, peer) in [(&one, 2), (&two, 1)] {
        until("both know the reason", || {
            let refusal = node.transport.refusal(peer);
            refusal.is_some_and(|refusal| refusal.reason == RefusalReason::Incarnation)
        })
        .await;
        assert!(!node.transport.is_reachable(peer));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_is_found_at_any_of_its_addresses() {
    let (one, two) = pair().await;
    let (closed, nowhere) = listen();
    drop(closed);
    one.transport.set_peers(only(
        2,
        PeerSpec {
            addresses: vec![nowhere, two.address.clone()],
            incarnation: Some(2),
        },
    ));
    one.connected(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_may_ask_what_guests_may_and_nothing_else() {
    let (one, address, _two) = alone();
    let (listener, own_address) = listen();
    // Number 9 is no member, and does not know whom it visits.
    let guest = start(9, GRID, "f", listener, &BTreeMap::from([(9, own_address)]));
    let asked = guest
        .transport
        .visit(&address, VISITED, Bytes::from_static(b"?"), LONG)
        .await;
    assert_eq!(asked.expect("answered"), Bytes::from_static(b"9?"));
    // What members may ask gets a guest no answer.
    let refused = guest
        .transport
        .visit(&address, ECHO, Bytes::new(), LONG)
        .await;
    assert!(
        matches!(refused, Err(VisitError::Unreachable { .. })),
        "{refused:?}"
    );
    let (listener, own_address) = listen();
    let stranger = start(
        9,
        GRID + 1,
        "f",
        listener,
        &BTreeMap::from([(9, own_address)]),
    );
    let refused = stranger
        .transport
        .visit(&address, VISITED, Bytes::new(), LONG)
        .await;
    match refused {
        Err(VisitError::Refused(refusal)) => assert_eq!(refusal.reason, RefusalReason::GridId),
        other => panic!("another grid's guest is refused: {other:?}"),
    }
    // Only a guest may mean whoever it finds.
    let mut socket = dial(&address).await;
    let unsure = Hello {
        to: WHOEVER,
        ..hello()
    };
    socket
        .write_all(&hello_message(PROTOCOL_VERSION, &unsure))
        .await
        .expect("it listens");
    assert_eq!(
        read_refusal(&mut socket).await,
        Some(RefusalReason::WrongNode)
    );
    drop(one);
}
