-- What happened in waiting rooms, as views of the log of changes: a room's facts are few but for the people
-- who join, so there is no table beside the log to keep in step with it. An admission is one change for all
-- who were admitted together.
CREATE INDEX changes_rooms ON changes (entity)
WHERE kind IN ('room_created', 'room_joined', 'room_left', 'room_sealed', 'room_opened', 'room_admitted',
               'room_passes_expired', 'room_pass_ended', 'room_paused', 'room_resumed', 'room_rate_changed');

-- One row an event with a waiting room: how many came, got in, bought, and gave up at which point.
CREATE VIEW waiting_rooms AS
SELECT entity AS event_id,
       min(at) FILTER (WHERE kind = 'room_created') AS created_at,
       min(at) FILTER (WHERE kind = 'room_opened') AS opened_at,
       count(*) FILTER (WHERE kind = 'room_joined') AS joined,
       count(*) FILTER (WHERE kind = 'room_left') AS left_waiting,
       coalesce(sum((payload -> 'WaitingRoom' -> 'Admitted' ->> 'passes')::bigint)
                FILTER (WHERE kind = 'room_admitted'), 0)::bigint AS admitted,
       count(*) FILTER (WHERE kind = 'room_pass_ended'
                        AND payload -> 'WaitingRoom' -> 'PassEnded' ->> 'reason' = 'Bought') AS bought,
       count(*) FILTER (WHERE kind = 'room_pass_ended'
                        AND payload -> 'WaitingRoom' -> 'PassEnded' ->> 'reason' = 'GivenBack') AS given_back,
       coalesce(sum(jsonb_array_length(payload -> 'WaitingRoom' -> 'PassesExpired' -> 'numbers'))
                FILTER (WHERE kind = 'room_passes_expired'), 0)::bigint AS expired
FROM changes
WHERE kind IN ('room_created', 'room_joined', 'room_left', 'room_sealed', 'room_opened', 'room_admitted',
               'room_passes_expired', 'room_pass_ended', 'room_paused', 'room_resumed', 'room_rate_changed')
GROUP BY entity;

-- The same by minute: how fast people came, got in and gave up.
CREATE VIEW waiting_room_minutes AS
SELECT entity AS event_id,
       date_trunc('minute', at) AS minute,
       count(*) FILTER (WHERE kind = 'room_joined') AS joined,
       count(*) FILTER (WHERE kind = 'room_left') AS left_waiting,
       coalesce(sum((payload -> 'WaitingRoom' -> 'Admitted' ->> 'passes')::bigint)
                FILTER (WHERE kind = 'room_admitted'), 0)::bigint AS admitted,
       count(*) FILTER (WHERE kind = 'room_pass_ended'
                        AND payload -> 'WaitingRoom' -> 'PassEnded' ->> 'reason' = 'Bought') AS bought,
       coalesce(sum(jsonb_array_length(payload -> 'WaitingRoom' -> 'PassesExpired' -> 'numbers'))
                FILTER (WHERE kind = 'room_passes_expired'), 0)::bigint AS expired
FROM changes
WHERE kind IN ('room_created', 'room_joined', 'room_left', 'room_sealed', 'room_opened', 'room_admitted',
               'room_passes_expired', 'room_pass_ended', 'room_paused', 'room_resumed', 'room_rate_changed')
GROUP BY entity, date_trunc('minute', at);
