-- What happened in waiting rooms is read from the log of changes (the reports waiting_rooms and
-- waiting_room_minutes): a room's facts are few but for the people who join, so there is no table beside the
-- log to keep in step with it.
CREATE INDEX changes_rooms ON changes (entity)
WHERE kind IN ('room_created', 'room_joined', 'room_left', 'room_sealed', 'room_opened', 'room_admitted',
               'room_passes_expired', 'room_pass_ended', 'room_paused', 'room_resumed', 'room_rate_changed');
