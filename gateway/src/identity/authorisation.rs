//! Who may do what: one table for every message and every address.
//!
//! A message or an address stands for an [`Action`]; the table says which roles may. Whether an auction
//! is the host's own, or a hold the buyer's, the domain decides afterwards.
//!
//! Invariant: what has no row is refused. Messages cannot be without one, the compiler sees to that; for
//! addresses under `/v1/` a test does.

use axum::http::Method;

use super::caller::Caller;
use crate::protocol::message::Request;

/// What a person is to the house.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Role {
    /// Bids and buys.
    Bidder = 1,
    /// Offers auctions and events, and runs their own.
    Host = 2,
    /// Runs everybody's.
    Manager = 4,
    /// As a manager, and takes sessions back.
    Admin = 8,
}

impl Role {
    /// Every role, for tables.
    pub(crate) const ALL: [Self; 4] = [Self::Bidder, Self::Host, Self::Manager, Self::Admin];

    /// Its name in a token.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Bidder => "bidder",
            Self::Host => "host",
            Self::Manager => "manager",
            Self::Admin => "admin",
        }
    }
}

/// A set of roles. Names that are no roles of this house count for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Roles(u8);

impl Roles {
    pub(crate) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let mut roles = Self::default();
        for name in names {
            let found = Role::ALL.into_iter().find(|role| role.as_str() == name);
            if let Some(role) = found {
                roles.insert(role);
            }
        }
        roles
    }

    pub(crate) fn insert(&mut self, role: Role) {
        self.0 |= role as u8;
    }

    pub(crate) fn has(self, role: Role) -> bool {
        self.0 & role as u8 != 0
    }
}

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// What a connection itself needs: pings, giving subscriptions up, showing a fresh token.
    KeepConnection,
    /// What everybody may know: whether the gateway is there, how tickets are checked.
    SeePublic,
    /// Look at auctions and events, and subscribe to them.
    Watch,
    /// Get tickets for WebSockets, end the session.
    OwnSession,
    /// See the caller's own holds, tickets and bids.
    OwnHoldings,
    PlaceBid,
    WithdrawBid,
    /// Hold, pay and release seats, and queue for that.
    BuySeats,
    /// Offer items, auctions and events.
    Offer,
    /// Start, close and cancel auctions; run waiting rooms.
    RunAuction,
    /// See who has bought which ticket, at the door.
    SeeBuyers,
}

/// Someone who is not known at all.
const GUEST: u8 = 1 << 4;
/// Someone who is known, whatever their roles.
const KNOWN: u8 = 1 << 5;
const BIDDER: u8 = Role::Bidder as u8;
const HOST: u8 = Role::Host as u8;
const STAFF: u8 = Role::Manager as u8 | Role::Admin as u8;

impl Action {
    /// The table.
    const fn allowed(self) -> u8 {
        match self {
            Self::KeepConnection | Self::SeePublic | Self::Watch => GUEST | KNOWN,
            Self::OwnSession | Self::OwnHoldings => KNOWN,
            Self::PlaceBid | Self::BuySeats => BIDDER,
            Self::WithdrawBid => BIDDER | STAFF,
            Self::Offer | Self::RunAuction => HOST | STAFF,
            Self::SeeBuyers => STAFF,
        }
    }

    /// Its name in the audit log.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::KeepConnection => "keep_connection",
            Self::SeePublic => "see_public",
            Self::Watch => "watch",
            Self::OwnSession => "own_session",
            Self::OwnHoldings => "own_holdings",
            Self::PlaceBid => "place_bid",
            Self::WithdrawBid => "withdraw_bid",
            Self::BuySeats => "buy_seats",
            Self::Offer => "offer",
            Self::RunAuction => "run_auction",
            Self::SeeBuyers => "see_buyers",
        }
    }

    /// Why someone with the wrong roles may not.
    pub(crate) const fn refusal(self) -> &'static str {
        match self {
            Self::PlaceBid | Self::BuySeats => "that needs the role bidder",
            Self::WithdrawBid => "that needs the role bidder or manager",
            Self::Offer | Self::RunAuction => "that needs the role host or manager",
            Self::SeeBuyers => "that needs the role manager",
            _ => "your roles do not allow that",
        }
    }

    /// What a message is about.
    pub(crate) fn of(request: &Request) -> Self {
        match request {
            Request::Subscribe { .. } => Self::Watch,
            Request::Unsubscribe { .. } | Request::Ping | Request::Authenticate { .. } => {
                Self::KeepConnection
            }
            Request::PlaceBid { .. } => Self::PlaceBid,
            Request::WithdrawBid { .. } => Self::WithdrawBid,
            Request::HoldSeats { .. }
            | Request::ConfirmHold { .. }
            | Request::ReleaseHold { .. }
            | Request::JoinQueue { .. }
            | Request::LeaveQueue { .. } => Self::BuySeats,
        }
    }
}

/// Whether the caller may; `None` and guests are the same.
pub(crate) fn allows(action: Action, caller: Option<&Caller>, guests_may_watch: bool) -> bool {
    let who = match caller.filter(|caller| !caller.is_guest) {
        None if action == Action::Watch && !guests_may_watch => return false,
        None => GUEST,
        Some(caller) => KNOWN | caller.roles.0,
    };
    action.allowed() & who != 0
}

