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
