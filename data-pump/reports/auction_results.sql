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
