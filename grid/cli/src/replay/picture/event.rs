//! A sale as a picture: how many seats were held and sold when, and which were sold first.

use std::fmt::Write as _;

use grid_core::Timestamp;
use processing_unit::box_office::{Change, NewEvent, RowSeats};

use super::axis::{TimeAxis, ValueAxis};
use super::film::Film;
use super::sampled::Sampled;
use super::svg::{Anchor, FAINT_INK, INK, Svg, px, shortened};
use crate::output::grouped;
use crate::replay::clock;
use crate::replay::seats::{SeatBoard, SeatCounts, SeatState};

const WIDTH_PX: u32 = 1_000;
const LEFT: f64 = 88.0;
const RIGHT: f64 = 850.0;
const TOP: f64 = 100.0;
const BOTTOM: f64 = 330.0;
const LEGEND_LEFT: f64 = 868.0;
const MAP_LEFT: f64 = 20.0;
const MAP_TOP: f64 = 425.0;
const MAP_WIDTH: f64 = 960.0;
const MAP_HEIGHT_MAX: f64 = 460.0;
const MAP_GAP: f64 = 16.0;
const SECTION_LABEL_PX: f64 = 16.0;
/// Sides of a seat's square, with its gap, that are tried from the largest on.
const CELLS_PX: [f64; 11] = [16.0, 13.0, 11.0, 9.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.5, 2.0];
/// Pictures of more seats have no map.
const MAP_SEATS_MAX: usize = 60_000;
const TITLE_CHARS: usize = 90;
/// Points that the curve is drawn from, at most.
const POINTS_MAX: usize = 1_500;
/// Groups of seats that appear together while it plays.
const MOMENTS: usize = 48;

const SOLD: &str = "#0072b2";
const HELD: &str = "#e69f00";
const FREE: &str = "#dcdcdc";
/// From the first seat sold to the last: dark to light, also without colours.
const MOMENT_COLOURS: [&str; 12] = [
    "#440154", "#482173", "#433e85", "#38598c", "#2d708e", "#25858e", "#1e9b8a", "#2ab07f",
    "#52c569", "#86d549", "#c2df23", "#fde725",
];

#[derive(Clone, Copy, Debug)]
struct Point {
    at: Timestamp,
    counts: SeatCounts,
}

/// A section on the map: seats by row.
#[derive(Debug)]
struct SectionShape {
    name: String,
    rows: Vec<u32>,
}

impl SectionShape {
    fn size(&self, cell: f64) -> (f64, f64) {
        let widest = self.rows.iter().copied().max().unwrap_or(0);
        let rows = self.rows.len() as f64;
        (f64::from(widest) * cell, rows * cell + SECTION_LABEL_PX)
    }
}

/// What a picture of a sale is drawn from.
#[derive(Debug)]
pub(super) struct EventPicture {
    title: String,
    on_sale_at: Timestamp,
    board: SeatBoard,
    sections: Vec<SectionShape>,
    points: Sampled<Point>,
    total: u32,
}

impl EventPicture {
    pub(super) fn new(event: &NewEvent) -> Self {
        let board = SeatBoard::new(event);
        let parts = [&event.name, &event.artist, &event.venue];
        let parts: Vec<&str> = parts
            .into_iter()
            .map(String::as_str)
            .filter(|part| !part.is_empty())
            .collect();
        Self {
            title: shortened(&parts.join(", "), TITLE_CHARS),
            on_sale_at: event.on_sale_at,
            sections: event
                .sections
                .iter()
                .map(|section| SectionShape {
                    name: section.name.clone(),
                    rows: section
                        .rows
                        .iter()
                        .map(|row| seats_of(&row.seats))
                        .collect(),
                })
                .collect(),
            total: board.counts().free,
            points: Sampled::new(POINTS_MAX),
            board,
        }
    }

    /// Takes what happened next. What is not shown only says how the picture begins.
    pub(super) fn step(&mut self, at: Timestamp, change: &Change, is_shown: bool) {
        self.board.apply_at(change, at);
        if !is_shown {
            self.points.clear();
        }
        let counts = self.board.counts();
        self.points.push(Point { at, counts });
    }

