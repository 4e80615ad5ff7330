-- Who is asked is on record from the start of each attempt on: the row of a request that is in progress, or was when its
-- process died, names the provider that has it, and counts that attempt. The view `attempts` shows it, without an end.

-- Since the request's arrival; NULL once the request is completed.
ALTER TABLE requests ADD COLUMN asked_ms INTEGER;

DROP VIEW attempts;
CREATE VIEW attempts AS
SELECT correlation_id, number, provider, model, outcome, status, started_ms, duration_ms, cost_nanosats, cost_sats
FROM attempts_apart
UNION ALL
SELECT correlation_id, 1, provider, served_model, 'status=200', 200, sole_attempt_started_ms, sole_attempt_duration_ms,
    NULL, NULL
FROM requests WHERE sole_attempt_started_ms IS NOT NULL
UNION ALL
SELECT correlation_id, attempts, provider, served_model, error_message, NULL, asked_ms, NULL, NULL, NULL
FROM requests WHERE asked_ms IS NOT NULL;
