//! An auction as a picture: the price in steps, a dot a bid in its bidder's colour, the marks of its
//! clock, and the hammer.

use std::collections::BTreeMap;

use grid_core::Timestamp;
use processing_unit::UserId;
use processing_unit::auction::{Change, NewAuction, NotSoldReason, Outcome};

use super::axis::{TimeAxis, ValueAxis};
use super::film::Film;
use super::sampled::Sampled;
use super::svg::{Anchor, COLOURS, FAINT_INK, INK, Svg, px, shortened};
use crate::replay::clock;
use crate::replay::text::{alias_of, count};

const WIDTH_PX: u32 = 1_000;
const HEIGHT_PX: u32 = 540;
const LEFT: f64 = 88.0;
const RIGHT: f64 = 800.0;
const TOP: f64 = 100.0;
const BOTTOM: f64 = 470.0;
/// Where the names of the colours are.
const LEGEND_LEFT: f64 = 822.0;
const LEGEND_LINE_PX: f64 = 22.0;
/// What a title has room for.
const TITLE_CHARS: usize = 80;
/// Points that the picture is drawn from, at most.
const BIDS_MAX: usize = 1_500;
const EXTENSIONS_MAX: usize = 100;
/// Up to so many bids, each dot has a rim.
const RIMMED_BIDS_MAX: usize = 200;
/// Bidders with a colour of their own: those with the most bids.
const BIDDERS_MAX: usize = COLOURS.len() - 1;

#[derive(Clone, Copy, Debug)]
struct Dot {
    at: Timestamp,
    alias: u32,
    amount: i64,
}

/// The price from some moment on; `None` while no bid stands.
#[derive(Clone, Copy, Debug)]
struct Step {
    at: Timestamp,
    price: Option<i64>,
    /// Who raised it.
    alias: Option<u32>,
}

/// How it went out.
#[derive(Clone, Copy, Debug)]
enum End {
    Sold { alias: u32, amount: i64 },
    Unsold(&'static str),
    Cancelled,
}

/// What a picture of an auction is drawn from.
#[derive(Debug)]
pub(super) struct AuctionPicture {
    terms: NewAuction,
    is_private: bool,
    from: Timestamp,
    latest: Timestamp,
    end_time: Timestamp,
    bids: Sampled<Dot>,
    withdrawn: Sampled<Step>,
    steps: Sampled<Step>,
    /// Ends that were moved.
    former_ends: Sampled<Timestamp>,
    extensions: u32,
    reserve_met_at: Option<Timestamp>,
    /// By alias: how many bids, and whose.
    bidders: BTreeMap<u32, (u32, UserId)>,
    accepted: u32,
    end: Option<(Timestamp, End)>,
}

impl AuctionPicture {
    pub(super) fn new(terms: &NewAuction, is_private: bool) -> Self {
        Self {
            from: terms.start_time,
            latest: terms.start_time,
            end_time: terms.end_time,
            terms: terms.clone(),
            is_private,
            bids: Sampled::new(BIDS_MAX),
            withdrawn: Sampled::new(BIDS_MAX),
            steps: Sampled::new(BIDS_MAX),
            former_ends: Sampled::new(EXTENSIONS_MAX),
            extensions: 0,
            reserve_met_at: None,
            bidders: BTreeMap::new(),
            accepted: 0,
            end: None,
        }
    }

    /// Takes what happened next. What is not shown only says where the picture begins.
    pub(super) fn step(&mut self, at: Timestamp, change: &Change, is_shown: bool) {
        self.latest = at;
        if !is_shown {
            self.from = at;
            self.steps.clear();
        }
        match change {
            Change::ItemCreated { .. } | Change::AuctionCreated { .. } => {}
            Change::AuctionStarted { start_time, .. } => self.from = *start_time,
            Change::BidPlaced {
                bidder,
                alias,
                amount,
                reserve_met,
                ..
            } => {
                let (alias, amount) = (*alias, *amount);
                self.steps.push(Step {
                    at,
                    price: Some(amount),
                    alias: Some(alias),
                });
                if *reserve_met && self.terms.reserve_price.is_some() {
                    self.reserve_met_at.get_or_insert(at);
                }
                if is_shown {
                    self.bids.push(Dot { at, alias, amount });
                    self.bidders.entry(alias).or_insert((0, *bidder)).0 += 1;
                    self.accepted += 1;
                }
            }
            Change::BidWithdrawn {
                alias,
                current_price,
                ..
            } => {
                let step = Step {
                    at,
                    price: *current_price,
                    alias: None,
                };
                self.steps.push(step);
                if is_shown {
                    let alias = Some(*alias);
                    self.withdrawn.push(Step { alias, ..step });
                }
            }
            Change::AuctionExtended {
                end_time,
                extensions,
                ..
            } => {
                self.former_ends.push(self.end_time);
                self.end_time = *end_time;
                self.extensions = *extensions;
            }
            Change::AuctionEnded { outcome, .. } => {
                self.end = Some((at, ending(outcome)));
            }
            Change::AuctionCancelled { .. } => self.end = Some((at, End::Cancelled)),
        }
    }

