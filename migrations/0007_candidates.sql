-- Plans by name. On record they are arrays, since each request has one: [model, policy, strategy, candidates, omitted], each
-- candidate in the order of the columns below, its five parts of the cost together. Earlier versions wrote the names as well.

CREATE VIEW candidates AS
SELECT
    requests.correlation_id,
    each.key + 1 AS place,                                                      -- 1 is the best
    each.value ->> iif(each.type = 'array', 0, 'provider') AS provider,
    coalesce(each.value ->> iif(each.type = 'array', 1, 'model'), requests.plan ->> 0) AS model,
    each.value ->> iif(each.type = 'array', 2, 'expected_input_tokens') AS expected_input_tokens,
    each.value ->> iif(each.type = 'array', 3, 'expected_cached_input_tokens') AS expected_cached_input_tokens,
    each.value ->> iif(each.type = 'array', 4, 'expected_output_tokens') AS expected_output_tokens,
    each.value ->> iif(each.type = 'array', 5, 'expected_cost_sats') AS expected_cost_sats,
    each.value ->> iif(each.type = 'array', 6, 'price_age_secs') AS price_age_secs,
    each.value ->> iif(each.type = 'array', '$[7][0]', '$.cost_parts.input_sats') AS input_sats,
    each.value ->> iif(each.type = 'array', '$[7][1]', '$.cost_parts.cached_input_sats') AS cached_input_sats,
    each.value ->> iif(each.type = 'array', '$[7][2]', '$.cost_parts.output_sats') AS output_sats,
    each.value ->> iif(each.type = 'array', '$[7][3]', '$.cost_parts.base_fee_sats') AS base_fee_sats,
    each.value ->> iif(each.type = 'array', '$[7][4]', '$.cost_parts.failure_sats') AS failure_sats,
    each.value ->> iif(each.type = 'array', 8, 'success_rate') AS success_rate,
    each.value ->> iif(each.type = 'array', 9, 'latency_ms') AS latency_ms,
    each.value ->> iif(each.type = 'array', 10, 'ranked') AS ranked,
    each.value ->> iif(each.type = 'array', 11, 'skipped') AS skipped
FROM requests
JOIN json_each(requests.plan, iif(json_type(requests.plan) = 'array', '$[3]', '$.candidates')) AS each;
