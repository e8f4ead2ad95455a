CREATE OR REPLACE VIEW report_suspicious_bidding AS
WITH ordered AS (
    SELECT b.auction_id,
           b.bidder,
           b.at,
           lag(b.bidder) OVER (PARTITION BY b.auction_id ORDER BY b.log_index, b.seq) AS before
    FROM bids b
), pairs AS (
    SELECT o.auction_id,
           least(o.bidder, o.before)    AS one,
           greatest(o.bidder, o.before) AS two,
           count(*)                     AS answers,
           max(o.at)                    AS at
    FROM ordered o
    WHERE o.before <> o.bidder
    GROUP BY o.auction_id, least(o.bidder, o.before), greatest(o.bidder, o.before)
    HAVING count(*) >= 4
), pushing AS (
    SELECT p.*,
           a.host,
           count(*) OVER (PARTITION BY a.host, p.one, p.two)       AS auctions,
           sum(p.answers) OVER (PARTITION BY a.host, p.one, p.two) AS answers_in_all
    FROM pairs p
    JOIN auctions a USING (auction_id)
), took_part AS (
    SELECT b.bidder, b.auction_id, count(*) AS bids, max(b.at) AS at
    FROM bids b
    GROUP BY b.bidder, b.auction_id
), with_host AS (
    SELECT t.bidder,
           a.host,
           count(*)                                     AS auctions,
           count(*) FILTER (WHERE a.outcome = 'sold')   AS sold,
           count(*) FILTER (WHERE a.winner = t.bidder)  AS won,
           sum(t.bids)                                  AS bids,
           max(t.at)                                    AS at,
           (array_agg(t.auction_id ORDER BY t.at DESC, t.auction_id))[1] AS auction_id
    FROM took_part t
    JOIN auctions a USING (auction_id)
    GROUP BY t.bidder, a.host
), losers AS (
    SELECT w.*, sum(w.auctions) OVER (PARTITION BY w.bidder) AS auctions_in_all
    FROM with_host w
), bursts AS (
    SELECT b.auction_id, b.bidder, count(*) AS bids, max(b.at) AS at
    FROM bids b
    JOIN auctions a USING (auction_id)
    WHERE a.status = 'ended' AND b.at > a.ended_at - interval '30 seconds'
    GROUP BY b.auction_id, b.bidder
    HAVING count(*) >= 4
), withdrawals AS (
    SELECT b.auction_id,
           b.bidder,
           outbid.bidder                                AS other,
           b.amount,
           outbid.amount                                AS from_amount,
           coalesce(gone.at, b.at)                      AS at,
           extract(epoch FROM gone.at - b.at)           AS after_s
    FROM bids b
    JOIN auctions a USING (auction_id)
    CROSS JOIN LATERAL (
        SELECT o.bidder, o.amount
        FROM bids o
        WHERE o.auction_id = b.auction_id
          AND (o.log_index, o.seq) < (b.log_index, b.seq)
          AND o.bidder <> b.bidder
          -- One that was withdrawn before was not outbid.
          AND NOT (o.withdrawn AND o.version < b.log_index)
        ORDER BY o.log_index DESC, o.seq DESC
        LIMIT 1
    ) outbid
    -- A bid's last version is the log index of its withdrawal.
    LEFT JOIN LATERAL (
        SELECT c.at
        FROM changes c
        WHERE c.partition = a.partition AND c.log_index = b.version AND c.kind = 'bid_withdrawn'
        LIMIT 1
    ) gone ON true
    WHERE b.withdrawn
), flags AS (
    SELECT 'pushing_pair' AS flag,
           format('these two bidders answered each other %s times here, and %s times in %s auctions of this host',
                  answers, answers_in_all, auctions) AS reason,
           at, one AS bidder, two AS other_bidder, auction_id
    FROM pushing
    WHERE auctions >= 2
    UNION ALL
    SELECT 'never_wins',
           format('bid %s times in %s auctions of this host, of which %s sold, and won none; this bidder bid in %s auctions in all',
                  bids, auctions, sold, auctions_in_all),
           at, bidder, NULL, auction_id
    FROM losers
    WHERE won = 0 AND sold >= 3 AND auctions * 4 >= auctions_in_all * 3
    UNION ALL
    SELECT 'late_burst',
           format('%s bids of one bidder in the last 30 seconds', bids),
           at, bidder, NULL, auction_id
    FROM bursts
    UNION ALL
    SELECT 'withdrew_after_outbidding',
           format('outbid another bidder''s %s with %s %s and withdrew%s',
                  major_units(w.from_amount, a.minor_digits), major_units(w.amount, a.minor_digits),
                  a.currency, ' ' || round(w.after_s::numeric, 1) || ' seconds later'),
           w.at, w.bidder, w.other, w.auction_id
    FROM withdrawals w
    JOIN auctions a USING (auction_id)
)
SELECT f.flag,
       f.reason,
       f.at,
       a.title,
       f.bidder,
       f.other_bidder,
       a.host,
       f.auction_id
FROM flags f
JOIN auctions a USING (auction_id)
ORDER BY f.at DESC, f.flag, f.bidder, f.auction_id;

COMMENT ON VIEW report_suspicious_bidding IS
    'What a person should look at, with the reason in words, latest first. A flag proves nothing: keen collectors look like this too. Rules: pushing_pair, two bidders answer each other at least 4 times in each of at least 2 auctions of one host; never_wins, at least 3 sold lots of one host with bids of this bidder and none won, and at least 3 of 4 of all the bidder''s auctions are this host''s; late_burst, at least 4 bids of one bidder in the last 30 seconds; withdrew_after_outbidding, a withdrawn bid that was above somebody else''s.';
COMMENT ON COLUMN report_suspicious_bidding.flag IS
    'which rule: pushing_pair, never_wins, late_burst or withdrew_after_outbidding';
COMMENT ON COLUMN report_suspicious_bidding.reason IS 'what was found, in words';
COMMENT ON COLUMN report_suspicious_bidding.at IS
    'when it was last seen: the last of the bids, or the withdrawal';
COMMENT ON COLUMN report_suspicious_bidding.title IS 'the lot''s title';
COMMENT ON COLUMN report_suspicious_bidding.bidder IS
    'whom to look at; of a pair, the one with the lower id';
COMMENT ON COLUMN report_suspicious_bidding.other_bidder IS
    'the other of the pair, or who was outbid';
COMMENT ON COLUMN report_suspicious_bidding.host IS 'whose auction it is';
COMMENT ON COLUMN report_suspicious_bidding.auction_id IS
    'the auction; for never_wins the last one with a bid';
