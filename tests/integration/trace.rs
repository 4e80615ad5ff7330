//! Traces: one span for each request and attempt, sent to a collector that is only another scripted server.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{
    Answer, Arbstr, Provider, ProviderConfig, Setup, ask, ask_stream, wait_until,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn collector() -> Provider {
    Provider::always(Answer::json(200, r#"{"partialSuccess":{}}"#))
}

fn setup(collector: &Provider) -> Setup {
    let endpoint = format!("otlp_endpoint = \"http://{}\"", collector.address());
    Setup::new().set("telemetry", &endpoint)
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{SPAN}-{flags}")
}

/// All spans that the collector got, once there are so many.
#[track_caller]
fn spans(collector: &Provider, count: usize) -> Vec<Value> {
    let all = || -> Vec<Value> {
        let exports = collector
            .seen()
            .into_iter()
            .map(|seen| serde_json::from_slice::<Value>(&seen.body).unwrap());
        exports
            .flat_map(|export| {
                export["resourceSpans"][0]["scopeSpans"][0]["spans"]
                    .as_array()
                    .unwrap()
                    .clone()
            })
            .collect()
    };
    assert!(
        wait_until(Duration::from_secs(8), || all().len() >= count),
        "{:#?}",
        all()
    );
    assert_eq!(all().len(), count);
    all()
}

/// The attributes of a span, each as the text of its value.
fn attribute(span: &Value, key: &str) -> Option<String> {
    let mut all = span["attributes"].as_array().unwrap().iter();
    let found = all.find(|attribute| attribute["key"] == key)?;
    let (_, value) = found["value"].as_object().unwrap().iter().next().unwrap();
    Some(
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned),
    )
}

fn nanos(span: &Value, key: &str) -> u64 {
    span[key].as_str().unwrap().parse().unwrap()
}

#[test]
fn a_request_is_a_span_and_each_attempt_a_child_of_it() {
    let collector = collector();
    let (bad, good) = (
        Provider::always(Answer::fault(500, "oops")),
        Provider::healthy(1000, 500),
    );
    let arbstr = setup(&collector)
        .set("telemetry", "service_name = \"arbstr-test\"")
        .set("telemetry", "headers = { x-tenant = \"t0p-secret\" }")
        .provider(ProviderConfig::new("bad", &bad).rates("1", "1"))
        .provider(ProviderConfig::new("good", &good).model_rates("model = \"model-a\"\nupstream_model = \"vendor/a\"\ninput_rate = 1000\noutput_rate = 2000"))
        .start();
    let parent = traceparent("01");
    let headers = [("traceparent", parent.as_str()), ("tracestate", "vendor=1")];
    let mut reply = arbstr.chat_with(&headers, &ask("model-a"));
    reply.finish();
    let spans = spans(&collector, 3);
    let (request, attempts) = (&spans[0], &spans[1..]);
    let row = arbstr.row(&reply.id());
    assert_eq!(request["name"], "chat model-a");
    assert_eq!(request["parentSpanId"], SPAN);
    assert_eq!(request["kind"], 2);
    assert_eq!(request["status"], serde_json::json!({}));
    let took = nanos(request, "endTimeUnixNano") - nanos(request, "startTimeUnixNano");
    assert!(took / 1_000_000 >= row.int("duration_ms").unwrap().unsigned_abs());
    let facts = [
        ("arbstr.request_id", reply.id()),
        ("arbstr.cost_sats", "2.0".to_owned()),
        ("http.response.status_code", "200".to_owned()),
        ("arbstr.attempts", "2".to_owned()),
        ("gen_ai.operation.name", "chat".to_owned()),
        ("gen_ai.provider.name", "good".to_owned()),
        ("gen_ai.request.model", "model-a".to_owned()),
        ("gen_ai.response.model", "vendor/a".to_owned()),
        ("gen_ai.usage.input_tokens", "1000".to_owned()),
        ("gen_ai.usage.output_tokens", "500".to_owned()),
        ("http.route", "/v1/chat/completions".to_owned()),
    ];
    for (key, expected) in facts {
        assert_eq!(attribute(request, key), Some(expected), "{key}");
    }
    for (span, (provider, name)) in attempts.iter().zip([(&bad, "bad"), (&good, "good")]) {
        assert_child(span, request);
        assert_eq!(
            attribute(span, "gen_ai.provider.name").as_deref(),
            Some(name)
        );
        assert_eq!(
            attribute(span, "server.port"),
            Some(provider.address().port().to_string())
        );
        let told = provider.only();
        let own = format!("00-{TRACE}-{}-01", span["spanId"].as_str().unwrap());
        assert_eq!(told.header("traceparent"), Some(own));
        assert_eq!(told.header("tracestate").as_deref(), Some("vendor=1"));
    }
    assert_eq!(attempts[0]["status"]["code"], 2);
    assert_eq!(
        attribute(&attempts[0], "error.type").as_deref(),
        Some("500")
    );
    assert_eq!(
        attribute(&attempts[1], "gen_ai.request.model").as_deref(),
        Some("vendor/a")
    );
    assert_eq!(attribute(&attempts[1], "error.type"), None);
    assert_export(&collector);
}

#[track_caller]
fn assert_child(span: &Value, parent: &Value) {
    assert_eq!(
        (&span["traceId"], &span["parentSpanId"]),
        (&parent["traceId"], &parent["spanId"])
    );
    assert_eq!(span["kind"], 3);
    let within = nanos(span, "startTimeUnixNano") >= nanos(parent, "startTimeUnixNano")
        && nanos(span, "endTimeUnixNano") <= nanos(parent, "endTimeUnixNano");
    assert!(within, "{span} {parent}");
}

#[track_caller]
fn assert_export(collector: &Provider) {
    let export = collector.seen()[0].clone();
    assert!(
        export.head.starts_with("POST /v1/traces "),
        "{}",
        export.head
    );
    assert_eq!(export.header("x-tenant").as_deref(), Some("t0p-secret"));
    assert_eq!(
        export.header("content-type").as_deref(),
        Some("application/json")
    );
    let text = export.text();
    assert!(
        text.contains("arbstr-test") && !text.contains("Say hello") && !text.contains("secret"),
        "{text}"
    );
}

#[test]
fn a_trace_that_begins_here_is_called_as_the_request_is() {
    let collector = collector();
    let provider = Provider::healthy(1, 1);
    let arbstr = setup(&collector)
        .provider(ProviderConfig::new("alpha", &provider))
        .start();
    let mut reply = arbstr.chat_with(
        &[("traceparent", "nonsense"), ("tracestate", "a=1")],
        &ask_stream("model-a"),
    );
    reply.finish();
    let spans = spans(&collector, 2);
    let trace = reply.id().replace('-', "");
    assert_eq!(spans[0]["traceId"], trace.as_str());
    assert_eq!(spans[0]["parentSpanId"], "");
    assert_eq!(
        attribute(&spans[1], "gen_ai.request.stream").as_deref(),
        Some("true")
    );
    assert!(attribute(&spans[1], "gen_ai.response.time_to_first_chunk").is_some());
    assert_eq!(
        attribute(&spans[1], "gen_ai.response.finish_reasons").as_deref(),
        Some(r#"{"values":[{"stringValue":"stop"}]}"#)
    );
    let seen = provider.only();
    assert_eq!(
        seen.header("traceparent"),
        Some(format!(
            "00-{trace}-{}-01",
            spans[1]["spanId"].as_str().unwrap()
        ))
    );
    assert_eq!(seen.header("tracestate"), None);
}

#[test]
fn a_request_that_is_itself_at_fault_is_no_error_of_this_side() {
    let collector = collector();
    let provider = Provider::always(Answer::fault(422, "bad"));
    let arbstr = setup(&collector)
        .provider(ProviderConfig::new("alpha", &provider))
        .start();
    arbstr.chat(&ask("nobody-sells-this")).finish();
    arbstr.chat(&ask("model-a")).finish();
    let spans = spans(&collector, 3);
    let facts = |span: &Value| {
        let of = |key: &str| attribute(span, key);
        (
            of("http.response.status_code"),
            of("error.type"),
            span["status"]["code"].as_u64(),
        )
    };
    let said = |status: &str, kind: &str| (Some(status.to_owned()), Some(kind.to_owned()));
    let (status, kind) = said("404", "model_not_found");
    assert_eq!(facts(&spans[0]), (status, kind, None));
    let (status, kind) = said("422", "status");
    assert_eq!(facts(&spans[1]), (status, kind, None));
    let (status, kind) = said("422", "422");
    assert_eq!(facts(&spans[2]), (status, kind, Some(2)));
}

#[test]
fn who_is_not_traced_passes_untouched() {
    let collector = collector();
    let provider = Provider::healthy(1, 1);
    let off = Setup::of(&provider).start();
    let none = setup(&collector)
        .set("telemetry", "sample_ratio = 0")
        .provider(ProviderConfig::new("alpha", &provider))
        .start();
    let (sampled, unsampled) = (traceparent("01"), traceparent("00"));
    let cases: [(&Arbstr, Option<&str>); 4] = [
        (&off, Some(&sampled)),
        (&off, None),
        (&none, Some(&unsampled)),
        (&none, None),
    ];
    for (number, (arbstr, given)) in cases.into_iter().enumerate() {
        let headers: Vec<_> = given
            .map(|given| ("traceparent", given))
            .into_iter()
            .collect();
        arbstr.chat_with(&headers, &ask("model-a")).finish();
        assert_eq!(
            provider.seen()[number].header("traceparent").as_deref(),
            given
        );
    }
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(collector.count(), 0);
    none.chat_with(&[("traceparent", &sampled)], &ask("model-a"))
        .finish();
    spans(&collector, 2);
}

#[test]
fn a_collector_that_fails_is_told_of_once_and_loses_little() {
    let collector = Provider::answering([
        Answer::fault(503, "busy"),
        Answer::json(200, "{}"),
        Answer::fault(400, "no"),
        Answer::json(200, "{}"),
    ]);
    let provider = Provider::healthy(1, 1);
    let arbstr = setup(&collector)
        .provider(ProviderConfig::new("alpha", &provider))
        .start();
    for exports in [2, 3, 4] {
        arbstr.chat(&ask("model-a")).finish();
        assert!(
            wait_until(Duration::from_secs(5), || collector.count() == exports),
            "{}",
            arbstr.log()
        );
    }
    let counted = || {
        arbstr
            .get("/metrics")
            .finish()
            .contains("arbstr_traces_exported_total 2\n")
    };
    assert!(wait_until(Duration::from_secs(2), counted));
    assert!(
        arbstr
            .get("/metrics")
            .finish()
            .contains("arbstr_traces_dropped_total 1\n")
    );
    let log = arbstr.log();
    let lines = |words: &str| log.lines().filter(|line| line.contains(words)).count();
    assert_eq!(
        (
            lines("the collector does not take traces"),
            lines("the collector takes traces again")
        ),
        (2, 2),
        "{log}"
    );
}

#[test]
fn a_collector_that_never_answers_holds_nothing_up() {
    let collector = Provider::always(Answer::bare().stall());
    let provider = Provider::healthy(1, 1);
    let mut arbstr = setup(&collector)
        .provider(ProviderConfig::new("alpha", &provider))
        .start();
    for _ in 0..20 {
        let began = Instant::now();
        assert_eq!(arbstr.chat(&ask("model-a")).status, 200);
        assert!(began.elapsed() < Duration::from_secs(1));
    }
    assert!(wait_until(Duration::from_secs(3), || collector.count() > 0));
    arbstr.signal("TERM");
    assert!(arbstr.wait_exit(Duration::from_secs(6)).success());
}

#[test]
fn what_waits_is_sent_before_the_end() {
    let collector = collector();
    let provider = Provider::healthy(1, 1);
    let mut arbstr = setup(&collector)
        .provider(ProviderConfig::new("alpha", &provider))
        .start();
    arbstr.chat(&ask("model-a")).finish();
    arbstr.signal("TERM");
    assert!(arbstr.wait_exit(Duration::from_secs(5)).success());
    spans(&collector, 2);
}
