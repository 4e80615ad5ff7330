//! Every key of a config, for people: the one table behind `docs/configuration.md`, `arbstr check --reference` and the
//! answer to a key in the wrong section.
//!
//! Tests hold it against the parser, so that a key which is read and not described, or described and not read, or
//! described with another default, does not pass.

use std::fmt::Write as _;

use super::preset::PRESETS;

/// A table of the file.
pub(super) struct Section {
    /// As it stands in a file.
    heading: &'static str,
    /// What it is for, in Markdown.
    about: &'static str,
    /// In the order in which the parser asks for them.
    keys: &'static [Key],
}

/// One key.
struct Key {
    name: &'static str,
    kind: &'static str,
    /// As TOML; anything that is no TOML value in words.
    default: &'static str,
    about: &'static str,
}

/// The sections that have a key of this name, as they stand in a file.
pub(super) fn homes(key: &str) -> impl Iterator<Item = &'static str> {
    let has = move |section: &&Section| section.keys.iter().any(|known| known.name == key);
    SECTIONS.iter().filter(has).map(|section| section.heading)
}

/// All of it as Markdown.
pub(crate) fn page() -> String {
    let mut out = String::from(INTRODUCTION);
    for section in SECTIONS {
        // Writing to a String cannot fail.
        let _ = write!(out, "\n## `{}`\n\n{}\n", section.heading, section.about);
        out.push_str("\n| key | type | default | |\n|-|-|-|-|\n");
        for key in section.keys {
            let _ = writeln!(
                out,
                "| `{}` | {} | {} | {} |",
                key.name,
                key.kind,
                shown(key.default),
                key.about
            );
        }
    }
    out.push_str(KINDS);
    for (name, preset) in PRESETS {
        let key = preset
            .key
            .map_or_else(|| "none".to_owned(), |key| format!("`{key}`"));
        let _ = writeln!(
            out,
            "| `{name}` | {} | {key} | {} | {} |",
            preset.url, preset.auto_discover, preset.tier
        );
    }
    out.push_str(DISCOVERY);
    out
}

/// A default as code, unless it is words.
fn shown(default: &str) -> String {
    let is_words = default.is_empty() || default.starts_with('*');
    if is_words {
        default.to_owned()
    } else {
        format!("`{default}`")
    }
}

const fn key(
    name: &'static str,
    kind: &'static str,
    default: &'static str,
    about: &'static str,
) -> Key {
    Key {
        name,
        kind,
        default,
        about,
    }
}

const INTRODUCTION: &str = include_str!("reference/introduction.md");
const KINDS: &str = include_str!("reference/kinds.md");
const DISCOVERY: &str = include_str!("reference/discovery.md");
const POLICIES: &str = include_str!("reference/policies.md").trim_ascii_end();

