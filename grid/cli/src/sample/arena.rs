//! An arena of exactly 20,000 seats: a floor, a lower bowl, club boxes, an upper bowl.

use serde_json::{Value, json};

/// Seats of the whole arena.
const SEATS: u32 = 20_000;

/// A ring of sections.
struct Ring {
    /// Names of its sections, from the best to the worst.
    names: Vec<String>,
    /// Prices of its best and its worst section, in whole euros.
    price: (u32, u32),
    /// Rows of a section.
    rows: u32,
    /// Seats of a section's first row and by how many each row behind it is longer.
    seats: (u32, u32),
    /// Whether rows have letters rather than numbers.
    lettered: bool,
}

/// Sections numbered around the bowl come best at the long sides, so from the middle outwards.
fn around(first: u32, count: u32) -> Vec<String> {
    let mut order: Vec<u32> = (0..count).collect();
    let half = count / 2;
    order.sort_by_key(|place| {
        let side = place % half;
        (side.abs_diff(half / 2), *place)
    });
    order
        .into_iter()
        .map(|place| (first + place).to_string())
        .collect()
}

fn rings() -> Vec<Ring> {
    vec![
        Ring {
            names: ["B", "A", "C", "E", "D", "F"]
                .map(|name| format!("Floor {name}"))
                .to_vec(),
            price: (189, 149),
            rows: 20,
            seats: (22, 0),
            lettered: true,
        },
        Ring {
            names: around(101, 24),
            price: (139, 89),
            rows: 22,
            seats: (9, 1),
            lettered: true,
        },
        Ring {
            names: around(1, 16)
                .into_iter()
                .map(|name| format!("Club {name}"))
                .collect(),
            price: (249, 219),
            rows: 4,
            seats: (14, 1),
            lettered: false,
        },
        Ring {
            names: around(201, 28),
            price: (79, 39),
            rows: 16,
            seats: (9, 1),
            lettered: false,
        },
    ]
}

/// `A` to `Z`, then `AA` and so on.
fn row_name(place: u32, lettered: bool) -> String {
    if !lettered {
        return (place + 1).to_string();
    }
    let letter = char::from(b'A' + (place % 26) as u8);
    if place < 26 {
        letter.to_string()
    } else {
        format!("{letter}{letter}")
    }
}

/// The sections of a ring.
fn sections(ring: &Ring) -> Vec<(String, u32, Vec<u32>)> {
    let last = (ring.names.len() as u32 - 1).max(1);
    ring.names
        .iter()
        .enumerate()
        .map(|(place, name)| {
            let (best, worst) = ring.price;
            let price = best - (best - worst) * place as u32 / last;
            // Corner sections are narrower at the front and have a row less.
            let is_corner = place % 5 == 4;
            let rows = ring.rows - u32::from(is_corner);
            let (first, growth) = ring.seats;
            let rows = (0..rows)
                .map(|row| first + growth * row - u32::from(is_corner) * 2)
                .collect();
            (name.clone(), price, rows)
        })
        .collect()
}

/// The arena as a request body, pretty-printed, a row a line.
pub(crate) fn venue() -> anyhow::Result<String> {
    let mut all: Vec<(String, u32, Vec<u32>, bool)> = Vec::new();
    for ring in rings() {
        let lettered = ring.lettered;
        all.extend(
            sections(&ring)
                .into_iter()
                .map(|(name, price, rows)| (name, price, rows, lettered)),
        );
    }
    fit(&mut all)?;
    let mut text = String::from(
        "{\n  \"name\": \"Northern Lights Tour\",\n  \"artist\": \"The Northern Lights\",\n  \
         \"venue\": \"Harbour Arena\",\n  \"currency\": \"EUR\",\n  \"max_seats_per_buyer\": 8,\n  \
         \"hold_seconds\": 300,\n  \"sections\": [\n",
    );
    let sections: Vec<String> = all
        .iter()
        .map(|(name, price, rows, lettered)| {
            let rows: Vec<String> = rows
                .iter()
                .enumerate()
                .map(|(place, seats)| {
                    let row: Value =
                        json!({"name": row_name(place as u32, *lettered), "seats": seats});
                    format!("      {row}")
                })
                .collect();
            let name = json!(name);
            let rows = rows.join(",\n");
            format!(
                "    {{\"name\": {name}, \"price\": \"{price}.00\", \"rows\": [\n{rows}\n    ]}}"
            )
        })
        .collect();
    text.push_str(&sections.join(",\n"));
    text.push_str("\n  ]\n}\n");
    Ok(text)
}

/// Makes the back rows longer or shorter, one seat each in turn, until the arena has its size.
fn fit(all: &mut [(String, u32, Vec<u32>, bool)]) -> anyhow::Result<()> {
    let total = |all: &[(String, u32, Vec<u32>, bool)]| -> u32 {
        all.iter().flat_map(|(_, _, rows, _)| rows).sum()
    };
    let mut missing = i64::from(SEATS) - i64::from(total(all));
    let mut turn = 0;
    while missing != 0 {
        let count = all.len();
        let rows = &mut all[count - 1 - turn % count].2;
        let place = rows.len() - 1 - (turn / count) % rows.len();
        let seats = &mut rows[place];
        anyhow::ensure!(*seats > 2, "the arena does not fit");
        *seats = if missing > 0 { *seats + 1 } else { *seats - 1 };
        missing -= missing.signum();
        turn += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arena_has_its_seats() {
        let venue: Value = serde_json::from_str(&venue().expect("made")).expect("JSON");
        let sections = venue["sections"].as_array().expect("sections");
        let rows: Vec<&Value> = sections
            .iter()
            .flat_map(|section| section["rows"].as_array().expect("rows"))
            .collect();
        let seats: u64 = rows
            .iter()
            .map(|row| row["seats"].as_u64().expect("a number"))
            .sum();
        assert_eq!(seats, 20_000);
        let longest = rows.iter().filter_map(|row| row["seats"].as_u64()).max();
        assert!(longest.is_some_and(|seats| seats <= 40), "{longest:?}");
    }
}
