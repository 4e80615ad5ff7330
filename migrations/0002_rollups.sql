-- Sums and histograms per hour and per day, kept by the writer in the transaction that ends a request. They answer
-- statistics, and stay when rows are deleted.
--
-- A sum that does not fit an INTEGER is its decimal TEXT, which is why these columns are ANY.

-- What rows are counted together. Beyond 10,000, what would be a new one of requests that nobody was served in counts
-- as that of the model '(other)': clients may ask for any name.
CREATE TABLE series (
    id        INTEGER PRIMARY KEY,
    model     TEXT    NOT NULL,
    provider  TEXT,
    policy    TEXT,
    tier      TEXT,
    streaming INTEGER NOT NULL,
    success   INTEGER                                   -- NULL while in progress
) STRICT;

CREATE INDEX series_by_name ON series (model, provider, policy, tier, streaming, success);

CREATE TABLE rollup_hours (
    start                   INTEGER NOT NULL,           -- of the hour, ms since the epoch, UTC
    series                  INTEGER NOT NULL,           -- 0: all of them together
    requests                INTEGER NOT NULL,           -- ended ones that arrived in it
    successes               INTEGER NOT NULL,
    input_tokens            ANY     NOT NULL,
    output_tokens           ANY     NOT NULL,
    cached_input_tokens     ANY     NOT NULL,
    reasoning_tokens        ANY     NOT NULL,
    cost_nanosats           ANY     NOT NULL,
    cost_rows               INTEGER NOT NULL,           -- how many have a known cost
    estimated_cost_nanosats ANY     NOT NULL,           -- of those without one
    estimated_cost_rows     INTEGER NOT NULL,
    unsent                  INTEGER NOT NULL,           -- without either, and never sent to a provider
    reference_cost_nanosats ANY     NOT NULL,
    reference_cost_rows     INTEGER NOT NULL,
    savings_nanosats        ANY     NOT NULL,           -- reference less cost, where both are known
    savings_rows            INTEGER NOT NULL,
    sunk_cost_nanosats      ANY     NOT NULL,           -- of failed attempts
    sunk_cost_rows          INTEGER NOT NULL,
    cost_disagrees          INTEGER NOT NULL,           -- how many rows have the flag
    uncovered_units         INTEGER NOT NULL,
    implausible_usage       INTEGER NOT NULL,
    latency                 BLOB    NOT NULL,           -- histogram
    duration                BLOB    NOT NULL,
    PRIMARY KEY (start, series)
) STRICT, WITHOUT ROWID;

CREATE TABLE rollup_days (
    start                   INTEGER NOT NULL,           -- of the day, UTC; all else as in rollup_hours
    series                  INTEGER NOT NULL,
    requests                INTEGER NOT NULL,
    successes               INTEGER NOT NULL,
    input_tokens            ANY     NOT NULL,
    output_tokens           ANY     NOT NULL,
    cached_input_tokens     ANY     NOT NULL,
    reasoning_tokens        ANY     NOT NULL,
    cost_nanosats           ANY     NOT NULL,
    cost_rows               INTEGER NOT NULL,
    estimated_cost_nanosats ANY     NOT NULL,
    estimated_cost_rows     INTEGER NOT NULL,
    unsent                  INTEGER NOT NULL,
    reference_cost_nanosats ANY     NOT NULL,
    reference_cost_rows     INTEGER NOT NULL,
    savings_nanosats        ANY     NOT NULL,
    savings_rows            INTEGER NOT NULL,
    sunk_cost_nanosats      ANY     NOT NULL,
    sunk_cost_rows          INTEGER NOT NULL,
    cost_disagrees          INTEGER NOT NULL,
    uncovered_units         INTEGER NOT NULL,
    implausible_usage       INTEGER NOT NULL,
    latency                 BLOB    NOT NULL,
    duration                BLOB    NOT NULL,
    PRIMARY KEY (start, series)
) STRICT, WITHOUT ROWID;

-- Rows that arrived before are deleted, or about to be.
CREATE TABLE retention (
    id             INTEGER PRIMARY KEY CHECK (id = 1),
    expired_before INTEGER NOT NULL
) STRICT;

