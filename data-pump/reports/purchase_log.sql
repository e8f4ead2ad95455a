CREATE OR REPLACE VIEW report_purchase_log AS
SELECT t.sold_at,
       e.name                               AS event,
       s.section,
       s.row_name                           AS "row",
       s.label                              AS seat,
       major_units(t.price, e.minor_digits) AS price,
       e.currency,
       t.buyer,
       t.payment_reference,
       t.ticket_id,
       t.hold_id,
       t.event_id
FROM tickets t
JOIN events e USING (event_id)
LEFT JOIN seats s USING (event_id, seat_index)
ORDER BY t.sold_at DESC, t.event_id, t.log_index DESC, t.seq DESC, t.seat_index;

COMMENT ON VIEW report_purchase_log IS
    'Who bought what, when, for how much, and with which payment: a row a ticket, the latest first.';
COMMENT ON COLUMN report_purchase_log.sold_at IS 'when the payment was confirmed';
COMMENT ON COLUMN report_purchase_log.event IS 'the event''s name';
COMMENT ON COLUMN report_purchase_log.section IS 'the section';
COMMENT ON COLUMN report_purchase_log."row" IS 'the row';
COMMENT ON COLUMN report_purchase_log.seat IS 'the seat as it is printed on the ticket';
COMMENT ON COLUMN report_purchase_log.price IS 'what it cost';
COMMENT ON COLUMN report_purchase_log.currency IS
    'ISO 4217 code of the amounts, which are in its major unit';
COMMENT ON COLUMN report_purchase_log.buyer IS 'who bought it';
COMMENT ON COLUMN report_purchase_log.payment_reference IS
    'what the payment provider calls the payment, as the buyer''s request gave it';
COMMENT ON COLUMN report_purchase_log.ticket_id IS 'the ticket';
COMMENT ON COLUMN report_purchase_log.hold_id IS 'the basket: tickets bought together share it';
COMMENT ON COLUMN report_purchase_log.event_id IS 'the event';
