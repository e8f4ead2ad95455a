-- Where in its partition's log an auction or event begins, and where an auction ends: whoever reads one
-- of them reads that part of the log alone. An index of all changes by entity would find them sooner, and
-- cost every change a third more to insert; this one has two rows an auction.
CREATE INDEX changes_lives ON changes (entity)
WHERE kind IN ('event_created', 'auction_created', 'auction_ended', 'auction_cancelled');
