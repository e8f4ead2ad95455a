CREATE OR REPLACE VIEW report_bids_by_minute AS
WITH placed AS (
    SELECT auction_id,
           date_trunc('minute', at)          AS minute,
           count(*)                          AS bids,
           count(DISTINCT bidder)            AS bidders,
           count(*) FILTER (WHERE withdrawn) AS withdrawn,
           max(amount)                       AS highest
    FROM bids
    GROUP BY auction_id, date_trunc('minute', at)
)
SELECT a.title,
       b.minute,
       b.bids,
       b.bidders,
       b.withdrawn,
       major_units(b.highest, a.minor_digits)                                   AS highest_bid,
       a.currency,
       (sum(b.bids) OVER (PARTITION BY auction_id ORDER BY b.minute))::bigint   AS bids_so_far,
       auction_id
FROM placed b
JOIN auctions a USING (auction_id)
ORDER BY a.title, auction_id, b.minute;

COMMENT ON VIEW report_bids_by_minute IS
    'Bids accepted in each minute of each auction. Minutes without a bid have no row.';
COMMENT ON COLUMN report_bids_by_minute.title IS 'the lot''s title';
COMMENT ON COLUMN report_bids_by_minute.minute IS 'the minute''s beginning';
COMMENT ON COLUMN report_bids_by_minute.bids IS 'bids accepted in it';
COMMENT ON COLUMN report_bids_by_minute.bidders IS 'people who placed them';
COMMENT ON COLUMN report_bids_by_minute.withdrawn IS
    'those of these bids that were withdrawn, then or later';
COMMENT ON COLUMN report_bids_by_minute.highest_bid IS 'the highest of them, also if withdrawn';
COMMENT ON COLUMN report_bids_by_minute.currency IS
    'ISO 4217 code of the amounts, which are in its major unit';
COMMENT ON COLUMN report_bids_by_minute.bids_so_far IS 'bids accepted up to the minute''s end';
COMMENT ON COLUMN report_bids_by_minute.auction_id IS 'the auction';
