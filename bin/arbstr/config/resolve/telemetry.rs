//! `[telemetry]`: where traces go, and how many.

use super::provider;
use crate::config::Telemetry;
use crate::config::base_url::BaseUrl;
use crate::config::raw;
use crate::config::value::Values;

/// Resolves the section.
pub(super) fn telemetry(raw: &raw::Telemetry, values: &mut Values<'_>) -> Telemetry {
    const ENDPOINT: &str = "an OTLP collector's base URL, such as \"http://127.0.0.1:4318\"";
    const NAME: &str = "a name that is not empty";
    let endpoint = raw.otlp_endpoint.as_ref().and_then(|at| {
        // Some write the whole address of the operation, which is what other exporters take.
        values.parsed(at, ENDPOINT, |text| {
            BaseUrl::parse(text.trim_end_matches('/').trim_end_matches("/v1/traces")).ok()
        })
    });
    let name = raw.service_name.as_ref().and_then(|at| {
        values.parsed(at, NAME, |text| {
            (!text.trim().is_empty()).then(|| text.to_owned())
        })
    });
    let headers = provider::headers(&raw.headers, false, values);
    if let Some(url) = endpoint
        .as_ref()
        .filter(|url| url.is_exposed() && !headers.is_empty())
    {
        let warning = format!("telemetry.headers travel unencrypted to {url}");
        values.warnings.push(warning);
    }
    Telemetry {
        otlp_endpoint: endpoint,
        service_name: name.unwrap_or_else(|| "arbstr".to_owned()),
        headers,
        sample_ppm: values.share(raw.sample_ratio.as_ref(), MILLION),
    }
}

/// All requests.
const MILLION: u32 = 1_000_000;
