//! The JSON reader against tables, and against `serde_json` on everything else.

use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::*;

/// What `serde_json` makes of a text, without building it, plus the check of UTF-8 that it leaves out when it ignores.
fn serde_accepts(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok() && serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

fn agrees(text: &[u8]) {
    match check(text) {
        Err(JsonError::TooDeep { .. }) => {}
        found => assert_eq!(
            found.is_ok(),
            serde_accepts(text),
            "{:?}: {found:?}",
            String::from_utf8_lossy(text)
        ),
    }
}

#[test]
fn accepts_and_refuses_what_the_grammar_does() {
    let accepted = [
        "null",
        " true\n",
        "0",
        "-0",
        "-0.0e-0",
        "1E+5",
        "\"\"",
        r#""\"\\\/\b\f\n\r\t\u00e9""#,
        "[]",
        "[ ]",
        "{}",
        "{ }",
        "[1,[2,{}],{\"a\":[]}]",
        r#"{"a":{"b":"c"},"d":null}"#,
        "\"\u{7f}\u{2028}\"",
        r#""\ud800""#,
        r#"{"":""}"#,
        "1e999",
    ];
    for text in accepted {
        assert_eq!(check(text.as_bytes()), Ok(()), "{text}");
        agrees(text.as_bytes());
    }
    let refused = [
        "",
        " ",
        "nul",
        "nulll",
        "True",
        "01",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "-",
        "--1",
        "0x1",
        "NaN",
        "\"",
        "\"\\",
        "\"\\u12",
        "\"\\u12g4\"",
        "\"\\x\"",
        "\"\t\"",
        "\"\n\"",
        "\"\0\"",
        "[",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1}",
        "{",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\" 1}",
        "{,}",
        "{\"a\":1]",
        "[]]",
        "{}{}",
        "1 2",
        "'a'",
        "// c\n1",
        "\u{feff}1",
    ];
    for text in refused {
        assert!(check(text.as_bytes()).is_err(), "{text}");
        agrees(text.as_bytes());
    }
}

#[test]
fn an_error_says_where_and_what_was_expected() {
    let cases: [(&str, usize, &str); 8] = [
        ("{\"a\" 1}", 5, "expected a colon at byte 5"),
        (
            "[1 2]",
            3,
            "expected a comma or a closing bracket at byte 3",
        ),
        (
            "{\"a\":1",
            6,
            "expected a comma or a closing brace at byte 6, but the text ends there",
        ),
        (
            "{\"a\":1,}",
            7,
            "expected a member name in quotes at byte 7",
        ),
        (
            "tru",
            3,
            "expected true, false or null at byte 3, but the text ends there",
        ),
        (
            "\"a\nb\"",
            2,
            "expected a closing quote (a control character must be escaped) at byte 2",
        ),
        ("1 x", 2, "expected the end of the text at byte 2"),
        ("\"\\q\"", 2, "expected a valid escape at byte 2"),
    ];
    for (text, at, message) in cases {
        let error = check(text.as_bytes()).expect_err(text);
        assert_eq!(
            (error.at(), error.to_string().as_str()),
            (at, message),
            "{text}"
        );
    }
    assert_eq!(check(b"\"\xff\""), Err(JsonError::NotUtf8 { at: 1 }));
}

#[test]
fn every_proper_beginning_of_an_object_is_cut_short() {
    let text = br#"{"a":[1.5e3,true,"x\u0041\n"],"b":{"c":null}}"#;
    for end in 0..text.len() {
        assert!(check(&text[..end]).expect_err("cut").is_end(), "{end}");
    }
}

#[test]
fn nesting_is_limited_without_recursion() {
    let nested = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
    assert_eq!(check(&nested(128)), Ok(()));
    assert_eq!(check(&nested(129)), Err(JsonError::TooDeep { at: 128 }));
    assert_eq!(
        check(&vec![b'['; 1 << 20]),
        Err(JsonError::TooDeep { at: 128 })
    );
    let mut cursor = Cursor::new(b"[[[1]]]");
    cursor.depth = MAX_DEPTH - 2;
    assert_eq!(cursor.skip(), Err(JsonError::TooDeep { at: 2 }));
}

