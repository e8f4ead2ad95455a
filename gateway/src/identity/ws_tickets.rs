//! One-time tickets for WebSockets: browsers cannot set a header on them, and a token must not stand in
//! an address, which proxies and histories keep.
//!
//! A ticket is 256 random bits that this gateway remembers for some seconds, with whom it stands for. It
//! is taken out when it is shown, so it cannot be used twice; other gateways never knew it. A client
//! therefore connects to the gateway that gave it the ticket, and asks for another when it is sent
//! elsewhere.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use processing_unit::UserId;
use serde::Serialize;
use tokio::time::Instant;

use super::caller::Caller;
use crate::failure::{Detail, Failure};
use crate::limits::WORK_RETRY_AFTER_MS;
use crate::protocol::code::ErrorCode;

/// Tickets that wait to be used, of all users: about 2 MB. Beyond it new ones are refused.
const TICKETS_MAX: usize = 16_384;
/// And of one user.
const TICKETS_PER_USER_MAX: usize = 16;
const SECRET_BYTES: usize = 32;

type Secret = [u8; SECRET_BYTES];

#[derive(Debug, Default)]
struct Book {
    waiting: BTreeMap<Secret, (Caller, Instant)>,
    /// In the order in which they run out; may name tickets that were used.
    order: VecDeque<(Instant, Secret)>,
    of_user: BTreeMap<UserId, usize>,
}

impl Book {
    fn take(&mut self, secret: &Secret) -> Option<(Caller, Instant)> {
        let (caller, until) = self.waiting.remove(secret)?;
        if let Some(count) = self.of_user.get_mut(&caller.user) {
            *count -= 1;
            if *count == 0 {
                self.of_user.remove(&caller.user);
            }
        }
        Some((caller, until))
    }

    fn drop_old(&mut self, now: Instant) {
        while let Some((until, secret)) = self.order.front().copied() {
            if until > now && self.waiting.contains_key(&secret) {
                return;
            }
            self.order.pop_front();
            self.take(&secret);
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct WsTickets {
    book: Mutex<Book>,
    life: Duration,
}

/// A ticket on its way to its user. Its text is not for logs.
#[derive(Serialize)]
pub(crate) struct IssuedTicket {
    ticket: String,
    expires_in_ms: u64,
}

impl WsTickets {
    pub(super) fn new(life_s: u64) -> Self {
        Self {
            book: Mutex::default(),
            life: Duration::from_secs(life_s),
        }
    }

    /// A ticket for the caller.
    ///
    /// # Errors
    /// `rate_limited` when the user has too many, `overloaded` when all together have.
    pub(super) fn issue(&self, caller: &Caller, now: Instant) -> Result<IssuedTicket, Failure> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret)
            .map_err(|_| Failure::new(ErrorCode::Internal, "the system has no random bytes"))?;
        let mut book = self.book.lock();
        book.drop_old(now);
        let has = book.of_user.get(&caller.user).copied().unwrap_or(0);
        let refused = if has >= TICKETS_PER_USER_MAX {
            let text = "too many tickets of yours wait to be used";
            Some(Failure::new(ErrorCode::RateLimited, text))
        } else if book.waiting.len() >= TICKETS_MAX || book.order.len() >= 2 * TICKETS_MAX {
            let text = "too many tickets wait to be used";
            Some(Failure::new(ErrorCode::Overloaded, text))
        } else {
            None
        };
        if let Some(failure) = refused {
            let retry_after_ms = WORK_RETRY_AFTER_MS;
            return Err(failure.with(Detail::RetryAfter { retry_after_ms }));
        }
        book.waiting.insert(secret, (*caller, now + self.life));
        book.order.push_back((now + self.life, secret));
        *book.of_user.entry(caller.user).or_default() += 1;
        Ok(IssuedTicket {
            ticket: URL_SAFE_NO_PAD.encode(secret),
            expires_in_ms: u64::try_from(self.life.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Whom a ticket stands for; it is used up.
    pub(super) fn redeem(&self, text: &str, now: Instant) -> Option<Caller> {
        let secret: Secret = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (caller, until) = self.book.lock().take(&secret)?;
        (until > now).then_some(caller)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use uuid::Uuid;

    use super::super::authorisation::Roles;
    use super::*;

    fn caller(number: u128) -> Caller {
        let user = UserId(Uuid::from_u128(number));
        Caller::known(user, Roles::default(), 0, None, Ipv4Addr::LOCALHOST.into())
    }

    #[test]
    fn a_ticket_is_good_once_and_for_a_while() {
        let (tickets, now) = (WsTickets::new(30), Instant::now());
        let first = tickets.issue(&caller(1), now).expect("room").ticket;
        let second = tickets.issue(&caller(2), now).expect("room").ticket;
        assert_ne!(first, second);
        assert_eq!(tickets.redeem(&first, now), Some(caller(1)));
        assert_eq!(tickets.redeem(&first, now), None, "used");
        let now = now + Duration::from_secs(30);
        assert_eq!(tickets.redeem(&second, now), None, "too old");
        assert_eq!(tickets.redeem("nonsense", now), None);
        assert_eq!(tickets.redeem("", now), None);
    }

    #[test]
    fn tickets_are_bounded_for_each_and_for_all() {
        let (tickets, now) = (WsTickets::new(30), Instant::now());
        for _ in 0..TICKETS_PER_USER_MAX {
            tickets.issue(&caller(1), now).map(drop).expect("room");
        }
        let refused = tickets
            .issue(&caller(1), now)
            .map(drop)
            .expect_err("too many");
        assert_eq!(refused.code, ErrorCode::RateLimited);
        let mut user = 2;
        let refused = loop {
            match tickets.issue(&caller(user), now) {
                Ok(_) => user += 1,
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused.code, ErrorCode::Overloaded);
        assert_eq!(tickets.book.lock().waiting.len(), TICKETS_MAX);
        let now = now + Duration::from_secs(31);
        tickets
            .issue(&caller(1), now)
            .map(drop)
            .expect("room again");
        let book = tickets.book.lock();
        assert_eq!(
            (book.waiting.len(), book.order.len(), book.of_user.len()),
            (1, 1, 1)
        );
    }
}
