CREATE OR REPLACE VIEW report_bidder_activity AS
WITH by_auction AS (
    SELECT b.bidder,
           b.auction_id,
           count(*)                            AS bids,
           count(*) FILTER (WHERE b.withdrawn) AS withdrawn,
           count(*) FILTER (
               WHERE b.at > coalesce(a.ended_at, a.end_time) - interval '1 minute') AS last_minute,
           max(b.amount)                       AS highest,
           min(b.at)                           AS first_at,
           max(b.at)                           AS last_at
    FROM bids b
    JOIN auctions a USING (auction_id)
    GROUP BY b.bidder, b.auction_id
)
SELECT p.bidder,
       a.currency,
       count(*)                                                                      AS auctions,
       count(DISTINCT a.host)                                                        AS hosts,
       sum(p.bids)::bigint                                                           AS bids,
       sum(p.withdrawn)::bigint                                                      AS withdrawn,
       sum(p.last_minute)::bigint                                                    AS last_minute_bids,
       count(*) FILTER (WHERE a.winner = p.bidder)                                   AS won,
       count(*) FILTER (WHERE a.winner <> p.bidder)                                  AS lost,
       major_units(max(p.highest), max(a.minor_digits))                              AS highest_bid,
       major_units(coalesce(sum(a.winning_amount) FILTER (WHERE a.winner = p.bidder), 0)::bigint,
                   max(a.minor_digits))                                              AS spent,
       min(p.first_at)                                                               AS first_bid_at,
       max(p.last_at)                                                                AS last_bid_at
FROM by_auction p
JOIN auctions a USING (auction_id)
GROUP BY p.bidder, a.currency
ORDER BY bids DESC, p.bidder, a.currency;

COMMENT ON VIEW report_bidder_activity IS
    'What every bidder did, by currency, the busiest first.';
COMMENT ON COLUMN report_bidder_activity.bidder IS 'who';
COMMENT ON COLUMN report_bidder_activity.currency IS
    'ISO 4217 code of the amounts, which are in its major unit';
COMMENT ON COLUMN report_bidder_activity.auctions IS 'auctions with at least one bid of theirs';
COMMENT ON COLUMN report_bidder_activity.hosts IS 'hosts of these auctions';
COMMENT ON COLUMN report_bidder_activity.bids IS 'bids accepted';
COMMENT ON COLUMN report_bidder_activity.withdrawn IS 'those withdrawn later';
COMMENT ON COLUMN report_bidder_activity.last_minute_bids IS
    'bids in the last minute before the auction''s end, as it is known now';
COMMENT ON COLUMN report_bidder_activity.won IS 'auctions they won';
COMMENT ON COLUMN report_bidder_activity.lost IS 'auctions that somebody else won';
COMMENT ON COLUMN report_bidder_activity.highest_bid IS 'their highest bid, also if withdrawn';
COMMENT ON COLUMN report_bidder_activity.spent IS 'the sum of what they won';
COMMENT ON COLUMN report_bidder_activity.first_bid_at IS 'when they bid first';
COMMENT ON COLUMN report_bidder_activity.last_bid_at IS 'when they bid last';