/// The addresses under `/v1/`.
const ADDRESSES: [(Method, &str, Action); 33] = [
    (Method::GET, "/v1/ticket-key", Action::SeePublic),
    (Method::POST, "/v1/ws-tickets", Action::OwnSession),
    (Method::POST, "/v1/logout", Action::OwnSession),
    (Method::POST, "/v1/items", Action::Offer),
    (Method::GET, "/v1/items/{id}", Action::Watch),
    (Method::POST, "/v1/auctions", Action::Offer),
    (Method::GET, "/v1/auctions", Action::Watch),
    (Method::GET, "/v1/auctions/{id}", Action::Watch),
    (Method::POST, "/v1/auctions/{id}/start", Action::RunAuction),
    (Method::POST, "/v1/auctions/{id}/close", Action::RunAuction),
    (Method::POST, "/v1/auctions/{id}/cancel", Action::RunAuction),
    (Method::GET, "/v1/auctions/{id}/bids", Action::Watch),
    (Method::PUT, "/v1/auctions/{id}/bids", Action::PlaceBid),
    (Method::POST, "/v1/auctions/{id}/bids", Action::PlaceBid),
    (
        Method::DELETE,
        "/v1/auctions/{id}/bids/{bid_id}",
        Action::WithdrawBid,
    ),
    (Method::POST, "/v1/events", Action::Offer),
    (Method::GET, "/v1/events", Action::Watch),
    (Method::GET, "/v1/events/{id}", Action::Watch),
    (Method::GET, "/v1/events/{id}/seats", Action::Watch),
    (
        Method::GET,
        "/v1/events/{id}/seats/{section}",
        Action::Watch,
    ),
    (Method::GET, "/v1/events/{id}/tickets", Action::SeeBuyers),
    (Method::POST, "/v1/events/{id}/holds", Action::BuySeats),
    (
        Method::DELETE,
        "/v1/events/{id}/holds/{hold_id}",
        Action::BuySeats,
    ),
    (
        Method::POST,
        "/v1/events/{id}/holds/{hold_id}/confirm",
        Action::BuySeats,
    ),
    (Method::POST, "/v1/events/{id}/queue", Action::BuySeats),
    (Method::GET, "/v1/events/{id}/queue", Action::BuySeats),
    (Method::DELETE, "/v1/events/{id}/queue", Action::BuySeats),
    (Method::POST, "/v1/events/{id}/waiting-room", Action::Offer),
    (Method::GET, "/v1/events/{id}/waiting-room", Action::Watch),
    (
        Method::GET,
        "/v1/events/{id}/waiting-room/order",
        Action::Watch,
    ),
    (
        Method::POST,
        "/v1/events/{id}/waiting-room/{step}",
        Action::RunAuction,
    ),
    (Method::GET, "/v1/me/{what}", Action::OwnHoldings),
    (Method::GET, "/v1/route", Action::SeePublic),
];

/// What the table says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// Whoever may do this.
    For(Action),
    /// The address has rows, but none for the method.
    NoMethod,
    /// The address has no row: nobody may.
    Nobody,
}

/// What a request is about, by its method and the pattern of its address. Outside of `/v1/` there are
/// probes and pages, which are everybody's, and orders of operators, which have a guard of their own.
pub(crate) fn ruling(method: &Method, pattern: &str) -> Ruling {
    if !pattern.starts_with("/v1/") {
        return Ruling::For(Action::SeePublic);
    }
    let method = match *method {
        Method::HEAD => &Method::GET,
        _ => method,
    };
    let mut rows = ADDRESSES
        .iter()
        .filter(|(_, row, _)| *row == pattern || is_below_me(row, pattern))
        .peekable();
    if rows.peek().is_none() {
        return Ruling::Nobody;
    }
    match rows.find(|(allowed, _, _)| allowed == method) {
        Some((_, _, action)) => Ruling::For(*action),
        None => Ruling::NoMethod,
    }
}

