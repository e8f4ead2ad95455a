//! The stable error codes, the same over HTTP and WebSocket.

/// What went wrong, as a client's program reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorCode {
    BadRequest,
    Unauthenticated,
    Forbidden,
    NotFound,
    BidTooLow,
    AuctionNotOpen,
    OwnBidLeads,
    ItemAlreadyOnAuction,
    SeatTaken,
    HoldExpired,
    HoldNotFound,
    TooManySeats,
    NotEnoughSeats,
    OnSaleClosed,
    WaitingRoomRequired,
    WaitingRoomFull,
    WaitingRoomState,
    SoldOut,
    IdempotencyConflict,
    MembershipRefused,
    WrongGateway,
    RateLimited,
    Overloaded,
    Unavailable,
    MessageTooLarge,
    Internal,
}

impl ErrorCode {
    /// Every code, for tables.
    pub(crate) const ALL: [Self; 26] = [
        Self::BadRequest,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::BidTooLow,
        Self::AuctionNotOpen,
        Self::OwnBidLeads,
        Self::ItemAlreadyOnAuction,
        Self::SeatTaken,
        Self::HoldExpired,
        Self::HoldNotFound,
        Self::TooManySeats,
        Self::NotEnoughSeats,
        Self::OnSaleClosed,
        Self::WaitingRoomRequired,
        Self::WaitingRoomFull,
        Self::WaitingRoomState,
        Self::SoldOut,
        Self::IdempotencyConflict,
        Self::MembershipRefused,
        Self::WrongGateway,
        Self::RateLimited,
        Self::Overloaded,
        Self::Unavailable,
        Self::MessageTooLarge,
        Self::Internal,
    ];

    /// Its name on the wire.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::BidTooLow => "bid_too_low",
            Self::AuctionNotOpen => "auction_not_open",
            Self::OwnBidLeads => "own_bid_leads",
            Self::ItemAlreadyOnAuction => "item_already_on_auction",
            Self::SeatTaken => "seat_taken",
            Self::HoldExpired => "hold_expired",
            Self::HoldNotFound => "hold_not_found",
            Self::TooManySeats => "too_many_seats",
            Self::NotEnoughSeats => "not_enough_seats",
            Self::OnSaleClosed => "on_sale_closed",
            Self::WaitingRoomRequired => "waiting_room_required",
            Self::WaitingRoomFull => "waiting_room_full",
            Self::WaitingRoomState => "waiting_room_state",
            Self::SoldOut => "sold_out",
            Self::IdempotencyConflict => "idempotency_conflict",
            Self::MembershipRefused => "membership_refused",
            Self::WrongGateway => "wrong_gateway",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::MessageTooLarge => "message_too_large",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status that goes with it.
    pub(crate) const fn http_status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden | Self::WaitingRoomRequired => 403,
            Self::NotFound | Self::HoldNotFound => 404,
            Self::HoldExpired => 410,
            Self::BidTooLow
            | Self::AuctionNotOpen
            | Self::OwnBidLeads
            | Self::ItemAlreadyOnAuction
            | Self::SeatTaken
            | Self::TooManySeats
            | Self::NotEnoughSeats
            | Self::OnSaleClosed
            | Self::WaitingRoomFull
            | Self::WaitingRoomState
            | Self::SoldOut
            | Self::IdempotencyConflict
            | Self::MembershipRefused => 409,
            Self::MessageTooLarge => 413,
            Self::WrongGateway => 421,
            Self::RateLimited => 429,
            Self::Internal => 500,
            Self::Overloaded | Self::Unavailable => 503,
        }
    }
}