    /// The picture.
    pub(super) fn draw(self) -> String {
        let times: Vec<Timestamp> = self.points.iter().map(|point| point.at).collect();
        let first = times.first().copied().unwrap_or(self.on_sale_at);
        let last = times.last().copied().unwrap_or(first);
        let opens = if self.on_sale_at <= last {
            self.on_sale_at.min(first)
        } else {
            first
        };
        // A sale prepared long ago has nothing to show of the time before its first hold.
        let from = if first.millis_since(opens) > last.millis_since(first).saturating_mul(10) {
            first
        } else {
            opens
        };
        let time = TimeAxis::new((from, last), &times, (LEFT, RIGHT));
        let map = Map::of(&self.sections, self.total as usize);
        let height = map
            .as_ref()
            .map_or(400.0, |map| MAP_TOP + map.height + 20.0);

        let mut svg = Svg::new(WIDTH_PX, height.ceil() as u32, &self.title);
        svg.text((18.0, 32.0), Anchor::Start, (INK, 20), &self.title);
        svg.text(
            (18.0, 54.0),
            Anchor::Start,
            (FAINT_INK, 13),
            &self.summary(),
        );
        let seats = ValueAxis::new((0, i64::from(self.total)), (TOP, BOTTOM));
        seats.draw(&mut svg, LEFT, RIGHT, |count| {
            grouped(u64::try_from(count).unwrap_or(0))
        });
        svg.text(
            (LEFT - 8.0, TOP - 14.0),
            Anchor::End,
            (FAINT_INK, 12),
            "seats",
        );
        self.draw_areas(&mut svg, &time, &seats);
        time.draw(&mut svg, TOP, BOTTOM);
        let film = Film {
            left: LEFT,
            right: RIGHT,
            top: TOP - 1.0,
            bottom: BOTTOM,
        };
        film.curtain(&mut svg, (f64::from(WIDTH_PX) - 20.0, 32.0));
        film.captions(&mut svg, (LEFT, TOP - 22.0), &self.captions(&time));
        self.draw_legend(&mut svg);
        match map {
            Some(map) => self.draw_map(&mut svg, &map, &time, &film),
            None => {
                let text = "no map: too many seats for one";
                svg.text((18.0, 392.0), Anchor::Start, (FAINT_INK, 12), text);
            }
        }
        svg.finish()
    }

    fn summary(&self) -> String {
        let counts = self.board.counts();
        let share = f64::from(counts.sold) * 100.0 / f64::from(self.total.max(1));
        format!(
            "{} of {} seats sold ({share:.1} %) \u{b7} {} held \u{b7} {} free",
            grouped(counts.sold.into()),
            grouped(self.total.into()),
            grouped(counts.held.into()),
            grouped(counts.free.into())
        )
    }

    /// Sold seats at the bottom, held ones on them, free ones above.
    fn draw_areas(&self, svg: &mut Svg, time: &TimeAxis, seats: &ValueAxis) {
        let (top, height) = (
            seats.y(i64::from(self.total)),
            BOTTOM - seats.y(i64::from(self.total)),
        );
        svg.rect(
            (LEFT, top),
            (RIGHT - LEFT, height),
            &format!("fill=\"{FREE}\""),
        );
        let taken = |counts: SeatCounts| i64::from(counts.held) + i64::from(counts.sold);
        let levels: [(&str, &dyn Fn(SeatCounts) -> i64); 2] =
            [(HELD, &taken), (SOLD, &|counts| i64::from(counts.sold))];
        for (colour, level) in levels {
            let mut path = format!("M{} {}", px(LEFT), px(BOTTOM));
            let mut before = px(BOTTOM);
            for point in self.points.iter() {
                let y = px(seats.y(level(point.counts)));
                if y != before {
                    let _ = write!(path, "H{}V{y}", px(time.x(point.at)));
                    before = y;
                }
            }
            let _ = write!(path, "H{}V{}Z", px(RIGHT), px(BOTTOM));
            svg.raw(&format!("<path d=\"{path}\" fill=\"{colour}\"/>"));
        }
    }

    fn captions(&self, time: &TimeAxis) -> Vec<(f64, String)> {
        let caption = |point: &Point| {
            let counts = point.counts;
            let text = format!(
                "{} \u{b7} {} free \u{b7} {} held \u{b7} {} sold",
                clock::formatted(point.at, "%H:%M:%S.%3f"),
                grouped(counts.free.into()),
                grouped(counts.held.into()),
                grouped(counts.sold.into())
            );
            (time.x(point.at), text)
        };
        self.points.iter().map(caption).collect()
    }

    fn draw_legend(&self, svg: &mut Svg) {
        let counts = self.board.counts();
        let parts = [
            (FREE, "free", counts.free),
            (HELD, "held", counts.held),
            (SOLD, "sold", counts.sold),
        ];
        for (place, (colour, name, count)) in parts.into_iter().enumerate() {
            let y = TOP + 6.0 + place as f64 * 22.0;
            let style = format!("fill=\"{colour}\"");
            svg.rect((LEGEND_LEFT, y - 10.0), (12.0, 12.0), &style);
            let text = format!("{name} {}", grouped(count.into()));
            svg.text((LEGEND_LEFT + 18.0, y), Anchor::Start, (INK, 13), &text);
        }
    }

