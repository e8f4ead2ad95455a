CREATE OR REPLACE VIEW report_unsold_seats AS
SELECT e.name                               AS event,
       s.section,
       s.row_name                           AS "row",
       s.label                              AS seat,
       major_units(s.price, e.minor_digits) AS price,
       e.currency,
       s.state,
       h.expires_at                         AS held_until,
       e.starts_at,
       s.event_id
FROM seats s
JOIN events e USING (event_id)
LEFT JOIN holds h ON s.state = 'held' AND h.event_id = s.event_id AND h.hold_id = s.hold_id
WHERE s.state <> 'sold'
ORDER BY e.name, s.event_id, s.seat_index;

COMMENT ON VIEW report_unsold_seats IS
    'Every seat without a ticket, in the order of the layout.';
COMMENT ON COLUMN report_unsold_seats.event IS 'the event''s name';
COMMENT ON COLUMN report_unsold_seats.section IS 'the section';
COMMENT ON COLUMN report_unsold_seats."row" IS 'the row';
COMMENT ON COLUMN report_unsold_seats.seat IS 'the seat as it is printed on a ticket';
COMMENT ON COLUMN report_unsold_seats.price IS 'what it costs';
COMMENT ON COLUMN report_unsold_seats.currency IS
    'ISO 4217 code of the amounts, which are in its major unit';
COMMENT ON COLUMN report_unsold_seats.state IS 'available, or held (in a buyer''s basket)';
COMMENT ON COLUMN report_unsold_seats.held_until IS
    'when the hold runs out; empty if it is available';
COMMENT ON COLUMN report_unsold_seats.starts_at IS 'when the event starts';
COMMENT ON COLUMN report_unsold_seats.event_id IS 'the event';
