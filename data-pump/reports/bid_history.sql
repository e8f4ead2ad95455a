CREATE OR REPLACE VIEW report_bid_history AS
SELECT a.title,
       row_number() OVER (PARTITION BY b.auction_id ORDER BY b.log_index, b.seq) AS number,
       date_trunc('milliseconds', b.at)                                          AS at,
       'bidder ' || b.alias                                                      AS alias,
       major_units(b.amount, a.minor_digits)                                     AS amount,
       a.currency,
       CASE
           WHEN b.withdrawn THEN 'withdrawn'
           WHEN b.bid_id = a.winning_bid THEN 'won'
           WHEN b.amount = a.current_price AND a.status = 'open' THEN 'leads'
           WHEN b.amount = a.current_price THEN 'not sold'
           ELSE 'outbid'
       END                                                                       AS standing,
       b.auction_id,
       b.bidder
FROM bids b
JOIN auctions a USING (auction_id)
ORDER BY a.title, b.auction_id, b.log_index, b.seq;

COMMENT ON VIEW report_bid_history IS
    'Every accepted bid in the order in which it was accepted, by auction.';
COMMENT ON COLUMN report_bid_history.title IS 'the lot''s title';
COMMENT ON COLUMN report_bid_history.number IS 'the bid''s place in its auction, from 1';
COMMENT ON COLUMN report_bid_history.at IS 'when it was accepted, to the millisecond';
COMMENT ON COLUMN report_bid_history.alias IS
    'the name under which others see the bidder in this auction';
COMMENT ON COLUMN report_bid_history.amount IS 'what was bid';
COMMENT ON COLUMN report_bid_history.currency IS
    'ISO 4217 code of the amounts, which are in its major unit';
COMMENT ON COLUMN report_bid_history.standing IS
    'withdrawn, won, leads (in an open auction), not sold (the highest of an auction that sold nothing), or outbid';
COMMENT ON COLUMN report_bid_history.auction_id IS 'the auction';
COMMENT ON COLUMN report_bid_history.bidder IS 'who bid';
