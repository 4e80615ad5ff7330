//! What is read from a request, and what is refused.

use super::*;

fn chat(body: &str) -> Result<Request<'_>, RequestError> {
    Request::parse(Endpoint::Chat, body.as_bytes())
}

/// A chat body with one more member.
fn with(member: &str) -> String {
    format!(r#"{{"model":"m","messages":[],{member}}}"#)
}

fn texts(request: &Request<'_>) -> Vec<(Role, String)> {
    let mut texts = Vec::new();
    request.for_each_text(|text| texts.push((text.role, text.decode().into_owned())));
    texts
}

#[test]
fn reads_what_routing_needs() {
    let body = r#" { "messages" : [] , "model" : "gpt\u002d4o" , "stream" : true, "stream_options":{"include_usage":true,"x":1},
        "max_tokens":5,"max_completion_tokens":7,"n":3,"tools":[{}],"response_format":{"type":"json_object"},"future":[1e400] } "#;
    let request = chat(body).unwrap();
    assert_eq!(request.model(), "gpt-4o");
    assert!(
        request.is_stream()
            && request.asked_for_usage()
            && request.has_tools()
            && request.has_response_format()
    );
    assert_eq!(
        (request.max_output_tokens(), request.choices()),
        (Some(7), 3)
    );
    assert_eq!(request.endpoint().path(), "/chat/completions");
}

#[test]
fn null_counts_as_absent() {
    let body = with(
        r#""stream":null,"stream_options":null,"max_tokens":8,"max_completion_tokens":null,"n":null,"tools":null,"response_format":null"#,
    );
    let request = chat(&body).unwrap();
    assert!(
        !request.is_stream()
            && !request.asked_for_usage()
            && !request.has_tools()
            && !request.has_response_format()
    );
    assert_eq!(
        (
            request.stream_options(),
            request.max_output_tokens(),
            request.choices()
        ),
        (StreamOptions::Absent, Some(8), 1)
    );
}