    fn amount(&self, minor: i64) -> String {
        self.terms.currency.format_amount(minor)
    }

    fn summary(&self) -> String {
        let code = self.terms.currency.code();
        let how = match self.end {
            Some((_, End::Sold { alias, amount })) => {
                format!(
                    "sold to {} for {} {code}",
                    alias_of(alias),
                    self.amount(amount)
                )
            }
            Some((_, End::Unsold(why))) => format!("unsold: {why}"),
            Some((_, End::Cancelled)) => "cancelled".to_owned(),
            None => match self.steps.iter().last().and_then(|step| step.price) {
                Some(price) => format!("open at {} {code}", self.amount(price)),
                None => "open, no bids".to_owned(),
            },
        };
        let bidders = u32::try_from(self.bidders.len()).unwrap_or(u32::MAX);
        format!(
            "{how} \u{b7} {} by {} \u{b7} {}",
            count(self.accepted, "bid"),
            count(bidders, "bidder"),
            count(self.extensions, "extension")
        )
    }

    /// The picture.
    pub(super) fn draw(self) -> String {
        let title = shortened(&self.terms.title, TITLE_CHARS);
        let mut svg = Svg::new(WIDTH_PX, HEIGHT_PX, &title);
        svg.text((LEFT - 70.0, 32.0), Anchor::Start, (INK, 20), &title);
        svg.text(
            (LEFT - 70.0, 54.0),
            Anchor::Start,
            (FAINT_INK, 13),
            &self.summary(),
        );

        let to = match self.end {
            Some((at, _)) => at.max(self.latest),
            None if self.bids.iter().next().is_some() => self.latest,
            None => self.end_time,
        };
        let times: Vec<Timestamp> = self.bids.iter().map(|dot| dot.at).collect();
        let from = self.from.min(times.first().copied().unwrap_or(self.from));
        let time = TimeAxis::new((from, to), &times, (LEFT, RIGHT));
        let prices = self.prices();
        let film = Film {
            left: LEFT,
            right: RIGHT,
            top: TOP - 6.0,
            bottom: BOTTOM,
        };
        let code = self.terms.currency.code();
        prices.draw(&mut svg, LEFT, RIGHT, |minor| self.amount(minor));
        svg.text((LEFT - 8.0, TOP - 14.0), Anchor::End, (FAINT_INK, 12), code);
        time.draw(&mut svg, TOP, BOTTOM);
        let colours = self.colours();
        self.draw_clock(&mut svg, &time);
        self.draw_reserve(&mut svg, &time, &prices);
        self.draw_price(&mut svg, &time, &prices, to);
        self.draw_bids(&mut svg, &time, &prices, &colours);
        self.draw_end(&mut svg, &time, &prices);
        film.curtain(&mut svg, (f64::from(WIDTH_PX) - 20.0, 32.0));
        film.captions(&mut svg, (LEFT, TOP - 22.0), &self.captions(&time));
        self.draw_legend(&mut svg, &colours);
        svg.finish()
    }

    fn prices(&self) -> ValueAxis {
        let bids = self.bids.iter().map(|dot| dot.amount);
        let known = bids.chain(self.steps.iter().filter_map(|step| step.price));
        let reserve = self.terms.reserve_price.filter(|_| self.is_private);
        let all = known.chain(reserve).chain([self.terms.starting_price]);
        let (low, high) = all.fold((i64::MAX, i64::MIN), |(low, high), price| {
            (low.min(price), high.max(price))
        });
        ValueAxis::new((low, high), (TOP, BOTTOM))
    }

    /// Bidders with a colour, those with the most bids first.
    fn colours(&self) -> Vec<(u32, &'static str)> {
        let mut most: Vec<(u32, u32)> = self
            .bidders
            .iter()
            .map(|(alias, (bids, _))| (*bids, *alias))
            .collect();
        most.sort_by_key(|(bids, alias)| (std::cmp::Reverse(*bids), *alias));
        // The winner has one, however few the bids were.
        if let Some((_, End::Sold { alias, .. })) = self.end
            && let Some(place) = most.iter().position(|(_, of)| *of == alias)
            && place >= BIDDERS_MAX
        {
            let winner = most.remove(place);
            most.insert(BIDDERS_MAX - 1, winner);
        }
        most.into_iter()
            .take(BIDDERS_MAX)
            .zip(COLOURS)
            .map(|((_, alias), colour)| (alias, colour))
            .collect()
    }

