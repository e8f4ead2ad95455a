CREATE OR REPLACE VIEW report_waiting_room_minutes AS
SELECT e.name                                                               AS event,
       date_trunc('minute', c.at)                                           AS minute,
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
GROUP BY c.entity, e.name, date_trunc('minute', c.at)
ORDER BY e.name, c.entity, date_trunc('minute', c.at);

COMMENT ON VIEW report_waiting_room_minutes IS
    'What happened in waiting rooms, minute by minute: how fast people came, got in and gave up.';
COMMENT ON COLUMN report_waiting_room_minutes.minute IS 'the minute''s beginning';
COMMENT ON COLUMN report_waiting_room_minutes.event IS 'the event''s name';
COMMENT ON COLUMN report_waiting_room_minutes.joined IS 'people who came';
COMMENT ON COLUMN report_waiting_room_minutes.left_waiting IS 'people who left before they were admitted';
COMMENT ON COLUMN report_waiting_room_minutes.admitted IS 'people who got a pass';
COMMENT ON COLUMN report_waiting_room_minutes.bought IS 'passes that ended with a purchase';
COMMENT ON COLUMN report_waiting_room_minutes.given_back IS 'passes that were given back';
COMMENT ON COLUMN report_waiting_room_minutes.expired IS 'passes that ran out unused';
COMMENT ON COLUMN report_waiting_room_minutes.event_id IS 'the event';
