CREATE OR REPLACE VIEW report_waiting_rooms AS
SELECT e.name                                                               AS event,
       date_trunc('second', min(c.at) FILTER (WHERE c.kind = 'room_created')) AS created_at,
       date_trunc('second', min(c.at) FILTER (WHERE c.kind = 'room_opened')) AS opened_at,
       count(*) FILTER (WHERE c.kind = 'room_joined')                       AS joined,
       count(*) FILTER (WHERE c.kind = 'room_left')                         AS left_waiting,
       coalesce(sum((c.payload -> 'WaitingRoom' -> 'Admitted' ->> 'passes')::bigint)
                FILTER (WHERE c.kind = 'room_admitted'), 0)::bigint         AS admitted,
       count(*) FILTER (WHERE c.kind = 'room_pass_ended'
                        AND c.payload -> 'WaitingRoom' -> 'PassEnded' ->> 'reason' = 'Bought')
                                                                            AS bought,
       count(*) FILTER (WHERE c.kind = 'room_pass_ended'
                        AND c.payload -> 'WaitingRoom' -> 'PassEnded' ->> 'reason' = 'GivenBack')
                                                                            AS given_back,
       coalesce(sum(jsonb_array_length(c.payload -> 'WaitingRoom' -> 'PassesExpired' -> 'numbers'))
                FILTER (WHERE c.kind = 'room_passes_expired'), 0)::bigint   AS expired,
       c.entity                                                             AS event_id
FROM changes c
LEFT JOIN events e ON e.event_id = c.entity
WHERE c.kind IN ('room_created', 'room_joined', 'room_left', 'room_sealed', 'room_opened', 'room_admitted',
               'room_passes_expired', 'room_pass_ended', 'room_paused', 'room_resumed', 'room_rate_changed')
GROUP BY c.entity, e.name
ORDER BY e.name, c.entity;

COMMENT ON VIEW report_waiting_rooms IS
    'The waiting room of every event that has one: how many came, got in, bought and gave up.';
COMMENT ON COLUMN report_waiting_rooms.created_at IS 'when the room was made';
COMMENT ON COLUMN report_waiting_rooms.opened_at IS 'when the order was drawn; empty before';
COMMENT ON COLUMN report_waiting_rooms.event IS 'the event''s name';
COMMENT ON COLUMN report_waiting_rooms.joined IS 'people who came';
COMMENT ON COLUMN report_waiting_rooms.left_waiting IS 'people who left before they were admitted';
COMMENT ON COLUMN report_waiting_rooms.admitted IS 'people who got a pass';
COMMENT ON COLUMN report_waiting_rooms.bought IS 'passes that ended with a purchase';
COMMENT ON COLUMN report_waiting_rooms.given_back IS 'passes that were given back';
COMMENT ON COLUMN report_waiting_rooms.expired IS 'passes that ran out unused';
COMMENT ON COLUMN report_waiting_rooms.event_id IS 'the event';