    /// Every seat in its row, coloured by when it was sold.
    fn draw_map(&self, svg: &mut Svg, map: &Map, time: &TimeAxis, film: &Film) {
        svg.text(
            (MAP_LEFT, MAP_TOP - 22.0),
            Anchor::Start,
            (INK, 13),
            "seats by when they were sold:",
        );
        let mut x = MAP_LEFT + 230.0;
        svg.text(
            (x - 8.0, MAP_TOP - 22.0),
            Anchor::End,
            (FAINT_INK, 12),
            "first",
        );
        for colour in MOMENT_COLOURS {
            let style = format!("fill=\"{colour}\"");
            svg.rect((x, MAP_TOP - 33.0), (16.0, 13.0), &style);
            x += 16.0;
        }
        svg.text(
            (x + 6.0, MAP_TOP - 22.0),
            Anchor::Start,
            (FAINT_INK, 12),
            "last",
        );

        let side = px(map.cell * 0.84);
        let mut free = String::new();
        let mut held = String::new();
        let mut moments = vec![String::new(); MOMENTS];
        let mut seat = 0;
        for (section, (left, top)) in self.sections.iter().zip(&map.places) {
            let chars = ((section.size(map.cell).0 + MAP_GAP) / 6.5) as usize;
            if chars >= 3 {
                let name = shortened(&section.name, chars);
                let place = (*left, top + SECTION_LABEL_PX - 5.0);
                svg.text(place, Anchor::Start, (FAINT_INK, 11), &name);
            }
            let widest = section.size(map.cell).0;
            for (row, seats) in section.rows.iter().enumerate() {
                let aside = (widest - f64::from(*seats) * map.cell) / 2.0;
                for number in 0..*seats {
                    let x = px(left + aside + f64::from(number) * map.cell);
                    let y = px(top + SECTION_LABEL_PX + row as f64 * map.cell);
                    let (state, since) = self.board.state(seat);
                    seat += 1;
                    let path = match state {
                        SeatState::Free => &mut free,
                        SeatState::Held => &mut held,
                        SeatState::Sold => &mut moments[moment(film, time.x(since))],
                    };
                    let _ = write!(path, "M{x} {y}h{side}v{side}h-{side}z");
                }
            }
        }
        svg.raw(&format!("<path d=\"{free}\" fill=\"{FREE}\"/>"));
        svg.raw(&format!("<path d=\"{held}\" fill=\"{HELD}\"/>"));
        for (number, path) in moments
            .iter()
            .enumerate()
            .filter(|(_, path)| !path.is_empty())
        {
            let colour = MOMENT_COLOURS[number * MOMENT_COLOURS.len() / MOMENTS];
            // Until then the seat was not sold, and stands as if it had been free.
            let share = (number as f64 + 0.5) / MOMENTS as f64;
            let hidden = film.hidden_until(film.left + share * (film.right - film.left));
            svg.raw(&format!("<path d=\"{path}\" fill=\"{FREE}\"/>"));
            svg.raw(&format!(
                "<path d=\"{path}\" fill=\"{colour}\">{hidden}</path>"
            ));
        }
    }
}

fn seats_of(row: &RowSeats) -> u32 {
    match row {
        RowSeats::Count(count) => *count,
        RowSeats::Labels(labels) => u32::try_from(labels.len()).unwrap_or(u32::MAX),
    }
}

/// Which group of seats a place of the time axis belongs to.
fn moment(film: &Film, x: f64) -> usize {
    let share = (x - film.left) / (film.right - film.left);
    ((share * MOMENTS as f64) as usize).min(MOMENTS - 1)
}

/// Where the sections are.
#[derive(Debug)]
struct Map {
    cell: f64,
    /// By section, the upper left corner.
    places: Vec<(f64, f64)>,
    height: f64,
}

impl Map {
    /// The largest map that fits; `None` for too many seats.
    fn of(sections: &[SectionShape], seats: usize) -> Option<Self> {
        if seats > MAP_SEATS_MAX {
            return None;
        }
        CELLS_PX
            .into_iter()
            .filter_map(|cell| Self::with(sections, cell))
            .find(|map| map.height <= MAP_HEIGHT_MAX)
    }

    /// Sections beside each other as long as there is room, then below.
    fn with(sections: &[SectionShape], cell: f64) -> Option<Self> {
        let (mut x, mut y, mut line_height) = (0.0, 0.0, 0.0_f64);
        let mut places = Vec::with_capacity(sections.len());
        for section in sections {
            let (width, height) = section.size(cell);
            if width > MAP_WIDTH {
                return None;
            }
            if x > 0.0 && x + width > MAP_WIDTH {
                (x, y) = (0.0, y + line_height + MAP_GAP);
                line_height = 0.0;
            }
            places.push((MAP_LEFT + x, MAP_TOP + y));
            x += width + MAP_GAP;
            line_height = line_height.max(height);
        }
        Some(Self {
            cell,
            places,
            height: y + line_height,
        })
    }
}
