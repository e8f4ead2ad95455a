CREATE OR REPLACE VIEW report_hammer_against_estimate AS
WITH estimated AS (
    SELECT a.*,
           said[2]::numeric                      AS low,
           coalesce(said[3], said[2])::numeric   AS high,
           major_units(a.winning_amount, a.minor_digits) AS hammer
    FROM auctions a
    JOIN items i USING (item_id)
    -- The line that `grid import catalogue` writes at a description's end.
    CROSS JOIN LATERAL regexp_match(
        i.description,
        '(?:^|\n)Estimate: ([A-Z]{3}) (\d+(?:\.\d+)?)(?: to (\d+(?:\.\d+)?))?$') AS said
    WHERE a.status = 'ended' AND said[1] = a.currency
)
SELECT title,
       category,
       low                                                 AS estimate_low,
       high                                                AS estimate_high,
       hammer,
       currency,
       CASE
           WHEN hammer IS NULL THEN 'not sold'
           WHEN hammer < low THEN 'below'
           WHEN hammer > high THEN 'above'
           ELSE 'within'
       END                                                 AS against_estimate,
       round(100 * hammer / nullif((low + high) / 2, 0), 1) AS percent_of_middle,
       outcome,
       ended_at,
       auction_id
FROM estimated
ORDER BY ended_at DESC, auction_id;

COMMENT ON VIEW report_hammer_against_estimate IS
    'Every ended auction of a lot with an estimate, latest first. Estimates are those of imported catalogues: the last line of the item''s description, in the auction''s currency.';
COMMENT ON COLUMN report_hammer_against_estimate.title IS 'the lot''s title';
COMMENT ON COLUMN report_hammer_against_estimate.category IS 'its category';
COMMENT ON COLUMN report_hammer_against_estimate.estimate_low IS 'the lower estimate';
COMMENT ON COLUMN report_hammer_against_estimate.estimate_high IS
    'the upper one; the same if there is one only';
COMMENT ON COLUMN report_hammer_against_estimate.hammer IS 'the hammer price; empty if not sold';
COMMENT ON COLUMN report_hammer_against_estimate.currency IS
    'ISO 4217 code of the amounts, which are in its major unit';
COMMENT ON COLUMN report_hammer_against_estimate.against_estimate IS
    'below, within or above the estimate, or not sold';
COMMENT ON COLUMN report_hammer_against_estimate.percent_of_middle IS
    'the hammer price, in percent of the middle of the estimates';
COMMENT ON COLUMN report_hammer_against_estimate.outcome IS
    'sold, no_bids, reserve_not_met or passed';
COMMENT ON COLUMN report_hammer_against_estimate.ended_at IS 'when it ended';
COMMENT ON COLUMN report_hammer_against_estimate.auction_id IS 'the auction';
