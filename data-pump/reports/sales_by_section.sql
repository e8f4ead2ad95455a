CREATE OR REPLACE VIEW report_sales_by_section AS
SELECT e.name                                                                     AS event,
       s.section,
       major_units(max(s.price), e.minor_digits)                                  AS price,
       count(*)                                                                   AS seats,
       count(*) FILTER (WHERE s.state = 'sold')                                   AS sold,
       count(*) FILTER (WHERE s.state = 'held')                                   AS held,
       count(*) FILTER (WHERE s.state = 'available')                              AS available,
       round(100.0 * count(*) FILTER (WHERE s.state = 'sold') / count(*), 1)      AS sold_percent,
       major_units(coalesce(sum(t.price), 0)::bigint, e.minor_digits)             AS revenue,
       e.currency,
       e.event_id
FROM seats s
JOIN events e USING (event_id)
LEFT JOIN tickets t USING (event_id, seat_index)
GROUP BY e.event_id, e.name, e.minor_digits, e.currency, s.section
ORDER BY e.name, e.event_id, min(s.seat_index);

COMMENT ON VIEW report_sales_by_section IS
    'Seats and revenue of every event by section, in the order of the layout.';
COMMENT ON COLUMN report_sales_by_section.event IS 'the event''s name';
COMMENT ON COLUMN report_sales_by_section.section IS 'the section';
COMMENT ON COLUMN report_sales_by_section.price IS
    'a seat''s price, the highest if there are several';
COMMENT ON COLUMN report_sales_by_section.seats IS 'all its seats';
COMMENT ON COLUMN report_sales_by_section.sold IS 'seats with a ticket';
COMMENT ON COLUMN report_sales_by_section.held IS 'seats in a buyer''s basket';
COMMENT ON COLUMN report_sales_by_section.available IS 'seats that anybody may hold';
COMMENT ON COLUMN report_sales_by_section.sold_percent IS 'sold seats, in percent of all';
COMMENT ON COLUMN report_sales_by_section.revenue IS 'the sum of the tickets'' prices';
COMMENT ON COLUMN report_sales_by_section.currency IS
    'ISO 4217 code of the amounts, which are in its major unit';
COMMENT ON COLUMN report_sales_by_section.event_id IS 'the event';
