//! Why a request was refused or failed: the domain's refusals and the grid's errors as [`Failure`]s
//! with the protocol's stable codes.

use grid::GridError;
use processing_unit::{Currency, auction, box_office};

use crate::convert::{status, time};
use crate::failure::{Detail, Failure};
use crate::protocol::code::ErrorCode;

/// An auction's refusal. Without a currency, amounts are left out.
pub(crate) fn auction_refusal(refusal: &auction::Refusal, currency: Option<Currency>) -> Failure {
    use auction::Refusal;

    let code = match refusal {
        Refusal::AuctionNotFound | Refusal::ItemNotFound | Refusal::BidNotFound => {
            ErrorCode::NotFound
        }
        Refusal::IdInUse => ErrorCode::IdempotencyConflict,
        Refusal::ItemAlreadyOnAuction { .. } => ErrorCode::ItemAlreadyOnAuction,
        Refusal::NotOpen { .. } | Refusal::NotScheduled { .. } | Refusal::TooManyBids => {
            ErrorCode::AuctionNotOpen
        }
        Refusal::BidTooLow { .. } => ErrorCode::BidTooLow,
        Refusal::OwnBidLeads => ErrorCode::OwnBidLeads,
        Refusal::Forbidden | Refusal::HostMayNotBid | Refusal::WithdrawalForbidden => {
            ErrorCode::Forbidden
        }
        Refusal::Invalid(_) => ErrorCode::BadRequest,
    };
    let mut failure = Failure::new(code, refusal.to_string());
    failure.detail = match refusal {
        Refusal::BidTooLow { minimum } => currency.map(|currency| Detail::Minimum {
            minimum: currency.format_amount(*minimum),
        }),
        Refusal::NotOpen { status: now } | Refusal::NotScheduled { status: now } => {
            Some(Detail::Status {
                status: status(*now),
            })
        }
        Refusal::ItemAlreadyOnAuction { auction_id } => Some(Detail::Auction {
            auction_id: auction_id.0,
        }),
        _ => None,
    };
    failure
}

pub(crate) fn box_office_refusal(refusal: box_office::Refusal) -> Failure {
    use box_office::Refusal;

    let text = refusal.to_string();
    let (code, detail) = match refusal {
        Refusal::EventNotFound | Refusal::SectionNotFound => (ErrorCode::NotFound, None),
        Refusal::SeatNotFound { seats } => (ErrorCode::NotFound, Some(Detail::Seats { seats })),
        Refusal::IdInUse => (ErrorCode::IdempotencyConflict, None),
        Refusal::SeatTaken { seats } => (ErrorCode::SeatTaken, Some(Detail::Seats { seats })),
        Refusal::OnSaleClosed { on_sale_at } => {
            let on_sale_at = time(on_sale_at);
            (ErrorCode::OnSaleClosed, Some(Detail::OnSale { on_sale_at }))
        }
        Refusal::TooManySeats { limit, has } => {
            let detail = Detail::SeatLimit { limit, has };
            (ErrorCode::TooManySeats, Some(detail))
        }
        Refusal::NotEnoughSeats { available } => {
            let detail = Detail::Available { available };
            (ErrorCode::NotEnoughSeats, Some(detail))
        }
        Refusal::HoldNotFound => (ErrorCode::HoldNotFound, None),
        Refusal::HoldExpired => (ErrorCode::HoldExpired, None),
        Refusal::Invalid(_) => (ErrorCode::BadRequest, None),
        Refusal::WaitingRoomRequired => {
            let reason = "not_admitted";
            (
                ErrorCode::WaitingRoomRequired,
                Some(Detail::Reason { reason }),
            )
        }
    };
    Failure {
        code,
        message: text.into(),
        detail,
    }
}

pub(crate) fn grid_error(error: &GridError) -> Failure {
    let (code, detail) = match error {
        GridError::Unavailable => (ErrorCode::Unavailable, None),
        GridError::OutcomeUnknown => {
            let outcome = "unknown";
            (ErrorCode::Unavailable, Some(Detail::Outcome { outcome }))
        }
        GridError::Overloaded { retry_after_ms } => {
            let retry_after_ms = *retry_after_ms;
            let detail = Detail::RetryAfter { retry_after_ms };
            (ErrorCode::Overloaded, Some(detail))
        }
        GridError::IdempotencyConflict => (ErrorCode::IdempotencyConflict, None),
        GridError::Malformed => (ErrorCode::Internal, None),
        GridError::UnknownPartition => (ErrorCode::NotFound, None),
    };
    Failure {
        code,
        message: error.to_string().into(),
        detail,
    }
}

#[cfg(test)]
mod tests {
    use grid_core::Timestamp;
    use processing_unit::AuctionId;
    use uuid::Uuid;

    use super::*;

    fn euro() -> Currency {
        Currency::from_code("EUR").expect("known")
    }

    fn seen(failure: &Failure) -> (ErrorCode, String) {
        let detail = serde_json::to_string(&failure.detail).expect("plain");
        (failure.code, detail)
    }

    #[test]
    fn refusals_keep_what_a_program_needs() {
        let low = auction::Refusal::BidTooLow { minimum: 15_100 };
        assert_eq!(
            seen(&auction_refusal(&low, Some(euro()))),
            (ErrorCode::BidTooLow, r#"{"minimum":"151.00"}"#.to_owned())
        );
        let taken = box_office::Refusal::SeatTaken {
            seats: vec!["A-1-2".to_owned()],
        };
        assert_eq!(
            seen(&box_office_refusal(taken)),
            (ErrorCode::SeatTaken, r#"{"seats":["A-1-2"]}"#.to_owned())
        );
        let early = box_office::Refusal::OnSaleClosed {
            on_sale_at: Timestamp::from_millis(1_760_000_000_123),
        };
        assert_eq!(
            seen(&box_office_refusal(early)),
            (
                ErrorCode::OnSaleClosed,
                r#"{"on_sale_at":"2025-10-09T08:53:20.123Z"}"#.to_owned()
            )
        );
        let busy = auction::Refusal::ItemAlreadyOnAuction {
            auction_id: AuctionId(Uuid::nil()),
        };
        assert_eq!(
            auction_refusal(&busy, None).code,
            ErrorCode::ItemAlreadyOnAuction
        );
        let ended = auction::Refusal::NotOpen {
            status: auction::Status::Ended,
        };
        assert_eq!(
            seen(&auction_refusal(&ended, None)),
            (
                ErrorCode::AuctionNotOpen,
                r#"{"status":"ended"}"#.to_owned()
            )
        );
    }

    #[test]
    fn an_unknown_outcome_says_so_and_is_safe_to_retry() {
        assert_eq!(
            seen(&grid_error(&GridError::OutcomeUnknown)),
            (
                ErrorCode::Unavailable,
                r#"{"outcome":"unknown"}"#.to_owned()
            )
        );
        let full = GridError::Overloaded { retry_after_ms: 40 };
        assert_eq!(
            seen(&grid_error(&full)),
            (ErrorCode::Overloaded, r#"{"retry_after_ms":40}"#.to_owned())
        );
    }
}
