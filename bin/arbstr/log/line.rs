//! One event as one line.
//!
//! Fields are written straight into the line as they are visited; nothing is put together elsewhere first. What comes
//! from outside may contain anything: control characters, line ends among them, and characters that change the direction
//! of writing are escaped, and a value with blanks or quotes in it is quoted, so that it cannot pass for another field.

use std::fmt::{self, Debug, Write as _};

use tracing::Level;
use tracing::field::{Field, Visit};

use super::stamp;

/// A line for people: time, level, message, then `name=value`.
pub(super) struct Pretty<'a> {
    out: &'a mut Vec<u8>,
    style: Style,
}

/// A line for machines: one JSON object.
pub(super) struct Json<'a>(&'a mut Vec<u8>);

/// Whether a terminal shows the line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    /// ANSI colours.
    pub(super) color: bool,
}

impl<'a> Pretty<'a> {
    /// Appends an event of which `record` shows the fields; `micros` since the epoch.
    pub(super) fn write(
        out: &'a mut Vec<u8>,
        style: Style,
        level: Level,
        micros: i64,
        record: impl FnOnce(&mut dyn Visit),
    ) {
        let mut line = Self { out, style };
        line.paint(DIM, |out| stamp::write(out, micros));
        line.out.push(b' ');
        line.paint(color_of(level), |out| {
            out.extend_from_slice(padded(level).as_bytes())
        });
        record(&mut line);
        line.out.push(b'\n');
    }

    fn paint(&mut self, color: &str, write: impl FnOnce(&mut Vec<u8>)) {
        if self.style.color {
            self.out.extend_from_slice(color.as_bytes());
        }
        write(self.out);
        if self.style.color {
            self.out.extend_from_slice(RESET.as_bytes());
        }
    }

    fn name(&mut self, field: &Field) {
        self.out.push(b' ');
        self.paint(DIM, |out| {
            out.extend_from_slice(plain_name(field).as_bytes());
            out.push(b'=');
        });
    }

    fn bare(&mut self, field: &Field, value: &str) {
        if !is_place(field) {
            self.name(field);
            self.out.extend_from_slice(value.as_bytes());
        }
    }
}

impl Visit for Pretty<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if is_place(field) {
            return;
        }
        if field.name() == MESSAGE {
            self.out.push(b' ');
            message(self.out, value);
            return;
        }
        self.name(field);
        if !value.is_empty() && are_all(is_plain, value) {
            self.out.extend_from_slice(value.as_bytes());
        } else {
            self.out.push(b'"');
            escape_for_people(self.out, value);
            self.out.push(b'"');
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == MESSAGE {
            self.out.push(b' ');
            let _ = write!(Text(self.out, message), "{value:?}");
        } else {
            self.record_str(field, &format!("{value:?}"));
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field, itoa::Buffer::new().format(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field, itoa::Buffer::new().format(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field, if value { "true" } else { "false" });
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.bare(field, &value.to_string());
    }
}

impl<'a> Json<'a> {
    /// Appends an event of which `record` shows the fields; `micros` since the epoch.
    pub(super) fn write(
        out: &'a mut Vec<u8>,
        level: Level,
        micros: i64,
        record: impl FnOnce(&mut dyn Visit),
    ) {
        out.extend_from_slice(b"{\"timestamp\":\"");
        stamp::write(out, micros);
        out.extend_from_slice(b"\",\"level\":\"");
        out.extend_from_slice(word(level).as_bytes());
        out.push(b'"');
        record(&mut Json(out));
        out.extend_from_slice(b"}\n");
    }

    fn name(&mut self, field: &Field) {
        self.0.extend_from_slice(b",\"");
        escape_for_machines(self.0, plain_name(field));
        self.0.extend_from_slice(b"\":");
    }

    fn bare(&mut self, field: &Field, value: &str) {
        if !is_place(field) {
            self.name(field);
            self.0.extend_from_slice(value.as_bytes());
        }
    }
}

impl Visit for Json<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if is_place(field) {
            return;
        }
        self.name(field);
        // Exact amounts are text inside arbstr, and numbers everywhere outside.
        if field.name().ends_with("_sats") && is_decimal(value) {
            self.0.extend_from_slice(value.as_bytes());
            return;
        }
        self.0.push(b'"');
        escape_for_machines(self.0, value);
        self.0.push(b'"');
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.name(field);
        self.0.push(b'"');
        let _ = write!(Text(self.0, escape_for_machines), "{value:?}");
        self.0.push(b'"');
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field, itoa::Buffer::new().format(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field, itoa::Buffer::new().format(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field, if value { "true" } else { "false" });
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.bare(field, &value.to_string());
        } else {
            self.bare(field, "null");
        }
    }
}

