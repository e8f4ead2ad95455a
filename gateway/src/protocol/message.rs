//! What a client sends over a WebSocket.

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::amount::AmountText;
use super::shape;
use super::text::Text;

/// The longest request id, in bytes of JSON.
const ID_BYTES_MAX: usize = 128;

/// What a message asks to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Subscribe {
        topic: Topic,
        from: Option<String>,
        /// The history that `from` is of.
        epoch: Option<String>,
    },
    Unsubscribe {
        topic: Topic,
    },
    PlaceBid {
        auction_id: Uuid,
        amount: AmountText,
    },
    WithdrawBid {
        auction_id: Uuid,
        bid_id: Uuid,
    },
    HoldSeats {
        event_id: Uuid,
        choice: SeatChoice,
        /// Of the event's waiting room, if it has one.
        pass: Option<String>,
    },
    JoinQueue {
        event_id: Uuid,
    },
    LeaveQueue {
        event_id: Uuid,
    },
    ConfirmHold {
        event_id: Uuid,
        hold_id: Uuid,
        payment_reference: String,
    },
    ReleaseHold {
        event_id: Uuid,
        hold_id: Uuid,
    },
    Ping,
    /// A fresh token of the same person, before the last one runs out.
    Authenticate {
        token: Token,
    },
}

/// A token, which no log shows.
#[derive(PartialEq, Eq)]
pub(crate) struct Token(pub(crate) String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Something to subscribe to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Topic {
    Auction(Uuid),
    Event(Uuid),
}

/// Which seats a buyer wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SeatChoice {
    Seats(Vec<String>),
    BestAvailable {
        section: Option<String>,
        quantity: u32,
    },
}

/// A message with what belongs to every message.
#[derive(Debug)]
pub(crate) struct Envelope {
    /// The client's own id, as JSON.
    pub(crate) id: Option<Box<str>>,
    pub(crate) key: Option<String>,
    pub(crate) request: Request,
}

/// A message that cannot be carried out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadMessage {
    /// The id, where it could be read.
    pub(crate) id: Option<Box<str>>,
    pub(crate) reason: String,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(rename = "type", borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    key: Option<Text<'a>>,
    auction_id: Option<Uuid>,
    event_id: Option<Uuid>,
    bid_id: Option<Uuid>,
    hold_id: Option<Uuid>,
    #[serde(borrow)]
    from: Option<Text<'a>>,
    #[serde(borrow)]
    epoch: Option<Text<'a>>,
    #[serde(borrow)]
    amount: Option<&'a RawValue>,
    seats: Option<Vec<String>>,
    #[serde(borrow)]
    section: Option<Text<'a>>,
    quantity: Option<u32>,
    best_available: Option<bool>,
    #[serde(borrow)]
    payment_reference: Option<Text<'a>>,
    #[serde(borrow)]
    token: Option<Text<'a>>,
    #[serde(borrow)]
    pass: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct OnlyId<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

impl Envelope {
    /// Reads a text message. The id of a bad one is read wherever the JSON itself is well-formed.
    pub(crate) fn read(text: &str) -> Result<Self, BadMessage> {
        shape::check(text.as_bytes()).map_err(|error| BadMessage {
            id: None,
            reason: error.to_string(),
        })?;
        let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| {
            let id = serde_json::from_str::<OnlyId<'_>>(text)
                .ok()
                .and_then(|only| only.id)
                .and_then(|raw| echoable(raw).ok().flatten());
            BadMessage {
                id,
                reason: shape::reason(&error),
            }
        })?;
        let id = match fields.id.map(echoable) {
            None => None,
            Some(Ok(id)) => id,
            Some(Err(reason)) => {
                return Err(BadMessage {
                    id: None,
                    reason: reason.to_owned(),
                });
            }
        };
        match fields.request() {
            Ok((key, request)) => Ok(Self { id, key, request }),
            Err(reason) => Err(BadMessage { id, reason }),
        }
    }
}

/// The id as it will be echoed: any number or string of moderate length that every parser reads back, so no
/// number beyond all bounds and no half of a character.
fn echoable(raw: &RawValue) -> Result<Option<Box<str>>, &'static str> {
    let json = raw.get();
    let is_whole = json.len() <= ID_BYTES_MAX
        && match json.as_bytes().first() {
            Some(b'n') => return Ok(None),
            Some(b'"') => serde_json::from_str::<Text<'_>>(json).is_ok(),
            Some(b'0'..=b'9' | b'-') => json.parse::<f64>().is_ok_and(f64::is_finite),
            _ => false,
        };
    if is_whole {
        Ok(Some(json.into()))
    } else {
        Err("`id` is a number or a short string")
    }
}

