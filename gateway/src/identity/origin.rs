//! Who is asking, and from which web page.
//!
//! In mode `trusted` the caller says who it is; the gateway then listens on loopback only, and a web
//! page may use it only when the page itself came from loopback. The page's own host name is not
//! trusted even where it equals the `Host` header: a name can be made to resolve to this machine.

use axum::http::{HeaderMap, header};
use processing_unit::UserId;
use processing_unit::auction::Actor;
use uuid::Uuid;

/// Header that names the caller.
const USER_HEADER: &str = "x-user-id";
/// Header with the caller's roles, separated by commas.
const ROLES_HEADER: &str = "x-roles";

/// A person with their roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) user: UserId,
    /// Role `manager` or `admin`.
    pub(crate) is_manager: bool,
}

impl Caller {
    /// The caller named by the headers, or by a WebSocket's query.
    pub(crate) fn from_trusted(headers: &HeaderMap, query_user: Option<&str>) -> Option<Self> {
        let named = match headers.get(USER_HEADER) {
            Some(value) => value.to_str().ok()?,
            None => query_user?,
        };
        let user = UserId(Uuid::try_parse(named.trim()).ok()?);
        let roles = headers
            .get(ROLES_HEADER)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let is_manager = roles
            .split(',')
            .any(|role| matches!(role.trim(), "manager" | "admin"));
        Some(Self { user, is_manager })
    }

    /// As the domain knows who acts.
    pub(crate) fn actor(self) -> Actor {
        Actor {
            user: self.user,
            is_manager: self.is_manager,
        }
    }
}

/// Whether a request may come from the web page that it says it comes from.
pub(crate) fn is_origin_allowed(headers: &HeaderMap) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else {
        return true;
    };
    origins.next().is_none() && origin.to_str().is_ok_and(is_loopback_origin)
}

fn is_loopback_origin(origin: &str) -> bool {
    let Some(authority) = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"))
    else {
        return false;
    };
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let address = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    address
        .parse::<std::net::IpAddr>()
        .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_from_this_machine_are_allowed() {
        for origin in [
            "http://localhost",
            "http://localhost:8080",
            "https://127.0.0.1:1",
            "http://[::1]:80",
            "http://[::1]",
        ] {
            assert!(is_loopback_origin(origin), "{origin}");
        }
        for origin in [
            "null",
            "",
            "http://evil.example",
            "http://localhost.evil.example",
            "http://localhost@evil.example",
            "http://127.0.0.1.evil.example:80",
            "http://10.0.0.1",
            "file://localhost",
            "http://localhost:80/path",
        ] {
            assert!(!is_loopback_origin(origin), "{origin}");
        }
    }

    #[test]
    fn a_caller_is_a_uuid_with_roles() {
        let mut headers = HeaderMap::new();
        let id = "6f0e2d52-3a5c-4c8e-9b58-1f2d3c4b5a69";
        assert_eq!(Caller::from_trusted(&headers, None), None);
        assert_eq!(Caller::from_trusted(&headers, Some("me")), None);
        assert!(Caller::from_trusted(&headers, Some(id)).is_some_and(|c| !c.is_manager));
        headers.insert(USER_HEADER, id.parse().expect("header"));
        headers.insert(ROLES_HEADER, "host, manager".parse().expect("header"));
        assert!(Caller::from_trusted(&headers, None).is_some_and(|c| c.is_manager));
        headers.insert(USER_HEADER, "nobody".parse().expect("header"));
        assert_eq!(Caller::from_trusted(&headers, Some(id)), None);
    }
}
