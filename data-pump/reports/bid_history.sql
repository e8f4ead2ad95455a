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
           WHEN a.status = 'open' AND b.amount = a.current_price THEN 'leads'
           ELSE 'outbid'
       END                                                                       AS standing,
       b.auction_id,
       b.bidder
FROM bids b
JOIN auctions a USING (auction_id)
ORDER BY a.title, b.auction_id, b.log_index, b.seq;
