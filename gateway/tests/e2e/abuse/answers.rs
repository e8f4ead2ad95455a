//! Answers that a browser could be made to misunderstand.

use super::wire::{ONE, Raw, ask, get, upgrade};
use crate::harness::Grid;

#[tokio::test]
async fn a25_no_answer_can_be_framed_or_taken_for_something_else() {
    let grid = Grid::start().await;
    for path in [
        "/",
        "/web/spacegrid.js",
        "/web/nothing",
        "/health",
        "/v1/auctions",
        "/v1/nowhere",
        "/v1/me/bids",
        "/v1/ws",
        "/admin/v1/node",
        "/nowhere",
    ] {
        let answer = ask(&grid, ONE, &get(path, "")).await;
        let head = answer.split("\r\n\r\n").next().unwrap_or_default();
        let head = head.to_lowercase();
        for header in [
            "x-content-type-options: nosniff",
            "content-security-policy: default-src 'none'; ",
            "frame-ancestors 'none'",
            "x-frame-options: deny",
            "referrer-policy: no-referrer",
            "cross-origin-resource-policy: same-origin",
        ] {
            assert!(head.contains(header), "{path} lacks {header}: {head}");
        }
        assert!(!head.contains("access-control-allow-origin"), "{head}");
        assert!(!head.contains("\r\nserver:"), "{head}");
    }
    let refused = Raw::open(&grid, ONE, &upgrade("/v1/ws", "origin: null\r\n")).await;
    assert!(
        refused.head.contains("x-content-type-options: nosniff"),
        "{}",
        refused.head
    );
    grid.stop().await;
}
