//! Who is asking, what they may do, and what is remembered of it.
//!
//! ```text
//!   header, ticket or message ─► Identity ─► trusted: the caller's own word
//!                                   │    └─► token: Verifier ─► keys (provider's JWKS, grid's own)
//!                                   │                  └─► revoked? ─► Caller
//!   Caller × Action ─► authorisation table ─► carried out, or refused ─► audit log
//! ```
//!
//! In mode `trusted` the caller says who it is; the gateway then listens on loopback only. In mode
//! `token` it shows a signed token; what cannot be verified is refused, never taken for a guest's.
//!
//! Invariants: a token never stands in an address or a log; a ticket lets one connection in, once; every
//! message and every address under `/v1/` has a row in one table, and what has none is refused.
//!
//! What it deliberately does not do: keep accounts or passwords (the provider does), or decide whose
//! auction it is (the domain does).

mod address;
pub(crate) mod audit;
pub(crate) mod authorisation;
mod caller;
mod claims;
mod jwks;
mod keys;
mod origin;
mod own_key;
mod revocation;
mod verifier;
mod ws_tickets;

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{HeaderMap, header};
use grid::RoutingClient;
use grid_config::{IdentitySettings, Network};
use processing_unit::{Unit, UserId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::failure::{Detail, Failure};
use crate::protocol::code::ErrorCode;
use audit::Audit;
use authorisation::Action;
use revocation::RevocationList;
use verifier::{TokenError, Verifier};
use ws_tickets::WsTickets;

pub(crate) use address::PeerAddress;
pub(crate) use caller::{Caller, Identified};
pub use own_key::{IdentityKey, IdentityPublicKey, IdentityPublicKeyError, TokenOrder};
pub use verifier::KeysError;
pub(crate) use ws_tickets::IssuedTicket;

/// The scheme of RFC 6750, compared without regard to case as RFC 9110 wants it.
const SCHEME: &str = "bearer";

/// How the gateway knows who is asking.
#[derive(Clone, Debug)]
pub enum Mode {
    /// The caller says who it is. Only on a loopback address.
    Trusted,
    /// The caller shows a token: the provider's of the settings, or one of the grid's own key.
    Token {
        /// The public half of the grid's own key; without it only the provider's tokens count.
        own_key: Option<IdentityPublicKey>,
    },
}

/// Parts of mode `token`.
#[derive(Debug)]
struct Tokens {
    verifier: Verifier,
    tickets: WsTickets,
    revocations: RevocationList,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Identity {
    /// `None` in mode `trusted`.
    tokens: Option<Tokens>,
    guests_may_watch: bool,
    allowed_origins: Vec<String>,
    is_loopback: bool,
    proxies: Vec<Network>,
    audit: Audit,
}

impl Identity {
    /// `is_loopback` says whether only this machine reaches the gateway.
    ///
    /// # Errors
    /// [`KeysError`] when the settings name keys that cannot be used.
    pub(crate) fn new(
        mode: &Mode,
        settings: &IdentitySettings,
        is_loopback: bool,
        client: &RoutingClient<Unit>,
    ) -> Result<Self, KeysError> {
        let tokens = match mode {
            Mode::Trusted => None,
            Mode::Token { own_key } => Some(Tokens {
                verifier: Verifier::new(settings, own_key.as_ref())?,
                tickets: WsTickets::new(settings.ticket_life_s),
                revocations: RevocationList::new(client, settings),
            }),
        };
        let proxies = settings.trusted_proxies.iter();
        Ok(Self {
            tokens,
            guests_may_watch: settings.guests_may_watch,
            allowed_origins: settings.allowed_origins.clone(),
            is_loopback,
            proxies: proxies.filter_map(|text| Network::parse(text)).collect(),
            audit: Audit::default(),
        })
    }

    /// Keeps the provider's keys fresh until stopped; to be spawned.
    pub(crate) async fn keep_keys(&self, stop: &CancellationToken) {
        if let Some(tokens) = &self.tokens {
            stop.run_until_cancelled(tokens.verifier.keep_keys()).await;
        }
    }

    /// Waits for revocations in mode `token`, for ever in mode `trusted`.
    pub(crate) async fn revoked(&self) {
        match &self.tokens {
            Some(tokens) => tokens.revocations.changed().await,
            None => std::future::pending().await,
        }
    }

    /// Where a request comes from: the connection's address, or what trusted proxies say of it.
    pub(crate) fn address_of(&self, peer: Option<PeerAddress>, headers: &HeaderMap) -> IpAddr {
        address::client_address(peer, headers, &self.proxies)
    }

    /// Whether a request may come from the web page that it says it comes from.
    pub(crate) fn is_origin_allowed(&self, headers: &HeaderMap) -> bool {
        let allowed = match self.tokens {
            Some(_) => self.allowed_origins.as_slice(),
            None => &[],
        };
        origin::is_allowed(headers, allowed, self.is_loopback)
    }

    /// Who sends an HTTP request; `None` for a guest.
    ///
    /// # Errors
    /// `unauthenticated` for a token that does not count, `unavailable` while it cannot be checked.
    pub(crate) async fn of_request(
        &self,
        headers: &HeaderMap,
        address: IpAddr,
    ) -> Result<Option<Caller>, Failure> {
        if self.tokens.is_none() {
            return Ok(Caller::from_trusted(headers, None, address));
        }
        match bearer(headers) {
            Bearer::None => Ok(None),
            Bearer::Token(token) => self.of_token(token, address).await.map(Some),
            Bearer::Unreadable => {
                let error = TokenError::Malformed;
                self.audit.refused_token(address, &error);
                Err(error.failure())
            }
        }
    }

    /// Who wants a WebSocket: by a ticket in the address, by a token in the header, or a guest.
    ///
    /// # Errors
    /// As for [`Self::of_request`]; a ticket is used up by any attempt.
    pub(crate) async fn of_upgrade(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
        address: IpAddr,
    ) -> Result<Caller, Failure> {
        let parameter = |name: &str| {
            let pairs = query.unwrap_or_default().split('&');
            let mut values = pairs.filter_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            values.next()
        };
        let Some(tokens) = &self.tokens else {
            let caller = Caller::from_trusted(headers, parameter("user_id"), address);
            return caller.ok_or_else(|| self.unauthenticated());
        };
        let by_header = self.of_request(headers, address).await?;
        let caller = match parameter("ticket") {
            Some(ticket) => {
                let caller = tokens.tickets.redeem(ticket, Instant::now());
                let caller = caller.filter(|caller| !tokens.revocations.refuses(caller));
                let is_of_other =
                    |caller: &Caller| by_header.is_some_and(|other| other.user != caller.user);
                match caller.filter(|caller| !is_of_other(caller)) {
                    Some(caller) => Some(Caller { address, ..caller }),
                    None => {
                        let error = TokenError::Ticket;
                        self.audit.refused_token(address, &error);
                        return Err(error.failure());
                    }
                }
            }
            None => by_header,
        };
        match caller {
            Some(caller) => {
                self.audit.session_opened(&caller);
                Ok(caller)
            }
            None if self.guests_may_watch => Ok(Caller::guest(Uuid::from_u128(random()?), address)),
            None => Err(self.unauthenticated()),
        }
    }

    /// Whose token it is.
    ///
    /// # Errors
    /// As for [`Self::of_request`].
    pub(crate) async fn of_token(&self, token: &str, address: IpAddr) -> Result<Caller, Failure> {
        let Some(tokens) = &self.tokens else {
            return Err(Failure::bad_request(
                "this gateway takes callers at their word; there are no tokens",
            ));
        };
        let verified = match tokens.verifier.verify(token, now_s()).await {
            Ok(caller) if tokens.revocations.refuses(&caller) => Err(TokenError::Revoked),
            other => other,
        };
        verified
            .map(|caller| Caller { address, ..caller })
            .map_err(|error| {
                self.audit.refused_token(address, &error);
                error.failure()
            })
    }

    /// A fresh token on an open connection: it must be the same person's.
    ///
    /// # Errors
    /// As for [`Self::of_request`], and `forbidden` for another's token.
    pub(crate) async fn renew(&self, caller: Caller, token: &str) -> Result<Caller, Failure> {
        let renewed = self.of_token(token, caller.address).await?;
        if caller.is_guest || renewed.user != caller.user {
            let text = "a connection stays its user's; open another for another";
            let failure = Failure::new(ErrorCode::Forbidden, text);
            self.audit
                .refusal(Some(&caller), caller.address, "authenticate", &failure);
            return Err(failure);
        }
        self.audit.session_renewed(&renewed);
        Ok(renewed)
    }

    /// Whether what a caller is was taken back since.
    pub(crate) fn is_revoked(&self, caller: &Caller) -> bool {
        let tokens = self.tokens.as_ref();
        tokens.is_some_and(|tokens| tokens.revocations.refuses(caller))
    }

    /// Lets a caller do something, or not.
    ///
    /// # Errors
    /// `unauthenticated` for a guest, `forbidden` for others.
    pub(crate) fn authorise(
        &self,
        caller: Option<&Caller>,
        address: IpAddr,
        action: Action,
    ) -> Result<(), Failure> {
        if authorisation::allows(action, caller, self.guests_may_watch) {
            return Ok(());
        }
        let failure = match caller.filter(|caller| !caller.is_guest) {
            None => self.unauthenticated(),
            Some(_) => Failure::new(ErrorCode::Forbidden, action.refusal()).with(Detail::Reason {
                reason: "role_missing",
            }),
        };
        if self.tokens.is_some() {
            self.audit.refusal(caller, address, action.name(), &failure);
        }
        Err(failure)
    }

    /// A ticket for one WebSocket of the caller.
    ///
    /// # Errors
    /// `bad_request` in mode `trusted`, `rate_limited` or `overloaded` when there are too many.
    pub(crate) fn issue_ticket(&self, caller: &Caller) -> Result<IssuedTicket, Failure> {
        let tokens = self.tokens.as_ref().ok_or_else(no_sessions)?;
        let issued = tokens.tickets.issue(caller, Instant::now())?;
        self.audit.ticket_issued(caller);
        Ok(issued)
    }

    /// Takes back every token of a user up to now, on every gateway; their sockets close.
    ///
    /// # Errors
    /// `bad_request` in mode `trusted`, or what the grid says.
    pub(crate) async fn revoke(
        &self,
        client: &RoutingClient<Unit>,
        user: UserId,
        newest_s: u64,
        deadline: std::time::Instant,
    ) -> Result<(), Failure> {
        let tokens = self.tokens.as_ref().ok_or_else(no_sessions)?;
        let revoked = tokens.revocations.revoke(client, user, newest_s, deadline);
        revoked
            .await
            .map_err(|error| crate::refusals::grid_error(&error))
    }

    /// The audit log; `None` in mode `trusted`, where nobody is known for sure.
    pub(crate) fn audit(&self) -> Option<&Audit> {
        self.tokens.as_ref().map(|_| &self.audit)
    }

    fn unauthenticated(&self) -> Failure {
        match self.tokens {
            None => Failure::unauthenticated(),
            Some(_) => Failure::new(
                ErrorCode::Unauthenticated,
                "show a token: header `Authorization: Bearer …`, or on a WebSocket `?ticket=` with a ticket of \
                 POST /v1/ws-tickets",
            ),
        }
    }
}

fn no_sessions() -> Failure {
    Failure::bad_request("this gateway takes callers at their word; it has no sessions")
}

/// What a request's header shows.
enum Bearer<'a> {
    None,
    Token(&'a str),
    Unreadable,
}

fn bearer(headers: &HeaderMap) -> Bearer<'_> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Bearer::None;
    };
    let token = value
        .to_str()
        .ok()
        .filter(|_| values.next().is_none())
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME));
    match token {
        Some((_, token)) => Bearer::Token(token.trim_matches(' ')),
        None => Bearer::Unreadable,
    }
}

/// The system's clock, in seconds since the Unix epoch.
fn now_s() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0)
}

fn random() -> Result<u128, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|_| Failure::new(ErrorCode::Internal, "the system has no random bytes"))?;
    Ok(u128::from_le_bytes(bytes))
}

/// Starts what runs beside the requests: fetching keys, and closing sockets of sessions that end.
pub(crate) fn serve(shared: &Arc<crate::state::Shared>) {
    let keeping = Arc::clone(shared);
    shared
        .tasks
        .spawn(async move { keeping.identity.keep_keys(&keeping.stopping).await });
    let closing = Arc::clone(shared);
    shared.tasks.spawn(async move {
        let stopping = closing.stopping.clone();
        stopping.run_until_cancelled(close_revoked(&closing)).await;
    });
}

/// Closes the sockets of whoever's session was taken back, for as long as the gateway runs.
async fn close_revoked(shared: &Arc<crate::state::Shared>) {
    loop {
        shared.identity.revoked().await;
        let closed = shared
            .connections
            .revoke(|caller| shared.identity.is_revoked(caller));
        if closed > 0 {
            tracing::info!(closed, "sessions were revoked");
        }
    }
}