    fn draw_clock(&self, svg: &mut Svg, time: &TimeAxis) {
        for end in self.former_ends.iter().filter(|end| time.has(**end)) {
            let x = time.x(*end);
            let style = format!("stroke=\"{FAINT_INK}\" stroke-dasharray=\"5 4\"");
            svg.line((x, TOP), (x, BOTTOM), &style);
        }
        let first = self.former_ends.iter().next().copied();
        if let Some(planned) = first.filter(|end| time.has(*end)) {
            let place = (time.x(planned) - 5.0, BOTTOM - 26.0);
            svg.text(place, Anchor::End, (FAINT_INK, 12), "planned end");
        }
    }

    fn draw_reserve(&self, svg: &mut Svg, time: &TimeAxis, prices: &ValueAxis) {
        if let Some(reserve) = self.terms.reserve_price.filter(|_| self.is_private) {
            let y = prices.y(reserve);
            let style = "stroke=\"#b00020\" stroke-dasharray=\"8 4\"";
            svg.line((LEFT, y), (RIGHT, y), style);
            let label = format!("reserve {}", self.amount(reserve));
            svg.text(
                (LEFT + 6.0, y - 6.0),
                Anchor::Start,
                ("#b00020", 12),
                &label,
            );
        } else if let Some(met_at) = self.reserve_met_at.filter(|at| time.has(*at)) {
            let x = time.x(met_at);
            let points = format!(
                "{},{} {},{} {},{}",
                px(x - 5.0),
                px(BOTTOM),
                px(x + 5.0),
                px(BOTTOM),
                px(x),
                px(BOTTOM - 9.0)
            );
            svg.raw(&format!("<polygon points=\"{points}\" fill=\"#b00020\"/>"));
            // Towards the middle, where there is room.
            let (shift, anchor) = if x > (LEFT + RIGHT) / 2.0 {
                (-9.0, Anchor::End)
            } else {
                (9.0, Anchor::Start)
            };
            let place = (x + shift, BOTTOM - 8.0);
            svg.text(place, anchor, ("#b00020", 12), "reserve met");
        }
    }

    /// The price as a line in steps with its ground.
    fn draw_price(&self, svg: &mut Svg, time: &TimeAxis, prices: &ValueAxis, to: Timestamp) {
        let mut line = String::new();
        let mut ground = String::new();
        let mut steps = self.steps.iter().peekable();
        while let Some(step) = steps.next() {
            let (x, next) = (time.x(step.at), steps.peek().map_or(to, |next| next.at));
            let next = px(time.x(next));
            let Some(price) = step.price else {
                continue;
            };
            let (x, y) = (px(x), px(prices.y(price)));
            let pen = if line.is_empty() { 'M' } else { 'L' };
            line.push_str(&format!("{pen}{x} {y}H{next}"));
            ground.push_str(&format!("M{x} {}V{y}H{next}V{}Z", px(BOTTOM), px(BOTTOM)));
        }
        svg.raw(&format!(
            "<path d=\"{ground}\" fill=\"#0072b2\" fill-opacity=\"0.08\"/>"
        ));
        svg.raw(&format!(
            "<path d=\"{line}\" fill=\"none\" stroke=\"#333\" stroke-width=\"1.5\"/>"
        ));
    }

