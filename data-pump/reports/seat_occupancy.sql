-- In seat_map, # is sold, + held, . free.
CREATE OR REPLACE VIEW report_seat_occupancy AS
SELECT e.name                                                            AS event,
       s.section,
       s.row_name                                                        AS "row",
       count(*)                                                          AS seats,
       string_agg(CASE s.state WHEN 'sold' THEN '#' WHEN 'held' THEN '+' ELSE '.' END, ''
                  ORDER BY s.seat_index)                                 AS seat_map,
       count(*) FILTER (WHERE s.state = 'available')                     AS available,
       e.event_id
FROM seats s
JOIN events e USING (event_id)
GROUP BY e.event_id, e.name, s.section, s.row_name
ORDER BY e.name, e.event_id, min(s.seat_index);
