-- Nearly each request has one attempt, which answers. Its row tells all about it but its times, so these are kept there
-- too; only the other attempts are rows of their own. The view `attempts` has all of them.

-- NULL unless the only attempt answered with 200, at the row's `provider`, asked for its `served_model`.
ALTER TABLE requests ADD COLUMN sole_attempt_started_ms INTEGER;  -- since the request's arrival
ALTER TABLE requests ADD COLUMN sole_attempt_duration_ms INTEGER;

ALTER TABLE attempts RENAME TO attempts_apart;

CREATE VIEW attempts AS
SELECT correlation_id, number, provider, model, outcome, status, started_ms, duration_ms, cost_nanosats, cost_sats
FROM attempts_apart
UNION ALL
SELECT correlation_id, 1, provider, served_model, 'status=200', 200, sole_attempt_started_ms, sole_attempt_duration_ms,
    NULL, NULL
FROM requests WHERE sole_attempt_started_ms IS NOT NULL;
