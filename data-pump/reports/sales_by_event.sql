CREATE OR REPLACE VIEW report_sales_by_event AS
WITH state AS (
    SELECT event_id,
           count(*) FILTER (WHERE state = 'sold')      AS sold,
           count(*) FILTER (WHERE state = 'held')      AS held,
           count(*) FILTER (WHERE state = 'available') AS available
    FROM seats
    GROUP BY event_id
), revenue AS (
    SELECT event_id, sum(price)::bigint AS amount, count(DISTINCT buyer) AS buyers
    FROM tickets
    GROUP BY event_id
)
SELECT e.name,
       e.artist,
       e.venue,
       date_trunc('minute', e.starts_at)                         AS starts_at,
       e.seats,
       coalesce(s.sold, 0)                                       AS sold,
       coalesce(s.held, 0)                                       AS held,
       coalesce(s.available, 0)                                  AS available,
       round(100.0 * coalesce(s.sold, 0) / nullif(e.seats, 0), 1) AS sold_percent,
       coalesce(r.buyers, 0)                                     AS buyers,
       major_units(coalesce(r.amount, 0), e.minor_digits)        AS revenue,
       e.currency,
       e.event_id
FROM events e
LEFT JOIN state s USING (event_id)
LEFT JOIN revenue r USING (event_id)
ORDER BY e.starts_at, e.name, e.event_id;

COMMENT ON VIEW report_sales_by_event IS
    'Seats, buyers and revenue of every event, by the time at which it starts.';
COMMENT ON COLUMN report_sales_by_event.name IS 'the event''s name';
COMMENT ON COLUMN report_sales_by_event.artist IS 'who plays';
COMMENT ON COLUMN report_sales_by_event.venue IS 'where';
COMMENT ON COLUMN report_sales_by_event.starts_at IS 'when';
COMMENT ON COLUMN report_sales_by_event.seats IS 'all its seats';
COMMENT ON COLUMN report_sales_by_event.sold IS 'seats with a ticket';
COMMENT ON COLUMN report_sales_by_event.held IS 'seats in a buyer''s basket';
COMMENT ON COLUMN report_sales_by_event.available IS 'seats that anybody may hold';
COMMENT ON COLUMN report_sales_by_event.sold_percent IS 'sold seats, in percent of all';
COMMENT ON COLUMN report_sales_by_event.buyers IS 'people with at least one ticket';
COMMENT ON COLUMN report_sales_by_event.revenue IS 'the sum of the tickets'' prices';
COMMENT ON COLUMN report_sales_by_event.currency IS
    'ISO 4217 code of the amounts, which are in its major unit';
COMMENT ON COLUMN report_sales_by_event.event_id IS 'the event';
