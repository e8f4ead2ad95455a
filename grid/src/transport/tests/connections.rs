//! Connections: how they come, break, fill up and go.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_reach_each_other() {
    let (listeners, addresses): (Vec<_>, Vec<_>) = (0..3).map(|_| listen()).unzip();
    let members: BTreeMap<u64, String> = (1..).zip(addresses).collect();
    let nodes: Vec<Node> = (1..)
        .zip(listeners)
        .map(|(id, listener)| start(id, GRID, "f", listener, &members))
        .collect();
    for (id, node) in (1..).zip(&nodes) {
        for peer in (1..=3).filter(|peer| *peer != id) {
            node.connected(peer).await;
            let payload = Bytes::from(format!("{id} to {peer}"));
            assert_eq!(node.ask(peer, ECHO, &payload).await, Ok(payload));
        }
        assert_eq!(node.transport.unreachable(), Vec::<u64>::new());
        assert_eq!(
            node.ask(id, ECHO, &Bytes::new()).await,
            Err(TransportError::UnknownPeer { peer: id })
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_break_the_protocol_end_their_connection_only() {
    let (one, two) = pair().await;
    let reply_to_nothing = {
        let mut frame = Vec::new();
        frame.put_u32_le(9);
        frame.put_u8(2);
        frame.put_u64_le(1);
        frame
    };
    for bad in [u32::MAX.to_le_bytes().to_vec(), reply_to_nothing] {
        let mut socket = introduced(&one.address).await;
        socket.write_all(&bad).await.expect("it listens");
        closed_by_peer(socket).await;
    }
    two.connected(1).await;
    assert!(two.ask(1, ECHO, &Bytes::new()).await.is_ok());
}

// On one thread whoever was answered has been taken up, so that the second is the newer one for sure.
#[tokio::test]
async fn a_newer_connection_replaces_an_older_one() {
    let (_one, address, _two) = alone();
    let older = introduced(&address).await;
    let _newer = introduced(&address).await;
    closed_by_peer(older).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_peer_is_found_again() {
    let (one, one_address) = listen();
    let (two, two_address) = listen();
    let members = BTreeMap::from([(1, one_address), (2, two_address.clone())]);
    let one = start(1, GRID, "f", one, &members);
    let mut two = start(2, GRID, "f", two, &members);
    one.connected(2).await;

    let open = {
        let transport = one.transport.clone();
        let request = async move {
            transport
                .request(2, Lane::Control, PARK, Bytes::new(), LONG)
                .await
        };
        tokio::spawn(request)
    };
    let parked = two.requests.recv().await.expect("it arrives");
    two.transport.shutdown().await;
    assert!(parked.1.is_closed());
    drop(parked);
    assert!(two.handler.upgrade().is_none(), "the handler is let go of");
    assert_eq!(
        two.ask(1, ECHO, &Bytes::new()).await,
        Err(TransportError::ShutDown)
    );
    assert_eq!(
        open.await.expect("no panic"),
        Err(TransportError::Disconnected { peer: 2 })
    );
    until("the loss is seen", || !one.transport.is_reachable(2)).await;
    assert_eq!(one.transport.unreachable(), vec![2]);
    assert_eq!(
        one.ask(2, ECHO, &Bytes::new()).await,
        Err(TransportError::Unreachable { peer: 2 })
    );

    let address: SocketAddr = two_address.parse().expect("an address");
    let again = TcpListener::bind(address).expect("the port is free again");
    let _two = start(2, GRID, "f", again, &members);
    one.connected(2).await;
    let payload = Bytes::from_static(b"back");
    assert_eq!(one.ask(2, ECHO, &payload).await, Ok(payload));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_and_room_lets_waiting_senders_go_on() {
    let (one, _address, two) = alone();
    two.set_nonblocking(true).expect("it is a socket");
    let two = tokio::net::TcpListener::from_std(two).expect("it listens");
    let mut peers = Vec::new();
    for _ in Lane::ALL {
        let (mut socket, _) = two.accept().await.expect("node 1 dials");
        read_hello_and_welcome(&mut socket).await;
        peers.push(socket);
    }
    one.connected(2).await;
    let (sender, _receiver) = one
        .transport
        .open_stream(2, Lane::Control, ECHO, Bytes::new())
        .expect("connected");
    let large = Bytes::from(vec![0; 8 * 1024 * 1024]);
    let overloaded = TransportError::Overloaded { peer: 2 };
    let refused = loop {
        if let Err(error) = sender.try_send(large.clone()) {
            break error;
        }
    };
    assert_eq!(refused, overloaded);
    assert_eq!(one.ask(2, ECHO, &large).await, Err(overloaded));
    let waiting = tokio::spawn(async move {
        let sent = sender.send(large).await;
        (sender, sent)
    });
    let mut reading = JoinSet::new();
    for mut socket in peers {
        reading.spawn(async move { tokio::io::copy(&mut socket, &mut tokio::io::sink()).await });
    }
    assert_eq!(waiting.await.expect("no panic").1, Ok(()));
}

#[tokio::test]
async fn a_peer_that_stops_reading_or_falls_silent_is_given_up() {
    let impatient = Patience {
        write_stall: Duration::from_millis(20),
        ping_after: Duration::from_millis(5),
        silence: LONG,
        probe_streams: LONG,
    };
    let connection = Connection::new(2, Lane::Control, CancellationToken::new());
    let (near, _far) = tokio::io::duplex(16);
    let (_sender, _receiver) = connection
        .open_stream(ECHO, Bytes::from(vec![0; 1024]))
        .expect("there is room");
    let end = write_frames(&connection, near, impatient).await;
    assert!(matches!(end, WriteEnd::Stalled), "{end}");

    let suspicious = Patience {
        write_stall: LONG,
        silence: Duration::from_millis(20),
        ..impatient
    };
    let connection = Connection::new(2, Lane::Control, CancellationToken::new());
    let (near, mut far) = tokio::io::duplex(1024 * 1024);
    let (_sender, _receiver) = connection
        .open_stream(ECHO, Bytes::new())
        .expect("there is room");
    let end = write_frames(&connection, near, suspicious).await;
    assert!(matches!(end, WriteEnd::Silent), "{end}");
    let mut wire = Vec::new();
    far.read_to_end(&mut wire).await.expect("memory");
    assert!(wire.len() > 14, "it was pinged before it was given up");
}

/// Whoever waits for the next message of a stream sends nothing; a peer that is gone must not leave it
/// waiting for ever.
#[tokio::test]
async fn a_stream_that_only_listens_notices_that_its_peer_is_gone() {
    let patience = Patience {
        write_stall: LONG,
        ping_after: Duration::from_millis(5),
        silence: Duration::from_millis(20),
        probe_streams: Duration::from_millis(10),
    };
    let connection = Connection::new(2, Lane::Bulk, CancellationToken::new());
    let (near, mut far) = tokio::io::duplex(1024 * 1024);
    let (_sender, _receiver) = connection
        .open_stream(ECHO, Bytes::new())
        .expect("there is room");
    let heard = Arc::clone(&connection);
    let peer = async {
        // The opening is answered, then nothing.
        let mut opening = [0; 14];
        far.read_exact(&mut opening).await.expect("memory");
        heard.note_received();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = peer => {}
        end = write_frames(&connection, near, patience) => {
            assert!(matches!(end, WriteEnd::Silent), "{end}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_handle_stops_the_transport() {
    let (one, two) = pair().await;
    drop(two);
    until("the peer is gone", || !one.transport.is_reachable(2)).await;
    one.transport.shutdown().await;
    one.transport.shutdown().await;
}