/// Formatted text, escaped piece by piece on its way into a line.
struct Text<'a>(&'a mut Vec<u8>, fn(&mut Vec<u8>, &str));

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        self.1(self.0, piece);
        Ok(())
    }
}

/// A message may have several lines; all but its first are indented, so that they do not look like events.
fn message(out: &mut Vec<u8>, text: &str) {
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            out.extend_from_slice(b"\n    ");
        }
        write_escaped(out, line, |out, c| {
            if c == '"' || c == '\\' {
                false
            } else {
                unicode_escape(out, c)
            }
        });
    }
}

fn escape_for_people(out: &mut Vec<u8>, text: &str) {
    write_escaped(out, text, |out, c| match c {
        '"' | '\\' => {
            out.extend_from_slice(&[b'\\', c as u8]);
            true
        }
        _ => unicode_escape(out, c),
    });
}

fn unicode_escape(out: &mut Vec<u8>, c: char) -> bool {
    let hidden = is_hidden(c);
    if hidden {
        let escaped = c.escape_default();
        out.extend(escaped.map(|c| c as u8));
    }
    hidden
}

fn escape_for_machines(out: &mut Vec<u8>, text: &str) {
    write_escaped(out, text, |out, c| {
        match c {
            '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
            '\n' => out.extend_from_slice(b"\\n"),
            // All of them are in the first plane.
            _ if is_hidden(c) => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes())
            }
            _ => return false,
        }
        true
    });
}

