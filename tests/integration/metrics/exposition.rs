//! Reads Prometheus text (version 0.0.4) as a strict reader would, written from the format's description alone.
//!
//! Besides the grammar it holds the exposition to what `promtool check metrics` asks for: help and type before the
//! samples of a family, families in one piece, no series twice, counters that end in `_total`, base units, histograms
//! whose buckets grow up to `+Inf`.

use std::collections::{BTreeMap, BTreeSet};

/// Labels of a series, by name.
pub(super) type Labels = BTreeMap<String, String>;

/// An exposition that broke no rule.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    pub(super) kinds: BTreeMap<String, String>,
    help: BTreeSet<String>,
    samples: BTreeMap<(String, Labels), f64>,
}

impl Exposition {
    #[track_caller]
    pub(super) fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has no end");
        let mut read = Self::default();
        let mut family = String::new();
        for line in text.lines() {
            read.line(line, &mut family)
                .unwrap_or_else(|why| panic!("{why}: {line:?}"));
        }
        read.check_histograms();
        for name in read.kinds.keys() {
            assert!(read.help.contains(name), "{name} has no help");
            assert!(
                read.samples
                    .keys()
                    .any(|(sample, _)| family_of(sample, &read.kinds) == name),
                "{name} has no samples"
            );
        }
        read
    }

    /// The sum of a metric over all series that have these labels; none: 0.
    pub(super) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.series(name, labels).map(|(_, value)| value).sum()
    }

    /// The only series of that name with these labels.
    #[track_caller]
    pub(super) fn one(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let found: Vec<_> = self.series(name, labels).collect();
        assert_eq!(found.len(), 1, "{name} {labels:?}: {found:?}");
        found[0].1
    }

    pub(super) fn series<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = (&'a Labels, f64)> {
        let all = self.samples.iter().filter(move |((of, _), _)| of == name);
        let having = all.filter(|((_, of), _)| {
            labels
                .iter()
                .all(|(name, value)| of.get(*name).map_or("", String::as_str) == *value)
        });
        having.map(|((_, labels), value)| (labels, *value))
    }

    /// How many series there are.
    pub(super) fn len(&self) -> usize {
        self.samples.len()
    }

    fn line(&mut self, line: &str, family: &mut String) -> Result<(), &'static str> {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or("help without a text")?;
            if help.trim() != help || help.is_empty() || !help.ends_with('.') {
                return Err("a help is a sentence");
            }
            return self
                .help
                .insert(valid(name)?.to_owned())
                .then_some(())
                .ok_or("help twice");
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or("type without a kind")?;
            check_name(valid(name)?, kind)?;
            name.clone_into(family);
            let new = self
                .kinds
                .insert(name.to_owned(), kind.to_owned())
                .is_none();
            return new.then_some(()).ok_or("type twice");
        }
        let (name, labels, value) = sample(line)?;
        if family_of(&name, &self.kinds) != family {
            return Err("a sample outside its family");
        }
        if self.kinds[family.as_str()] == "counter" && (value < 0.0 || !value.is_finite()) {
            return Err("no value for a counter");
        }
        let new = self.samples.insert((name, labels), value).is_none();
        new.then_some(()).ok_or("a series twice")
    }

    fn check_histograms(&self) {
        for name in self
            .kinds
            .iter()
            .filter(|(_, kind)| *kind == "histogram")
            .map(|(name, _)| name)
        {
            let mut buckets: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
            for (labels, value) in self.series(&format!("{name}_bucket"), &[]) {
                let mut labels = labels.clone();
                let le = labels.remove("le").unwrap().parse().unwrap();
                buckets.entry(labels).or_default().push((le, value));
            }
            for (labels, mut buckets) in buckets {
                buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
                assert!(
                    buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1),
                    "{name} {labels:?} {buckets:?}"
                );
                let last = buckets[buckets.len() - 1];
                let key = |part: &str| (format!("{name}_{part}"), labels.clone());
                assert_eq!(
                    last,
                    (f64::INFINITY, self.samples[&key("count")]),
                    "{name} {labels:?}"
                );
                assert!(self.samples[&key("sum")] >= 0.0);
            }
        }
    }
}

