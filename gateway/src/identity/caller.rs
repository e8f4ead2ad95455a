//! A person with their roles, and until when that holds.

use std::net::IpAddr;

use axum::http::HeaderMap;
use processing_unit::UserId;
use processing_unit::auction::Actor;
use uuid::Uuid;

use super::authorisation::{Role, Roles};

/// Header that names the caller.
const USER_HEADER: &str = "x-user-id";
/// Header with the caller's roles, separated by commas.
const ROLES_HEADER: &str = "x-roles";

/// Who is asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// For a guest a random one, which nobody else has.
    pub(crate) user: UserId,
    /// Role `manager` or `admin`.
    pub(crate) is_manager: bool,
    pub(crate) roles: Roles,
    /// Whether nobody knows who it is.
    pub(crate) is_guest: bool,
    /// When the token was issued, in seconds since the Unix epoch.
    pub(crate) issued_at_s: u64,
    /// When it ends, in the same seconds.
    pub(crate) expires_at_s: Option<u64>,
    pub(crate) address: IpAddr,
}

/// What was found out about an HTTP request's sender before its handler runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identified(pub(crate) Option<Caller>);

impl Caller {
    /// The caller named by the headers, or by a WebSocket's query. Everybody may bid, buy and host; further
    /// roles are those that the caller names.
    pub(crate) fn from_trusted(
        headers: &HeaderMap,
        query_user: Option<&str>,
        address: IpAddr,
    ) -> Option<Self> {
        let named = match headers.get(USER_HEADER) {
            Some(value) => value.to_str().ok()?,
            None => query_user?,
        };
        let user = UserId(Uuid::try_parse(named.trim()).ok()?);
        let named = headers
            .get(ROLES_HEADER)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let mut roles = Roles::of(named.split(',').map(str::trim));
        roles.insert(Role::Bidder);
        roles.insert(Role::Host);
        Some(Self::known(user, roles, 0, None, address))
    }

    pub(super) fn known(
        user: UserId,
        roles: Roles,
        issued_at_s: u64,
        expires_at_s: Option<u64>,
        address: IpAddr,
    ) -> Self {
        Self {
            user,
            is_manager: roles.has(Role::Manager) || roles.has(Role::Admin),
            roles,
            is_guest: false,
            issued_at_s,
            expires_at_s,
            address,
        }
    }

    /// Somebody without a name, under an id of their own so that nothing is theirs.
    pub(super) fn guest(id: Uuid, address: IpAddr) -> Self {
        Self {
            is_guest: true,
            ..Self::known(UserId(id), Roles::default(), 0, None, address)
        }
    }

    /// As the domain knows who acts.
    pub(crate) fn actor(self) -> Actor {
        Actor {
            user: self.user,
            is_manager: self.is_manager,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_trusted_caller_is_a_uuid_with_roles() {
        let mut headers = HeaderMap::new();
        let from = |headers: &HeaderMap, query: Option<&str>| {
            Caller::from_trusted(headers, query, Ipv4Addr::LOCALHOST.into())
        };
        let id = "6f0e2d52-3a5c-4c8e-9b58-1f2d3c4b5a69";
        assert_eq!(from(&headers, None), None);
        assert_eq!(from(&headers, Some("me")), None);
        let plain = from(&headers, Some(id)).expect("known");
        assert!(!plain.is_manager && plain.roles.has(Role::Bidder));
        headers.insert(USER_HEADER, id.parse().expect("header"));
        headers.insert(ROLES_HEADER, "host, manager".parse().expect("header"));
        assert!(from(&headers, None).is_some_and(|c| c.is_manager));
        headers.insert(USER_HEADER, "nobody".parse().expect("header"));
        assert_eq!(from(&headers, Some(id)), None);
    }
}
