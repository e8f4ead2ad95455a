CREATE OR REPLACE VIEW report_auction_results AS
SELECT a.title,
       a.category,
       a.status,
       a.outcome,
       a.bids,
       a.currency,
       major_units(a.starting_price, a.minor_digits)                      AS starting_price,
       major_units(a.current_price, a.minor_digits)                       AS highest_bid,
       major_units(a.winning_amount, a.minor_digits)                      AS sold_for,
       date_trunc('second', coalesce(a.ended_at, a.end_time))             AS ends_at,
       a.extensions,
       a.winner,
       a.auction_id
FROM auctions a
ORDER BY coalesce(a.ended_at, a.end_time) DESC, a.auction_id;

COMMENT ON VIEW report_auction_results IS
    'Every auction as it stands or ended, latest first.';
COMMENT ON COLUMN report_auction_results.title IS 'the lot''s title';
COMMENT ON COLUMN report_auction_results.category IS 'its category';
COMMENT ON COLUMN report_auction_results.status IS 'scheduled, open, ended or cancelled';
COMMENT ON COLUMN report_auction_results.outcome IS
    'sold, no_bids, reserve_not_met or passed; empty until it ended';
COMMENT ON COLUMN report_auction_results.bids IS 'bids that stand, withdrawn ones left out';
COMMENT ON COLUMN report_auction_results.currency IS
    'ISO 4217 code of the amounts, which are in its major unit';
COMMENT ON COLUMN report_auction_results.starting_price IS 'the lowest first bid';
COMMENT ON COLUMN report_auction_results.highest_bid IS 'the highest bid that stands';
COMMENT ON COLUMN report_auction_results.sold_for IS 'the hammer price; empty if not sold';
COMMENT ON COLUMN report_auction_results.ends_at IS 'when it ended, or is to end';
COMMENT ON COLUMN report_auction_results.extensions IS 'how often a late bid moved the end';
COMMENT ON COLUMN report_auction_results.winner IS 'who bought it';
COMMENT ON COLUMN report_auction_results.auction_id IS 'the auction';
