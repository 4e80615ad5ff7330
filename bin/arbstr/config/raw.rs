//! A config as its file has it: which keys there are, and which TOML type each has.
//!
//! Nothing is defaulted, expanded or checked for sense here; `resolve` does that. The reading functions below are the
//! one list of every key there is.

use super::expand::Template;
use super::problem::{At, Place, Problem};
use super::reader::{Number, Section, read_document};

/// The whole file.
#[derive(Debug, Default)]
pub(super) struct Raw {
    pub(super) server: Server,
    pub(super) database: Database,
    pub(super) stream: Stream,
    pub(super) timeouts: Timeouts,
    pub(super) retry: Retry,
    pub(super) circuit: Circuit,
    pub(super) prices: BtcPrices,
    pub(super) providers: Vec<Provider>,
    pub(super) models: Vec<VirtualModel>,
    pub(super) policies: Policies,
    pub(super) telemetry: Telemetry,
}

/// `[server]`
#[derive(Debug, Default)]
pub(super) struct Server {
    pub(super) listen: Option<At<Template>>,
    pub(super) auth_token: Option<At<Template>>,
    pub(super) max_body_bytes: Option<At<Number>>,
    pub(super) cors_origins: Option<At<Vec<At<Template>>>>,
    pub(super) shutdown_grace_secs: Option<At<Number>>,
}

/// `[database]`
#[derive(Debug, Default)]
pub(super) struct Database {
    pub(super) path: Option<At<Template>>,
    pub(super) retention_days: Option<At<Number>>,
}

/// `[stream]`
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) metadata: Option<At<Template>>,
    pub(super) on_client_disconnect: Option<At<Template>>,
    pub(super) drain_max_secs: Option<At<Number>>,
}

/// `[timeouts]`, and a provider's own.
#[derive(Debug, Default)]
pub(super) struct Timeouts {
    pub(super) connect: Option<At<Number>>,
    pub(super) first_event: Option<At<Result<Number, Template>>>,
    pub(super) response: Option<At<Number>>,
    pub(super) idle: Option<At<Number>>,
    pub(super) client_stall: Option<At<Number>>,
    pub(super) total: Option<At<Number>>,
}

/// `[retry]`
#[derive(Debug, Default)]
pub(super) struct Retry {
    pub(super) max_attempts: Option<At<Number>>,
    pub(super) backoff_base_ms: Option<At<Number>>,
    pub(super) same_provider_first: Option<At<Number>>,
}

/// `[circuit]`
#[derive(Debug, Default)]
pub(super) struct Circuit {
    pub(super) failures: Option<At<Number>>,
    pub(super) open_secs: Option<At<Number>>,
}

/// `[prices]`
#[derive(Debug, Default)]
pub(super) struct BtcPrices {
    pub(super) usd_per_btc: Option<At<Number>>,
    pub(super) btc_price_url: Option<At<Template>>,
    pub(super) btc_price_pointer: Option<At<Template>>,
    pub(super) btc_price_secs: Option<At<Number>>,
}

/// `[telemetry]`
#[derive(Debug, Default)]
pub(super) struct Telemetry {
    pub(super) otlp_endpoint: Option<At<Template>>,
    pub(super) service_name: Option<At<Template>>,
    pub(super) headers: Vec<(String, At<Template>)>,
    pub(super) sample_ratio: Option<At<Number>>,
}

/// One of `[[providers]]`.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) place: Place,
    pub(super) name: Option<At<Template>>,
    pub(super) kind: Option<At<Template>>,
    pub(super) url: Option<At<Template>>,
    pub(super) api_key: Option<At<Template>>,
    pub(super) models: Option<At<Vec<At<Template>>>>,
    pub(super) prices: Prices,
    pub(super) tier: Option<At<Template>>,
    pub(super) max_concurrency: Option<At<Number>>,
    pub(super) headers: Vec<(String, At<Template>)>,
    pub(super) on_client_disconnect: Option<At<Template>>,
    pub(super) requires_done: Option<At<bool>>,
    pub(super) auto_discover: Option<At<bool>>,
    pub(super) discover_secs: Option<At<Number>>,
    pub(super) timeouts: Timeouts,
    pub(super) model_rates: Vec<ModelRates>,
}

/// One of `[[providers.model_rates]]`.
#[derive(Debug)]
pub(super) struct ModelRates {
    pub(super) model: Option<At<Template>>,
    pub(super) upstream_model: Option<At<Template>>,
    pub(super) prices: Prices,
}

/// What a provider, or one of its models, costs.
#[derive(Debug, Default, Clone)]
pub(super) struct Prices {
    pub(super) input_rate: Option<At<Number>>,
    pub(super) output_rate: Option<At<Number>>,
    pub(super) cached_input_rate: Option<At<Number>>,
    pub(super) base_fee: Option<At<Number>>,
}

/// One of `[[models]]`.
#[derive(Debug)]
pub(super) struct VirtualModel {
    pub(super) name: Option<At<Template>>,
    pub(super) any_of: Option<At<Vec<At<Template>>>>,
}

/// `[policies]`
#[derive(Debug, Default)]
pub(super) struct Policies {
    pub(super) default_strategy: Option<At<Template>>,
    pub(super) rules: Vec<Rule>,
}

/// One of `[[policies.rules]]`.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) name: Option<At<Template>>,
    pub(super) allowed_models: Option<At<Vec<At<Template>>>>,
    pub(super) allowed_providers: Option<At<Vec<At<Template>>>>,
    pub(super) min_tier: Option<At<Template>>,
    pub(super) max_sats_per_1m_output: Option<At<Number>>,
    pub(super) max_cost_sats: Option<At<Number>>,
    pub(super) strategy: Option<At<Template>>,
    pub(super) keywords: Option<At<Vec<At<Template>>>>,
}

