//! The web pages in a real browser, at a phone's width and a desktop's. Without a browser they are not
//! tested, and the test says so.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::browser::{Browser, Page, chromium};
use crate::support::{Grid, kill_at_once, person, sold, text, wait_for};

const PHONE: (u32, u32) = (360, 800);
const DESKTOP: (u32, u32) = (1_280, 800);
const ARGUMENTS: [&str; 1] = ["--no-database"];

fn in_hours(hours: i64) -> String {
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(hours);
    at.to_string()
}

async fn auction(grid: &Grid) -> String {
    let body = json!({
        "item": {"name": "Guitar", "description": "Played once, by nobody famous", "category": "music"},
        "title": "A guitar", "category": "music", "currency": "EUR",
        "starting_price": "100.00", "increment": "1.00",
        "start_time": in_hours(0), "end_time": in_hours(1),
        "soft_close": {"window_s": 60, "extend_s": 120}
    });
    let made = grid.post("/v1/auctions", person(99), body).await;
    let id = text(&made["auction_id"]).to_owned();
    let path = format!("/v1/auctions/{id}");
    wait_for("the auction is open", async || {
        let shown = grid.get(&path, person(99)).await;
        (shown["status"] == "open").then_some(())
    })
    .await;
    id
}

/// 20,000 seats in 40 sections of 20 rows of 25.
async fn arena(grid: &Grid) -> String {
    let rows: Vec<Value> = (1..=20)
        .map(|row| json!({"name": row.to_string(), "seats": 25}))
        .collect();
    let sections: Vec<Value> = (1..=40)
        .map(|number| json!({"name": format!("Block {number}"), "price": "45.00", "rows": rows}))
        .collect();
    let body = json!({
        "name": "The big night", "artist": "Everybody", "venue": "Arena", "currency": "EUR",
        "starts_at": in_hours(48), "on_sale_at": in_hours(-1), "max_seats_per_buyer": 8,
        "sections": sections
    });
    let made = grid.post("/v1/events", person(99), body).await;
    assert_eq!(made["seats"], 20_000);
    text(&made["event_id"]).to_owned()
}

/// What everybody must be able to use: nothing wider than the screen, every field labelled, every button
/// named.
async fn assert_usable(page: &mut Page) {
    let width = "document.documentElement.scrollWidth <= innerWidth";
    assert_eq!(page.eval(width).await, true, "it is wider than the screen");
    let unnamed = "[...document.querySelectorAll('input, select')].filter(field => field.labels.length === 0)
        .concat([...document.querySelectorAll('button, a')].filter(one => !one.innerText && !one.textContent.trim()
            && !one.ariaLabel)).map(one => one.outerHTML)";
    assert_eq!(page.eval(unnamed).await, json!([]), "without a name");
}

/// A grid, a browser to look at it with, and where the grid's data lies; nothing where there is no browser.
fn stage() -> Option<(TempDir, Grid, Browser)> {
    let program = chromium()?;
    let folder = tempfile::tempdir().expect("temporary directory");
    let grid = Grid::up_with(&folder.path().join("data"), &ARGUMENTS);
    Some((folder, grid, Browser::start(&program)))
}

/// Whether an element's text has these words.
fn says(id: &str, words: &str) -> String {
    format!("document.getElementById('{id}').textContent.includes('{words}')")
}

/// Whether the page shows so many elements of a kind.
fn shows(selector: &str, count: usize) -> String {
    format!("document.querySelectorAll('{selector}').length === {count}")
}

/// Waits until bids are taken.
async fn bidding_is_open(page: &mut Page) {
    page.until("document.getElementById('bidding').hidden === false")
        .await;
}

/// Waits until the front page shows an event.
async fn an_event_is_listed(page: &mut Page) {
    page.until("document.querySelector('#events a.card')").await;
}

/// Waits until the page of an event shows all of it.
async fn the_sale_is_shown(page: &mut Page) {
    page.until("document.querySelector('main.sale')?.getAttribute('aria-busy') === 'false'")
        .await;
}

