CREATE OR REPLACE VIEW report_sales_by_minute AS
WITH sold AS (
    SELECT event_id,
           date_trunc('minute', sold_at) AS minute,
           count(*)                      AS tickets,
           count(DISTINCT hold_id)       AS purchases,
           sum(price)                    AS amount
    FROM tickets
    GROUP BY event_id, date_trunc('minute', sold_at)
)
SELECT e.name                                                              AS event,
       s.minute,
       s.tickets,
       s.purchases,
       major_units(s.amount::bigint, e.minor_digits)                       AS revenue,
       (sum(s.tickets) OVER so_far)::bigint                                AS tickets_so_far,
       major_units((sum(s.amount) OVER so_far)::bigint, e.minor_digits)    AS revenue_so_far,
       e.currency,
       event_id
FROM sold s
JOIN events e USING (event_id)
WINDOW so_far AS (PARTITION BY event_id ORDER BY s.minute)
ORDER BY e.name, event_id, s.minute;

COMMENT ON VIEW report_sales_by_minute IS
    'Tickets sold in each minute of each event. Minutes without a sale have no row.';
COMMENT ON COLUMN report_sales_by_minute.event IS 'the event''s name';
COMMENT ON COLUMN report_sales_by_minute.minute IS 'the minute''s beginning';
COMMENT ON COLUMN report_sales_by_minute.tickets IS 'tickets sold in it';
COMMENT ON COLUMN report_sales_by_minute.purchases IS
    'baskets paid in it, each of one ticket or more';
COMMENT ON COLUMN report_sales_by_minute.revenue IS 'the sum of these tickets'' prices';
COMMENT ON COLUMN report_sales_by_minute.tickets_so_far IS
    'tickets of the event sold up to the minute''s end';
COMMENT ON COLUMN report_sales_by_minute.revenue_so_far IS 'the sum of their prices';
COMMENT ON COLUMN report_sales_by_minute.currency IS
    'ISO 4217 code of the amounts, which are in its major unit';
COMMENT ON COLUMN report_sales_by_minute.event_id IS 'the event';