/// Reads a file's text. `None` when it is not TOML; whatever is wrong is added to `problems`.
pub(super) fn read(text: &str, problems: &mut Vec<Problem>) -> Option<Raw> {
    read_document(text, problems, |root| Raw {
        server: root.child("server", server).unwrap_or_default(),
        database: root.child("database", database).unwrap_or_default(),
        stream: root.child("stream", stream).unwrap_or_default(),
        timeouts: root.child("timeouts", timeouts).unwrap_or_default(),
        retry: root.child("retry", retry).unwrap_or_default(),
        circuit: root.child("circuit", circuit).unwrap_or_default(),
        prices: root.child("prices", btc_prices).unwrap_or_default(),
        providers: root.children("providers", provider),
        models: root.children("models", virtual_model),
        policies: root.child("policies", policies).unwrap_or_default(),
        telemetry: root.child("telemetry", telemetry).unwrap_or_default(),
    })
}

fn server(table: &mut Section<'_, '_>) -> Server {
    Server {
        listen: table.string_such_as("listen", "an address like \"127.0.0.1:8080\""),
        auth_token: table.secret("auth_token"),
        max_body_bytes: table.number("max_body_bytes"),
        cors_origins: table.strings("cors_origins"),
        shutdown_grace_secs: table.number("shutdown_grace_secs"),
    }
}

fn database(table: &mut Section<'_, '_>) -> Database {
    Database {
        path: table.string("path"),
        retention_days: table.number("retention_days"),
    }
}

fn stream(table: &mut Section<'_, '_>) -> Stream {
    Stream {
        metadata: table.string("metadata"),
        on_client_disconnect: table.string("on_client_disconnect"),
        drain_max_secs: table.number("drain_max_secs"),
    }
}

fn timeouts(table: &mut Section<'_, '_>) -> Timeouts {
    Timeouts {
        connect: table.number("connect"),
        first_event: table.number_or_string("first_event"),
        response: table.number("response"),
        idle: table.number("idle"),
        client_stall: table.number("client_stall"),
        total: table.number("total"),
    }
}

fn retry(table: &mut Section<'_, '_>) -> Retry {
    Retry {
        max_attempts: table.number("max_attempts"),
        backoff_base_ms: table.number("backoff_base_ms"),
        same_provider_first: table.number("same_provider_first"),
    }
}

fn circuit(table: &mut Section<'_, '_>) -> Circuit {
    Circuit {
        failures: table.number("failures"),
        open_secs: table.number("open_secs"),
    }
}

fn btc_prices(table: &mut Section<'_, '_>) -> BtcPrices {
    BtcPrices {
        usd_per_btc: table.number("usd_per_btc"),
        btc_price_url: table.string("btc_price_url"),
        btc_price_pointer: table.string("btc_price_pointer"),
        btc_price_secs: table.number("btc_price_secs"),
    }
}

fn telemetry(table: &mut Section<'_, '_>) -> Telemetry {
    Telemetry {
        otlp_endpoint: table.string("otlp_endpoint"),
        service_name: table.string("service_name"),
        headers: table.secrets_by_name("headers"),
        sample_ratio: table.number("sample_ratio"),
    }
}

fn provider(table: &mut Section<'_, '_>) -> Provider {
    table.require("name", "a name for this provider");
    let provider = Provider {
        place: table.place().clone(),
        name: table.string("name"),
        kind: table.string("kind"),
        url: table.string("url"),
        api_key: table.secret("api_key"),
        models: table.strings("models"),
        prices: prices(table),
        tier: table.string("tier"),
        max_concurrency: table.number("max_concurrency"),
        headers: table.secrets_by_name("headers"),
        on_client_disconnect: table.string("on_client_disconnect"),
        requires_done: table.switch("requires_done"),
        auto_discover: table.switch("auto_discover"),
        discover_secs: table.number("discover_secs"),
        timeouts: table.child("timeouts", timeouts).unwrap_or_default(),
        model_rates: table.children("model_rates", model_rates),
    };
    if provider.kind.is_none() {
        table.require(
            "url",
            "the provider's base URL, such as https://provider.example/v1",
        );
    }
    provider
}

fn model_rates(table: &mut Section<'_, '_>) -> ModelRates {
    table.require("model", "one of the provider's models");
    ModelRates {
        model: table.string("model"),
        upstream_model: table.string("upstream_model"),
        prices: prices(table),
    }
}

fn prices(table: &mut Section<'_, '_>) -> Prices {
    Prices {
        input_rate: table.number("input_rate"),
        output_rate: table.number("output_rate"),
        cached_input_rate: table.number("cached_input_rate"),
        base_fee: table.number("base_fee"),
    }
}

fn virtual_model(table: &mut Section<'_, '_>) -> VirtualModel {
    table.require("name", "the name that clients ask for");
    table.require("any_of", "the models that may serve it");
    VirtualModel {
        name: table.string("name"),
        any_of: table.strings("any_of"),
    }
}

fn policies(table: &mut Section<'_, '_>) -> Policies {
    Policies {
        default_strategy: table.string("default_strategy"),
        rules: table.children("rules", rule),
    }
}

fn rule(table: &mut Section<'_, '_>) -> Rule {
    table.require("name", "a name for this rule");
    Rule {
        name: table.string("name"),
        allowed_models: table.strings("allowed_models"),
        allowed_providers: table.strings("allowed_providers"),
        min_tier: table.string("min_tier"),
        max_sats_per_1m_output: table.number("max_sats_per_1m_output"),
        max_cost_sats: table.number("max_cost_sats"),
        strategy: table.string("strategy"),
        keywords: table.strings("keywords"),
    }
}
