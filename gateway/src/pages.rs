//! The web pages, the JavaScript client and the descriptions of the interface: files of `gateway/web/`, part
//! of the program, the same for as long as it runs.
//!
//! A page is the same for everybody and holds no data: its script reads the address and asks the gateway
//! like any other client. That is why nothing here needs to know who asks. What all pages share is written
//! once, in `shell.html`, and put around each page's own part when the first file is asked for.
//!
//! Invariants: every file has an `ETag` and a type that browsers may not guess away; no page may run a script
//! or a style that is not one of these files, be framed, or reach another host.
//!
//! What it deliberately does not do: read from disk, compress, or serve anything that is not in the table.

use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use crate::failure::Failure;
use crate::http::problem::Problem;

/// What pages may load: their own files and the gateway itself, nothing inline.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Sent with every file.
const SECURITY_HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
];

/// A file of the program.
#[derive(Debug)]
struct File {
    name: &'static str,
    kind: &'static str,
    bytes: Bytes,
    etag: HeaderValue,
}

impl File {
    fn new(name: &'static str, kind: &'static str, bytes: Bytes) -> Self {
        let etag = HeaderValue::from_str(&format!("\"{:032x}\"", xxh3_128(&bytes)))
            .expect("hexadecimal digits in quotes are a header's value");
        Self {
            name,
            kind,
            bytes,
            etag,
        }
    }

    /// A page: the shell around what only this page has.
    fn page(name: &'static str, title: &str, script: &str, main: &str) -> Self {
        let whole = SHELL
            .replacen("{{title}}", title, 1)
            .replacen("{{script}}", script, 1)
            .replacen("{{main}}", main, 1);
        Self::new(name, "text/html; charset=utf-8", whole.into())
    }
}

/// The text of a file of `gateway/web/`.
macro_rules! text {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/web/", $name))
    };
}

macro_rules! file {
    ($name:literal, $kind:literal) => {
        File::new($name, $kind, Bytes::from_static(text!($name).as_bytes()))
    };
}

macro_rules! page {
    ($name:literal, $title:literal, $script:literal) => {
        File::page($name, $title, $script, text!($name))
    };
}

/// What stands around every page: the head, the visitor's name, the banner about the connection.
const SHELL: &str = text!("shell.html");

/// Every file; what is not here is not served.
static FILES: LazyLock<[File; 18]> = LazyLock::new(|| {
    [
        page!("index.html", "What is on", "home.js"),
        page!("auction.html", "Auction", "auction.js"),
        page!("event.html", "Tickets", "event.js"),
        file!("style.css", "text/css; charset=utf-8"),
        file!("icon.svg", "image/svg+xml"),
        file!("spacegrid.js", "text/javascript; charset=utf-8"),
        file!("spacegrid.d.ts", "text/plain; charset=utf-8"),
        file!("identity.js", "text/javascript; charset=utf-8"),
        file!("page.js", "text/javascript; charset=utf-8"),
        file!("money.js", "text/javascript; charset=utf-8"),
        file!("home.js", "text/javascript; charset=utf-8"),
        file!("auction.js", "text/javascript; charset=utf-8"),
        file!("event.js", "text/javascript; charset=utf-8"),
        file!("basket.js", "text/javascript; charset=utf-8"),
        file!("seatmap.js", "text/javascript; charset=utf-8"),
        file!("venue.js", "text/javascript; charset=utf-8"),
        file!("openapi.json", "application/json"),
        file!("asyncapi.json", "application/json"),
    ]
});

/// The pages' addresses.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route(
            "/",
            get(async |headers: HeaderMap| page("index.html", &headers)),
        )
        .route(
            "/auction/{id}",
            get(async |headers: HeaderMap| page("auction.html", &headers)),
        )
        .route(
            "/event/{id}",
            get(async |headers: HeaderMap| page("event.html", &headers)),
        )
        .route("/web/{file}", get(file))
        .route(
            "/openapi.json",
            get(async |headers: HeaderMap| page("openapi.json", &headers)),
        )
        .route(
            "/asyncapi.json",
            get(async |headers: HeaderMap| page("asyncapi.json", &headers)),
        )
}

