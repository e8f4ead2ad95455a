//! From which web page a request comes, as the browser says it.
//!
//! Pages of this machine may use a gateway that listens on loopback. The page's own host name is not
//! trusted even where it equals the `Host` header: a name can be made to resolve to this machine. Others
//! may where they are listed, letter by letter.

use axum::http::{HeaderMap, header};

/// Whether a request may come from the web page that it says it comes from. What is no browser says
/// nothing.
pub(super) fn is_allowed(headers: &HeaderMap, listed: &[String], is_loopback: bool) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else {
        return true;
    };
    origins.next().is_none()
        && origin.to_str().is_ok_and(|origin| {
            (is_loopback && is_loopback_origin(origin))
                || listed
                    .iter()
                    .any(|listed| listed.eq_ignore_ascii_case(origin))
        })
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
    fn listed_pages_are_allowed_letter_by_letter() {
        let listed = ["https://shop.example".to_owned()];
        let allowed = |origin: &str, is_loopback| {
            let mut headers = HeaderMap::new();
            headers.append(header::ORIGIN, origin.parse().expect("a header"));
            is_allowed(&headers, &listed, is_loopback)
        };
        assert!(allowed("https://shop.example", false));
        assert!(allowed("http://localhost:1", true));
        for origin in [
            "http://shop.example",
            "https://shop.example:444",
            "https://shop.example.evil.example",
            "http://localhost:1",
            "null",
        ] {
            assert!(!allowed(origin, false), "{origin}");
        }
        assert!(is_allowed(&HeaderMap::new(), &listed, false));
    }
}
