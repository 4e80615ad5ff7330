//! What each dialect's usage object is read as.

use super::*;

/// input, output, cached, reasoning
type Tokens = [Option<u64>; 4];

fn read(text: &str) -> Usage {
    Usage::read(text.as_bytes()).expect(text)
}

fn tokens(usage: &Usage) -> Tokens {
    [
        usage.input,
        usage.output,
        usage.cached_input,
        usage.reasoning,
    ]
}

#[test]
fn reads_the_tokens_of_every_dialect() {
    let cases: [(&str, Tokens); 12] = [
        (
            r#"{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}"#,
            [Some(3), Some(5), None, None],
        ),
        (
            r#"{"completion_tokens":50,"prompt_tokens":10,"prompt_tokens_details":{"audio_tokens":null,"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":40}}"#,
            [Some(10), Some(50), Some(4), Some(40)],
        ),
        (
            r#"{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":null,"prompt_cache_hit_tokens":6,"prompt_cache_miss_tokens":4}"#,
            [Some(10), Some(5), Some(6), None],
        ),
        (
            r#"{"input_tokens":7,"output_tokens":2,"input_tokens_details":{"cached_tokens":1},"output_tokens_details":{"reasoning_tokens":0}}"#,
            [Some(7), Some(2), Some(1), Some(0)],
        ),
        (
            r#"{"prompt_tokens":4,"total_tokens":4}"#,
            [Some(4), None, None, None],
        ),
        (
            r#"{"prompt_tokens":7,"completion_tokens":1,"num_cached_tokens":3}"#,
            [Some(7), Some(1), Some(3), None],
        ),
        (
            r#"{"prompt_tokens":12.0,"completion_tokens":1e1}"#,
            [Some(12), Some(10), None, None],
        ),
        (
            r#"{"\u0070rompt_tokens":0,"completion_tokens":1099511627776}"#,
            [Some(0), Some(MAX_COUNT), None, None],
        ),
        (
            r#"{"prompt_tokens":43,"completion_tokens":10,"completion_tokens_details":{"reasoning_tokens":11,"image_tokens":0}}"#,
            [Some(43), Some(10), None, Some(11)],
        ),
        (
            r#"{"prompt_tokens":10,"completion_tokens":9,"prompt_tokens_details":{"cached_tokens":4,"reasoning_tokens":0},"completion_tokens_details":{"cached_tokens":0,"reasoning_tokens":8}}"#,
            [Some(10), Some(9), Some(4), Some(8)],
        ),
        (
            r#"{"completion_tokens":9,"completion_tokens_details":{"cached_tokens":0,"reasoning_tokens":8},"prompt_tokens":10,"prompt_tokens_details":{"cached_tokens":4,"reasoning_tokens":0}}"#,
            [Some(10), Some(9), Some(4), Some(8)],
        ),
        (
            r#"{"prompt_tokens":10,"completion_tokens":9,"reasoning_tokens":8,"completion_tokens_details":{"reasoning_tokens":null}}"#,
            [Some(10), Some(9), None, Some(8)],
        ),
    ];
    for (text, expected) in cases {
        let usage = read(text);
        assert_eq!(tokens(&usage), expected, "{text}");
        assert!(!usage.insane && !usage.uncovered, "{text}");
    }
}