#[test]
fn special_bytes_are_seen_at_every_place_of_a_string() {
    for length in 0..100 {
        for at in 0..length {
            for (special, accepted) in [
                (b'"', false),
                (b'\\', false),
                (b'\n', false),
                (0x1f, false),
                (0x80, false),
                (b' ', true),
                (b'!', true),
                (0x7f, true),
            ] {
                let mut text = vec![b'a'; length];
                text[at] = special;
                let text = [b"\"", text.as_slice(), b"\""].concat();
                agrees(&text);
                assert_eq!(
                    check(&text).is_ok(),
                    accepted,
                    "{special} at {at} of {length}"
                );
            }
        }
    }
}

#[test]
fn keys_are_compared_unescaped() {
    let mut cursor = Cursor::new(br#"{"\u0075sage" :1,"us\u0061ge": 2 , "usage":3,"\ud800":4}"#);
    cursor.open_object().unwrap();
    let mut found = Vec::new();
    while let Some(key) = cursor.next_key().unwrap() {
        found.push((
            key.is("usage"),
            key.name().into_owned(),
            cursor.skip().unwrap().len(),
        ));
    }
    cursor.end().unwrap();
    let usage = b"usage".to_vec();
    assert_eq!(
        found,
        [
            (true, usage.clone(), 1),
            (true, usage.clone(), 1),
            (true, usage, 1),
            (false, vec![], 1)
        ]
    );
}

#[test]
fn escapes_decode_as_serde_json_reads_them() {
    for raw in [
        r#""""#,
        r#""plain""#,
        r#""\"\\\/\b\f\n\r\tA\u00e9é""#,
        r#""\ud83d\ude00 \u2028""#,
        r#""\ud800""#,
        r#""\ud800A""#,
        r#""\udc00""#,
        r#""\ud83dé""#,
    ] {
        let found = Cursor::new(raw.as_bytes())
            .string()
            .unwrap()
            .decode()
            .map(Cow::into_owned);
        assert_eq!(found, serde_json::from_str::<String>(raw).ok(), "{raw}");
    }
}

#[test]
fn a_cursor_steps_in_and_out() {
    let mut cursor = Cursor::new(br#" {"a":[ {"b":1} , [], 2 ],"c":{}, "d":"x"} "#);
    let mut seen = Vec::new();
    cursor.open_object().unwrap();
    while let Some(key) = cursor.next_key().unwrap() {
        match key.raw() {
            b"a" => {
                cursor.open_array().unwrap();
                while cursor.next_element().unwrap() {
                    seen.push(cursor.peek().unwrap());
                    cursor.skip().unwrap();
                }
            }
            b"c" => {
                cursor.open_object().unwrap();
                assert_eq!(cursor.next_key().unwrap(), None);
            }
            _ => seen.push(cursor.peek().unwrap()),
        }
        if key.is("d") {
            assert_eq!(cursor.string().unwrap().decode().unwrap(), "x");
        }
    }
    cursor.end().unwrap();
    assert_eq!(
        seen,
        [Kind::Object, Kind::Array, Kind::Number, Kind::String]
    );
}

/// Text near JSON: its tokens in any order, so that both sides of every rule are met often.
fn tokens() -> impl Strategy<Value = Vec<u8>> {
    let token = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\"a\"",
        "\"usage\"",
        "\\",
        "\\u00e9",
        "\\n",
        "null",
        "true",
        "false",
        "1",
        "-",
        "0",
        ".",
        "e",
        "E+",
        " ",
        "\n",
        "é",
        "\t",
        "abcdefghijklmnop",
    ]);
    prop::collection::vec(token, 0..14).prop_map(|tokens| tokens.concat().into_bytes())
}