async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    page(&name, &headers)
}

/// The file of that name, or only its tag where the browser has it.
fn page(name: &str, request: &HeaderMap) -> Response {
    let Some(file) = FILES.iter().find(|file| file.name == name) else {
        return Problem::from(Failure::not_found("there is no such file")).into_response();
    };
    let mut response = if is_known(request, &file.etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let kind = HeaderValue::from_static(file.kind);
        ([(header::CONTENT_TYPE, kind)], file.bytes.clone()).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, file.etag.clone());
    // Kept, but asked about each time: a new program's files fit together.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    for (name, value) in &SECURITY_HEADERS {
        headers.insert(name.clone(), HeaderValue::from_static(value));
    }
    response
}

/// Whether `If-None-Match` names the tag; a weak one counts, as RFC 9110 wants it.
fn is_known(request: &HeaderMap, etag: &HeaderValue) -> bool {
    let tags = request.get_all(header::IF_NONE_MATCH).iter();
    tags.filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| {
            tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == etag.as_bytes()
        })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::protocol::code::ErrorCode;

    fn named(name: &str) -> &'static str {
        let file = FILES.iter().find(|file| file.name == name);
        std::str::from_utf8(&file.expect("in the table").bytes).expect("text")
    }

    #[test]
    fn a_browser_that_has_the_file_gets_its_tag_alone() {
        let first = page("style.css", &HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);
        let etag = first.headers()[header::ETAG].clone();
        let mut request = HeaderMap::new();
        for known in [
            etag.to_str().expect("text").to_owned(),
            format!("\"other\", W/{}", etag.to_str().expect("text")),
        ] {
            request.insert(header::IF_NONE_MATCH, known.parse().expect("a header"));
            let again = page("style.css", &request);
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
            assert_eq!(again.headers()[header::ETAG], etag);
        }
        request.insert(header::IF_NONE_MATCH, HeaderValue::from_static("\"other\""));
        assert_eq!(page("style.css", &request).status(), StatusCode::OK);
        assert_ne!(page("page.js", &request).headers()[header::ETAG], etag);
    }

    #[test]
    fn only_the_files_of_the_table_are_served() {
        for name in ["", "..", "../Cargo.toml", "STYLE.CSS", "style.css "] {
            let response = page(name, &HeaderMap::new());
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{name}");
        }
    }

    #[test]
    fn the_descriptions_and_the_client_know_every_code() {
        let codes = ErrorCode::ALL.map(ErrorCode::as_str);
        for name in ["openapi.json", "asyncapi.json"] {
            let document: serde_json::Value = serde_json::from_str(named(name)).expect("JSON");
            let described = &document["components"]["schemas"]["Code"]["enum"];
            assert_eq!(described, &serde_json::json!(codes), "{name}");
        }
        // The client's own ones come after the gateway's.
        let script = between(named("spacegrid.js"), "const CLASSES = {\n", "};");
        let classes = script
            .lines()
            .filter_map(|line| line.trim().split_once(": "));
        let known: Vec<&str> = classes.map(|(code, _)| code).collect();
        assert_eq!(
            known,
            [&codes[..], &["deadline_exceeded", "aborted"]].concat()
        );
        let types = between(named("spacegrid.d.ts"), "export type Code =\n", ";");
        let typed: Vec<&str> = types.split('"').skip(1).step_by(2).collect();
        let own = ["deadline_exceeded", "too_many_requests", "aborted"];
        assert_eq!(typed, [&codes[..], &own].concat());
    }

    #[test]
    fn the_types_name_what_the_client_exports() {
        let exports = |name: &str| -> BTreeSet<&'static str> {
            let lines = named(name).lines();
            lines
                .filter_map(|line| line.strip_prefix("export "))
                .filter(|line| !line.starts_with("interface ") && !line.starts_with("type "))
                .map(|line| {
                    line.split([' ', '(', '{', ':', '='])
                        .filter(|word| !word.is_empty())
                })
                .map(|mut words| words.nth(1).expect("a name"))
                .collect()
        };
        let exported = exports("spacegrid.js");
        assert!(exported.contains("Spacegrid") && exported.contains("errorOf"));
        assert_eq!(exports("spacegrid.d.ts"), exported);
        let script = between(named("spacegrid.js"), "const CLASSES = {\n", "};");
        for (code, class) in script
            .lines()
            .filter_map(|line| line.trim().split_once(": "))
        {
            assert!(
                exported.contains(class.trim_end_matches(',')),
                "{code}: {class}"
            );
        }
    }

    fn between<'text>(text: &'text str, from: &str, to: &str) -> &'text str {
        let (_, rest) = text.split_once(from).expect("its beginning");
        rest.split_once(to).expect("its end").0
    }

    #[test]
    fn every_file_is_in_the_table() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/web");
        let mut there: Vec<String> = std::fs::read_dir(folder)
            .expect("the folder")
            .map(|entry| entry.expect("an entry").file_name())
            .map(|name| name.into_string().expect("a plain name"))
            .collect();
        // The shell is served around the pages only.
        let mut served: Vec<&str> = FILES.iter().map(|file| file.name).collect();
        served.push("shell.html");
        there.sort();
        served.sort_unstable();
        assert_eq!(there, served);
    }

    #[test]
    fn a_page_is_the_shell_around_its_own_part() {
        for (name, title, script, main) in [
            ("index.html", "What is on", "home.js", "wide"),
            ("auction.html", "Auction", "auction.js", "room"),
            ("event.html", "Tickets", "event.js", "sale"),
        ] {
            let whole = named(name);
            assert!(!whole.contains("{{"), "{name} has a place not filled");
            for once in [
                "<!doctype html>\n<html lang=\"en\">\n<head>\n",
                &format!("<title>{title} · Spacegrid</title>\n"),
                &format!("src=\"/web/{script}\"></script>\n</head>\n<body>\n"),
                "<p id=\"connection\" class=\"banner\" role=\"status\" hidden></p>\n",
                &format!("</noscript>\n<main id=\"main\" class=\"{main}\""),
                "</main>\n</body>\n</html>\n",
            ] {
                assert_eq!(whole.matches(once).count(), 1, "{name}: {once}");
            }
            assert!(named(script).contains("from \"./page.js\""), "{script}");
        }
    }

    #[test]
    fn pages_keep_to_their_own_policy() {
        for name in FILES
            .iter()
            .filter(|file| file.kind.starts_with("text/html"))
            .map(|file| file.name)
        {
            let text = named(name);
            for forbidden in [
                " style=",
                " onclick=",
                "<style",
                "javascript:",
                "src=\"http",
            ] {
                assert!(!text.contains(forbidden), "{name} has {forbidden}");
            }
            for script in text.split("<script").skip(1) {
                assert!(script.starts_with(" type=\"module\" src=\"/web/"), "{name}");
                assert!(script.contains("></script>"), "{name} has a script inside");
            }
        }
    }

    #[test]
    fn what_a_file_imports_or_links_is_served() {
        for file in FILES.iter().filter(|file| file.kind != "application/json") {
            let text = named(file.name);
            let imports = text.split("from \"./").skip(1);
            let links = text.split("\"/web/").skip(1);
            for rest in imports.chain(links) {
                let wanted = rest.split('"').next().unwrap_or_default();
                let is_there = FILES.iter().any(|file| file.name == wanted);
                assert!(is_there, "{} wants {wanted}", file.name);
            }
        }
    }
}
