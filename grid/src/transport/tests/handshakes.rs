//! Who is let in, and who is told why not.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_do_not_belong_together_say_why() {
    for (grid_id, fingerprint, reason) in [
        (GRID + 1, "f", RefusalReason::GridId),
        (GRID, "g", RefusalReason::Fingerprint),
    ] {
        let (one, one_address) = listen();
        let (two, two_address) = listen();
        let members = BTreeMap::from([(1, one_address), (2, two_address)]);
        let one = start(1, GRID, "f", one, &members);
        let two = start(2, grid_id, fingerprint, two, &members);
        for (node, peer) in [(&one, 2), (&two, 1)] {
            until("both know the reason", || {
                node.transport
                    .refusal(peer)
                    .is_some_and(|refusal| refusal.reason == reason)
            })
            .await;
            assert!(!node.transport.is_reachable(peer));
            assert_eq!(
                node.ask(peer, ECHO, &Bytes::new()).await,
                Err(TransportError::Unreachable { peer })
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acceptor_names_the_reason_of_its_refusal() {
    let (_one, address, _two) = alone();
    let cases = [
        (PROTOCOL_VERSION + 1, hello(), RefusalReason::Version),
        (
            PROTOCOL_VERSION,
            Hello { to: 9, ..hello() },
            RefusalReason::WrongNode,
        ),
        (
            PROTOCOL_VERSION,
            Hello { from: 9, ..hello() },
            RefusalReason::UnknownNode,
        ),
        (
            PROTOCOL_VERSION,
            Hello {
                fingerprint: "f".repeat(300),
                ..hello()
            },
            RefusalReason::Malformed,
        ),
    ];
    for (version, hello, reason) in cases {
        let mut socket = dial(&address).await;
        socket
            .write_all(&hello_message(version, &hello))
            .await
            .expect("it listens");
        assert_eq!(read_refusal(&mut socket).await, Some(reason));
        closed_by_peer(socket).await;
    }
    let connected = introduced(&address).await;
    drop(connected);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_half_handshakes_are_dropped_and_the_listener_lives() {
    let (_one, address, _two) = alone();
    let mut web = dial(&address).await;
    web.write_all(b"GET / HTTP/1.1\r\n\r\n")
        .await
        .expect("sent");
    closed_by_peer(web).await;
    let whole = hello_message(PROTOCOL_VERSION, &hello());
    let mut lingering = Vec::new();
    for cut in [0, 5, 10, whole.len() - 1] {
        let mut leaves = dial(&address).await;
        leaves.write_all(&whole[..cut]).await.expect("sent");
        drop(leaves);
        let mut stays = dial(&address).await;
        stays.write_all(&whole[..cut]).await.expect("sent");
        lingering.push(stays);
    }
    drop(introduced(&address).await);
    for socket in lingering {
        closed_by_peer(socket).await;
    }
}
