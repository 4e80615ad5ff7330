//! Tables for people: columns as wide as they need, numbers with their points below one another.
//!
//! On a terminal a table fits its width: the columns that can be missed are left out first, then the longest texts are
//! cut. In a pipe nothing is left out or cut, so that `grep` and `awk` see all of it.

use std::borrow::Cow;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::screen::{self, Screen, printable};

/// A table being filled.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

/// One column.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    title: &'static str,
    kind: Kind,
    /// Left out first where room is short; 0 for never.
    dispensable: u8,
    /// A value to keep room for.
    sample: &'static str,
    /// Whether texts may be cut where room is short.
    cuttable: bool,
    /// The widest that its texts make the column where nothing is cut; a longer one pushes the rest of its row aside.
    widest: usize,
}

/// One cell, ready to be shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

/// What a cell's colour says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing in particular.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// To be watched.
    Doubtful,
    /// Wrong.
    Bad,
    /// Of no interest.
    Faint,
}

/// How wide the columns of a table are shown, settled once so that rows can follow one by one.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Each shown column: its place among all, and its measures.
    shown: Vec<(usize, Measure)>,
    columns: Vec<Column>,
    screen: Screen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
}

/// Columns of characters that a column takes: all of it, and of those the ones from the decimal point on.
#[derive(Debug, Clone, Copy, Default)]
struct Measure {
    width: usize,
    fraction: usize,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(columns: Vec<Column>) -> Self {
        let rows = Vec::new();
        Self { columns, rows }
    }

    /// Adds a row; a cell that is missing is empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let mut row: Vec<Cell> = cells.into_iter().collect();
        row.resize_with(self.columns.len(), Cell::default);
        self.rows.push(row);
    }

    /// Prints the title line and all rows.
    ///
    /// # Errors
    /// Whatever the output says.
    pub(crate) fn print(&self, out: &mut dyn Write, screen: Screen) -> io::Result<()> {
        let layout = self.layout(screen);
        layout.print_titles(out)?;
        self.print_in(&layout, out)
    }

    /// Prints all rows without titles.
    ///
    /// # Errors
    /// Whatever the output says.
    pub(crate) fn print_rows(&self, out: &mut dyn Write, screen: Screen) -> io::Result<()> {
        self.print_in(&self.layout(screen), out)
    }

    /// Settles the widths by the rows so far.
    pub(crate) fn layout(&self, screen: Screen) -> Layout {
        let measure = |index: usize| {
            let cells = self.rows.iter().map(|row| &row[index]);
            Measure::of(&self.columns[index], cells)
        };
        let mut shown: Vec<(usize, Measure)> = (0..self.columns.len())
            .map(|index| (index, measure(index)))
            .collect();
        match screen.width {
            Some(room) => {
                leave_out(&mut shown, &self.columns, room);
                cut(&mut shown, &self.columns, room);
            }
            None => bound(&mut shown, &self.columns),
        }
        let columns = self.columns.clone();
        Layout {
            shown,
            columns,
            screen,
        }
    }
}

impl Table {
    fn print_in(&self, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
        let mut rows = self.rows.iter();
        rows.try_for_each(|row| layout.print_row(row, out))
    }
}

impl Column {
    /// Words, from the left.
    pub(crate) const fn text(title: &'static str) -> Self {
        Self {
            title,
            kind: Kind::Text,
            dispensable: 0,
            sample: "",
            cuttable: true,
            widest: usize::MAX,
        }
    }

    /// Decimal numbers, their points below one another.
    pub(crate) const fn number(title: &'static str) -> Self {
        Self {
            title,
            kind: Kind::Number,
            dispensable: 0,
            sample: "",
            // Part of a number would be another number.
            cuttable: false,
            widest: usize::MAX,
        }
    }

    /// Wide enough for values like `sample`, of rows that are yet to come.
    pub(crate) const fn like(mut self, sample: &'static str) -> Self {
        self.sample = sample;
        self
    }

    /// Holds texts that anybody may choose, so that no one of them makes every row as wide as itself.
    pub(crate) const fn of_anybody(mut self) -> Self {
        self.widest = WIDEST_OF_ANYBODY;
        self
    }

    /// Of no use in parts.
    pub(crate) const fn whole(mut self) -> Self {
        self.cuttable = false;
        self
    }

    /// May be left out where room is short: those of the highest `rank` first.
    pub(crate) const fn dispensable(mut self, rank: u8) -> Self {
        self.dispensable = rank;
        self
    }
}

impl Cell {
    /// A text from anywhere.
    pub(crate) fn text(text: &str) -> Self {
        Self {
            text: printable(text).into_owned(),
            tone: Tone::Plain,
        }
    }

    /// A number, or `-` when it is not known.
    pub(crate) fn number(number: Option<impl ToString>) -> Self {
        number.map_or_else(Self::none, |number| Self::text(&number.to_string()))
    }

    /// Nothing to tell.
    pub(crate) fn none() -> Self {
        Self::text("-").toned(Tone::Faint)
    }

    /// The same in another colour.
    pub(crate) fn toned(mut self, tone: Tone) -> Self {
        self.tone = tone;
        self
    }
}

