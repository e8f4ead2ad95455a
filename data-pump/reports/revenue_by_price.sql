CREATE OR REPLACE VIEW report_revenue_by_price AS
WITH sold AS (
    SELECT t.event_id,
           s.section,
           t.price,
           count(*)                AS tickets,
           count(DISTINCT t.buyer) AS buyers,
           sum(t.price)            AS amount
    FROM tickets t
    JOIN seats s USING (event_id, seat_index)
    GROUP BY t.event_id, s.section, t.price
)
SELECT e.name                                        AS event,
       s.section,
       major_units(s.price, e.minor_digits)          AS price,
       s.tickets,
       s.buyers,
       major_units(s.amount::bigint, e.minor_digits) AS revenue,
       round(100.0 * s.amount / nullif(sum(s.amount) OVER (PARTITION BY event_id), 0), 1)
                                                     AS percent_of_event,
       e.currency,
       event_id
FROM sold s
JOIN events e USING (event_id)
ORDER BY e.name, event_id, s.amount DESC, s.section, s.price;

COMMENT ON VIEW report_revenue_by_price IS
    'Revenue of every event by section and price, the largest first. What sold nothing has no row (see report_sales_by_section).';
COMMENT ON COLUMN report_revenue_by_price.event IS 'the event''s name';
COMMENT ON COLUMN report_revenue_by_price.section IS 'the section';
COMMENT ON COLUMN report_revenue_by_price.price IS 'what a ticket cost';
COMMENT ON COLUMN report_revenue_by_price.tickets IS 'tickets sold at that price';
COMMENT ON COLUMN report_revenue_by_price.buyers IS 'people who bought one';
COMMENT ON COLUMN report_revenue_by_price.revenue IS 'the sum of the tickets'' prices';
COMMENT ON COLUMN report_revenue_by_price.percent_of_event IS
    'this revenue, in percent of the event''s';
COMMENT ON COLUMN report_revenue_by_price.currency IS
    'ISO 4217 code of the amounts, which are in its major unit';
COMMENT ON COLUMN report_revenue_by_price.event_id IS 'the event';
