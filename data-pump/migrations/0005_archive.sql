-- The log itself: what the grid can be made anew from, without any of its nodes.

-- Committed log entries, all of them, those without changes too. A row holds the entries that one
-- transaction of the pump moved over, or a part of them; it commits with their other rows and with the
-- checkpoint. `entries` is compressed and has a checksum of its own (see the pump's module `archive`).
CREATE TABLE log_entries (
    partition   integer NOT NULL,
    first_index bigint  NOT NULL,
    last_index  bigint  NOT NULL,
    -- The first and the last time stamp among them; NULL where none bears one.
    first_at    timestamptz,
    last_at     timestamptz,
    -- The running state hash after the entry `hash_index`, one of these; NULL where it was not at hand.
    hash_index  bigint,
    state_hash  bytea,
    entries     bytea   NOT NULL,
    PRIMARY KEY (partition, last_index)
);
-- It is compressed already.
ALTER TABLE log_entries ALTER COLUMN entries SET STORAGE EXTERNAL;

-- Whole states of a partition, for a restore to begin from. A row is written when all its chunks are.
CREATE TABLE log_snapshots (
    partition   integer     NOT NULL,
    log_index   bigint      NOT NULL,
    -- The grid that it was taken in; its bytes name it too.
    grid_id     uuid        NOT NULL,
    -- The time of the last entry in it.
    at          timestamptz NOT NULL,
    state_hash  bytea       NOT NULL,
    -- What it is compressed to.
    bytes       bigint      NOT NULL,
    chunks      integer     NOT NULL,
    -- `log_archive.entry_bytes` and `.blocks` when it was written.
    entry_bytes bigint      NOT NULL,
    blocks      bigint      NOT NULL,
    written_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (partition, log_index)
);

CREATE TABLE log_snapshot_chunks (
    partition integer NOT NULL,
    log_index bigint  NOT NULL,
    number    integer NOT NULL,
    bytes     bytea   NOT NULL,
    PRIMARY KEY (partition, log_index, number)
);
ALTER TABLE log_snapshot_chunks ALTER COLUMN bytes SET STORAGE EXTERNAL;

-- How far each partition's archive reaches.
CREATE TABLE log_archive (
    partition     integer     PRIMARY KEY,
    -- Partitions of the grid.
    partitions    integer     NOT NULL,
    -- Every entry of this range is in log_entries; NULL before the first, and after entries that could
    -- not be archived.
    first_index   bigint,
    last_index    bigint,
    -- Rows ever written, the bytes of their entries, and what those were compressed to.
    blocks        bigint      NOT NULL DEFAULT 0,
    entry_bytes   bigint      NOT NULL DEFAULT 0,
    block_bytes   bigint      NOT NULL DEFAULT 0,
    -- How far the grid itself was when the pump last wrote.
    known_index   bigint      NOT NULL,
    -- The last entry of a grid that was stopped in good order with everything written; NULL while it runs.
    drained_index bigint,
    updated_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 20);

-- Grids that were made from this database, and what was accepted as lost.
CREATE TABLE grid_restores (
    restore_id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    restored_at        timestamptz NOT NULL DEFAULT now(),
    restored_by        text        NOT NULL,
    from_grid          uuid        NOT NULL,
    to_grid            uuid        NOT NULL,
    -- The time asked for; NULL for everything there is.
    until              timestamptz,
    -- Whether this database goes on with the new grid.
    continued          boolean     NOT NULL,
    -- Whether the old grid was not known to have stopped in good order with everything written.
    accepted_data_loss boolean     NOT NULL,
    -- Entries that the old grid was known to have beyond those restored.
    missing_entries    bigint      NOT NULL,
    -- {"partition": index}
    indexes            jsonb       NOT NULL
);
