-- The audit trail: what shows that `changes` was not edited afterwards. docs/audit.md has the format.

-- Where a partition's chain of blocks stands. Changes up to `audit_base` were written before there were
-- blocks, and have none.
ALTER TABLE pump_checkpoint
    ADD COLUMN audit_base   bigint NOT NULL DEFAULT 0,
    ADD COLUMN audit_blocks bigint NOT NULL DEFAULT 0,
    ADD COLUMN audit_leaves bigint NOT NULL DEFAULT 0,
    ADD COLUMN audit_chain  bytea;
UPDATE pump_checkpoint SET audit_base = applied_index;

-- One row a transaction of the pump: the hash of every change of its log entries, in the order of the
-- log, whether it was written or parked. `chain` hashes the row with the one before.
CREATE TABLE audit_block (
    partition   integer NOT NULL,
    number      bigint  NOT NULL,
    first_leaf  bigint  NOT NULL,
    first_index bigint  NOT NULL,
    last_index  bigint  NOT NULL,
    entries     bytea   NOT NULL,
    leaves      bytea   NOT NULL,
    chain       bytea   NOT NULL,
    PRIMARY KEY (partition, number)
);
-- Hashes do not shrink; trying costs.
ALTER TABLE audit_block ALTER COLUMN leaves SET STORAGE EXTERNAL;
CREATE INDEX audit_block_index ON audit_block (partition, last_index);

-- The keys that have signed roots, by the database's own word.
CREATE TABLE audit_key (
    public_key    bytea       PRIMARY KEY,
    id            text        NOT NULL,
    first_used_at timestamptz NOT NULL DEFAULT now()
);

-- A Merkle root over the changes since the root before, signed with the grid's key.
CREATE TABLE audit_root (
    grid_id      uuid    NOT NULL,
    partition    integer NOT NULL,
    number       bigint  NOT NULL,
    first_leaf   bigint  NOT NULL,
    leaves       bigint  NOT NULL,
    first_block  bigint  NOT NULL,
    last_block   bigint  NOT NULL,
    last_index   bigint  NOT NULL,
    root         bytea   NOT NULL,
    chain        bytea   NOT NULL,
    previous     bytea   NOT NULL,
    signed_at_ms bigint  NOT NULL,
    public_key   bytea   NOT NULL,
    signature    bytea   NOT NULL,
    PRIMARY KEY (partition, number)
);
CREATE INDEX audit_root_block ON audit_root (partition, last_block);
