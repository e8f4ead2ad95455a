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

COMMENT ON VIEW report_seat_occupancy IS
    'A map of every row of every event, in the order of the layout.';
COMMENT ON COLUMN report_seat_occupancy.event IS 'the event''s name';
COMMENT ON COLUMN report_seat_occupancy.section IS 'the section';
COMMENT ON COLUMN report_seat_occupancy."row" IS 'the row';
COMMENT ON COLUMN report_seat_occupancy.seats IS 'how many seats it has';
COMMENT ON COLUMN report_seat_occupancy.seat_map IS 'a character a seat: # sold, + held, . free';
COMMENT ON COLUMN report_seat_occupancy.available IS 'seats that anybody may hold';
COMMENT ON COLUMN report_seat_occupancy.event_id IS 'the event';
