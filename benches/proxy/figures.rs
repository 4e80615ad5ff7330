//! Medians, quantiles, and what one measurement found.

/// The value below which the share `of` of the sorted `values` lies (nearest rank); 0 without values.
pub(crate) fn quantile(values: &[u64], of: f64) -> f64 {
    let last = values.len().saturating_sub(1);
    let at = (0..=last).find(|&at| (at + 1) as f64 >= of * values.len() as f64);
    at.and_then(|at| values.get(at))
        .map_or(0.0, |&value| value as f64)
}

/// The middle of `values`, the mean of both middles when their count is even; NaN without values.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 0 => f64::midpoint(sorted[half - 1], sorted[half]),
        _ => sorted[half],
    }
}

/// One line of the table: samples of the floor, of the proxy and perhaps of nginx, taken in turn.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) bar: Bar,
    pub(crate) samples: Vec<Sample>,
}

/// What was measured in one turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) floor: f64,
    pub(crate) proxy: f64,
    pub(crate) nginx: Option<f64>,
}

/// What the proxy should reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bar {
    None,
    /// At most this multiple of the floor.
    Ratio(f64),
    /// At most this much, in the line's unit.
    Absolute(f64),
}

impl Line {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, bar: Bar) -> Self {
        Self {
            name: name.into(),
            unit,
            bar,
            samples: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    pub(crate) fn floor(&self) -> f64 {
        self.median_of(|sample| Some(sample.floor))
    }

    pub(crate) fn proxy(&self) -> f64 {
        self.median_of(|sample| Some(sample.proxy))
    }

    /// NaN where there is no nginx.
    pub(crate) fn nginx(&self) -> f64 {
        self.median_of(|sample| sample.nginx)
    }

    /// The proxy's median over the floor's.
    pub(crate) fn ratio(&self) -> f64 {
        self.proxy() / self.floor()
    }

    /// The smallest and the largest ratio of any one turn: how far to trust the ratio.
    pub(crate) fn spread(&self) -> (f64, f64) {
        let ratios = self.samples.iter().map(|one| one.proxy / one.floor);
        ratios.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), ratio| {
            (low.min(ratio), high.max(ratio))
        })
    }

    /// Whether the bar is reached; `None` when there is none.
    pub(crate) fn reaches_bar(&self) -> Option<bool> {
        match self.bar {
            Bar::None => None,
            Bar::Ratio(bar) => Some(self.ratio() <= bar),
            Bar::Absolute(bar) => Some(self.proxy() <= bar),
        }
    }

    fn median_of(&self, side: impl Fn(&Sample) -> Option<f64>) -> f64 {
        median(&self.samples.iter().filter_map(side).collect::<Vec<_>>())
    }
}