/// Goes to a field or button by keyboard alone and presses Enter there.
async fn enter_at(page: &mut Page, id: &str) {
    page.tab_to(id).await;
    page.press("Enter").await;
}

/// Bids the least amount.
async fn bid(page: &mut Page) {
    enter_at(page, "amount").await;
}

/// Waits until the seats are held and the page asks for the payment.
async fn payment_is_asked(page: &mut Page) {
    page.until("document.activeElement.id === 'payment'").await;
}

/// Pays for two seats, where the page asks for it.
async fn pay(page: &mut Page, reference: &str) {
    page.write(reference).await;
    page.press("Enter").await;
    page.until(&shows("#tickets li", 2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bid_from_another_browser_is_on_the_screen() {
    let Some((_folder, grid, browser)) = stage() else {
        return;
    };
    let id = auction(&grid).await;
    let address = |gateway: usize| format!("{}/auction/{id}", grid.gateway(gateway));
    let mut phone = browser.page(&address(0), PHONE).await;
    let mut desktop = browser.page(&address(1), DESKTOP).await;
    let price = |amount: &str| says("price", amount);
    let standing = |words: &str| says("standing", words);
    for page in [&mut phone, &mut desktop] {
        page.until(&price("100.00")).await;
        bidding_is_open(page).await;
        assert_usable(page).await;
    }
    bid(&mut phone).await;
    phone.until(&standing("You lead")).await;
    let before = Instant::now();
    bid(&mut desktop).await;
    phone.until(&price("101.00")).await;
    println!(
        "from the key in one browser to the price in the other: {} ms",
        before.elapsed().as_millis()
    );
    phone.until(&standing("outbid")).await;
    desktop.until(&price("101.00")).await;
    desktop.until(&standing("You lead")).await;
    // Too low, and said so with the least that would do.
    phone
        .eval("document.getElementById('amount').value = '50'")
        .await;
    bid(&mut phone).await;
    phone.until(&says("bid-message", "102.00")).await;
    phone.picture("auction-phone.png").await;
    desktop.picture("auction-desktop.png").await;
    let path = format!("/v1/auctions/{id}/close");
    grid.post(&path, person(99), json!({})).await;
    desktop.until(&standing("You won at")).await;
    phone.until(&standing("You did not win")).await;
    phone.assert_clean();
    grid.stop().await;
}

/// From the front page to the tickets without a mouse.
async fn buy(grid: &Grid, browser: &Browser, size: (u32, u32), name: &str) {
    let mut page = browser.page(grid.gateway(0), size).await;
    an_event_is_listed(&mut page).await;
    assert_usable(&mut page).await;
    page.picture(&format!("home-{name}.png")).await;
    page.tab_to("query").await;
    page.write("big night").await;
    page.press("Enter").await;
    page.until("location.search.includes('big')").await;
    page.until("document.getElementById('events').getAttribute('aria-busy') === 'false'")
        .await;
    for _ in 0..2 {
        page.press("Tab").await;
    }
    page.until("document.activeElement.matches('#events a.card')")
        .await;
    page.press("Enter").await;
    the_sale_is_shown(&mut page).await;
    page.until(&says("available", "000 seats free")).await;
    assert_usable(&mut page).await;
    page.picture(&format!("event-{name}.png")).await;
    page.tab_to("seats").await;
    for key in ["PageDown", "ArrowDown", "Enter", "ArrowRight", "Enter"] {
        page.press(key).await;
    }
    page.until(&shows("#picked li", 2)).await;
    page.picture(&format!("event-{name}-chosen.png")).await;
    enter_at(&mut page, "hold").await;
    payment_is_asked(&mut page).await;
    page.until("/^0[45]:/.test(document.getElementById('hold-clock').textContent)")
        .await;
    assert_usable(&mut page).await;
    pay(&mut page, "card-4711").await;
    page.picture(&format!("event-{name}-bought.png")).await;
    // They are still there after a reload: they come from the grid.
    page.eval("location.reload()").await;
    page.until(&shows("#tickets code", 2)).await;
    page.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn seats_are_bought_with_the_keyboard_alone() {
    let Some((_folder, grid, browser)) = stage() else {
        return;
    };
    let event = arena(&grid).await;
    let mut watcher = browser
        .page(&format!("{}/event/{event}", grid.gateway(1)), DESKTOP)
        .await;
    let free = |count: &str| {
        format!("document.getElementById('available').textContent.startsWith('{count}')")
    };
    watcher.until(&free("20,000")).await;
    buy(&grid, &browser, PHONE, "phone").await;
    watcher.until(&free("19,998")).await;
    buy_on_desktop(&grid, &browser).await;
    watcher.until(&free("19,996")).await;
    let shown = grid.get(&format!("/v1/events/{event}"), person(1)).await;
    assert_eq!(sold(&shown), 4);
    watcher.assert_clean();
    grid.stop().await;
}

/// The best seats, without the map.
async fn buy_on_desktop(grid: &Grid, browser: &Browser) {
    let mut page = browser.page(grid.gateway(2), DESKTOP).await;
    an_event_is_listed(&mut page).await;
    page.picture("home-desktop.png").await;
    page.eval("document.querySelector('#events a.card').click()")
        .await;
    the_sale_is_shown(&mut page).await;
    assert_usable(&mut page).await;
    page.picture("event-desktop.png").await;
    enter_at(&mut page, "quantity").await;
    payment_is_asked(&mut page).await;
    page.picture("event-desktop-held.png").await;
    pay(&mut page, "card-4712").await;
    page.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_gateway_dies_comes_back_and_misses_nothing() {
    let Some((_folder, grid, browser)) = stage() else {
        return;
    };
    let id = auction(&grid).await;
    let mut page = browser
        .page(&format!("{}/auction/{id}", grid.gateway(0)), PHONE)
        .await;
    bidding_is_open(&mut page).await;
    // What the page notices, however soon it is over.
    page.eval(
        "globalThis.bannerSeen = false;
         new MutationObserver(() => { globalThis.bannerSeen ||= !document.getElementById('connection').hidden; })
            .observe(document.getElementById('connection'), {attributes: true})",
    )
    .await;
    kill_at_once(grid.node_pid(1));
    let path = format!("/v1/auctions/{id}/bids");
    for (bidder, amount) in [(1, "100.00"), (2, "110.00")] {
        wait_for("the bid is in", async || {
            let body = json!({"amount": amount});
            let (status, answer) = grid
                .call(1, reqwest::Method::POST, &path, person(bidder), body)
                .await;
            (status == 201 || answer["code"] == "own_bid_leads").then_some(())
        })
        .await;
    }
    page.until(&says("price", "110.00")).await;
    page.until(&shows("#history li", 2)).await;
    page.until("document.getElementById('connection').hidden")
        .await;
    assert_eq!(page.eval("globalThis.bannerSeen").await, true);
    page.picture("auction-phone-back.png").await;
    grid.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_file_sells_and_bids_in_a_browser() {
    let Some((_folder, grid, browser)) = stage() else {
        return;
    };
    let (auction, event) = (auction(&grid).await, arena(&grid).await);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/client.js");
    let script = std::fs::read_to_string(script).expect("a script");
    let mut page = browser.page(grid.gateway(0), DESKTOP).await;
    an_event_is_listed(&mut page).await;
    let done = page
        .eval(&format!("({script})('{auction}', '{event}')"))
        .await;
    assert_eq!(
        done,
        json!({
            "tooLow": "100.00", "isItsClass": true, "rank": 1, "again": true, "conflict": "idempotency_conflict",
            "told": ["bid_placed"], "own": true, "held": 2, "tickets": 2, "taken": 1, "seatsSold": 2,
            "clockIsClose": true, "late": "DeadlineExceeded", "given_up": "Aborted", "closed": "Aborted"
        })
    );
    grid.stop().await;
}
