-- All changes of one auction or event, for replays and for making its rows anew: without this, either
-- reads the whole log of its partition. The key is the entity alone, because equal keys are stored once
-- and their rows are then found in about the order in which they were written.
CREATE INDEX changes_entity ON changes (entity);
