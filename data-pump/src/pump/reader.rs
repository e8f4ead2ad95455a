//! A reader of the feed that may be interrupted: a read that was begun goes on at the next call.
//!
//! A read may replay much log, or be half through an exchange with a peer. A lane that looks at its
//! clock in between must not make it start over, or it might never end.

use std::future::Future;
use std::pin::Pin;

use grid::{Feed, FeedError, FeedSlice};
use processing_unit::{Change, Unit};

use super::pending::Pending;

type Slice = Result<FeedSlice<Change>, FeedError>;

/// One read at a time; the next is begun when it is asked for.
pub(super) struct Reader {
    read: Pin<Box<dyn Future<Output = (Feed<Unit>, Slice)> + Send>>,
}

impl Reader {
    pub(super) fn new(feed: Feed<Unit>) -> Self {
        Self {
            read: Box::pin(read(feed)),
        }
    }

    /// The next slice. Dropping the call loses nothing.
    pub(super) async fn next(&mut self) -> Slice {
        let (feed, slice) = (&mut self.read).await;
        self.read = Box::pin(read(feed));
        slice
    }
}

async fn read(mut feed: Feed<Unit>) -> (Feed<Unit>, Slice) {
    let slice = feed.next().await;
    (feed, slice)
}

/// Does `work` and reads ahead meanwhile, about so many changes. A read that fails does not end the
/// work, and is told beside what that came to.
pub(super) async fn read_while<T>(
    work: impl Future<Output = T>,
    reader: &mut Reader,
    ahead: &mut Pending,
    changes_max: usize,
) -> (T, Result<(), FeedError>) {
    let mut work = std::pin::pin!(work);
    let mut read = Ok(());
    loop {
        tokio::select! {
            biased;
            done = &mut work => return (done, read),
            slice = reader.next(), if read.is_ok() && ahead.changes < changes_max => match slice {
                Ok(slice) => ahead.add(slice),
                Err(error) => read = Err(error),
            },
        }
    }
}