/// Copies `text`, but for what `escape` writes in another way.
fn write_escaped(out: &mut Vec<u8>, text: &str, escape: impl Fn(&mut Vec<u8>, char) -> bool) {
    let is_harmless = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    if are_all(is_harmless, text) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    for c in text.chars() {
        if !escape(out, c) {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

/// Looks at all bytes, even past one that is not: many at a time, that way.
fn are_all(what: impl Fn(u8) -> bool, text: &str) -> bool {
    text.bytes().fold(true, |all, byte| all & what(byte))
}

/// Characters that move the cursor, end the line, or turn the text around.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// What needs no quotes.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~') && !matches!(byte, b'"' | b'=' | b'\\')
}

fn is_decimal(text: &str) -> bool {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let whole = whole.strip_prefix('-').unwrap_or(whole);
    digits(whole) && digits(part) && (whole == "0" || !whole.starts_with('0'))
}

/// Where in the source a library's event comes from: for a debugger, not for a log.
fn is_place(field: &Field) -> bool {
    field.name().starts_with("log.")
}

fn plain_name(field: &Field) -> &'static str {
    let name = field.name();
    name.strip_prefix("r#").unwrap_or(name)
}

fn padded(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => " WARN",
        Level::INFO => " INFO",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "TRACE",
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

fn color_of(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

const MESSAGE: &str = "message";
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    /// Keeps what is logged, once for people and once for machines.
    #[derive(Clone, Default)]
    struct Both(Arc<Mutex<(Vec<u8>, Vec<u8>)>>);

    impl Subscriber for Both {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn event(&self, event: &Event<'_>) {
            let mut both = self.0.lock().unwrap();
            let (people, machines) = &mut *both;
            let level = *event.metadata().level();
            Pretty::write(people, Style { color: false }, level, 0, |visit| {
                event.record(visit)
            });
            Json::write(machines, level, 0, |visit| event.record(visit));
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    fn logged(log: impl FnOnce()) -> (String, serde_json::Value) {
        let both = Both::default();
        tracing::subscriber::with_default(both.clone(), log);
        let (people, machines) = both.0.lock().unwrap().clone();
        let machines = String::from_utf8(machines).unwrap();
        assert_eq!(machines.matches('\n').count(), 1, "{machines}");
        (
            String::from_utf8(people).unwrap(),
            serde_json::from_str(&machines).unwrap(),
        )
    }

    #[test]
    fn a_line_has_its_time_its_level_its_message_and_its_fields() {
        let (line, json) = logged(|| {
            tracing::info!(
                model = "gpt-4o",
                tokens = 7_u64,
                cost_sats = "0.0513",
                ok = true,
                gone = None::<u64>,
                "request"
            )
        });
        assert_eq!(
            line,
            "1970-01-01T00:00:00.000000Z  INFO request model=gpt-4o tokens=7 cost_sats=0.0513 ok=true\n"
        );
        let expected = serde_json::json!({"timestamp": "1970-01-01T00:00:00.000000Z", "level": "info", "message": "request", "model": "gpt-4o", "tokens": 7, "cost_sats": 0.0513, "ok": true});
        assert_eq!(json, expected);
    }

    #[test]
    fn nothing_from_outside_can_forge_a_line_or_a_field() {
        let cases = [
            ("two words", r#""two words""#),
            ("a\n2026 ERROR forged", r#""a\n2026 ERROR forged""#),
            ("x\" provider=\"evil", r#""x\" provider=\"evil""#),
            ("a=b", r#""a=b""#),
            ("", r#""""#),
            ("\x1b[31mred\x07", r#""\u{1b}[31mred\u{7}""#),
            ("turned \u{202e}around", r#""turned \u{202e}around""#),
            ("back\\slash", r#""back\\slash""#),
            ("größe", r#""größe""#),
        ];
        for (given, expected) in cases {
            let (by_str, json) = logged(|| tracing::warn!(value = given, "m"));
            assert_eq!(
                by_str,
                format!("1970-01-01T00:00:00.000000Z  WARN m value={expected}\n")
            );
            assert_eq!(json["value"], given);
            let (by_display, json) = logged(|| tracing::warn!(value = %given, "m"));
            assert_eq!(by_display, by_str);
            assert_eq!(json["value"], given);
        }
    }

    #[test]
    fn the_lines_of_a_message_are_indented() {
        let (line, json) = logged(|| tracing::error!("the config is bad:\n{}\r!", "line \"3\""));
        assert_eq!(
            line,
            "1970-01-01T00:00:00.000000Z ERROR the config is bad:\n    line \"3\"\\r!\n"
        );
        assert_eq!(json["message"], "the config is bad:\nline \"3\"\r!");
    }

    #[test]
    fn numbers_are_numbers_where_json_has_them() {
        let (line, json) = logged(|| {
            tracing::info!(
                a = u64::MAX,
                b = i64::MIN,
                c = 1.5,
                d = f64::NAN,
                e_sats = "-0.5",
                f_sats = "none",
                g_sats = "007",
                h = u128::MAX
            )
        });
        assert!(
            line.contains("a=18446744073709551615 b=-9223372036854775808 c=1.5"),
            "{line}"
        );
        assert_eq!(
            (&json["a"], &json["e_sats"]),
            (&u64::MAX.into(), &serde_json::json!(-0.5))
        );
        assert!(
            json["d"].is_null() && json["f_sats"] == "none" && json["g_sats"] == "007",
            "{json}"
        );
    }
}
