//! Which reports there are, what each may be narrowed by, and what picture it makes.

/// A report.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Its name, as given to [`run`](super::run).
    pub name: &'static str,
    /// What it shows, in one line.
    pub description: &'static str,
    /// Whether it can be narrowed to an event: its view has a column `event_id`.
    pub by_event: bool,
    /// Whether it can be narrowed to an auction: its view has a column `auction_id`.
    pub by_auction: bool,
    /// The column that [`Selection::since_ms`](super::Selection::since_ms) compares with.
    pub time_column: Option<&'static str>,
    /// The picture it makes, where a picture says more than rows.
    pub chart: Option<Chart>,
    pub(crate) sql: &'static str,
}

impl Report {
    /// The view's name in the database.
    #[must_use]
    pub fn view(&self) -> String {
        format!("report_{}", self.name)
    }

    /// The report of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        REPORTS.iter().find(|report| report.name == name)
    }
}

/// What a report looks like as a picture, in terms of its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chart {
    /// Counts over time, minute by minute, a colour a series.
    Timeline {
        /// The minute.
        at: &'static str,
        /// The count.
        value: &'static str,
        /// What a series is called.
        series: &'static str,
        /// What tells two series of one name apart.
        id: &'static str,
    },
    /// A bar a row, made of several values one after the other.
    Bars {
        /// What the row is called; one that is the same everywhere is left out.
        labels: &'static [&'static str],
        /// The bar's parts.
        values: &'static [&'static str],
        /// What they count.
        unit: &'static str,
        /// The column that must be the same in all rows, since lengths could not be compared.
        same: Option<&'static str>,
    },
}

/// Every report.
pub const REPORTS: &[Report] = &[
    Report {
        name: "sales_by_event",
        description: "seats sold, held and free, buyers and revenue of every event",
        by_event: true,
        by_auction: false,
        time_column: None,
        chart: Some(Chart::Bars {
            labels: &["name"],
            values: &["sold", "held", "available"],
            unit: "seats",
            same: None,
        }),
        sql: include_str!("../../reports/sales_by_event.sql"),
    },
    Report {
        name: "sales_by_section",
        description: "the same by section, with its price",
        by_event: true,
        by_auction: false,
        time_column: None,
        chart: Some(Chart::Bars {
            labels: &["event", "section"],
            values: &["sold", "held", "available"],
            unit: "seats",
            same: None,
        }),
        sql: include_str!("../../reports/sales_by_section.sql"),
    },
    Report {
        name: "sales_by_minute",
        description: "tickets and revenue of every event, minute by minute",
        by_event: true,
        by_auction: false,
        time_column: Some("minute"),
        chart: Some(Chart::Timeline {
            at: "minute",
            value: "tickets",
            series: "event",
            id: "event_id",
        }),
        sql: include_str!("../../reports/sales_by_minute.sql"),
    },
    Report {
        name: "revenue_by_price",
        description: "revenue by event, section and price, the largest first",
        by_event: true,
        by_auction: false,
        time_column: None,
        chart: Some(Chart::Bars {
            labels: &["event", "section", "price"],
            values: &["revenue"],
            unit: "revenue",
            same: Some("currency"),
        }),
        sql: include_str!("../../reports/revenue_by_price.sql"),
    },
    Report {
        name: "hold_to_sale",
        description: "what became of holds, and how long buyers took to pay",
        by_event: true,
        by_auction: false,
        time_column: None,
        chart: Some(Chart::Bars {
            labels: &["event"],
            values: &["confirmed", "released", "expired", "running"],
            unit: "holds",
            same: None,
        }),
        sql: include_str!("../../reports/hold_to_sale.sql"),
    },
    Report {
        name: "unsold_seats",
        description: "every seat without a ticket, with its price",
        by_event: true,
        by_auction: false,
        time_column: None,
        chart: None,
        sql: include_str!("../../reports/unsold_seats.sql"),
    },
    Report {
        name: "seat_occupancy",
        description: "a map of every row: # sold, + held, . free",
        by_event: true,
        by_auction: false,
        time_column: None,
        chart: None,
        sql: include_str!("../../reports/seat_occupancy.sql"),
    },
    Report {
        name: "purchase_log",
        description: "who bought what, when, for how much, with which payment; latest first",
        by_event: true,
        by_auction: false,
        time_column: Some("sold_at"),
        chart: None,
        sql: include_str!("../../reports/purchase_log.sql"),
    },
    Report {
        name: "auction_results",
        description: "every auction: its outcome, highest bid and winner, latest first",
        by_event: false,
        by_auction: true,
        time_column: Some("ends_at"),
        chart: None,
        sql: include_str!("../../reports/auction_results.sql"),
    },
    Report {
        name: "hammer_against_estimate",
        description: "ended auctions against the estimates of their catalogue",
        by_event: false,
        by_auction: true,
        time_column: Some("ended_at"),
        chart: None,
        sql: include_str!("../../reports/hammer_against_estimate.sql"),
    },
    Report {
        name: "bid_history",
        description: "every bid in its order, by auction",
        by_event: false,
        by_auction: true,
        time_column: Some("at"),
        chart: None,
        sql: include_str!("../../reports/bid_history.sql"),
    },
    Report {
        name: "bids_by_minute",
        description: "bids of every auction, minute by minute",
        by_event: false,
        by_auction: true,
        time_column: Some("minute"),
        chart: Some(Chart::Timeline {
            at: "minute",
            value: "bids",
            series: "title",
            id: "auction_id",
        }),
        sql: include_str!("../../reports/bids_by_minute.sql"),
    },
    Report {
        name: "bidder_activity",
        description: "what every bidder bid, won and lost, the busiest first",
        by_event: false,
        by_auction: false,
        time_column: Some("last_bid_at"),
        chart: None,
        sql: include_str!("../../reports/bidder_activity.sql"),
    },
    Report {
        name: "suspicious_bidding",
        description: "bidding that a person should look at, with the reason; no proof of anything",
        by_event: false,
        by_auction: true,
        time_column: Some("at"),
        chart: None,
        sql: include_str!("../../reports/suspicious_bidding.sql"),
    },
    Report {
        name: "waiting_rooms",
        description: "how many came to each waiting room, got in, bought and gave up",
        by_event: true,
        by_auction: false,
        time_column: None,
        chart: None,
        sql: include_str!("../../reports/waiting_rooms.sql"),
    },
    Report {
        name: "waiting_room_minutes",
        description: "the same minute by minute",
        by_event: true,
        by_auction: false,
        time_column: Some("minute"),
        chart: None,
        sql: include_str!("../../reports/waiting_room_minutes.sql"),
    },
    Report {
        name: "pump_lag",
        description: "how far the database is written, by partition",
        by_event: false,
        by_auction: false,
        time_column: None,
        chart: None,
        sql: include_str!("../../reports/pump_lag.sql"),
    },
];