/// Strings without their first quote, of many blocks, some broken: each piece meets each place of a block.
fn long_strings() -> impl Strategy<Value = Vec<u8>> {
    let plain = (0..150_usize).prop_map(|length| "x".repeat(length));
    let escape = prop::sample::select(vec![
        "\\\"",
        "\\\\",
        "\\n",
        "\\/",
        "\\u00e9",
        "\\uD83D\\uDe00",
        "\\\\\\\"",
        "é",
        "\u{7f}",
    ]);
    let odd = prop::sample::select(vec![
        "\\", "\"", "\\u12", "\\u12g4", "\\x", "\n", "\0", "\u{1f}",
    ]);
    let piece = prop_oneof![
        4 => plain,
        12 => escape.prop_map(str::to_owned),
        1 => odd.prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| (pieces.concat() + "\"").into_bytes())
}

/// What [`skip::string`] shall say, by the grammar, one byte at a time.
fn read_bytewise(text: &[u8]) -> Result<(usize, bool), JsonError> {
    let (mut at, mut escaped) = (0, false);
    loop {
        match text.get(at) {
            Some(b'"') => return Ok((at, escaped)),
            Some(b'\\') => {
                escaped = true;
                at += 1;
                let letter = text.get(at).copied().unwrap_or(0);
                if letter == b'u' {
                    at += 1;
                    for _ in 0..4 {
                        if !text.get(at).is_some_and(u8::is_ascii_hexdigit) {
                            return Err(wrong(text, at, Expected::Escape));
                        }
                        at += 1;
                    }
                } else if b"\"\\/bfnrt".contains(&letter) {
                    at += 1;
                } else {
                    return Err(wrong(text, at, Expected::Escape));
                }
            }
            Some(0x20..) => at += 1,
            _ => return Err(wrong(text, at, Expected::StringCharacter)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_string_is_read_as_byte_by_byte(text in long_strings()) {
        prop_assert_eq!(skip::string(&text, 0), read_bytewise(&text));
    }

    #[test]
    fn a_noted_string_is_the_one_that_was_read(parts in prop::collection::vec(long_strings(), 1..4)) {
        let strings: Vec<_> = parts.iter().map(|part| String::from_utf8_lossy(part)).collect();
        let text = serde_json::to_string(&strings).expect("strings are JSON");
        let mut noting = Cursor::noting(text.as_bytes());
        prop_assert_eq!(noting.skip(), Ok(0..text.len()));
        let noted = noting.into_noted();
        let mut again = Walked { text: &text, long: &noted }.cursor(0);
        let mut first = Cursor::new(text.as_bytes());
        prop_assert_eq!(first.open_array(), again.open_array());
        while first.next_element().expect("it is JSON") {
            prop_assert!(again.next_element().expect("it is JSON"));
            prop_assert_eq!(first.string(), again.string());
        }
        prop_assert_eq!(again.next_element(), Ok(false));
        prop_assert_eq!(again.end(), Ok(()));
    }

    #[test]
    fn agrees_with_serde_json_on_token_soup(text in tokens()) {
        agrees(&text);
    }

    #[test]
    fn agrees_with_serde_json_on_any_bytes(text in prop::collection::vec(any::<u8>(), 0..40)) {
        agrees(&text);
    }

    #[test]
    fn agrees_with_serde_json_on_a_damaged_document(at in 0usize..120, byte in any::<u8>(), cut in 0usize..120) {
        let mut text = br#"{"model":"gpt-4o","n":-1.5e+7,"messages":[{"role":"user","content":"a\u00e9\nb \ud83d\ude00"}],"x":[true,false,null,{}]}"#.to_vec();
        let at = at % text.len();
        text[at] = byte;
        agrees(&text);
        text.truncate(cut);
        agrees(&text);
    }
}
