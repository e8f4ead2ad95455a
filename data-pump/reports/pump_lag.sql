CREATE OR REPLACE VIEW report_pump_lag AS
SELECT c.partition,
       c.applied_index                                                        AS written_to_index,
       c.epoch                                                                AS term,
       date_trunc('second', c.updated_at)                                     AS last_written,
       round(extract(epoch FROM clock_timestamp() - c.updated_at)::numeric, 1) AS seconds_ago,
       coalesce(d.parked, 0)                                                  AS parked_changes,
       c.grid_id
FROM pump_checkpoint c
LEFT JOIN (SELECT partition, count(*) AS parked FROM dead_letter GROUP BY partition) d USING (partition)
ORDER BY c.partition;

COMMENT ON VIEW report_pump_lag IS
    'How far each partition is written to this database. An idle partition writes nothing, so seconds_ago grows while nothing is missing; compare written_to_index with the grid (grid status).';
COMMENT ON COLUMN report_pump_lag.partition IS 'the partition''s number';
COMMENT ON COLUMN report_pump_lag.written_to_index IS 'every change up to this log index is here';
COMMENT ON COLUMN report_pump_lag.term IS 'the term of the leader whose pump wrote last';
COMMENT ON COLUMN report_pump_lag.last_written IS 'when';
COMMENT ON COLUMN report_pump_lag.seconds_ago IS 'seconds since then';
COMMENT ON COLUMN report_pump_lag.parked_changes IS
    'changes that this database refused, kept in dead_letter; reports lack them';
COMMENT ON COLUMN report_pump_lag.grid_id IS 'the grid whose data this is';
