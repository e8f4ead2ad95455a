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