const SECTIONS: &[Section] = &[
    Section {
        heading: "[server]",
        about: "The listener. A change of `listen` takes effect at the next start.",
        keys: &[
            key(
                "listen",
                "address",
                "\"127.0.0.1:8080\"",
                "Any address but loopback needs `auth_token`, or `--allow-open`.",
            ),
            key(
                "auth_token",
                "string",
                "*none*",
                "What clients must send as `Authorization: Bearer …`.",
            ),
            key(
                "max_body_bytes",
                "whole number",
                "33554432",
                "The largest request body.",
            ),
            key(
                "cors_origins",
                "list of origins",
                "[]",
                "Browser pages that may call, for instance `\"https://app.example\"`.",
            ),
            key(
                "shutdown_grace_secs",
                "seconds",
                "30",
                "How long streams may go on after a signal to stop.",
            ),
        ],
    },
    Section {
        heading: "[database]",
        about: "Where records are kept. A change of `path` takes effect at the next start.",
        keys: &[
            key(
                "path",
                "path",
                "\"./arbstr.db\"",
                "The SQLite file; a missing folder is made.",
            ),
            key(
                "retention_days",
                "whole number",
                "0",
                "Days that records are kept; 0 = for ever.",
            ),
        ],
    },
    Section {
        heading: "[stream]",
        about: "How streams end.",
        keys: &[
            key(
                "metadata",
                "`\"event\"`, `\"comment\"`, `\"off\"`",
                "\"event\"",
                "How the cost reaches the client at the end of a stream.",
            ),
            key(
                "on_client_disconnect",
                "`\"drain\"`, `\"abort\"`",
                "\"drain\"",
                "When the client leaves: read on for the usage, or close the provider's stream at once.",
            ),
            key(
                "drain_max_secs",
                "seconds",
                "60",
                "The longest that a stream is read on for.",
            ),
        ],
    },
    Section {
        heading: "[timeouts]",
        about: "In seconds, with up to three decimals. Each can be overridden in a provider: `timeouts = { idle = 120 }`.",
        keys: &[
            key(
                "connect",
                "seconds",
                "5",
                "Until there is a connection, name lookup and TLS included.",
            ),
            key(
                "first_event",
                "seconds or `\"auto\"`",
                "\"auto\"",
                "Stream: until its first event, while another candidate remains. `\"auto\"` is 12, or more for a provider and model that is known to take longer.",
            ),
            key(
                "response",
                "seconds",
                "300",
                "JSON: until the head of the answer, at each candidate. A stream's last candidate has as long for its first event.",
            ),
            key("idle", "seconds", "60", "Stream: between two reads."),
            key(
                "client_stall",
                "seconds",
                "120",
                "A client that reads nothing for this long is cut off.",
            ),
            key("total", "seconds", "0", "The whole request; 0 = no limit."),
        ],
    },
    Section {
        heading: "[retry]",
        about: "How often and how fast is asked again. A provider that sends `Retry-After` is left alone for so long (`retry-after-ms` is finer), an hour at most; one that answers 429 four times in a row to requests that had it to themselves, for a second, and up to a minute if that goes on.",
        keys: &[
            key(
                "max_attempts",
                "1 to 100",
                "8",
                "For each request; every candidate comes once before any comes twice.",
            ),
            key(
                "backoff_base_ms",
                "0 to 60000",
                "200",
                "The first pause before a second try at the same provider; doubles, with jitter.",
            ),
            key(
                "same_provider_first",
                "0 to 10",
                "0",
                "Quick tries again at a provider before the next candidate.",
            ),
        ],
    },
    Section {
        heading: "[circuit]",
        about: "When a provider is left alone.",
        keys: &[
            key(
                "failures",
                "1 to 1000",
                "3",
                "Failures in a row that open the circuit of a provider and model.",
            ),
            key(
                "open_secs",
                "seconds",
                "30",
                "How long it stays open before a single request probes it.",
            ),
        ],
    },
    Section {
        heading: "[prices]",
        about: "What dollars are worth, for providers that publish or report them. Without any of this, prices in dollars stay unknown.",
        keys: &[
            key(
                "usd_per_btc",
                "1000 to 100000000",
                "*none*",
                "US dollars for one bitcoin. Beside an address it holds until the first answer, and no answer counts that is more than double or less than half of it.",
            ),
            key(
                "btc_price_url",
                "URL",
                "*none*",
                "Answers `GET` with JSON that has the price; https, or http on this machine.",
            ),
            key(
                "btc_price_pointer",
                "JSON pointer",
                "*none*",
                "Where in it, for instance `\"/bitcoin/usd\"`.",
            ),
            key("btc_price_secs", "seconds", "900", "How often it is read."),
        ],
    },
    Section {
        heading: "[telemetry]",
        about: "OpenTelemetry traces; see [monitoring](monitoring.md).",
        keys: &[
            key(
                "otlp_endpoint",
                "URL",
                "*none*",
                "The collector's base URL, such as `http://127.0.0.1:4318`; without it nothing is traced.",
            ),
            key(
                "service_name",
                "string",
                "\"arbstr\"",
                "How this arbstr is called in traces.",
            ),
            key("headers", "table", "{}", "Sent to the collector."),
            key(
                "sample_ratio",
                "0 to 1",
                "1",
                "The share of requests that are traced, unless their client has decided.",
            ),
        ],
    },
    Section {
        heading: "[[providers]]",
        about: "One table for each provider. Rates are sats per 1,000,000 tokens with up to 3 decimals; `0` is free, and nothing at all is *unknown*, which is ranked last and never called 0.",
        keys: &[
            key(
                "name",
                "string",
                "*required*",
                "1 to 64 ASCII letters, digits, `.`, `_` or `-`; unique.",
            ),
            key(
                "kind",
                "see below",
                "*none*",
                "Fills in what is known of such providers.",
            ),
            key(
                "url",
                "URL",
                "*required without `kind`*",
                "The base URL, such as `https://provider.example/v1`.",
            ),
            key(
                "api_key",
                "string",
                "*the variable `ARBSTR_<NAME>_API_KEY`*",
                "Sent as Bearer. `\"${VARIABLE}\"` keeps it out of the file.",
            ),
            key(
                "models",
                "list of names",
                "*required unless discovered*",
                "What it sells.",
            ),
            key("input_rate", "rate", "*none*", "For input tokens."),
            key(
                "output_rate",
                "rate",
                "*none*",
                "For output tokens, reasoning included.",
            ),
            key(
                "cached_input_rate",
                "rate",
                "*`input_rate`*",
                "For input tokens that come from the provider's cache.",
            ),
            key(
                "base_fee",
                "sats",
                "0",
                "For each request, up to 9 decimals.",
            ),
            key(
                "tier",
                "`\"local\"`, `\"standard\"`, `\"frontier\"`",
                "\"standard\"",
                "How good it is; rules can ask for at least one of these.",
            ),
            key(
                "max_concurrency",
                "whole number",
                "0",
                "Requests at a time; 0 = learned from its 429s.",
            ),
            key("headers", "table", "{}", "Sent to it with every request."),
            key(
                "on_client_disconnect",
                "`\"drain\"`, `\"abort\"`",
                "*that of `[stream]`*",
                "Overrides it for this provider.",
            ),
            key(
                "requires_done",
                "true or false",
                "true",
                "`false`: this provider never sends `[DONE]`.",
            ),
            key(
                "auto_discover",
                "true or false",
                "false",
                "Models, and prices where it publishes them, come from its `GET /models`.",
            ),
            key(
                "discover_secs",
                "seconds",
                "900",
                "How often that list is read, give or take a tenth; at least 1.",
            ),
            key(
                "timeouts",
                "table",
                "{}",
                "Overrides single keys of `[timeouts]`.",
            ),
            key("model_rates", "tables", "[]", "See below."),
        ],
    },
    Section {
        heading: "[[providers.model_rates]]",
        about: "A model with a price or a name of its own. Rates left out are the provider's.",
        keys: &[
            key(
                "model",
                "string",
                "*required*",
                "One of the provider's `models`; with discovery it need not stand there.",
            ),
            key(
                "upstream_model",
                "string",
                "*`model`*",
                "What the provider calls it.",
            ),
            key("input_rate", "rate", "*the provider's*", ""),
            key("output_rate", "rate", "*the provider's*", ""),
            key(
                "cached_input_rate",
                "rate",
                "*the provider's, unless `input_rate` is set here*",
                "",
            ),
            key("base_fee", "sats", "*the provider's*", ""),
        ],
    },
    Section {
        heading: "[[models]]",
        about: "A name for several models that you find good enough for one another.",
        keys: &[
            key("name", "string", "*required*", "What clients ask for."),
            key(
                "any_of",
                "list of names",
                "*required*",
                "The models that may serve it.",
            ),
        ],
    },
    Section {
        heading: "[policies]",
        about: POLICIES,
        keys: &[
            key(
                "default_strategy",
                "`\"cheapest\"`, `\"lowest_latency\"`, `\"round_robin\"`",
                "\"cheapest\"",
                "Where no rule says otherwise.",
            ),
            key("rules", "tables", "[]", "See below."),
        ],
    },
    Section {
        heading: "[[policies.rules]]",
        about: "A rule applies when the header `X-Arbstr-Policy` names it, else when one of its keywords is in the request; the first that fits.",
        keys: &[
            key("name", "string", "*required*", "Unique, visible ASCII."),
            key("allowed_models", "list of names", "[]", "Empty for all."),
            key("allowed_providers", "list of names", "[]", "Empty for all."),
            key(
                "min_tier",
                "`\"local\"`, `\"standard\"`, `\"frontier\"`",
                "*none*",
                "The lowest tier that may serve.",
            ),
            key(
                "max_sats_per_1m_output",
                "rate",
                "*none*",
                "The dearest output rate.",
            ),
            key(
                "max_cost_sats",
                "sats",
                "*none*",
                "The most that one request may be expected to cost.",
            ),
            key(
                "strategy",
                "as `default_strategy`",
                "*that of `[policies]`*",
                "",
            ),
            key(
                "keywords",
                "list of words",
                "[]",
                "Words that choose this rule.",
            ),
        ],
    },
];

#[cfg(test)]
mod tests;