impl From<Option<&str>> for Cell {
    fn from(text: Option<&str>) -> Self {
        text.map_or_else(Self::none, Self::text)
    }
}

impl Layout {
    /// Prints the titles.
    ///
    /// # Errors
    /// Whatever the output says.
    pub(crate) fn print_titles(&self, out: &mut dyn Write) -> io::Result<()> {
        let title = |(index, measure): &(usize, Measure)| {
            let column = &self.columns[*index];
            let title = self.cut(column, column.title, measure);
            // A title belongs to the whole number, not to the part before its point.
            let (before, after) = match column.kind {
                Kind::Text => (0, measure.width),
                Kind::Number => (measure.width, 0),
            };
            (title, before, after, Style::new().bold())
        };
        self.print_line(self.shown.iter().map(title), out)
    }

    /// Prints one row, which need not have been there when the widths were settled.
    ///
    /// # Errors
    /// Whatever the output says.
    pub(crate) fn print_row(&self, row: &[Cell], out: &mut dyn Write) -> io::Result<()> {
        let cell = |(index, measure): &(usize, Measure)| {
            let cell = &row[*index];
            let column = &self.columns[*index];
            let text = self.cut(column, &cell.text, measure);
            let (before, after) = match column.kind {
                Kind::Text => (0, measure.width),
                Kind::Number => (measure.width - measure.fraction, measure.fraction),
            };
            (text, before, after, cell.tone.style())
        };
        self.print_line(self.shown.iter().map(cell), out)
    }

    /// `text` as far as its column goes, where that is to fit a screen.
    fn cut<'a>(&self, column: &Column, text: &'a str, measure: &Measure) -> Cow<'a, str> {
        match self.screen.width {
            Some(_) if column.cuttable => screen::fit(text, measure.width),
            _ => Cow::Borrowed(text),
        }
    }

    /// Prints texts, each with the columns before and from its decimal point on; no blanks at the end of the line.
    fn print_line<'a>(
        &self,
        cells: impl Iterator<Item = (Cow<'a, str>, usize, usize, Style)>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let mut blanks = 0;
        for (place, (text, before, after, style)) in cells.enumerate() {
            let (whole, fraction) = if before == 0 {
                (0, screen::width(&text))
            } else {
                split_at_point(&text, after)
            };
            blanks += if place == 0 { 0 } else { GAP } + before.saturating_sub(whole);
            if !text.is_empty() {
                write!(out, "{:blanks$}", "")?;
                if self.screen.colours && style != Style::new() {
                    write!(out, "{style}{text}{style:#}")?;
                } else {
                    write!(out, "{text}")?;
                }
                blanks = 0;
            }
            blanks += after.saturating_sub(fraction);
        }
        writeln!(out)
    }
}

impl Measure {
    fn of<'a>(column: &Column, cells: impl Iterator<Item = &'a Cell>) -> Self {
        let title = screen::width(column.title);
        let (mut whole, mut fraction) = (0, 0);
        let texts = cells.map(|cell| cell.text.as_str());
        for text in texts.chain([column.sample]) {
            let (before, after) = match column.kind {
                Kind::Text => (screen::width(text), 0),
                Kind::Number => split_at_point(text, usize::MAX),
            };
            whole = whole.max(before);
            fraction = fraction.max(after);
        }
        Self {
            width: (whole + fraction).max(title),
            fraction,
        }
    }
}

impl Tone {
    const fn style(self) -> Style {
        let colour = match self {
            Self::Plain => return Style::new(),
            Self::Faint => return Style::new().dimmed(),
            Self::Good => AnsiColor::Green,
            Self::Doubtful => AnsiColor::Yellow,
            Self::Bad => AnsiColor::Red,
        };
        Style::new().fg_color(Some(anstyle::Color::Ansi(colour)))
    }
}

/// The columns of a number before its point, and from it on; a column without fractions has none to keep room for.
fn split_at_point(number: &str, room: usize) -> (usize, usize) {
    let all = screen::width(number);
    let before = number.find('.').unwrap_or(all);
    if room == 0 {
        (all, 0)
    } else {
        (before, all - before)
    }
}

/// Keeps columns from being as wide as the longest text that somebody chose. Nothing is cut: that text's row is longer.
fn bound(shown: &mut [(usize, Measure)], columns: &[Column]) {
    for (index, measure) in shown {
        measure.width = measure.width.min(columns[*index].widest);
    }
}

/// Leaves columns out until the rest can be made to fit.
fn leave_out(shown: &mut Vec<(usize, Measure)>, columns: &[Column], room: usize) {
    let least = |(index, measure): &(usize, Measure)| match columns[*index].cuttable {
        true => measure.width.min(COMFORT),
        false => measure.width,
    };
    while total(shown.iter().map(least)) > room {
        let rank = |place: &usize| columns[shown[*place].0].dispensable;
        let Some(place) = (0..shown.len()).rev().max_by_key(rank) else {
            return;
        };
        if rank(&place) == 0 {
            return;
        }
        shown.remove(place);
    }
}

