-- Auctions as they stand. Amounts are minor units of `currency`, which has `minor_digits` digits.
-- `version` is the log index of the last change.

CREATE TABLE items (
    item_id     uuid        PRIMARY KEY,
    owner       uuid        NOT NULL,
    name        text        NOT NULL,
    description text        NOT NULL,
    category    text        NOT NULL,
    images      jsonb       NOT NULL,
    created_at  timestamptz NOT NULL,
    version     bigint      NOT NULL
);

CREATE TABLE auctions (
    auction_id     uuid        PRIMARY KEY,
    partition      integer     NOT NULL,
    item_id        uuid        NOT NULL,
    host           uuid        NOT NULL,
    title          text        NOT NULL,
    category       text        NOT NULL,
    currency       text        NOT NULL,
    minor_digits   smallint    NOT NULL,
    starting_price bigint      NOT NULL,
    reserve_price  bigint,
    start_time     timestamptz NOT NULL,
    end_time       timestamptz NOT NULL,
    status         text        NOT NULL CHECK (status IN ('scheduled', 'open', 'ended', 'cancelled')),
    extensions     integer     NOT NULL DEFAULT 0,
    current_price  bigint,
    minimum_next   bigint      NOT NULL,
    bids           integer     NOT NULL DEFAULT 0,
    outcome        text        CHECK (outcome IN ('sold', 'no_bids', 'reserve_not_met', 'passed')),
    winner         uuid,
    winning_bid    uuid,
    winning_amount bigint,
    created_at     timestamptz NOT NULL,
    ended_at       timestamptz,
    version        bigint      NOT NULL
) WITH (fillfactor = 50);

-- Every accepted bid; (log_index, seq) is the order of acceptance.
CREATE TABLE bids (
    auction_id uuid        NOT NULL,
    bid_id     uuid        NOT NULL,
    bidder     uuid        NOT NULL,
    alias      integer     NOT NULL,
    amount     bigint      NOT NULL,
    at         timestamptz NOT NULL,
    withdrawn  boolean     NOT NULL DEFAULT false,
    log_index  bigint      NOT NULL,
    seq        integer     NOT NULL,
    version    bigint      NOT NULL,
    PRIMARY KEY (auction_id, bid_id)
);
