//! What is printed on: how wide it is, whether it shows colours, and what must not reach it raw.
//!
//! Names of models and providers come from clients and networks. A terminal obeys escape sequences in what it shows,
//! so every such text goes through [`printable`] on its way to a person.

use std::borrow::Cow;
use std::io::{self, IsTerminal};

use anstream::{AutoStream, ColorChoice};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// A terminal, or a file or pipe in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Screen {
    /// Columns of characters; `None` when nobody looks and nothing has to fit.
    pub(crate) width: Option<usize>,
    /// Whether escape sequences for colours are welcome.
    pub(crate) colours: bool,
}

impl Screen {
    /// A file or pipe.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self {
        width: None,
        colours: false,
    };

    /// Standard output as it is now. Colours follow `NO_COLOR`, `CLICOLOR`, `CLICOLOR_FORCE` and `TERM`.
    pub(crate) fn of_stdout() -> Self {
        let out = io::stdout();
        let width = out.is_terminal().then(|| {
            let size = terminal_size::terminal_size_of(&out);
            size.map_or(USUAL_WIDTH, |(width, _)| usize::from(width.0))
        });
        Self {
            width,
            colours: AutoStream::choice(&out) != ColorChoice::Never,
        }
    }
}

/// Whether standard output is a pipe that nobody reads any more; without this only the next line would show it.
pub(crate) fn is_abandoned() -> bool {
    let out = io::stdout();
    let mut polled = [PollFd::new(&out, PollFlags::empty())];
    poll(&mut polled, Some(&Timespec::default())).is_ok()
        && polled[0]
            .revents()
            .intersects(PollFlags::ERR | PollFlags::HUP)
}

/// `text` with everything that a terminal would obey, hide or reorder shown as an escape such as `\u{1b}`.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        return Cow::Borrowed(text);
    }
    // `escape_debug` knows what is printable; quotes and backslashes, which it escapes too, are kept apart from it.
    let pieces = text.split_inclusive(['"', '\'', '\\']);
    let shown = pieces.map(|piece| {
        let plain = piece.trim_end_matches(['"', '\'', '\\']);
        format!("{}{}", plain.escape_debug(), &piece[plain.len()..])
    });
    Cow::Owned(shown.collect())
}

/// JSON text in which no string brings a control character to a terminal raw; it means the same.
pub(crate) fn harmless_json(text: &str) -> Cow<'_, str> {
    // Those below U+0020 cannot stand in JSON unescaped.
    if !text.contains(|c: char| c.is_control()) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().map(|c| match c {
        '\u{7f}'..='\u{9f}' => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    });
    Cow::Owned(escaped.collect())
}

/// How many columns `text` takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// `text` in at most `most` columns, with `…` where something is cut off.
pub(crate) fn fit(text: &str, most: usize) -> Cow<'_, str> {
    if width(text) <= most {
        return Cow::Borrowed(text);
    }
    let mut left = most.saturating_sub(1);
    let kept: String = text
        .chars()
        .take_while(|c| {
            let fits = c.width().unwrap_or(0) <= left;
            left = left.saturating_sub(c.width().unwrap_or(0));
            fits
        })
        .collect();
    Cow::Owned(if most == 0 { kept } else { kept + "…" })
}

/// Where a terminal does not tell.
const USUAL_WIDTH: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_stays_as_it_is() {
        for (text, shown) in [
            ("gpt-4o", "gpt-4o"),
            ("", ""),
            ("a \"b\" 'c' \\ d", "a \"b\" 'c' \\ d"),
            ("\u{1b}[31mred\u{7}", "\\u{1b}[31mred\\u{7}"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("line\nbreak\ttab\r", "line\\nbreak\\ttab\\r"),
            ("\u{202e}esrever", "\\u{202e}esrever"),
            ("zero\u{200b}width\u{feff}", "zero\\u{200b}width\\u{feff}"),
            ("\u{7f}", "\\u{7f}"),
            ("Zürich 日本 é", "Zürich 日本 é"),
            ("it's \u{1b}\"", "it's \\u{1b}\""),
        ] {
            assert_eq!(printable(text), shown, "{text:?}");
            assert!(!printable(text).chars().any(char::is_control), "{text:?}");
        }
    }

    #[test]
    fn json_keeps_its_meaning_without_control_characters() {
        for name in ["plain", "\u{9b}2J\u{7f}\u{1b}", "日本\u{85}"] {
            let text = serde_json::to_string(name).unwrap();
            let harmless = harmless_json(&text);
            assert!(!harmless.contains(|c: char| c.is_control()), "{harmless}");
            assert_eq!(serde_json::from_str::<String>(&harmless).unwrap(), name);
        }
    }

    #[test]
    fn cuts_to_columns_not_to_characters() {
        for (text, most, fitted) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("日本語", 6, "日本語"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
            ("abc", 1, "…"),
            ("abc", 0, ""),
        ] {
            assert_eq!(fit(text, most), fitted, "{text} in {most}");
            assert!(width(&fit(text, most)) <= most);
        }
    }
}
