-- One row per request, one per upstream attempt.
--
-- Amounts are whole nanosats (1 sat = 1,000,000,000 nanosats) and exact; the `…_sats` column beside each is the same
-- amount for people. A figure that is not known is NULL, never 0. Times ending in `_ms` are milliseconds.

CREATE TABLE requests (
    id                      INTEGER PRIMARY KEY,
    correlation_id          TEXT    NOT NULL UNIQUE,
    timestamp               INTEGER NOT NULL,           -- arrival, ms since the epoch, UTC
    ended                   INTEGER,                    -- end, ms since the epoch, UTC
    endpoint                TEXT    NOT NULL,
    model                   TEXT    NOT NULL,           -- as asked
    served_model            TEXT,                       -- as sent
    provider                TEXT,
    tier                    TEXT,
    policy                  TEXT,
    streaming               INTEGER NOT NULL,
    input_tokens            INTEGER,
    output_tokens           INTEGER,
    cached_input_tokens     INTEGER,
    reasoning_tokens        INTEGER,
    cost_nanosats           INTEGER,
    cost_sats               REAL GENERATED ALWAYS AS (cost_nanosats / 1e9) VIRTUAL,
    estimated_cost_nanosats INTEGER,
    estimated_cost_sats     REAL GENERATED ALWAYS AS (estimated_cost_nanosats / 1e9) VIRTUAL,
    reference_cost_nanosats INTEGER,
    reference_cost_sats     REAL GENERATED ALWAYS AS (reference_cost_nanosats / 1e9) VIRTUAL,
    provider_cost_nanosats  INTEGER,
    provider_cost_sats      REAL GENERATED ALWAYS AS (provider_cost_nanosats / 1e9) VIRTUAL,
    cost_disagrees          INTEGER NOT NULL DEFAULT 0, -- the provider's figure differs by more than 1 %
    uncovered_units         INTEGER NOT NULL DEFAULT 0, -- units were used that no rate covers
    latency_ms              INTEGER,                    -- winning attempt: start to first byte
    stream_duration_ms      INTEGER,                    -- winning attempt: sent to last byte
    duration_ms             INTEGER,                    -- arrival to end, failed attempts included
    finish_reason           TEXT,
    attempts                INTEGER,
    success                 INTEGER NOT NULL DEFAULT 0,
    error_status            INTEGER,
    error_message           TEXT,                       -- 'in_progress', 'interrupted', … ; NULL on success
    plan                    TEXT,                       -- JSON: every candidate, its expected cost, why it was skipped
    owner                   TEXT                        -- while in progress: the process that serves it
) STRICT;

CREATE INDEX requests_by_time ON requests (timestamp);
CREATE INDEX requests_open ON requests (owner) WHERE owner IS NOT NULL;

CREATE TABLE attempts (
    correlation_id TEXT    NOT NULL,
    number         INTEGER NOT NULL,                    -- 1 is the first
    provider       TEXT    NOT NULL,
    model          TEXT    NOT NULL,                    -- as sent
    outcome        TEXT    NOT NULL,                    -- 'status=429', 'error=timeout', …
    status         INTEGER,
    started_ms     INTEGER NOT NULL,                    -- since the request's arrival
    duration_ms    INTEGER NOT NULL,
    cost_nanosats  INTEGER,                             -- sunk: paid although the attempt failed
    cost_sats      REAL GENERATED ALWAYS AS (cost_nanosats / 1e9) VIRTUAL,
    PRIMARY KEY (correlation_id, number)
) STRICT, WITHOUT ROWID;

-- How far each owner's journal is applied; written in the transaction that applies it, so that nothing counts twice.
CREATE TABLE ledger_progress (
    owner   TEXT    PRIMARY KEY,
    segment INTEGER NOT NULL,
    applied INTEGER NOT NULL                            -- bytes of that segment
) STRICT, WITHOUT ROWID;

CREATE VIEW requests_readable AS
SELECT
    strftime('%Y-%m-%dT%H:%M:%fZ', timestamp / 1000.0, 'unixepoch') AS timestamp,
    correlation_id, endpoint, model, served_model, provider, tier, policy,
    iif(streaming, 'yes', 'no') AS streaming,
    input_tokens, output_tokens, cached_input_tokens, reasoning_tokens,
    cost_sats, estimated_cost_sats, reference_cost_sats, provider_cost_sats,
    iif(cost_disagrees, 'yes', 'no') AS cost_disagrees,
    iif(uncovered_units, 'yes', 'no') AS uncovered_units,
    latency_ms, stream_duration_ms, duration_ms, finish_reason, attempts,
    iif(success, 'yes', 'no') AS success,
    error_status, error_message
FROM requests;
