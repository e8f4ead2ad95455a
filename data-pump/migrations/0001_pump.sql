-- What the pump keeps for itself: its place, every change, and what it could not write.

-- One row a partition. `epoch` is the Raft term of the pump that owns the row, `applied_index` the log
-- index up to which everything is in this database. Both guard every write (see the writer).
CREATE TABLE pump_checkpoint (
    partition     integer     PRIMARY KEY,
    grid_id       uuid        NOT NULL,
    epoch         bigint      NOT NULL,
    applied_index bigint      NOT NULL,
    updated_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 20);

-- Every change once, in the order of its partition's log. The payload holds all that the change says.
CREATE TABLE changes (
    partition integer     NOT NULL,
    log_index bigint      NOT NULL,
    seq       integer     NOT NULL,
    at        timestamptz NOT NULL,
    kind      text        NOT NULL,
    entity    uuid        NOT NULL,
    payload   jsonb       NOT NULL,
    PRIMARY KEY (partition, log_index, seq)
);

-- Changes that the database refused, or that contradict what it holds. `reason` is 'rejected' (a
-- constraint or a type said no; nothing of the change was written) or 'seat_sold_twice' (the second
-- ticket was not written). The payload is text, so that nothing can be wrong with it here.
CREATE TABLE dead_letter (
    partition integer     NOT NULL,
    log_index bigint      NOT NULL,
    seq       integer     NOT NULL,
    at        timestamptz NOT NULL,
    kind      text        NOT NULL,
    entity    uuid        NOT NULL,
    reason    text        NOT NULL,
    error     text        NOT NULL,
    payload   text        NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (partition, log_index, seq)
);

-- Minor units as a decimal number: major_units(15000, 2) = 150.00.
CREATE FUNCTION major_units(minor bigint, digits smallint) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT round(minor / power(10::numeric, digits), digits) $$;