/// Everything below `/v1/me/` is the caller's own.
fn is_below_me(row: &str, pattern: &str) -> bool {
    row == "/v1/me/{what}" && pattern.starts_with("/v1/me/")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use processing_unit::UserId;
    use uuid::Uuid;

    use super::*;
    use crate::protocol::message::Envelope;

    const ID: &str = "6f0e2d52-3a5c-4c8e-9b58-1f2d3c4b5a69";

    fn with(roles: &[&str]) -> Caller {
        let roles = Roles::of(roles.iter().copied());
        let user = UserId(Uuid::nil());
        Caller::known(user, roles, 0, None, Ipv4Addr::LOCALHOST.into())
    }

    /// Each message with who may send it: guest, known without roles, bidder, host, manager, admin.
    #[test]
    fn each_message_is_for_its_roles_and_no_others() {
        let all = [true; 6];
        let bidders = [false, false, true, false, false, false];
        let bidders_and_staff = [false, false, true, false, true, true];
        let table = [
            (
                format!(r#"{{"type":"subscribe","auction_id":"{ID}"}}"#),
                all,
            ),
            (format!(r#"{{"type":"subscribe","event_id":"{ID}"}}"#), all),
            (
                format!(r#"{{"type":"unsubscribe","event_id":"{ID}"}}"#),
                all,
            ),
            (r#"{"type":"ping"}"#.to_owned(), all),
            (r#"{"type":"authenticate","token":"t"}"#.to_owned(), all),
            (
                format!(r#"{{"type":"place_bid","auction_id":"{ID}","amount":"1"}}"#),
                bidders,
            ),
            (
                format!(r#"{{"type":"withdraw_bid","auction_id":"{ID}","bid_id":"{ID}"}}"#),
                bidders_and_staff,
            ),
            (
                format!(r#"{{"type":"hold_seats","event_id":"{ID}","seats":["A-1-1"]}}"#),
                bidders,
            ),
            (
                format!(
                    r#"{{"type":"confirm_hold","event_id":"{ID}","hold_id":"{ID}","payment_reference":"p"}}"#
                ),
                bidders,
            ),
            (
                format!(r#"{{"type":"release_hold","event_id":"{ID}","hold_id":"{ID}"}}"#),
                bidders,
            ),
            (
                format!(r#"{{"type":"join_queue","event_id":"{ID}"}}"#),
                bidders,
            ),
            (
                format!(r#"{{"type":"leave_queue","event_id":"{ID}"}}"#),
                bidders,
            ),
        ];
        for (text, allowed) in table {
            let request = Envelope::read(&text).expect("well-formed").request;
            check(Action::of(&request), allowed, &text);
        }
    }

    fn check(action: Action, allowed: [bool; 6], what: &str) {
        let guest = Caller::guest(Uuid::nil(), Ipv4Addr::LOCALHOST.into());
        assert_eq!(allows(action, None, true), allowed[0], "{what} by nobody");
        let who = [
            guest,
            with(&[]),
            with(&["bidder"]),
            with(&["host"]),
            with(&["manager"]),
            with(&["admin"]),
        ];
        for (place, caller) in who.iter().enumerate() {
            let column = allows(action, Some(caller), true);
            assert_eq!(column, allowed[place], "{what} in column {place}");
        }
    }

    #[test]
    fn each_action_is_for_its_roles_and_no_others() {
        let known = [false, true, true, true, true, true];
        let hosts = [false, false, false, true, true, true];
        let table = [
            (Action::KeepConnection, [true; 6]),
            (Action::SeePublic, [true; 6]),
            (Action::Watch, [true; 6]),
            (Action::OwnSession, known),
            (Action::OwnHoldings, known),
            (Action::PlaceBid, [false, false, true, false, false, false]),
            (Action::WithdrawBid, [false, false, true, false, true, true]),
            (Action::BuySeats, [false, false, true, false, false, false]),
            (Action::Offer, hosts),
            (Action::RunAuction, hosts),
            (Action::SeeBuyers, [false, false, false, false, true, true]),
        ];
        for (action, allowed) in table {
            check(action, allowed, action.name());
        }
    }

    #[test]
    fn guests_watch_only_where_that_is_set() {
        let guest = Caller::guest(Uuid::nil(), Ipv4Addr::LOCALHOST.into());
        for guest in [None, Some(&guest)] {
            assert!(!allows(Action::Watch, guest, false));
            assert!(allows(Action::SeePublic, guest, false));
        }
        assert!(allows(Action::Watch, Some(&with(&[])), false));
    }

    #[test]
    fn roles_of_other_houses_count_for_nothing() {
        let roles =
            Roles::of(["Admin", "ADMIN", "administrator", "", "offline_access"].into_iter());
        assert_eq!(roles, Roles::default());
    }

    /// The router's source names every address; each must have a row, for each of its methods.
    #[test]
    fn no_address_is_without_a_row() {
        let source = include_str!("../http/mod.rs");
        let mut found = 0;
        for part in source.split(".route(").skip(1) {
            let Some(address) = part.trim_start().strip_prefix('"') else {
                continue;
            };
            let (address, rest) = address.split_once('"').expect("a closed string");
            if !address.starts_with("/v1/") || address == "/v1/ws" {
                continue;
            }
            // The methods stand before the next route, or before the first line that is no part of it.
            let handlers = rest.split(".fallback(").next().unwrap_or_default();
            let mut methods = 0;
            for (name, method) in [
                ("get(", Method::GET),
                ("post(", Method::POST),
                ("put(", Method::PUT),
                ("delete(", Method::DELETE),
                ("patch(", Method::PATCH),
            ] {
                if handlers.contains(name) {
                    methods += 1;
                    let ruling = ruling(&method, address);
                    assert!(matches!(ruling, Ruling::For(_)), "{method} {address}");
                }
            }
            assert!(methods > 0, "{address} has no method that this test knows");
            found += 1;
        }
        assert!(found >= 18, "only {found} addresses were found");
        assert_eq!(ruling(&Method::GET, "/v1/unheard-of"), Ruling::Nobody);
        assert_eq!(ruling(&Method::PATCH, "/v1/items"), Ruling::NoMethod);
    }
}
