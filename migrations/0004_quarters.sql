-- Sums per quarter of an hour, so that a range that begins or ends within an hour has less to read row by row. They go when
-- the rows of their hour go.

CREATE TABLE rollup_quarters (
    start                   INTEGER NOT NULL,           -- of the quarter; all else as in rollup_hours
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
