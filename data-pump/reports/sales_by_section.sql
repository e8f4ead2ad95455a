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
