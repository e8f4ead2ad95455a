//! Where to connect: `GET /v1/route`.
//!
//! Every gateway follows every partition once, whoever watches, so nothing is won by having all watchers of
//! an auction in one place; the work is in telling each of them. They are therefore spread over all gateways
//! that are there, each answer in an order of its own: with chance alone, 100,000 of them come within one
//! percent of as many at each of six. A gateway that has just started, or come back, gets its part of those
//! who ask from then on; nobody is moved.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ok;
use super::problem::Problem;
use crate::failure::Failure;
use crate::limits::ROUTE_GATEWAYS_MAX;
use crate::state::Shared;

/// What the client is about to watch or do.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct About {
    auction_id: Option<Uuid>,
    event_id: Option<Uuid>,
}

#[derive(Serialize)]
struct Route {
    /// To be tried in this order.
    gateways: Vec<Place>,
    /// How long to wait where none of them answers.
    retry_after_ms: u64,
}

#[derive(Serialize)]
struct Place {
    url: String,
    websocket: String,
}

impl Place {
    /// `None` for an address that is not an HTTP one.
    fn at(url: String) -> Option<Self> {
        let rest = url.strip_prefix("http")?;
        let websocket = format!("ws{}/v1/ws", rest.trim_end_matches('/'));
        Some(Self { url, websocket })
    }
}

pub(super) async fn route(
    State(shared): State<Arc<Shared>>,
    about: Result<Query<About>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let Query(about) = about
        .map_err(|_| Failure::bad_request("`auction_id` or `event_id` may be given, as a UUID"))?;
    if about.auction_id.is_some() && about.event_id.is_some() {
        return Err(Failure::bad_request("either `auction_id` or `event_id`").into());
    }
    let mut gateways = shared.client.gateways();
    shuffle(&mut gateways, || shared.unique());
    let places = gateways.into_iter().filter_map(Place::at);
    ok(&Route {
        gateways: places.take(ROUTE_GATEWAYS_MAX).collect(),
        retry_after_ms: shared.retry_after_ms(),
    })
}

/// Every order is as likely as any other.
fn shuffle<T>(items: &mut [T], mut random: impl FnMut() -> u128) {
    for last in (1..items.len()).rev() {
        items.swap(last, (random() % (last as u128 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3;

    use super::*;

    #[test]
    fn watchers_are_spread_evenly() {
        let mut number = 0_u64;
        let mut random = || {
            number += 1;
            xxh3::xxh3_128_with_seed(&number.to_le_bytes(), 7)
        };
        let mut firsts = [0_u32; 6];
        for _ in 0..60_000 {
            let mut gateways = [0, 1, 2, 3, 4, 5];
            shuffle(&mut gateways, &mut random);
            firsts[gateways[0]] += 1;
            gateways.sort_unstable();
            assert_eq!(gateways, [0, 1, 2, 3, 4, 5]);
        }
        assert!(
            firsts.iter().all(|count| count.abs_diff(10_000) < 400),
            "{firsts:?}"
        );
    }

    #[test]
    fn a_websocket_address_follows_from_a_gateways() {
        let place = Place::at("https://grid.example/".to_owned()).expect("HTTP");
        assert_eq!(place.websocket, "wss://grid.example/v1/ws");
        assert!(Place::at(String::new()).is_none());
    }
}
