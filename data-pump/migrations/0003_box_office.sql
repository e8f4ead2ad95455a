-- Events and their seats as they stand. Amounts are minor units of the event's `currency`. `version`
-- is the log index of the last change.

CREATE TABLE events (
    event_id            uuid        PRIMARY KEY,
    partition           integer     NOT NULL,
    host                uuid        NOT NULL,
    name                text        NOT NULL,
    artist              text        NOT NULL,
    venue               text        NOT NULL,
    starts_at           timestamptz NOT NULL,
    on_sale_at          timestamptz NOT NULL,
    currency            text        NOT NULL,
    minor_digits        smallint    NOT NULL,
    max_seats_per_buyer integer     NOT NULL,
    hold_ms             bigint      NOT NULL,
    seats               integer     NOT NULL,
    created_at          timestamptz NOT NULL,
    version             bigint      NOT NULL
);

-- `seat_index` is the seat's place in the layout: sections, rows and seats in their order, from 0.
-- Room is left on each page, so that a seat's new state stays beside its old one.
CREATE TABLE seats (
    event_id   uuid    NOT NULL,
    seat_index integer NOT NULL,
    section    text    NOT NULL,
    row_name   text    NOT NULL,
    label      text    NOT NULL,
    price      bigint  NOT NULL,
    state      text    NOT NULL CHECK (state IN ('available', 'held', 'sold')),
    buyer      uuid,
    hold_id    uuid,
    ticket_id  uuid,
    version    bigint  NOT NULL,
    PRIMARY KEY (event_id, seat_index)
) WITH (fillfactor = 60);

CREATE TABLE holds (
    event_id          uuid        NOT NULL,
    hold_id           uuid        NOT NULL,
    buyer             uuid        NOT NULL,
    seats             integer     NOT NULL,
    state             text        NOT NULL CHECK (state IN ('held', 'released', 'expired', 'confirmed')),
    expires_at        timestamptz NOT NULL,
    created_at        timestamptz NOT NULL,
    closed_at         timestamptz,
    payment_reference text,
    version           bigint      NOT NULL,
    PRIMARY KEY (event_id, hold_id)
) WITH (fillfactor = 70);

-- The key makes a second ticket for a seat impossible; an attempt at one is in dead_letter.
CREATE TABLE tickets (
    event_id          uuid        NOT NULL,
    seat_index        integer     NOT NULL,
    ticket_id         uuid        NOT NULL,
    hold_id           uuid        NOT NULL,
    buyer             uuid        NOT NULL,
    price             bigint      NOT NULL,
    payment_reference text        NOT NULL,
    sold_at           timestamptz NOT NULL,
    log_index         bigint      NOT NULL,
    seq               integer     NOT NULL,
    PRIMARY KEY (event_id, seat_index)
);
