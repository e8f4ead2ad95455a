//! An auction house's catalogue: 500 lots in twelve categories.

use crate::import::lots::COLUMNS;
use crate::sequence::Sequence;

const LOTS: u64 = 500;
const SEED: u64 = 2_026;

/// A category: its name, makers, things, remarks, and the range of low estimates in whole euros.
type Category = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
    (u64, u64),
);

const CATEGORIES: &[Category] = &[
    (
        "paintings",
        &[
            "Dutch school",
            "Follower of Corot",
            "A. Lindqvist",
            "M. Ferrante",
            "Danish school",
        ],
        &[
            "Harbour at dusk",
            "Still life with pears",
            "Portrait of a lady",
            "Winter road",
            "Birches",
        ],
        &[
            "oil on canvas",
            "oil on panel",
            "signed lower right",
            "relined",
        ],
        (400, 9_000),
    ),
    (
        "prints",
        &["H. Okada", "After Piranesi", "J. Whitmore", "Atelier Bleu"],
        &[
            "View of a bridge",
            "Seven herons",
            "Figures in rain",
            "Abstract in red",
        ],
        &[
            "etching",
            "woodblock print",
            "lithograph, numbered",
            "framed",
        ],
        (60, 900),
    ),
    (
        "furniture",
        &[
            "Georgian",
            "Biedermeier",
            "Gustavian",
            "Danish modern",
            "Art Deco",
        ],
        &[
            "writing desk",
            "pair of armchairs",
            "chest of drawers",
            "sideboard",
            "dining table",
        ],
        &["mahogany", "walnut veneer", "teak", "old repairs"],
        (150, 4_000),
    ),
    (
        "jewellery",
        &["Edwardian", "Art Deco", "Victorian", "Mid-century"],
        &[
            "diamond ring",
            "pearl necklace",
            "sapphire brooch",
            "gold bracelet",
            "cameo",
        ],
        &[
            "18 carat gold",
            "with valuation",
            "in fitted case",
            "hallmarked",
        ],
        (200, 12_000),
    ),
    (
        "watches",
        &["Swiss", "Glashütte", "Japanese", "Railway"],
        &[
            "steel chronograph",
            "gold dress watch",
            "diver's watch",
            "pocket watch",
        ],
        &["serviced", "box and papers", "running", "dial restored"],
        (120, 7_500),
    ),
    (
        "silver",
        &["London", "Sheffield", "Copenhagen", "Augsburg"],
        &[
            "teapot",
            "pair of candlesticks",
            "salver",
            "sugar caster",
            "flatware for twelve",
        ],
        &["hallmarked", "monogrammed", "some dents", "900 g"],
        (80, 2_500),
    ),
    (
        "ceramics",
        &["Meissen", "Delft", "Royal Copenhagen", "Qing", "Studio"],
        &[
            "vase",
            "tureen with cover",
            "charger",
            "figure of a shepherd",
            "bowl",
        ],
        &[
            "blue and white",
            "hairline crack",
            "marked",
            "crackle glaze",
        ],
        (50, 3_000),
    ),
    (
        "books",
        &[
            "First edition",
            "Leather-bound",
            "Incunable leaf",
            "Illustrated",
        ],
        &[
            "travels in Persia",
            "botanical plates",
            "collected poems",
            "sea atlas",
            "natural history",
        ],
        &[
            "foxing",
            "original cloth",
            "two volumes",
            "signed by the author",
        ],
        (40, 2_200),
    ),
    (
        "music",
        &["Italian", "German", "American", "French"],
        &[
            "violin",
            "archtop guitar",
            "upright piano",
            "cello bow",
            "concertina",
        ],
        &["labelled", "in playing order", "with case", "needs strings"],
        (100, 6_000),
    ),
    (
        "wine",
        &["Bordeaux", "Burgundy", "Barolo", "Mosel", "Port"],
        &["six bottles", "twelve bottles", "magnum", "mixed case"],
        &[
            "original wooden case",
            "levels good",
            "cellared since release",
            "labels stained",
        ],
        (60, 3_500),
    ),
    (
        "photographs",
        &["Magnum circle", "Unknown", "E. Sørensen", "Press archive"],
        &[
            "Paris street",
            "jazz club",
            "Arctic expedition",
            "portrait of a boxer",
        ],
        &[
            "gelatin silver print",
            "vintage print",
            "stamped on the back",
            "framed",
        ],
        (50, 1_800),
    ),
    (
        "memorabilia",
        &["Tour", "Olympic", "Film", "Football"],
        &[
            "poster",
            "signed programme",
            "stage-worn jacket",
            "match shirt",
            "lobby cards",
        ],
        &[
            "with certificate",
            "framed",
            "light creases",
            "from a private collection",
        ],
        (30, 1_500),
    ),
];

/// The step that auctioneers round to.
fn rounded(amount: u64) -> u64 {
    let step = match amount {
        0..=99 => 5,
        100..=499 => 10,
        500..=1_999 => 50,
        _ => 100,
    };
    (amount / step).max(1) * step
}

/// The catalogue in CSV.
pub(crate) fn lots() -> anyhow::Result<String> {
    let mut sequence = Sequence::new(SEED);
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS.iter().chain(&["image"]))?;
    for lot in 1..=LOTS {
        let (category, makers, things, remarks, (least, most)) = sequence.pick(CATEGORIES);
        let (maker, thing, remark) = (
            sequence.pick(makers),
            sequence.pick(things),
            sequence.pick(remarks),
        );
        let year = 1_780 + sequence.below(200);
        // Most lots are cheap: the product of two draws leans to the low end.
        let lean = sequence.below(1_000) * sequence.below(1_000) / 1_000;
        let low = rounded(least + (most - least) * lean / 1_000);
        let high = rounded(low + low / 2).max(low + 5);
        let start = rounded(low * 2 / 3);
        let reserve = match sequence.below(3) {
            0 => String::new(),
            _ => format!("{}.00", rounded(low * 9 / 10).max(start)),
        };
        writer.write_record([
            &lot.to_string(),
            &format!("{maker}, {thing}"),
            *category,
            &format!("{maker} {thing}, about {year}, {remark}"),
            &format!("{low}.00"),
            &format!("{high}.00"),
            &format!("{start}.00"),
            &reserve,
            "EUR",
            &format!("https://images.example/lots/{lot}.jpg"),
        ])?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}