/// Cuts the widest texts, one column of characters at a time, until the table fits.
fn cut(shown: &mut [(usize, Measure)], columns: &[Column], room: usize) {
    let mut excess = total(shown.iter().map(|(_, measure)| measure.width)).saturating_sub(room);
    while excess > 0 {
        let texts = shown
            .iter_mut()
            .filter(|(index, measure)| columns[*index].cuttable && measure.width > NARROWEST)
            .max_by_key(|(_, measure)| measure.width);
        let Some((_, widest)) = texts else { return };
        widest.width -= 1;
        excess -= 1;
    }
}

fn total(widths: impl Iterator<Item = usize>) -> usize {
    let (count, sum) = widths.fold((0, 0), |(count, sum), width| (count + 1, sum + width));
    sum + GAP * usize::saturating_sub(count, 1)
}

/// Blanks between two columns.
const GAP: usize = 2;
/// No text is cut below this.
const NARROWEST: usize = 4;
/// What clients name as they like makes no column wider than this.
const WIDEST_OF_ANYBODY: usize = 40;
/// A column goes before its neighbours' texts are cut below this.
const COMFORT: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(vec![
            Column::text("MODEL"),
            Column::text("NOTE").dispensable(1),
            Column::number("COST"),
            Column::number("N"),
        ]);
        for (model, note, cost, count) in [
            ("gpt-4o", "first", Some("0.0513"), Some(7)),
            ("日本", "", Some("12"), Some(1234)),
            ("a-model-with-a-very-long-name", "x", None, None),
        ] {
            let cost = Cell::number(cost);
            table.row([
                Cell::text(model),
                Cell::text(note),
                cost,
                Cell::number(count),
            ]);
        }
        table
    }

    fn shown(table: &Table, width: Option<usize>) -> String {
        let mut out = Vec::new();
        let screen = Screen {
            width,
            colours: false,
        };
        table.print(&mut out, screen).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn aligns_texts_left_and_numbers_on_their_point() {
        let expected = "\
MODEL                          NOTE      COST     N
gpt-4o                         first   0.0513     7
日本                                  12       1234
a-model-with-a-very-long-name  x       -          -
";
        assert_eq!(shown(&sample(), None), expected);
        assert_eq!(shown(&sample(), Some(200)), expected);
    }

    #[test]
    fn leaves_out_what_is_dispensable_before_it_cuts() {
        let expected = "\
MODEL               COST     N
gpt-4o            0.0513     7
日本             12       1234
a-model-with-a…   -          -
";
        assert_eq!(shown(&sample(), Some(30)), expected);
        for width in 20..60 {
            for line in shown(&sample(), Some(width)).lines() {
                assert!(screen::width(line) <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn a_title_is_cut_with_its_column() {
        let columns = ["PROVIDER", "MODEL", "CIRCUIT"].map(Column::text);
        let mut table = Table::new(columns.to_vec());
        table.row(["a-provider", "gpt-4o-mini", "suspended 60 s"].map(Cell::text));
        let expected = "PROV…  MODEL  CIRC…\na-pr…  gpt-…  susp…\n";
        assert_eq!(shown(&table, Some(19)), expected);
        for width in 16..45 {
            for line in shown(&table, Some(width)).lines() {
                assert!(screen::width(line) <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn a_text_of_anybodys_making_widens_its_own_row_alone() {
        let columns = [Column::text("MODEL").of_anybody(), Column::number("N")];
        let mut table = Table::new(columns.to_vec());
        let long = "m".repeat(250);
        for model in ["gpt-4o", &long] {
            table.row([Cell::text(model), Cell::number(Some(7))]);
        }
        let expected = format!("{:40}  N\n{:40}  7\n{long}  7\n", "MODEL", "gpt-4o");
        assert_eq!(shown(&table, None), expected);
        // A terminal shows as much of it as there is room for.
        for width in [30, 100, 300] {
            let text = shown(&table, Some(width));
            let widths: Vec<usize> = text.lines().map(screen::width).collect();
            assert_eq!(widths, [width.min(253); 3], "{text}");
        }
    }

    #[test]
    fn ends_lines_without_blanks_and_survives_a_terminal_of_no_width() {
        for width in [None, Some(0), Some(1), Some(40)] {
            let text = shown(&sample(), width);
            assert!(text.lines().all(|line| line.trim_end() == line), "{text}");
            assert_eq!(text.lines().count(), 4);
        }
        assert_eq!(
            shown(&Table::new(vec![Column::text("EMPTY")]), None),
            "EMPTY\n"
        );
    }

    #[test]
    fn colours_only_where_they_are_welcome_and_never_by_the_content() {
        let mut table = Table::new(vec![Column::text("STATE")]);
        table.row([Cell::text("\u{1b}[2Jopen").toned(Tone::Bad)]);
        assert_eq!(shown(&table, Some(80)), "STATE\n\\u{1b}[2Jopen\n");
        let mut out = Vec::new();
        let screen = Screen {
            width: Some(80),
            colours: true,
        };
        table.print(&mut out, screen).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "\u{1b}[1mSTATE\u{1b}[0m\n\u{1b}[31m\\u{1b}[2Jopen\u{1b}[0m\n"
        );
    }
}