    fn draw_bids(
        &self,
        svg: &mut Svg,
        time: &TimeAxis,
        prices: &ValueAxis,
        colours: &[(u32, &'static str)],
    ) {
        let colour_of = |alias: u32| {
            let found = colours.iter().find(|(of, _)| *of == alias);
            found.map_or(COLOURS[BIDDERS_MAX], |(_, colour)| colour)
        };
        // Many dots lie on each other, and would be rims only.
        let style = if self.bids.iter().count() > RIMMED_BIDS_MAX {
            "r=\"2.5\""
        } else {
            "r=\"4.5\" stroke=\"#fff\""
        };
        for dot in self.bids.iter() {
            svg.raw(&format!(
                "<circle cx=\"{}\" cy=\"{}\" fill=\"{}\" {style}/>",
                px(time.x(dot.at)),
                px(prices.y(dot.amount)),
                colour_of(dot.alias)
            ));
        }
        for step in self.withdrawn.iter() {
            let (x, y) = (
                time.x(step.at),
                step.price.map_or(BOTTOM, |price| prices.y(price)),
            );
            let colour = step.alias.map_or(INK, colour_of);
            let style = format!("stroke=\"{colour}\" stroke-width=\"2.5\"");
            svg.line((x - 5.0, y - 5.0), (x + 5.0, y + 5.0), &style);
            svg.line((x - 5.0, y + 5.0), (x + 5.0, y - 5.0), &style);
        }
    }

    fn draw_end(&self, svg: &mut Svg, time: &TimeAxis, prices: &ValueAxis) {
        let Some((at, end)) = self.end else {
            return;
        };
        let x = time.x(at);
        svg.line(
            (x, TOP),
            (x, BOTTOM),
            &format!("stroke=\"{INK}\" stroke-width=\"2\""),
        );
        let label = match end {
            End::Sold { amount, .. } => {
                let y = prices.y(amount);
                svg.raw(&format!(
                    "<circle cx=\"{}\" cy=\"{}\" r=\"9\" fill=\"none\" stroke=\"{INK}\" \
                     stroke-width=\"2\"/>",
                    px(x),
                    px(y)
                ));
                format!("hammer {}", self.amount(amount))
            }
            End::Unsold(_) => "ends unsold".to_owned(),
            End::Cancelled => "cancelled".to_owned(),
        };
        svg.text((x + 4.0, TOP - 8.0), Anchor::End, (INK, 12), &label);
    }

    /// The clock and the price at each step, for while it plays.
    fn captions(&self, time: &TimeAxis) -> Vec<(f64, String)> {
        let mut captions = vec![(
            LEFT,
            format!("opens at {}", self.amount(self.terms.starting_price)),
        )];
        for step in self.steps.iter() {
            let price = step
                .price
                .map_or("no bid stands".to_owned(), |price| self.amount(price));
            let who = step.alias.map_or("withdrawal".to_owned(), alias_of);
            let clock = clock::formatted(step.at, "%H:%M:%S.%3f");
            captions.push((
                time.x(step.at),
                format!("{clock} \u{b7} {who} \u{b7} {price}"),
            ));
        }
        if let Some((at, _)) = self.end {
            let clock = clock::formatted(at, "%H:%M:%S.%3f");
            let how = self.summary();
            let how = how.split(" \u{b7} ").next().unwrap_or_default();
            captions.push((time.x(at), format!("{clock} \u{b7} {how}")));
        }
        captions
    }

    fn draw_legend(&self, svg: &mut Svg, colours: &[(u32, &'static str)]) {
        let mut y = TOP + 6.0;
        let winner = match self.end {
            Some((_, End::Sold { alias, .. })) => Some(alias),
            _ => None,
        };
        let entry = |svg: &mut Svg, y: f64, colour: &str, text: &str| {
            svg.raw(&format!(
                "<circle cx=\"{}\" cy=\"{}\" r=\"5\" fill=\"{colour}\"/>",
                px(LEGEND_LEFT),
                px(y - 4.0)
            ));
            svg.text((LEGEND_LEFT + 12.0, y), Anchor::Start, (INK, 13), text);
        };
        for (alias, colour) in colours {
            let Some((bids, user)) = self.bidders.get(alias) else {
                continue;
            };
            let won = if winner == Some(*alias) { ", won" } else { "" };
            let text = format!("{}: {}{won}", alias_of(*alias), count(*bids, "bid"));
            entry(svg, y, colour, &text);
            if self.is_private {
                y += 13.0;
                let place = (LEGEND_LEFT + 12.0, y);
                svg.text(place, Anchor::Start, (FAINT_INK, 8), &user.to_string());
            }
            y += LEGEND_LINE_PX;
        }
        if let Some(others) = self.bidders.len().checked_sub(colours.len() + 1) {
            let text = format!("{} other bidders", others + 1);
            entry(svg, y, COLOURS[BIDDERS_MAX], &text);
            y += LEGEND_LINE_PX;
        }
        if self.withdrawn.iter().next().is_some() {
            svg.text((LEGEND_LEFT, y), Anchor::Middle, (INK, 13), "\u{d7}");
            svg.text(
                (LEGEND_LEFT + 12.0, y),
                Anchor::Start,
                (INK, 13),
                "a bid withdrawn",
            );
        }
    }
}

fn ending(outcome: &Outcome) -> End {
    match outcome {
        Outcome::Sold { alias, amount, .. } => End::Sold {
            alias: *alias,
            amount: *amount,
        },
        Outcome::NotSold { reason } => End::Unsold(match reason {
            NotSoldReason::NoBids => "no bids",
            NotSoldReason::ReserveNotMet => "reserve not met",
            NotSoldReason::Passed => "passed",
        }),
    }
}
