CREATE OR REPLACE VIEW report_hold_to_sale AS
WITH ends AS (
    SELECT event_id,
           count(*)                                     AS holds,
           count(*) FILTER (WHERE state = 'confirmed')  AS confirmed,
           count(*) FILTER (WHERE state = 'released')   AS released,
           count(*) FILTER (WHERE state = 'expired')    AS expired,
           count(*) FILTER (WHERE state = 'held')       AS running,
           sum(seats)                                   AS seats_held,
           sum(seats) FILTER (WHERE state = 'confirmed') AS seats_sold,
           percentile_cont(0.5) WITHIN GROUP (
               ORDER BY extract(epoch FROM closed_at - created_at)::double precision
           ) FILTER (WHERE state = 'confirmed')         AS median_s,
           max(extract(epoch FROM closed_at - created_at)) FILTER (WHERE state = 'confirmed') AS longest_s
    FROM holds
    GROUP BY event_id
)
SELECT e.name                                                     AS event,
       coalesce(h.holds, 0)                                       AS holds,
       coalesce(h.confirmed, 0)                                   AS confirmed,
       coalesce(h.released, 0)                                    AS released,
       coalesce(h.expired, 0)                                     AS expired,
       coalesce(h.running, 0)                                     AS running,
       round(100.0 * h.confirmed / nullif(h.holds - h.running, 0), 1) AS confirmed_percent,
       coalesce(h.seats_held, 0)                                  AS seats_held,
       coalesce(h.seats_sold, 0)                                  AS seats_sold,
       round(h.median_s::numeric, 1)                              AS median_seconds_to_sale,
       round(h.longest_s::numeric, 1)                             AS longest_seconds_to_sale,
       e.event_id
FROM events e
LEFT JOIN ends h USING (event_id)
ORDER BY e.starts_at, e.name, e.event_id;

COMMENT ON VIEW report_hold_to_sale IS
    'What became of the holds of every event, and how long buyers took to pay.';
COMMENT ON COLUMN report_hold_to_sale.event IS 'the event''s name';
COMMENT ON COLUMN report_hold_to_sale.holds IS 'holds that were ever made';
COMMENT ON COLUMN report_hold_to_sale.confirmed IS 'holds that became tickets';
COMMENT ON COLUMN report_hold_to_sale.released IS 'holds that the buyer gave back';
COMMENT ON COLUMN report_hold_to_sale.expired IS 'holds whose time ran out';
COMMENT ON COLUMN report_hold_to_sale.running IS 'holds that are still open';
COMMENT ON COLUMN report_hold_to_sale.confirmed_percent IS
    'confirmed holds, in percent of those that ended; empty if none ended';
COMMENT ON COLUMN report_hold_to_sale.seats_held IS
    'seats of all holds; a seat held twice counts twice';
COMMENT ON COLUMN report_hold_to_sale.seats_sold IS 'seats of the confirmed holds';
COMMENT ON COLUMN report_hold_to_sale.median_seconds_to_sale IS
    'seconds from hold to payment: half of the confirmed holds were faster';
COMMENT ON COLUMN report_hold_to_sale.longest_seconds_to_sale IS 'the same for the slowest of them';
COMMENT ON COLUMN report_hold_to_sale.event_id IS 'the event';
