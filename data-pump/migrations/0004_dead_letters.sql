-- What the database refuses is parked by entity, kept in order, tried again, or dropped with a reason;
-- and a partition's pump can be paused.

-- `parked` counts the partition's rows of dead_letter, so that a pump learns with the row that it moves
-- anyway whether it must look there. While `paused_at` is set, no pump moves the row, whoever leads.
ALTER TABLE pump_checkpoint
    ADD COLUMN parked       bigint NOT NULL DEFAULT 0,
    ADD COLUMN paused_at    timestamptz,
    ADD COLUMN paused_by    text,
    ADD COLUMN pause_reason text;

-- `reason` is now one of
--   rejected         the database refused the change: `sqlstate` and `error` say why
--   behind           an earlier change of the same entity is parked, so this one waits for it
--   seat_sold_twice  as before: the second ticket was not written, the rest of the change was; a record,
--                    which holds nothing back
-- An entity with a row of the first two kinds is parked: all its later changes are put here too. What is
-- here with these is in no other table. `attempts` counts how often the change itself was refused.
ALTER TABLE dead_letter
    ADD COLUMN sqlstate text,
    ADD COLUMN attempts integer     NOT NULL DEFAULT 1,
    ADD COLUMN tried_at timestamptz NOT NULL DEFAULT now();

CREATE INDEX dead_letter_entity ON dead_letter (partition, entity, log_index, seq);

UPDATE pump_checkpoint c
SET parked = (SELECT count(*) FROM dead_letter d WHERE d.partition = c.partition);

-- Parked changes that somebody decided not to write.
CREATE TABLE dead_letter_dropped (
    partition   integer     NOT NULL,
    log_index   bigint      NOT NULL,
    seq         integer     NOT NULL,
    at          timestamptz NOT NULL,
    kind        text        NOT NULL,
    entity      uuid        NOT NULL,
    reason      text        NOT NULL,
    sqlstate    text,
    error       text        NOT NULL,
    payload     text        NOT NULL,
    attempts    integer     NOT NULL,
    parked_at   timestamptz NOT NULL,
    dropped_at  timestamptz NOT NULL DEFAULT now(),
    dropped_by  text        NOT NULL,
    drop_reason text        NOT NULL,
    PRIMARY KEY (partition, log_index, seq)
);