-- What arbstr has learned and wants to know again after a restart.
CREATE TABLE saved_state (
    name  TEXT PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- The table of requests anew: with its series, and with the long text last, which most readers skip.
DROP VIEW requests_readable;
ALTER TABLE requests RENAME TO requests_1;
DROP INDEX requests_by_time;
DROP INDEX requests_open;

CREATE TABLE requests (
    id                      INTEGER PRIMARY KEY,
    correlation_id          TEXT    NOT NULL UNIQUE,
    timestamp               INTEGER NOT NULL,           -- arrival, ms since the epoch, UTC
    series                  INTEGER NOT NULL,
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
    sunk_cost_nanosats      INTEGER,                    -- what failed attempts cost all the same, together
    sunk_cost_sats          REAL GENERATED ALWAYS AS (sunk_cost_nanosats / 1e9) VIRTUAL,
    cost_disagrees          INTEGER NOT NULL DEFAULT 0, -- the provider's figure differs by more than 1 %
    uncovered_units         INTEGER NOT NULL DEFAULT 0, -- units were used that no rate covers
    implausible_usage       INTEGER NOT NULL DEFAULT 0, -- the provider's counts do not fit what was sent
    latency_ms              INTEGER,                    -- winning attempt: start to first byte
    stream_duration_ms      INTEGER,                    -- winning attempt: sent to last byte
    duration_ms             INTEGER,                    -- arrival to end, failed attempts included
    finish_reason           TEXT,
    attempts                INTEGER,
    success                 INTEGER NOT NULL DEFAULT 0,
    error_status            INTEGER,
    error_message           TEXT,                       -- 'in_progress', 'interrupted', … ; NULL on success
    owner                   TEXT,                       -- while in progress: the process that serves it
    plan                    TEXT                        -- JSON: every candidate, its expected cost, why it was skipped
) STRICT;

INSERT INTO series (model, provider, policy, tier, streaming, success)
SELECT DISTINCT model, provider, policy, tier, streaming, iif(owner IS NULL, success, NULL) FROM requests_1;

INSERT INTO requests
    (id, correlation_id, timestamp, series, ended, endpoint, model, served_model, provider, tier, policy, streaming,
     input_tokens, output_tokens, cached_input_tokens, reasoning_tokens, cost_nanosats, estimated_cost_nanosats,
     reference_cost_nanosats, provider_cost_nanosats, sunk_cost_nanosats, cost_disagrees, uncovered_units, latency_ms,
     stream_duration_ms, duration_ms, finish_reason, attempts, success, error_status, error_message, owner, plan)
SELECT r.id, correlation_id, timestamp, s.id, ended, endpoint, r.model, served_model, r.provider, r.tier, r.policy,
     r.streaming, input_tokens, output_tokens, cached_input_tokens, reasoning_tokens, cost_nanosats,
     estimated_cost_nanosats, reference_cost_nanosats, provider_cost_nanosats,
     (SELECT sum(cost_nanosats) FROM attempts WHERE attempts.correlation_id = r.correlation_id),
     cost_disagrees, uncovered_units, latency_ms, stream_duration_ms, duration_ms, finish_reason, attempts, r.success, error_status, error_message,
     owner, plan
FROM requests_1 AS r
JOIN series AS s
  ON s.model = r.model AND s.provider IS r.provider AND s.policy IS r.policy AND s.tier IS r.tier
 AND s.streaming = r.streaming AND s.success IS iif(r.owner IS NULL, r.success, NULL);

DROP TABLE requests_1;

CREATE INDEX requests_by_time ON requests (timestamp);
CREATE INDEX requests_by_series ON requests (series, timestamp);
CREATE INDEX requests_open ON requests (owner) WHERE owner IS NOT NULL;

CREATE VIEW requests_readable AS
SELECT
    strftime('%Y-%m-%dT%H:%M:%fZ', timestamp / 1000.0, 'unixepoch') AS timestamp,
    correlation_id, endpoint, model, served_model, provider, tier, policy,
    iif(streaming, 'yes', 'no') AS streaming,
    input_tokens, output_tokens, cached_input_tokens, reasoning_tokens,
    cost_sats, estimated_cost_sats, reference_cost_sats, provider_cost_sats, sunk_cost_sats,
    iif(cost_disagrees, 'yes', 'no') AS cost_disagrees,
    iif(uncovered_units, 'yes', 'no') AS uncovered_units,
    iif(implausible_usage, 'yes', 'no') AS implausible_usage,
    latency_ms, stream_duration_ms, duration_ms, finish_reason, attempts,
    iif(success, 'yes', 'no') AS success,
    error_status, error_message
FROM requests;

CREATE VIEW rollups_readable AS
SELECT
    strftime('%Y-%m-%dT%H:%MZ', start / 1000, 'unixepoch') AS hour,
    model, provider, policy, tier,
    iif(streaming, 'yes', 'no') AS streaming,
    iif(success, 'yes', 'no') AS success,
    requests, input_tokens, output_tokens, cached_input_tokens, reasoning_tokens,
    cost_nanosats / 1e9 AS cost_sats, cost_rows,
    estimated_cost_nanosats / 1e9 AS estimated_cost_sats, estimated_cost_rows,
    unsent,
    reference_cost_nanosats / 1e9 AS reference_cost_sats, reference_cost_rows,
    savings_nanosats / 1e9 AS savings_sats, savings_rows,
    sunk_cost_nanosats / 1e9 AS sunk_cost_sats, sunk_cost_rows,
    cost_disagrees, uncovered_units, implausible_usage
FROM rollup_hours JOIN series ON series.id = rollup_hours.series;
