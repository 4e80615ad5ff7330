//! What arbstr logged, read line by line.

use std::collections::HashMap;

use crate::script;

/// The log, reduced to what can be held against something.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// arbstr's names of each request, one for each line that told its end.
    pub(crate) ids: HashMap<u32, Vec<String>>,
    /// Lines about failed attempts; what a client's leaving broke off has none.
    pub(crate) misses: usize,
    /// Lines about a circuit.
    pub(crate) changes: usize,
    /// Lines that do not follow from the one before about the same circuit.
    pub(crate) unexplained: Vec<String>,
    /// Lines at the level of an error.
    pub(crate) errors: Vec<String>,
}

/// How a circuit stands, as far as the log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Closed,
    Open,
    HalfOpen,
}

impl Log {
    pub(crate) fn read(text: &str) -> Self {
        let mut log = Self::default();
        let mut circuits = HashMap::new();
        // Two threads may write in another order than they looked at the clock.
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_by_key(|line| line.split(' ').next());
        for line in lines {
            log.read_line(line, &mut circuits);
        }
        log
    }

    fn read_line<'a>(
        &mut self,
        line: &'a str,
        circuits: &mut HashMap<(&'a str, &'a str), Standing>,
    ) {
        if line.contains(" ERROR ") {
            self.errors.push(line.to_owned());
        }
        if line.contains(" WARN attempt failed") {
            self.misses += 1;
        }
        if line.contains(" INFO request request_id=")
            && let (Some(id), Some(client)) = (field(line, "request_id"), field(line, "client_id"))
            && let Some(request) = script::number(client)
            && let Ok(request) = u32::try_from(request)
        {
            self.ids.entry(request).or_default().push(id.to_owned());
        }
        if let Some(to) = Standing::told_by(line)
            && let (Some(provider), Some(model)) = (field(line, "provider"), field(line, "model"))
        {
            self.changes += 1;
            let standing = circuits
                .entry((provider, model))
                .or_insert(Standing::Closed);
            if !standing.can_become(to) {
                let found = format!("was {standing:?} by the log, then: {line}");
                self.unexplained.push(found);
            }
            *standing = to;
        }
    }
}

impl Standing {
    fn told_by(line: &str) -> Option<Self> {
        let lines = [
            ("circuit opened: ", Self::Open),
            ("circuit half open: ", Self::HalfOpen),
            ("the probe came back without news", Self::Open),
            ("circuit closed: ", Self::Closed),
        ];
        let found = lines.iter().find(|(words, _)| line.contains(words));
        found.map(|(_, standing)| *standing)
    }

    fn can_become(self, to: Self) -> bool {
        matches!(
            (self, to),
            (Self::Closed, Self::Open)
                | (Self::Open, Self::HalfOpen)
                | (Self::HalfOpen, Self::Open | Self::Closed)
        )
    }
}

fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let start = line.find(&format!(" {name}="))? + name.len() + 2;
    let value = &line[start..];
    match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => value.split(' ').next(),
    }
}
