-- `changes` by months, so that old ones can be dropped without a trace of work: a partition a calendar
-- month (UTC) of `at`. The pump makes them ahead of time; changes_default takes what fits none.
--
-- What was written so far stays where it is, as the partition of everything up to the end of its last
-- month: no row is copied. Only its key is made again, since the key of a partitioned table must hold the
-- column by which it is divided.
SET LOCAL statement_timeout = 0;

ALTER TABLE changes RENAME TO changes_before;
ALTER TABLE changes_before DROP CONSTRAINT changes_pkey;
ALTER TABLE changes_before ADD CONSTRAINT changes_before_pkey PRIMARY KEY (partition, log_index, seq, at);

CREATE TABLE changes (
    partition integer     NOT NULL,
    log_index bigint      NOT NULL,
    seq       integer     NOT NULL,
    at        timestamptz NOT NULL,
    kind      text        NOT NULL,
    entity    uuid        NOT NULL,
    payload   jsonb       NOT NULL,
    PRIMARY KEY (partition, log_index, seq, at)
) PARTITION BY RANGE (at);

CREATE TABLE changes_default PARTITION OF changes DEFAULT;

DO $$
DECLARE
    upto timestamp;
BEGIN
    SELECT date_trunc('month', coalesce(max(at), now() - interval '1 month') AT TIME ZONE 'UTC')
           + interval '1 month'
    INTO upto FROM changes_before;
    EXECUTE format('ALTER TABLE changes ATTACH PARTITION changes_before FOR VALUES FROM (MINVALUE) TO (%L)',
                   upto AT TIME ZONE 'UTC');
END $$;

-- The partitions but for the default, with the time before which all their rows are.
CREATE FUNCTION changes_months() RETURNS TABLE (name text, upto timestamptz) LANGUAGE sql STABLE AS $$
    SELECT c.relname::text,
           (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \(''([^'']+)''\)'))[1]::timestamptz
    FROM pg_inherits i
    JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'changes'::regclass
      AND pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT'
$$;

-- Makes the partition of the month that begins at a day, unless its time has one. What lies in
-- changes_default already moves into it. Returns whether it was made.
CREATE FUNCTION make_changes_month(first_day date) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    name  text        := 'changes_' || to_char(first_day, 'YYYY_MM');
    since timestamptz := first_day::timestamp AT TIME ZONE 'UTC';
    upto  timestamptz := (first_day + interval '1 month')::timestamp AT TIME ZONE 'UTC';
BEGIN
    IF to_regclass(name) IS NOT NULL
       OR EXISTS (SELECT FROM changes_months() m WHERE m.name = 'changes_before' AND m.upto > since) THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE changes)', name);
    EXECUTE format('WITH moved AS (DELETE FROM changes_default WHERE at >= %L AND at < %L RETURNING *)
                    INSERT INTO %I SELECT * FROM moved', since, upto, name);
    EXECUTE format('ALTER TABLE changes ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, since, upto);
    RETURN true;
END $$;

-- What was dropped for its age, a row a partition of the grid: changes up to `last_index`. Blocks up to
-- the root `root_number` went with them; the root stayed, and is where verifying begins. Signed as roots are.
CREATE TABLE audit_cut (
    partition         integer PRIMARY KEY,
    grid_id           uuid    NOT NULL,
    last_index        bigint  NOT NULL,
    root_number       bigint  NOT NULL,
    dropped_before_ms bigint  NOT NULL,
    signed_at_ms      bigint  NOT NULL,
    public_key        bytea,
    signature         bytea
);
