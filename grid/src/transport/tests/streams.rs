//! Streams: order, ends, bounds.

use std::sync::Arc;

use bytes::Bytes;

use super::super::stream::STREAM_QUEUE_MAX;
use super::super::{Lane, TransportError};
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_keeps_its_order_both_ways() {
    let (one, _two) = pair().await;
    let (sender, mut receiver) = one
        .transport
        .open_stream(2, Lane::Control, ECHO, Bytes::new())
        .expect("connected");
    assert_eq!(sender.peer(), 2);
    let window = Arc::new(tokio::sync::Semaphore::new(64));
    let sending = {
        let window = Arc::clone(&window);
        tokio::spawn(async move {
            for number in 0..20_000_u32 {
                window.acquire().await.expect("open").forget();
                let message = Bytes::from(number.to_le_bytes().to_vec());
                sender.send(message).await.expect("the stream is open");
            }
            sender
        })
    };
    for number in 0..20_000_u32 {
        let message = receiver.recv().await.expect("open").expect("whole");
        assert_eq!(&message[..], number.to_le_bytes());
        window.add_permits(1);
    }
    drop(sending.await.expect("all were sent"));
    assert_eq!(receiver.recv().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn either_handle_closes_the_stream_for_all_four() {
    let (one, mut two) = pair().await;
    for close_by_sender in [true, false] {
        let (near_sender, mut near_receiver) = one
            .transport
            .open_stream(2, Lane::Bulk, PARK, Bytes::from_static(b"header"))
            .expect("connected");
        let (header, far_sender, mut far_receiver) = two.streams.recv().await.expect("it arrives");
        assert_eq!(&header[..], b"header");
        let last = Bytes::from_static(b"last words");
        near_sender.send(last.clone()).await.expect("open");
        if close_by_sender {
            drop(near_sender);
            assert_eq!(near_receiver.recv().await, None);
        } else {
            drop(near_receiver);
            assert_eq!(
                near_sender.send(Bytes::new()).await,
                Err(TransportError::StreamClosed)
            );
        }
        assert_eq!(far_receiver.recv().await, Some(Ok(last)));
        assert_eq!(far_receiver.recv().await, None);
        assert_eq!(
            far_sender.send(Bytes::new()).await,
            Err(TransportError::StreamClosed)
        );
    }
    let connection = one.lane(2, Lane::Bulk).expect("still connected");
    assert_eq!(connection.open_counts(), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_ends_its_streams_with_an_error() {
    let (one, mut two) = pair().await;
    let (sender, mut receiver) = one
        .transport
        .open_stream(2, Lane::Bulk, PARK, Bytes::new())
        .expect("connected");
    let (_, far_sender, mut far_receiver) = two.streams.recv().await.expect("it arrives");
    far_sender
        .send(Bytes::from_static(b"1"))
        .await
        .expect("open");
    assert_eq!(receiver.recv().await, Some(Ok(Bytes::from_static(b"1"))));
    one.lane(2, Lane::Bulk).expect("connected").close();
    let lost = |peer| TransportError::Disconnected { peer };
    assert_eq!(receiver.recv().await, Some(Err(lost(2))));
    assert_eq!(receiver.recv().await, None);
    assert_eq!(sender.send(Bytes::new()).await, Err(lost(2)));
    assert_eq!(far_receiver.recv().await, Some(Err(lost(1))));
    assert_eq!(far_receiver.recv().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overflow_resets_that_stream_only() {
    let (one, mut two) = pair().await;
    let (slow_sender, mut slow_receiver) = one
        .transport
        .open_stream(2, Lane::Control, PARK, Bytes::new())
        .expect("connected");
    let (_, _far_sender, mut far_receiver) = two.streams.recv().await.expect("it arrives");
    let (sender, mut receiver) = one
        .transport
        .open_stream(2, Lane::Control, ECHO, Bytes::new())
        .expect("connected");
    for number in 0..=STREAM_QUEUE_MAX {
        let message = Bytes::from(number.to_le_bytes().to_vec());
        slow_sender.send(message).await.expect("open so far");
    }
    assert_eq!(
        slow_receiver.recv().await,
        Some(Err(TransportError::StreamReset))
    );
    assert_eq!(
        slow_sender.send(Bytes::new()).await,
        Err(TransportError::StreamReset)
    );
    for number in 0..STREAM_QUEUE_MAX {
        let message = far_receiver.recv().await.expect("what had arrived");
        assert_eq!(&message.expect("is kept")[..], number.to_le_bytes());
    }
    assert_eq!(
        far_receiver.recv().await,
        Some(Err(TransportError::StreamReset))
    );
    assert_eq!(far_receiver.recv().await, None);

    let payload = Bytes::from_static(b"unharmed");
    sender.send(payload.clone()).await.expect("open");
    assert_eq!(receiver.recv().await, Some(Ok(payload.clone())));
    assert_eq!(one.ask(2, ECHO, &payload).await, Ok(payload));
}