fn family_of<'a>(sample: &'a str, kinds: &BTreeMap<String, String>) -> &'a str {
    let parts = ["_bucket", "_sum", "_count"];
    let base = parts.iter().find_map(|part| sample.strip_suffix(part));
    base.filter(|base| kinds.get(*base).is_some_and(|kind| kind == "histogram"))
        .unwrap_or(sample)
}

fn check_name(name: &str, kind: &str) -> Result<(), &'static str> {
    match kind {
        "counter" if name.ends_with("_total") => {}
        "gauge" | "histogram" if !name.ends_with("_total") => {}
        "counter" => return Err("a counter's name ends in _total"),
        "gauge" | "histogram" => return Err("only a counter's name ends in _total"),
        _ => return Err("an unknown type"),
    }
    if kind == "histogram" && !name.ends_with("_seconds") && !name.ends_with("_bytes") {
        return Err("a histogram names its base unit");
    }
    let scaled = [
        "_ms", "milli", "micro", "nano", "minutes", "hours", "kilo", "percent",
    ];
    if scaled.iter().any(|unit| name.contains(unit))
        || !(name.starts_with("arbstr_") || name.starts_with("process_"))
    {
        return Err("not a base unit, or not ours");
    }
    Ok(())
}

fn valid(name: &str) -> Result<&str, &'static str> {
    let mut letters = name.chars();
    let first = letters
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    let rest = letters.all(|c| c.is_ascii_alphanumeric() || c == '_');
    (first && rest).then_some(name).ok_or("not a name")
}

fn sample(line: &str) -> Result<(String, Labels, f64), &'static str> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let name = valid(&line[..end])?.to_owned();
    let mut rest = &line[end..];
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"").ok_or("a label without a value")?;
            let (value, after) = quoted(after)?;
            if labels.insert(valid(label)?.to_owned(), value).is_some() {
                return Err("a label twice");
            }
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').ok_or("no blank before the value")?;
    let value = match value {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        number => number.parse().map_err(|_| "not a number")?,
    };
    Ok((name, labels, value))
}

fn quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut out = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((out, &text[at + 1..])),
            '\\' => out.push(match letters.next().map(|(_, escaped)| escaped) {
                Some('n') => '\n',
                Some(escaped @ ('\\' | '"')) => escaped,
                _ => return Err("an unknown escape"),
            }),
            other => out.push(other),
        }
    }
    Err("a label value without an end")
}

#[test]
fn the_reader_refuses_what_prometheus_would_not_like() {
    let good = "# HELP arbstr_a_total A.\n# TYPE arbstr_a_total counter\narbstr_a_total{m=\"x\\\"\\n\"} 1\n";
    let read = Exposition::read(good);
    assert_eq!(read.one("arbstr_a_total", &[("m", "x\"\n")]), 1.0);
    let bad = [
        good.replace("_total", ""),
        good.replace(" 1\n", " 1"),
        good.replace("} 1", "} one"),
        good.replace("x\\\"", "x\\q"),
        good.replace("# HELP arbstr_a_total A.\n", ""),
        format!("{good}arbstr_a_total{{m=\"x\\\"\\n\"}} 2\n"),
        format!("{good}arbstr_b 2\n"),
        "# HELP arbstr_h_seconds A.\n# TYPE arbstr_h_seconds histogram\narbstr_h_seconds_bucket{le=\"1\"} 2\narbstr_h_seconds_bucket{le=\"+Inf\"} 1\narbstr_h_seconds_sum 1\narbstr_h_seconds_count 1\n".to_owned(),
    ];
    for text in bad {
        let refused = std::panic::catch_unwind(|| Exposition::read(&text)).is_err();
        assert!(refused, "{text}");
    }
}
