//! What goes upstream, byte for byte.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::request::{Endpoint, Request};

const ASK: Edits<'static> = Edits {
    model: None,
    include_usage: true,
};

fn apply(body: &str, edits: &Edits<'_>) -> Spliced {
    let body = Bytes::copy_from_slice(body.as_bytes());
    Request::parse(Endpoint::Chat, &body)
        .unwrap()
        .splicer()
        .apply(&body, edits)
}

#[test]
fn usage_is_asked_for_by_one_insertion() {
    let cases = [
        (
            r#"{"model":"m","messages":[],"stream":true}"#,
            r#"{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{ "stream" : true , "big":12345678901234567890, "e":1e-7, "model":"m","messages":[]}"#,
            r#"{ "stream" : true,"stream_options":{"include_usage":true} , "big":12345678901234567890, "e":1e-7, "model":"m","messages":[]}"#,
        ),
        (
            r#"{"model":"m","messages":[],"stream":true,"stream_options":{}}"#,
            r#"{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"model":"m","messages":[],"stream_options": { } ,"stream":true}"#,
            r#"{"model":"m","messages":[],"stream_options": {"include_usage":true } ,"stream":true}"#,
        ),
        (
            r#"{"model":"m","messages":[],"stream":true,"stream_options":{ "include_obfuscation" : false}}"#,
            r#"{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true, "include_obfuscation" : false}}"#,
        ),
        (
            r#"{"model":"m","messages":[],"stream":true,"stream_options": null}"#,
            r#"{"model":"m","messages":[],"stream":true,"stream_options": {"include_usage":true}}"#,
        ),
        (
            r#"{"model":"m","messages":[],"stream":true,"stream_options":{"a":1,"include_usage": null}}"#,
            r#"{"model":"m","messages":[],"stream":true,"stream_options":{"a":1,"include_usage": true}}"#,
        ),
    ];
    for (body, expected) in cases {
        let spliced = apply(body, &ASK);
        assert_eq!(
            (spliced.body, spliced.injected_usage),
            (Bytes::from_static(expected.as_bytes()), true)
        );
    }
}

#[test]
fn what_needs_no_change_is_the_same_buffer() {
    let cases = [
        (r#"{"model":"m","messages":[]}"#, ASK),
        (
            r#"{"model":"m","messages":[],"stream":false,"stream_options":{}}"#,
            ASK,
        ),
        (
            r#"{"model":"m","messages":[],"stream":null,"stream_options":null}"#,
            ASK,
        ),
        (
            r#"{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#,
            ASK,
        ),
        (
            r#"{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":false}}"#,
            ASK,
        ),
        (
            r#"{"model":"m","messages":[],"stream":true,"stream_options":{"\u0069nclude_usage":false}}"#,
            ASK,
        ),
        (
            r#"{"model":"m","messages":[],"stream":true}"#,
            Edits {
                model: Some("m"),
                include_usage: false,
            },
        ),
    ];
    for (text, edits) in cases {
        let body = Bytes::copy_from_slice(text.as_bytes());
        let spliced = Request::parse(Endpoint::Chat, &body)
            .unwrap()
            .splicer()
            .apply(&body, &edits);
        assert_eq!(
            (spliced.body.as_ptr(), &spliced.body[..]),
            (body.as_ptr(), text.as_bytes())
        );
        assert!(!spliced.injected_usage);
    }
}

#[test]
fn the_model_is_renamed_in_place() {
    let edits = Edits {
        model: Some("a/\"b\""),
        include_usage: true,
    };
    let cases = [
        (
            r#"{"x":[ ],"model" : "m" ,"messages":[]}"#,
            r#"{"x":[ ],"model" : "a/\"b\"" ,"messages":[]}"#,
        ),
        (
            r#"{"stream":true,"messages":[{"model":"m"}],"model":"m"}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true},"messages":[{"model":"m"}],"model":"a/\"b\""}"#,
        ),
        (
            r#"{"model":"m","stream":true,"messages":[]}"#,
            r#"{"model":"a/\"b\"","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#,
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(apply(body, &edits).body, expected);
    }
}

/// Any JSON value, small.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z_\\\\\"é]{0,6}", inner, 0..4)
                .prop_map(Value::from_iter),
        ]
    })
}

/// A request as members in some order, with its spelling: pretty or dense.
fn body() -> impl Strategy<Value = String> {
    let options = prop_oneof![
        Just(None),
        Just(Some(Value::Null)),
        prop::collection::btree_map("[a-z]{1,3}", value(), 0..3)
            .prop_map(|members| Some(Value::from_iter(members))),
        any::<bool>()
            .prop_map(|include| Some(serde_json::json!({"x": 1, "include_usage": include}))),
    ];
    let extra = prop::collection::btree_map("x[a-z]{0,5}", value(), 0..4);
    (
        options,
        extra,
        prop::option::of(any::<bool>()),
        ".{1,8}",
        any::<prop::sample::Index>(),
        any::<bool>(),
    )
        .prop_map(|(options, extra, stream, model, rotate, pretty)| {
            let mut members: Vec<(String, Value)> = extra.into_iter().collect();
            members.push(("model".into(), model.into()));
            members.push(("messages".into(), Value::Array(vec![])));
            members.extend(stream.map(|stream| ("stream".into(), stream.into())));
            members.extend(options.map(|options| ("stream_options".into(), options)));
            let rotation = rotate.index(members.len());
            members.rotate_left(rotation);
            let space = if pretty { "\n  " } else { "" };
            let members: Vec<String> = members
                .into_iter()
                .map(|(key, value)| {
                    format!("{space}{}{space}:{space}{value}{space}", Value::from(key))
                })
                .collect();
            format!("{{{}}}", members.join(","))
        })
}

proptest! {
    #[test]
    fn only_the_wanted_members_change(body in body(), model in ".{1,8}", include_usage: bool) {
        let before: Value = serde_json::from_str(&body).unwrap();
        let spliced = apply(&body, &Edits { model: Some(&model), include_usage });
        let mut expected = before.clone();
        expected["model"] = model.clone().into();
        let injected = include_usage && before["stream"] == true && before["stream_options"]["include_usage"].is_null();
        if injected {
            if !expected["stream_options"].is_object() {
                expected["stream_options"] = serde_json::json!({});
            }
            expected["stream_options"]["include_usage"] = true.into();
        }
        prop_assert_eq!(spliced.injected_usage, injected);
        let after: Value = serde_json::from_slice(&spliced.body).unwrap();
        prop_assert_eq!(after, expected);
        // Undone, the edits leave the client's own bytes.
        let again = apply(std::str::from_utf8(&spliced.body).unwrap(), &Edits { model: before["model"].as_str(), include_usage: false });
        let model_then = Value::from(before["model"].as_str().unwrap()).to_string();
        let added = again.body.len() - body.len();
        prop_assert_eq!(added > 0, injected);
        prop_assert!(std::str::from_utf8(&again.body).unwrap().contains(&model_then));
        if !injected {
            prop_assert_eq!(&again.body[..], body.as_bytes());
        }
    }
}
