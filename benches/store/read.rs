//! How long answers take over the file: the median of several, after one that does not count.

use std::error::Error;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use arbstr_store::{Filter, GroupBy, PageQuery, Reader, Selection, Sort, SortBy, StatsQuery};

use crate::record;

type Outcome = Result<(), Box<dyn Error>>;

pub(crate) fn measure(reader: &Reader) -> Outcome {
    let rows = reader.count(&Selection::all())?;
    println!("answers over {rows} rows:");
    let bench = Bench {
        reader,
        rows,
        end_ms: record::arrival_ms(rows),
    };
    bench.stats()?;
    bench.pages()?;
    bench.export()
}

struct Bench<'a> {
    reader: &'a Reader,
    rows: u64,
    end_ms: i64,
}

impl Bench<'_> {
    fn stats(&self) -> Outcome {
        let failures = Filter {
            success: Some(false),
            ..Filter::default()
        };
        let model = Filter {
            model: Some("vendor/model-3".to_owned()),
            ..Filter::default()
        };
        let all = Filter::default();
        self.one_stats("all", EVER, &all, None)?;
        self.one_stats("all, by model", EVER, &all, Some(GroupBy::Model))?;
        self.one_stats("all, by provider", EVER, &all, Some(GroupBy::Provider))?;
        self.one_stats("all, by day", EVER, &all, Some(GroupBy::Day))?;
        self.one_stats("all, by hour", EVER, &all, Some(GroupBy::Hour))?;
        self.one_stats("failures, by model", EVER, &failures, Some(GroupBy::Model))?;
        self.one_stats("one model, by day", EVER, &model, Some(GroupBy::Day))?;
        for (name, hours) in [
            ("last 1 h", 1),
            ("last 24 h", 24),
            ("last 7 d", 168),
            ("last 30 d", 720),
        ] {
            let since_ms = self.end_ms - hours * HOUR_MS + 1_234_567;
            self.one_stats(
                &format!("{name}, by model"),
                (since_ms, i64::MAX),
                &all,
                Some(GroupBy::Model),
            )?;
        }
        // From the middle of a quarter of an hour about noon to another: no part of a quarter, an hour or a day is small.
        let noon = 12 * HOUR_MS + HOUR_MS * 3 / 8;
        self.one_stats(
            "noon to noon, by model",
            (record::FIRST_MS + noon, self.end_ms - noon),
            &all,
            Some(GroupBy::Model),
        )?;
        Ok(())
    }

    fn one_stats(
        &self,
        name: &str,
        (since_ms, until_ms): (i64, i64),
        filter: &Filter,
        group_by: Option<GroupBy>,
    ) -> Outcome {
        let query = StatsQuery {
            selection: Selection {
                since_ms,
                until_ms,
                filter: filter.clone(),
            },
            group_by,
        };
        let stats = median(&format!("stats: {name}"), || self.reader.stats(&query))?;
        let whole = (since_ms, until_ms) == EVER && filter.is_empty();
        expect(!whole || stats.totals.requests == self.rows, &stats.totals)?;
        let sum: u64 = stats.groups.iter().map(|group| group.totals.requests).sum();
        expect(
            group_by.is_none() || sum == stats.totals.requests,
            &stats.totals,
        )
    }

    fn pages(&self) -> Outcome {
        let half = self.end_ms - (self.end_ms - record::FIRST_MS) / 2;
        let failures = Filter {
            success: Some(false),
            ..Filter::default()
        };
        let nobody = Filter {
            provider: Some("nobody".to_owned()),
            ..Filter::default()
        };
        let streams = Filter {
            streaming: Some(true),
            ..Filter::default()
        };
        let all = Filter::default();
        self.one_page(
            "newest 100",
            (i64::MIN, i64::MAX),
            &all,
            SortBy::Timestamp,
            100,
        )?;
        self.one_page(
            "100 from the middle",
            (i64::MIN, half),
            &all,
            SortBy::Timestamp,
            100,
        )?;
        self.one_page(
            "100 streams",
            (i64::MIN, half),
            &streams,
            SortBy::Timestamp,
            100,
        )?;
        self.one_page(
            "100 failures",
            (i64::MIN, half),
            &failures,
            SortBy::Timestamp,
            100,
        )?;
        self.one_page(
            "nothing found",
            (i64::MIN, i64::MAX),
            &nobody,
            SortBy::Timestamp,
            0,
        )?;
        let hour = (half, half + 3_600_000);
        self.one_page("100 dearest of an hour", hour, &all, SortBy::Cost, 100)?;
        let id = record::id(self.rows / 2, record::arrival_ms(self.rows / 2));
        let found = median("one request by its id", || self.reader.request(&id))?;
        expect(found.is_some(), &id)
    }

    fn one_page(
        &self,
        name: &str,
        (since_ms, until_ms): (i64, i64),
        filter: &Filter,
        by: SortBy,
        expected: usize,
    ) -> Outcome {
        let query = PageQuery {
            selection: Selection {
                since_ms,
                until_ms,
                filter: filter.clone(),
            },
            sort: Sort {
                by,
                descending: true,
            },
            limit: 100,
            cursor: None,
        };
        let page = median(&format!("page: {name}"), || self.reader.requests(&query))?;
        expect(page.rows.len() == expected, &page.rows.len())
    }

    fn export(&self) -> Outcome {
        let start = Instant::now();
        let mut count = 0_u32;
        for row in self.reader.export(&Selection::all()).take(500_000) {
            row?;
            count += 1;
        }
        let speed = f64::from(count) / start.elapsed().as_secs_f64();
        println!("  export: {speed:.0} rows/s");
        Ok(())
    }
}

fn median<T, E: Error + 'static>(
    name: &str,
    mut ask: impl FnMut() -> Result<T, E>,
) -> Result<T, Box<dyn Error>> {
    let mut answer = ask()?;
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let start = Instant::now();
        answer = ask()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "  {name}: {:.2} ms ({:.2} to {:.2})",
        ms(times[TIMES / 2]),
        ms(times[0]),
        ms(times[TIMES - 1])
    );
    Ok(answer)
}

fn expect(held: bool, found: &impl Debug) -> Outcome {
    held.then_some(())
        .ok_or_else(|| format!("unexpected: {found:?}").into())
}

const TIMES: usize = 15;
const HOUR_MS: i64 = 3_600_000;
const EVER: (i64, i64) = (i64::MIN, i64::MAX);
