//! The description of arbstr's own routes in docs/openapi.json, held against the server: every answer has the members
//! that its schema names and no others, and every parameter is taken as described.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Answer, Arbstr, Provider, ProviderConfig, Setup, ask, ask_stream};

fn description() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let text = std::fs::read_to_string(path).expect("the description is there");
    serde_json::from_str(&text).expect("it is JSON")
}

/// Holds values against schemas: the part of JSON Schema that the description uses.
struct Schemas<'a>(&'a Value);

impl Schemas<'_> {
    /// What is wrong with `value`, each with its place.
    fn faults(&self, schema: &Value, value: &Value, at: &str) -> Vec<String> {
        if let Some(name) = schema["$ref"].as_str() {
            let pointer = name.strip_prefix('#').expect("references stay inside");
            let target = self.0.pointer(pointer);
            return self.faults(target.unwrap_or_else(|| panic!("no {name}")), value, at);
        }
        if let Some(choices) = schema["oneOf"].as_array() {
            let mut tries = choices.iter().map(|choice| self.faults(choice, value, at));
            let all: Vec<_> = tries.by_ref().collect();
            return if all.iter().any(Vec::is_empty) {
                Vec::new()
            } else {
                all.concat()
            };
        }
        let mut faults = Vec::new();
        if !has_type(&schema["type"], value) {
            faults.push(format!("{at}: {value} is not {}", schema["type"]));
        }
        if let Some(allowed) = schema["enum"].as_array()
            && !allowed.contains(value)
        {
            faults.push(format!("{at}: {value} is none of {allowed:?}"));
        }
        if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
            let each = values.iter().enumerate();
            faults.extend(
                each.flat_map(|(index, item)| self.faults(items, item, &format!("{at}[{index}]"))),
            );
        }
        if let (Some(properties), Some(members)) =
            (schema["properties"].as_object(), value.as_object())
        {
            let required = schema["required"].as_array().into_iter().flatten();
            faults.extend(
                required
                    .filter_map(Value::as_str)
                    .filter(|name| !members.contains_key(*name))
                    .map(|name| format!("{at}: {name} is missing")),
            );
            for (name, member) in members {
                match properties.get(name) {
                    Some(property) => {
                        faults.extend(self.faults(property, member, &format!("{at}.{name}")))
                    }
                    None if schema["additionalProperties"] == Value::Bool(false) => {
                        faults.push(format!("{at}: {name} is not described"));
                    }
                    None => {}
                }
            }
        }
        faults
    }
}

