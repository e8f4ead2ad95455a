//! Requests and their replies.

use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::super::frame::PAYLOAD_BYTES_MAX;
use super::super::{Lane, TransportError};
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_requests_in_flight_get_their_own_replies() {
    let (one, mut two) = pair().await;
    let mut asking = JoinSet::new();
    for number in 0..1000_u32 {
        let transport = one.transport.clone();
        asking.spawn(async move {
            let payload = Bytes::from(number.to_le_bytes().to_vec());
            let reply = transport
                .request(2, Lane::Control, PARK, payload.clone(), LONG)
                .await;
            assert_eq!(reply, Ok(payload));
        });
    }
    let mut parked = Vec::new();
    while parked.len() < 1000 {
        parked.push(two.requests.recv().await.expect("all of them arrive"));
    }
    // Last come, first served: replies are matched by id, not by order.
    while let Some((payload, reply)) = parked.pop() {
        std::thread::spawn(move || reply.send(payload))
            .join()
            .expect("any thread may reply");
    }
    while let Some(asked) = asking.join_next().await {
        asked.expect("each got its own reply");
    }
    let connection = one.lane(2, Lane::Control).expect("still connected");
    assert_eq!(connection.open_counts(), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_payload_passes_and_a_larger_one_is_refused() {
    let (one, _two) = pair().await;
    let largest = Bytes::from(vec![7; PAYLOAD_BYTES_MAX]);
    let echoed = one
        .transport
        .request(2, Lane::Bulk, ECHO, largest.clone(), LONG)
        .await;
    assert!(echoed == Ok(largest), "the same bytes come back");
    let larger = Bytes::from(vec![7; PAYLOAD_BYTES_MAX + 1]);
    let bytes = larger.len();
    let refused = Err(TransportError::TooLarge { bytes });
    assert_eq!(one.ask(2, ECHO, &larger).await, refused);
    let (sender, _receiver) = one
        .transport
        .open_stream(2, Lane::Bulk, PARK, Bytes::new())
        .expect("connected");
    assert_eq!(
        sender.try_send(larger),
        Err(TransportError::TooLarge { bytes })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_given_up_leaves_nothing_behind() {
    let (one, mut two) = pair().await;
    let short = Duration::from_millis(5);
    let timed_out = one
        .transport
        .request(2, Lane::Control, PARK, Bytes::new(), short)
        .await;
    assert_eq!(timed_out, Err(TransportError::Timeout { peer: 2 }));
    let payload = Bytes::new();
    let dropped = one.ask(2, PARK, &payload);
    assert!(tokio::time::timeout(short, dropped).await.is_err());
    let connection = one.lane(2, Lane::Control).expect("still connected");
    assert_eq!(connection.open_counts(), (0, 0));
    for _ in 0..2 {
        let (_, late) = two.requests.recv().await.expect("both arrived");
        late.send(Bytes::from_static(b"late"));
    }
    let payload = Bytes::from_static(b"next");
    assert_eq!(one.ask(2, ECHO, &payload).await, Ok(payload));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_replier_tells_the_caller() {
    let (one, mut two) = pair().await;
    let rejected = Err(TransportError::Rejected { peer: 2 });
    assert_eq!(one.ask(2, DROP, &Bytes::new()).await, rejected);
    let payload = Bytes::new();
    let asking = one.ask(2, PARK, &payload);
    let too_large = async {
        let (_, reply) = two.requests.recv().await.expect("it arrives");
        reply.send(Bytes::from(vec![0; PAYLOAD_BYTES_MAX + 1]));
    };
    assert_eq!(tokio::join!(asking, too_large).0, rejected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_the_handler_is_a_lost_connection() {
    let (one, _two) = pair().await;
    assert_eq!(
        one.ask(2, PANIC, &Bytes::new()).await,
        Err(TransportError::Disconnected { peer: 2 })
    );
    one.connected(2).await;
    assert!(one.ask(2, ECHO, &Bytes::new()).await.is_ok());
}

#[test]
fn an_error_says_whether_to_retry_and_what_is_known() {
    let peer = 2;
    let unsent = [
        TransportError::Unreachable { peer },
        TransportError::Overloaded { peer },
    ];
    let unknown = [
        TransportError::Timeout { peer },
        TransportError::Disconnected { peer },
        TransportError::Rejected { peer },
    ];
    let hopeless = [
        TransportError::UnknownPeer { peer },
        TransportError::TooLarge { bytes: 1 },
        TransportError::ShutDown,
    ];
    assert!(
        unsent
            .iter()
            .all(|error| error.is_retryable() && !error.may_have_been_sent())
    );
    assert!(
        unknown
            .iter()
            .all(|error| error.is_retryable() && error.may_have_been_sent())
    );
    assert!(
        hopeless
            .iter()
            .all(|error| !error.is_retryable() && !error.may_have_been_sent())
    );
}