#[test]
fn zeros_under_another_name_say_nothing() {
    let chat = r#""prompt_tokens":10,"completion_tokens":5"#;
    let zeros = r#""input_tokens":0,"output_tokens":0"#;
    let details = r#""prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":3}"#;
    let zero_details = r#""input_tokens_details":{"cached_tokens":0},"output_tokens_details":{"reasoning_tokens":0}"#;
    let full = [Some(10), Some(5), Some(4), Some(3)];
    let cases: [(&[&str], Tokens); 8] = [
        (&[chat, zeros], [Some(10), Some(5), None, None]),
        (&[zeros, chat], [Some(10), Some(5), None, None]),
        (
            &[chat, details, zeros, r#""input_tokens_details":null"#],
            full,
        ),
        (&[chat, details, zeros, zero_details], full),
        (&[zero_details, zeros, details, chat], full),
        (
            &[
                r#""input_tokens":10,"output_tokens":5,"prompt_tokens":0,"completion_tokens":0"#,
                details,
            ],
            full,
        ),
        (
            &[
                chat,
                r#""prompt_tokens_details":{"cached_tokens":0},"prompt_cache_hit_tokens":4"#,
            ],
            [Some(10), Some(5), Some(4), None],
        ),
        // Anthropic's input leaves out what was cached.
        (
            &[r#""input_tokens":6,"output_tokens":5"#, chat, details],
            full,
        ),
    ];
    for (members, expected) in cases {
        let text = format!("{{{},\"total_tokens\":15}}", members.join(","));
        let usage = read(&text);
        assert_eq!(tokens(&usage), expected, "{text}");
        assert!(!usage.insane && !usage.uncovered, "{text}");
    }
}

#[test]
fn reasoning_that_is_counted_beside_the_output_is_output() {
    let reasoning = r#","completion_tokens_details":{"reasoning_tokens":94}"#;
    for (output, details, total, expected, uncovered) in [
        (9, reasoning, "135", 103, false),
        (103, reasoning, "135", 103, false),
        (9, reasoning, "41", 9, false),
        (9, reasoning, "null", 9, false),
        (9, reasoning, "\"135\"", 9, false),
        (9, reasoning, "150", 9, true),
        (9, "", "135", 9, true),
        (9, "", "0", 9, false),
    ] {
        let text = format!(
            r#"{{"prompt_tokens":32,"completion_tokens":{output},"total_tokens":{total}{details}}}"#
        );
        let usage = read(&text);
        assert_eq!(
            (usage.output, usage.uncovered),
            (Some(expected), uncovered),
            "{text}"
        );
        assert!(!usage.insane, "{text}");
    }
}

#[test]
fn a_count_that_is_not_sane_is_unknown() {
    let cases: [(&str, Tokens); 8] = [
        (
            r#"{"prompt_tokens":-1,"completion_tokens":5}"#,
            [None, Some(5), None, None],
        ),
        (
            r#"{"prompt_tokens":1.5,"completion_tokens":5}"#,
            [None, Some(5), None, None],
        ),
        (
            r#"{"prompt_tokens":"3","completion_tokens":5}"#,
            [None, Some(5), None, None],
        ),
        (
            r#"{"prompt_tokens":3,"completion_tokens":1099511627777}"#,
            [Some(3), None, None, None],
        ),
        (
            r#"{"prompt_tokens":3,"completion_tokens":1e300}"#,
            [Some(3), None, None, None],
        ),
        (
            r#"{"prompt_tokens":3,"completion_tokens":{}}"#,
            [Some(3), None, None, None],
        ),
        (
            r#"{"prompt_tokens":3,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4}}"#,
            [Some(3), Some(5), None, None],
        ),
        (
            r#"{"prompt_tokens":3,"completion_tokens":5,"completion_tokens_details":{"reasoning_tokens":-4}}"#,
            [Some(3), Some(5), None, None],
        ),
    ];
    for (text, expected) in cases {
        let usage = read(text);
        assert_eq!((tokens(&usage), usage.insane), (expected, true), "{text}");
    }
}

#[test]
fn what_reports_nothing_is_no_usage() {
    for text in [
        "{}",
        "null",
        "[]",
        "7",
        r#"{"total":1}"#,
        r#"{"prompt_tokens":null}"#,
        r#"{"prompt_tokens":1"#,
    ] {
        assert_eq!(Usage::read(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn units_without_a_rate_are_flagged() {
    let cases = [
        (r#""prompt_tokens_details":{"audio_tokens":3}"#, true),
        (
            r#""prompt_tokens_details":{"audio_tokens":0,"image_tokens":0,"cache_write_tokens":0}"#,
            false,
        ),
        (r#""prompt_tokens_details":{"cache_write_tokens":9}"#, true),
        (r#""completion_tokens_details":{"image_tokens":1}"#, true),
        (
            r#""completion_tokens_details":{"accepted_prediction_tokens":1,"rejected_prediction_tokens":2}"#,
            false,
        ),
        (r#""cache_creation_input_tokens":5"#, true),
        (r#""cache_read_input_tokens":5"#, true),
        (
            r#""cache_read_input_tokens":5,"prompt_tokens_details":{"cached_tokens":5}"#,
            false,
        ),
        (
            r#""server_tool_use_details":{"web_search_requests":1}"#,
            true,
        ),
        (
            r#""server_tool_use":{"web_search_requests":0,"x":1}"#,
            false,
        ),
        (r#""prompt_audio_seconds":0.4"#, true),
        (r#""num_sources_used":20"#, true),
        (r#""num_sources_used":0"#, false),
        (r#""citation_tokens":7"#, true),
        (r#""claude_cache_creation_1_h_tokens":7"#, true),
        (r#""prompt_audio_seconds":{}"#, false),
    ];
    for (member, expected) in cases {
        let usage = read(&format!(
            r#"{{"prompt_tokens":10,"completion_tokens":9,{member}}}"#
        ));
        assert_eq!(usage.uncovered, expected, "{member}");
    }
}

#[test]
fn reads_costs_exactly_and_prefers_sats() {
    use ReportedCost::{Nanodollars, Nanosats};
    let cases = [
        (r#"{"cost":0.0133176}"#, Some(Nanodollars(13_317_600))),
        (
            r#"{"cost":0.0076509169000000005}"#,
            Some(Nanodollars(7_650_917)),
        ),
        (r#"{"cost":0,"prompt_tokens":1}"#, Some(Nanodollars(0))),
        (
            r#"{"cost_in_usd_ticks":37756000}"#,
            Some(Nanodollars(3_775_600)),
        ),
        (
            r#"{"cost":{"base_msats":1,"total_msats":1234}}"#,
            Some(Nanosats(1_234_000_000)),
        ),
        (
            r#"{"cost":{"total_cost":0.5}}"#,
            Some(Nanodollars(500_000_000)),
        ),
        (
            r#"{"cost":0.1,"cost_sats":2.000000001}"#,
            Some(Nanosats(2_000_000_001)),
        ),
        (
            r#"{"cost_sats":2,"cost":{"total_msats":2001.5}}"#,
            Some(Nanosats(2_001_500_000)),
        ),
        (r#"{"cost":-1,"prompt_tokens":1}"#, None),
        (r#"{"cost":"1","prompt_tokens":1}"#, None),
        (r#"{"cost":null,"prompt_tokens":1}"#, None),
    ];
    for (text, expected) in cases {
        assert_eq!(read(text).reported_cost, expected, "{text}");
    }
    for (header, expected) in [
        ("1500", Some(Nanosats(1_500_000_000))),
        (" 0.5 ", Some(Nanosats(500_000))),
        ("", None),
        ("12 msats", None),
        ("\"1\"", None),
    ] {
        assert_eq!(
            ReportedCost::from_msats_header(header),
            expected,
            "{header}"
        );
    }
    let stated = Some(Nanosats(7));
    assert_eq!(
        read(r#"{"prompt_tokens":1}"#)
            .or_reported_cost(stated)
            .reported_cost,
        stated
    );
    assert_eq!(
        read(r#"{"cost":1}"#).or_reported_cost(stated).reported_cost,
        Some(Nanodollars(1_000_000_000))
    );
}
