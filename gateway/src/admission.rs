//! How much work one gateway has under way at a time, by requests and by the bytes of their bodies.
//!
//! The queues behind a gateway are bounded too, but what waits in them is held here as well: the
//! message, its parsed form, the reply's buffer. So a gateway counts what it has taken in and refuses the
//! rest with `overloaded`. A part of its room is kept for work that drains.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use grid::CommandClass;

use crate::failure::{Detail, Failure};
use crate::limits::WORK_RETRY_AFTER_MS;
use crate::protocol::code::ErrorCode;

/// What is under way.
#[derive(Debug)]
pub(crate) struct Admission {
    requests: AtomicUsize,
    bytes: AtomicUsize,
    requests_max: usize,
    bytes_max: usize,
}

/// A request's room; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct WorkPermit {
    admission: Arc<Admission>,
    bytes: usize,
}

impl Drop for WorkPermit {
    fn drop(&mut self) {
        self.admission.requests.fetch_sub(1, Ordering::Relaxed);
        self.admission
            .bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Admission {
    pub(crate) fn new(requests_max: usize, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            requests: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            requests_max,
            bytes_max,
        })
    }

    /// Takes a request in. A request alone is taken in whatever its size.
    ///
    /// # Errors
    /// `overloaded`, with a time to wait; nothing was done.
    pub(crate) fn admit(
        self: &Arc<Self>,
        class: CommandClass,
        bytes: usize,
    ) -> Result<WorkPermit, Failure> {
        let requests = self.requests.fetch_add(1, Ordering::Relaxed);
        let present = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let permit = WorkPermit {
            admission: Arc::clone(self),
            bytes,
        };
        let fits = requests < class.share(self.requests_max)
            && present.saturating_add(bytes) <= class.share(self.bytes_max);
        if fits || requests == 0 {
            return Ok(permit);
        }
        let retry_after_ms = WORK_RETRY_AFTER_MS;
        Err(
            Failure::new(ErrorCode::Overloaded, "the gateway has too much to do")
                .with(Detail::RetryAfter { retry_after_ms }),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_bytes_are_bounded_and_given_back() {
        let admission = Admission::new(8, 800);
        let taken: Vec<_> = (0..7)
            .map(|_| admission.admit(CommandClass::New, 10).expect("room"))
            .collect();
        let refused = admission.admit(CommandClass::New, 10).expect_err("full");
        assert_eq!(refused.code, ErrorCode::Overloaded);
        let last = admission.admit(CommandClass::Draining, 10);
        let last = last.expect("kept for what drains");
        drop(taken);
        admission
            .admit(CommandClass::New, 700)
            .expect_err("too many bytes");
        drop(last);
        assert_eq!(admission.bytes.load(Ordering::Relaxed), 0);
        drop(admission.admit(CommandClass::New, 5_000).expect("alone"));
        admission.admit(CommandClass::New, 10).expect("empty");
    }
}