fn has_type(types: &Value, value: &Value) -> bool {
    let is = |name: &str| match name {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("an unknown type {other}"),
    };
    match types {
        Value::String(name) => is(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(is),
        _ => true,
    }
}

/// A server with a past: answers, a stream, a failed attempt that was billed, a request that nobody could serve.
fn lived_in() -> (Arbstr, String) {
    let billed =
        r#"{"error":{"message":"half done"},"usage":{"prompt_tokens":10,"completion_tokens":5}}"#;
    let bad = Provider::always(Answer::json(500, billed));
    let good = Provider::healthy(10, 5);
    let arbstr = Setup::new()
        .provider(ProviderConfig::new("bad", &bad).rates("1", "1"))
        .provider(ProviderConfig::new("good", &good))
        .set("circuit", "failures = 2")
        .tail("[[policies.rules]]\nname = \"thrifty\"\nmax_sats_per_1m_output = 1000000\n[prices]\nusd_per_btc = 100000\n")
        .start();
    arbstr.chat(&ask_stream("model-a")).finish();
    let mut reply = arbstr.chat_with(&[("x-arbstr-policy", "thrifty")], &ask("model-a"));
    reply.finish();
    arbstr.chat(&ask("nobody-has-it")).finish();
    for _ in 0..3 {
        arbstr.chat(&ask("model-a")).finish();
    }
    arbstr.row(&reply.id());
    (arbstr, reply.id())
}

#[test]
fn every_answer_is_as_described() {
    let description = description();
    let schemas = Schemas(&description);
    let (arbstr, id) = lived_in();
    let calls = [
        ("get", "/v1/models", "/v1/models", 200),
        ("get", "/v1/models/{id}", "/v1/models/model-a", 200),
        ("get", "/v1/models/{id}", "/v1/models/none", 404),
        ("post", "/v1/cost", "/v1/cost", 200),
        ("get", "/v1/stats", "/v1/stats?group_by=model", 200),
        ("get", "/v1/stats", "/v1/stats?group_by=hour&range=24h", 200),
        ("get", "/v1/stats", "/v1/stats?range=soon", 400),
        ("get", "/v1/requests", "/v1/requests?limit=3", 200),
        ("get", "/v1/requests", "/v1/requests?limit=x", 400),
        (
            "get",
            "/v1/requests/{id}",
            &format!("/v1/requests/{id}"),
            200,
        ),
        ("get", "/v1/requests/{id}", "/v1/requests/none", 404),
        ("get", "/providers", "/providers", 200),
        ("get", "/health", "/health", 200),
    ];
    for (method, path, target, status) in calls {
        let body = if method == "post" {
            ask("model-a")
        } else {
            String::new()
        };
        let mut reply = arbstr.call(&method.to_uppercase(), target, &[], body.as_bytes());
        let value = reply.json();
        assert_eq!(reply.status, status, "{target}: {value}");
        let schema = &description["paths"][path][method]["responses"][status.to_string()]["content"]
            ["application/json"]["schema"];
        assert!(
            schema.is_object(),
            "{method} {path} {status} is not described"
        );
        let faults = schemas.faults(schema, &value, path);
        assert!(faults.is_empty(), "{target}: {faults:#?}\n{value}");
    }
}

#[test]
fn every_route_is_there_for_its_methods_alone() {
    let description = description();
    let (arbstr, _) = lived_in();
    let paths = description["paths"].as_object().expect("there are paths");
    for (path, methods) in paths {
        let target = path.replace("{id}", "none");
        let methods = methods.as_object().expect("a path has methods");
        for method in ["get", "post", "delete"] {
            let mut reply = arbstr.call(&method.to_uppercase(), &target, &[], b"");
            let body = reply.finish();
            assert!(
                !body.contains("unknown_path"),
                "{target} is described and not there"
            );
            assert_eq!(
                reply.status != 405,
                methods.contains_key(method),
                "{method} {target}: {}",
                reply.status
            );
        }
    }
    let readme = include_str!("../../README.md");
    let table = readme
        .split("## Routes")
        .nth(1)
        .expect("the README lists the routes");
    let table = table.split("##").next().unwrap_or_default();
    let named: Vec<&str> = table
        .split(['`', ' ', ','])
        .map(|word| word.split('?').next().unwrap_or_default())
        .filter(|word| {
            word.starts_with("/v1/") || matches!(*word, "/" | "/health" | "/providers" | "/metrics")
        })
        .collect();
    assert!(named.len() >= 10, "{named:?}");
    for path in named {
        assert!(
            paths.contains_key(path),
            "{path} is in the README and not described"
        );
    }
}

#[test]
fn every_parameter_is_taken_as_described() {
    let description = description();
    let (arbstr, _) = lived_in();
    for path in ["/v1/stats", "/v1/requests"] {
        let parameters = description["paths"][path]["get"]["parameters"]
            .as_array()
            .expect("it has some");
        for parameter in parameters {
            let name = parameter["name"].as_str().expect("a parameter has a name");
            let examples = match parameter["schema"]["enum"].as_array() {
                Some(all) => all.clone(),
                None => vec![parameter["example"].clone()],
            };
            for example in examples {
                let text = example
                    .as_str()
                    .map_or_else(|| example.to_string(), str::to_owned);
                let mut reply = arbstr.get(&format!("{path}?{name}={text}"));
                let body = reply.finish();
                // A cursor is bound to its question, so that no example of one can hold.
                let expected = if name == "cursor" { 400 } else { 200 };
                assert_eq!(reply.status, expected, "{path}?{name}={text}: {body}");
            }
        }
    }
}