impl Fields<'_> {
    fn request(self) -> Result<(Option<String>, Request), String> {
        let request = match self.kind.as_str() {
            "subscribe" => Request::Subscribe {
                topic: self.topic()?,
                from: self.from.map(Text::into_string),
                epoch: self.epoch.map(Text::into_string),
            },
            "unsubscribe" => Request::Unsubscribe {
                topic: self.topic()?,
            },
            "place_bid" => Request::PlaceBid {
                auction_id: required(self.auction_id, "auction_id")?,
                amount: AmountText::read(required(self.amount, "amount")?)
                    .map_err(|error| error.to_string())?,
            },
            "withdraw_bid" => Request::WithdrawBid {
                auction_id: required(self.auction_id, "auction_id")?,
                bid_id: required(self.bid_id, "bid_id")?,
            },
            "hold_seats" => Request::HoldSeats {
                event_id: required(self.event_id, "event_id")?,
                choice: seat_choice(
                    self.seats,
                    self.section.map(Text::into_string),
                    self.quantity,
                    self.best_available,
                )?,
                pass: self.pass.map(Text::into_string),
            },
            "join_queue" => Request::JoinQueue {
                event_id: required(self.event_id, "event_id")?,
            },
            "leave_queue" => Request::LeaveQueue {
                event_id: required(self.event_id, "event_id")?,
            },
            "confirm_hold" => Request::ConfirmHold {
                event_id: required(self.event_id, "event_id")?,
                hold_id: required(self.hold_id, "hold_id")?,
                payment_reference: required(self.payment_reference, "payment_reference")?
                    .into_string(),
            },
            "release_hold" => Request::ReleaseHold {
                event_id: required(self.event_id, "event_id")?,
                hold_id: required(self.hold_id, "hold_id")?,
            },
            "ping" => Request::Ping,
            "authenticate" => Request::Authenticate {
                token: Token(required(self.token, "token")?.into_string()),
            },
            _ => return Err("unknown `type`".to_owned()),
        };
        Ok((self.key.map(Text::into_string), request))
    }

    fn topic(&self) -> Result<Topic, String> {
        match (self.auction_id, self.event_id) {
            (Some(id), None) => Ok(Topic::Auction(id)),
            (None, Some(id)) => Ok(Topic::Event(id)),
            _ => Err("either `auction_id` or `event_id` is needed".to_owned()),
        }
    }
}

fn required<T>(value: Option<T>, field: &str) -> Result<T, String> {
    value.ok_or_else(|| format!("`{field}` is missing"))
}

/// Either labels, or a quantity of the best available.
pub(crate) fn seat_choice(
    seats: Option<Vec<String>>,
    section: Option<String>,
    quantity: Option<u32>,
    best_available: Option<bool>,
) -> Result<SeatChoice, String> {
    match (seats, quantity) {
        (Some(seats), None) if !seats.is_empty() && best_available != Some(true) => {
            Ok(SeatChoice::Seats(seats))
        }
        (None, Some(quantity)) if best_available != Some(false) => {
            Ok(SeatChoice::BestAvailable { section, quantity })
        }
        _ => Err("either `seats`, or `quantity` with `best_available`, is needed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "6f0e2d52-3a5c-4c8e-9b58-1f2d3c4b5a69";

    fn bad(text: &str) -> BadMessage {
        Envelope::read(text).expect_err("refused")
    }

    #[test]
    fn a_bid_is_read_with_its_id_and_key() {
        let text = format!(
            r#"{{"type":"place_bid","id":"a\"b","auction_id":"{ID}","amount":150.00,"key":"k","later":[1]}}"#
        );
        let envelope = Envelope::read(&text).expect("well-formed");
        assert_eq!(envelope.id.as_deref(), Some(r#""a\"b""#));
        assert_eq!(envelope.key.as_deref(), Some("k"));
        assert!(matches!(
            envelope.request,
            Request::PlaceBid { amount, .. } if amount.amount == "150.00"
        ));
    }

    #[test]
    fn seats_are_chosen_one_way_or_the_other() {
        let hold = |rest: &str| {
            Envelope::read(&format!(
                r#"{{"type":"hold_seats","id":1,"event_id":"{ID}",{rest}}}"#
            ))
        };
        assert!(hold(r#""seats":["A-1-1"]"#).is_ok());
        assert!(hold(r#""quantity":2,"best_available":true,"section":"A""#).is_ok());
        for rest in [
            r#""seats":[]"#,
            r#""seats":["A-1-1"],"quantity":2"#,
            r#""seats":[7]"#,
            r#""quantity":-1"#,
            r#""quantity":1.5"#,
            r#""best_available":true"#,
        ] {
            assert!(hold(rest).is_err(), "{rest}");
        }
    }

    #[test]
    fn bad_messages_keep_their_id_where_it_can_be_read() {
        for text in [
            r#"{"type":"nonsense","id":7}"#,
            r#"{"id":7}"#,
            r#"{"type":7,"id":7}"#,
            r#"{"type":"subscribe","id":7}"#,
            r#"{"type":"subscribe","id":7,"auction_id":"not-a-uuid"}"#,
            r#"{"type":"place_bid","id":7,"auction_id":[],"amount":"1.00"}"#,
        ] {
            assert_eq!(bad(text).id.as_deref(), Some("7"), "{text}");
        }
        for text in [
            "",
            "{",
            "[]",
            "7",
            r#"{"type":"ping","id":{}}"#,
            "{\"type\"",
        ] {
            assert_eq!(bad(text).id, None, "{text}");
        }
        // Nobody could read them in an answer.
        for id in ["71e999", r#""\ud800""#] {
            let text = format!(r#"{{"type":"ping","id":{id}}}"#);
            assert_eq!(bad(&text).id, None, "{text}");
        }
        let long = format!(r#"{{"type":"ping","id":"{}"}}"#, "x".repeat(500));
        assert_eq!(bad(&long).id, None);
    }
}
