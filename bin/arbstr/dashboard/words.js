// What records say in codes, in words. A code that is not known here is shown as it is.

/** How an attempt ended, from a record's `status=401` or `error=timeout`. */
export function attemptEnd(outcome) {
  if (outcome === "in_progress") return "under way";
  const [key, value] = outcome.split("=");
  if (key === "status") return answered(value);
  return key === "error" ? ended(value) : outcome;
}

/** That a provider answered with this status. */
export function answered(status) {
  return status in MEANINGS ? `answered ${status} (${MEANINGS[status]})` : `answered ${status}`;
}

/** How an attempt ended of which no status tells: `timeout`, `connect`, … */
export function ended(kind) {
  return ENDS[kind] ?? kind;
}

/** Why a request got no whole answer, from its record. */
export function failure({ error_message: code, error_status: status, attempts }) {
  if (code === null) return "It failed.";
  const told = status === null ? "" : ` The client got status ${status}.`;
  if (code.startsWith(UPSTREAM)) return broken(code.slice(UPSTREAM.length), status) + told;
  const isAsked = (attempts?.length ?? attempts) > 0;
  if (code === "all_providers_failed") return (isAsked ? "Every provider that was asked failed." : "No provider could be asked.") + told;
  return code in REFUSALS ? REFUSALS[code] + told : status === null ? code : `${code} (status ${status})`;
}

/** What a provider did; without a status its answer had begun. */
function broken(kind, status) {
  if (kind === "internal") return "Something went wrong inside arbstr; the log says what.";
  if (status !== null) return kind === "status" ? `The provider ${answered(status)}.` : `The provider ${ended(kind)}.`;
  if (kind === "timeout") return "The answer took too long or fell silent, and was broken off.";
  if (kind === "reset" || kind in ENDS) return "The connection broke in the middle of the answer.";
  return `The provider ended its answer with an error, which it calls ${kind}.`;
}

const UPSTREAM = "upstream_error: ";
const MEANINGS = {
  400: "bad request", 401: "key refused", 402: "payment required", 403: "not allowed", 404: "not found", 408: "timeout", 413: "request too large",
  422: "bad request", 429: "too many requests", 500: "error on its side", 502: "bad gateway", 503: "not available", 504: "timeout behind it",
};
const ENDS = {
  status: "answered with an error",
  connect: "could not be reached",
  tls: "made no TLS connection",
  dns: "has a host name without an address",
  connect_timeout: "did not connect in time",
  no_socket: "could not be asked, as arbstr had no files left to open",
  timeout: "did not answer in time",
  closed: "closed the connection before it had answered",
  cut: "broke off in the middle of its answer",
  empty: "answered with nothing",
  not_sse: "answered with something that is not a stream",
  bad_json: "answered with something that is not JSON",
  no_result: "answered with JSON that has no result in it",
  error_event: "answered with an error inside a success",
  too_large: "answered with more than can be held",
  cancelled: "was given up before it had answered",
};
const REFUSALS = {
  server_shutting_down: "arbstr was shutting down.",
  model_not_found: "No provider has this model.",
  unknown_policy: "There is no policy of the name that was asked for.",
  policy_violation: "The policy leaves no provider that has this model.",
};