#[test]
fn stream_options_tell_absent_from_false() {
    let cases = [
        (r#""x":0"#, StreamOptions::Absent),
        (r#""stream_options":null"#, StreamOptions::Absent),
        (
            r#""stream_options":{}"#,
            StreamOptions::Present {
                include_usage: None,
            },
        ),
        (
            r#""stream_options":{"include_usage":null}"#,
            StreamOptions::Present {
                include_usage: None,
            },
        ),
        (
            r#""stream_options":{"a":{"include_usage":true}}"#,
            StreamOptions::Present {
                include_usage: None,
            },
        ),
        (
            r#""stream_options":{"include_usage":false}"#,
            StreamOptions::Present {
                include_usage: Some(false),
            },
        ),
        (
            r#""stream_options":{"\u0069nclude_usage":true}"#,
            StreamOptions::Present {
                include_usage: Some(true),
            },
        ),
    ];
    for (member, expected) in cases {
        let body = with(member);
        assert_eq!(chat(&body).unwrap().stream_options(), expected, "{member}");
    }
}

#[test]
fn numbers_that_servers_take_pass() {
    for (member, expected) in [
        ("-1", None),
        ("1.5", None),
        ("100.0", Some(100)),
        ("0", Some(0)),
        ("99999999999999999999", None),
    ] {
        let body = with(&format!(r#""max_tokens":{member}"#));
        assert_eq!(
            chat(&body).unwrap().max_output_tokens(),
            expected,
            "{member}"
        );
    }
    for (n, choices) in [("0", 1), ("2", 2), ("-3", 1), ("4294967296", u32::MAX)] {
        assert_eq!(
            chat(&with(&format!(r#""n":{n}"#))).unwrap().choices(),
            choices
        );
    }
}

/// A body, and the parameter, code and message it is refused with.
const REFUSED: &[(&str, Option<&str>, &str, &str)] = &[
    (
        r#"{"messages":[]}"#,
        Some("model"),
        "missing_required_parameter",
        "missing required parameter: 'model'",
    ),
    (
        r#"{"model":"m"}"#,
        Some("messages"),
        "missing_required_parameter",
        "missing required parameter: 'messages'",
    ),
    (
        r#"{"model":"m","messages":null}"#,
        Some("messages"),
        "missing_required_parameter",
        "missing required parameter: 'messages'",
    ),
    (
        r#"{"model":"m","messages":"hi"}"#,
        Some("messages"),
        "invalid_type",
        "invalid type for 'messages': expected an array",
    ),
    (
        r#"{"model":"","messages":[]}"#,
        Some("model"),
        "invalid_type",
        "invalid type for 'model': expected a non-empty string",
    ),
    (
        r#"{"model":null,"messages":[]}"#,
        Some("model"),
        "invalid_type",
        "invalid type for 'model': expected a non-empty string",
    ),
    (
        r#"{"model":"\ud800","messages":[]}"#,
        Some("model"),
        "invalid_type",
        "invalid type for 'model': expected a non-empty string",
    ),
    (
        r#"{"model":"m","messages":[],"model":"n"}"#,
        Some("model"),
        "duplicate_parameter",
        "'model' is given twice",
    ),
    (
        r#"{"model":"m","messages":[],"\u006dodel":"n"}"#,
        Some("model"),
        "duplicate_parameter",
        "'model' is given twice",
    ),
    (
        r#"{"model":"m","messages":[],"stream":true,"stream":false}"#,
        Some("stream"),
        "duplicate_parameter",
        "'stream' is given twice",
    ),
    (
        r#"{"model":"m","messages":[],"stream":"true"}"#,
        Some("stream"),
        "invalid_type",
        "invalid type for 'stream': expected a boolean",
    ),
    (
        r#"{"model":"m","messages":[],"stream_options":[]}"#,
        Some("stream_options"),
        "invalid_type",
        "invalid type for 'stream_options': expected an object",
    ),
    (
        r#"{"model":"m","messages":[],"stream_options":{"include_usage":1}}"#,
        Some("stream_options.include_usage"),
        "invalid_type",
        "invalid type for 'stream_options.include_usage': expected a boolean",
    ),
    (
        r#"{"model":"m","messages":[],"stream_options":{"include_usage":true,"include_usage":false}}"#,
        Some("stream_options.include_usage"),
        "duplicate_parameter",
        "'stream_options.include_usage' is given twice",
    ),
    (
        r#"{"model":"m","messages":[],"n":"2"}"#,
        Some("n"),
        "invalid_type",
        "invalid type for 'n': expected an integer",
    ),
    (
        r#"{"model":"m","messages":[],"max_tokens":"9"}"#,
        Some("max_tokens"),
        "invalid_type",
        "invalid type for 'max_tokens': expected an integer",
    ),
    (
        r#"[1]"#,
        None,
        "invalid_json",
        "the request body must be a JSON object",
    ),
    (
        "",
        None,
        "invalid_json",
        "the request body is not valid JSON: expected a value at byte 0, but the text ends there",
    ),
    (
        r#"{"model":"m","messages":[]"#,
        None,
        "invalid_json",
        "the request body is not valid JSON: expected a comma or a closing brace at byte 26, but the text ends there",
    ),
    (
        r#"{"model":"m","messages":[]} x"#,
        None,
        "invalid_json",
        "the request body is not valid JSON: expected the end of the text at byte 28",
    ),
];

#[test]
fn refuses_with_the_parameter_and_a_code() {
    for &(body, param, code, message) in REFUSED {
        let error = chat(body).expect_err(body);
        assert_eq!(
            (error.param(), error.code(), error.to_string().as_str()),
            (param, code, message),
            "{body}"
        );
        let error = error.error_object();
        assert_eq!(
            (
                error.kind.as_deref(),
                error.param.as_deref(),
                error.code.as_deref()
            ),
            (Some("invalid_request_error"), param, Some(code))
        );
    }
    assert_eq!(
        Request::parse(Endpoint::Chat, b"{\"\xff\":1}").unwrap_err(),
        RequestError::NotJson(JsonError::NotUtf8 { at: 2 })
    );
}

#[test]
fn chat_texts_come_with_their_roles() {
    let body = r#"{"model":"m","messages":[
        {"role":"system","content":"be \"brief\""},
        {"content":[{"type":"text","text":"look\n"},{"type":"image_url","image_url":{"url":"data:AAAA","text":"no"}},"bare",7],"role":"user","name":"x"},
        {"role":"assistant","content":null,"tool_calls":[{"function":{"arguments":"{}"}}]},
        {"role":"tool","content":"42"}, {"role":"developer","content":"d"}, {"role":7,"content":{"a":1}}, "odd", {}
    ],"tools":[1]}"#;
    let request = chat(body).unwrap();
    let expected = [
        (Role::System, "be \"brief\""),
        (Role::User, "look\n"),
        (Role::User, "bare"),
        (Role::Tool, "42"),
        (Role::System, "d"),
    ];
    assert_eq!(
        texts(&request),
        expected.map(|(role, text)| (role, text.to_owned()))
    );
    let tool_calls = r#"[{"function":{"arguments":"{}"}}]"#;
    let size = request.size();
    assert_eq!((size.messages, size.media, size.tokens), (8, 1, 0));
    assert_eq!(
        usize::try_from(size.text_bytes).unwrap(),
        r#"be \"brief\"look\nbare42d"#.len()
    );
    assert_eq!(
        usize::try_from(size.tool_bytes).unwrap(),
        tool_calls.len() + "[1]".len()
    );
}

#[test]
fn prompts_and_inputs_come_in_four_shapes() {
    let cases = [
        (r#""ab""#, 1, 0, 2),
        (r#"["ab","cde"]"#, 2, 0, 5),
        ("[1,2,3]", 1, 3, 0),
        ("[[1,2],[3]]", 2, 3, 0),
        ("[]", 0, 0, 0),
    ];
    for (prompt, prompts, tokens, text_bytes) in cases {
        let body = format!(r#"{{"model":"m","prompt":{prompt},"n":2}}"#);
        let request = Request::parse(Endpoint::Completions, body.as_bytes()).unwrap();
        let size = request.size();
        assert_eq!(
            (size.messages, size.tokens, size.text_bytes),
            (prompts, tokens, text_bytes),
            "{prompt}"
        );
        assert_eq!(u64::from(request.choices()), 2 * prompts.max(1), "{prompt}");
        let body = format!(r#"{{"model":"m","input":{prompt}}}"#);
        let request = Request::parse(Endpoint::Embeddings, body.as_bytes()).unwrap();
        assert_eq!((request.size(), request.choices()), (size, 1), "{prompt}");
    }
    assert!(Request::parse(Endpoint::Completions, br#"{"model":"m"}"#).is_ok());
    assert_eq!(
        Request::parse(Endpoint::Embeddings, br#"{"model":"m"}"#).unwrap_err(),
        RequestError::Missing { param: "input" }
    );
    let wrong = Request::parse(Endpoint::Embeddings, br#"{"model":"m","input":{}}"#).unwrap_err();
    assert_eq!(wrong.param(), Some("input"));
}

#[test]
fn members_of_other_endpoints_are_not_arbstrs_to_judge() {
    let body = br#"{"model":"m","input":"x","messages":1,"messages":2,"prompt":{}}"#;
    assert!(Request::parse(Endpoint::Embeddings, body).is_ok());
}

#[test]
fn a_large_prompt_is_borrowed() {
    let prompt = "word ".repeat(200_000);
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{prompt}"}}]}}"#);
    let request = chat(&body).unwrap();
    request.for_each_text(|text| assert!(matches!(text.decode(), Cow::Borrowed(_))));
    assert_eq!(request.size().text_bytes, 1_000_000);
}
