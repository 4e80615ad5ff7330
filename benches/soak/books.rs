//! The books side by side: clients, providers, log and database must tell the same story.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::client::{Crowd, End, Visit};
use crate::house::{Sighting, Told};
use crate::ledger::{Ledger, Row};
use crate::log::Log;
use crate::options::Options;
use crate::proxy::{self, KEY, OPEN_SECS, Proxy};
use crate::report::Report;
use crate::script;
use crate::street::Street;

/// Everything that was written down.
struct Books<'a> {
    street: &'a Street,
    visits: Vec<Visit>,
    log: Log,
    ledger: Ledger,
    /// By request, what each provider saw, in order.
    sightings: HashMap<u32, Vec<(usize, Sighting)>>,
}

/// Holds all books against each other, once arbstr has ended.
pub(crate) fn compare(
    report: &mut Report,
    options: &Options,
    street: &Street,
    crowd: &Crowd,
    proxy: &Proxy,
) -> Result<()> {
    let text = proxy.log()?;
    if text.contains(KEY) {
        report.violate(SECRETS, "the log has a provider's key".to_owned());
    }
    let books = Books {
        street,
        visits: crowd.visits().clone(),
        log: Log::read(&text),
        ledger: Ledger::read(&proxy.database())?,
        sightings: sightings(street),
    };
    books.count(report, options);
    books.judge_clients(report);
    books.judge_log(report);
    books.judge_rows(report);
    books.judge_attempts(report);
    books.judge_recoveries(report);
    Ok(())
}

fn sightings(street: &Street) -> HashMap<u32, Vec<(usize, Sighting)>> {
    let mut all: HashMap<u32, Vec<(usize, Sighting)>> = HashMap::new();
    for (index, house) in street.houses().iter().enumerate() {
        for sighting in &house.book().sightings {
            let of = all.entry(sighting.request).or_default();
            of.push((index, sighting.clone()));
        }
    }
    for of in all.values_mut() {
        of.sort_by_key(|(_, sighting)| sighting.at);
    }
    all
}

impl Books<'_> {
    fn count(&self, report: &mut Report, options: &Options) {
        let ends = |wanted: fn(&Visit) -> bool| self.visits.iter().filter(|v| wanted(v)).count();
        report.tell("requests", options.requests);
        report.tell(
            "whole JSON answers",
            ends(|v| v.end == End::Whole && !v.streaming),
        );
        report.tell(
            "whole streams",
            ends(|v| v.end == End::Whole && v.streaming),
        );
        report.tell(
            "streams that broke after their first event",
            ends(|v| v.end == End::Broken),
        );
        report.tell(
            "clients that left in mid-stream",
            ends(|v| v.end == End::LeftMidStream),
        );
        report.tell(
            "clients that left before anything came",
            ends(|v| v.end == End::LeftEarly),
        );
        let took = self.visits.iter().map(|visit| visit.took).max();
        report.tell(
            "slowest request",
            format!("{:.1?}", took.unwrap_or_default()),
        );
        let rows = self.ledger.rows.values();
        let attempts: usize = rows.map(|row| row.attempts.len()).sum();
        report.tell("attempts", attempts);
        report.tell("failed attempts", self.log.misses);
        let houses = self.street.houses().iter();
        let phases: usize = houses.map(|house| house.book().phases).sum();
        report.tell("phases of the providers", phases);
        report.tell("state lines", self.log.changes);
    }

    fn judge_clients(&self, report: &mut Report) {
        for visit in &self.visits {
            let Visit {
                request,
                model,
                took,
                head,
                ..
            } = visit;
            let known = format!(
                "request {request} for model-{model}, {:?}, after {took:.1?} with attempts {:?}",
                head.id, head.attempts
            );
            match &visit.end {
                End::Failed(found) => {
                    let up = self.up_during(visit).join(", ");
                    report.violate(FAILURES, format!("{known}; up all the time: {up}; {found}"));
                }
                End::Wrong(found) => report.violate(ANSWERS, format!("{known}: {found}")),
                _ => {}
            }
        }
        report.sum_up(FAILURES);
        report.sum_up(ANSWERS);
    }

    /// Who was up for as long as the request lasted, and before it for longer than a circuit stays open.
    fn up_during(&self, visit: &Visit) -> Vec<String> {
        let from = visit.began.checked_sub(RECOVERY).unwrap_or(visit.began);
        let to = visit.began + visit.took;
        let houses = self.street.houses().iter().enumerate();
        let up = houses.filter(|(_, house)| {
            let book = house.book();
            let mut turns = book.turns.iter().rev();
            let before = turns.find(|turn| turn.at <= from);
            let between = book
                .turns
                .iter()
                .any(|turn| turn.at > from && turn.at <= to);
            before.is_none_or(|turn| turn.is_up) && !between
        });
        up.map(|(index, _)| script::provider(index)).collect()
    }

    fn judge_log(&self, report: &mut Report) {
        for line in &self.log.unexplained {
            report.violate(STATES, line.clone());
        }
        for line in &self.log.errors {
            report.violate(ERRORS, line.clone());
        }
        let rows = self.ledger.rows.values();
        let missed = |row: &Row| {
            let failed = |(_, outcome): &&(String, String)| {
                outcome != "status=200" && outcome != "error=cancelled"
            };
            row.attempts.iter().filter(failed).count()
        };
        let failed: usize = rows.map(missed).sum();
        let lines = self.log.misses;
        if failed != lines {
            let found = format!("{lines} lines about {failed} failed attempts");
            report.violate(LINES, found);
        }
        report.sum_up(STATES);
        report.sum_up(LINES);
        report.sum_up(ERRORS);
    }

    fn judge_rows(&self, report: &mut Report) {
        let mut known = HashSet::new();
        for visit in &self.visits {
            let ids = self.log.ids.get(&visit.request);
            let ids = ids.map_or(&[][..], Vec::as_slice);
            if ids.is_empty() && visit.end == End::LeftEarly {
                continue;
            }
            let row = ids.first().and_then(|id| self.ledger.rows.get(id));
            let same = visit.head.id.as_ref().is_none_or(|id| ids == [id.clone()]);
            let (1, Some(row), true) = (ids.len(), row, same) else {
                let told = &visit.head.id;
                let found = format!("request {}: client {told:?}, log {ids:?}", visit.request);
                report.violate(ROWS, found);
                continue;
            };
            known.insert(ids[0].clone());
            if let Err(found) = self.judge_row(visit, row) {
                report.violate(
                    ROWS,
                    format!("request {} ({}): {found}", visit.request, ids[0]),
                );
            }
            if let Err(found) = self.judge_cost(visit, row) {
                report.violate(
                    COSTS,
                    format!("request {} ({}): {found}", visit.request, ids[0]),
                );
            }
        }
        for id in self.ledger.rows.keys().filter(|id| !known.contains(*id)) {
            report.violate(ROWS, format!("row {id} belongs to no request"));
        }
        let costs = self.ledger.rows.values().filter_map(|row| row.cost);
        report.tell("rows", self.ledger.rows.len());
        report.tell("sats paid", script::decimal(costs.sum()));
        report.sum_up(ROWS);
        report.sum_up(COSTS);
    }

    fn judge_row(&self, visit: &Visit, row: &Row) -> Result<(), String> {
        if !row.is_completed {
            return Err(format!("not completed: {row:?}"));
        }
        if row.attempts_counted != i64::try_from(row.attempts.len()).ok() {
            return Err(format!("attempts are miscounted: {row:?}"));
        }
        if visit.head.provider.is_some() && visit.head.provider != row.provider {
            return Err(format!("{:?} by the header: {row:?}", visit.head.provider));
        }
        let story = row.story();
        if visit
            .head
            .attempts
            .as_ref()
            .is_some_and(|told| *told != story)
        {
            return Err(format!(
                "{:?} by the header, {story:?} by the row",
                visit.head.attempts
            ));
        }
        let message = row.error_message.as_deref().unwrap_or_default();
        let is_broken = message == "stream_incomplete" || message.starts_with("upstream_error: ");
        let is_right = match &visit.end {
            End::Whole => row.is_success && message.is_empty(),
            End::Broken => !row.is_success && is_broken,
            // What comes between the last event read and the leaving decides.
            End::LeftMidStream => row.is_success || is_broken || message == "client_disconnected",
            End::LeftEarly => row.is_success || !message.is_empty(),
            End::Failed(_) => !row.is_success,
            End::Wrong(_) => true,
        };
        is_right
            .then_some(())
            .ok_or_else(|| format!("{:?} for the client, {row:?}", visit.end))
    }

    fn judge_cost(&self, visit: &Visit, row: &Row) -> Result<(), String> {
        let provider = row.provider.as_deref().and_then(script::number);
        let Some(provider) = provider else {
            return row
                .cost
                .map_or(Ok(()), |cost| Err(format!("{cost} for nobody")));
        };
        let bill = script::bill(visit.request, provider, visit.model);
        if row.cost.is_some_and(|cost| cost != bill) {
            return Err(format!("{:?} on record, {bill} billed", row.cost));
        }
        let mut seen = self.sightings.get(&visit.request).into_iter().flatten();
        let is_paid =
            seen.any(|(index, sighting)| *index == provider && sighting.told == Told::All);
        let won = row
            .attempts
            .last()
            .is_some_and(|(_, outcome)| outcome == "status=200");
        let left = matches!(visit.end, End::LeftEarly | End::LeftMidStream);
        if is_paid && won && row.cost.is_none() && !(left && proxy::aborts(provider)) {
            return Err(format!("nothing on record, {bill} billed"));
        }
        if !is_paid && visit.end == End::Whole {
            return Err("whole for the client, yet the provider did not end".to_owned());
        }
        let told = visit.head.cost.as_deref();
        if visit.end == End::Whole && told != Some(&script::decimal(bill)) {
            return Err(format!("the client was told {told:?}, {bill} billed"));
        }
        Ok(())
    }

    fn judge_attempts(&self, report: &mut Report) {
        for visit in &self.visits {
            let id = self.log.ids.get(&visit.request).and_then(|ids| ids.first());
            let row = id.and_then(|id| self.ledger.rows.get(id));
            let seen = self.sightings.get(&visit.request);
            let seen = seen.map_or(&[][..], Vec::as_slice);
            let attempts = row.map_or(&[][..], |row| row.attempts.as_slice());
            for house in 0..script::PROVIDERS {
                if let Err(found) = match_attempts(house, seen, attempts) {
                    let request = visit.request;
                    let found = format!("request {request} ({id:?}) at house-{house}: {found}");
                    report.violate(ATTEMPTS, found);
                }
            }
        }
        report.sum_up(ATTEMPTS);
    }

    fn judge_recoveries(&self, report: &mut Report) {
        let Some(end) = self.visits.iter().map(|visit| visit.began).max() else {
            return;
        };
        let mut waits: Vec<(Duration, u32)> = Vec::new();
        for index in 0..script::PROVIDERS {
            for (up, down) in self.recoveries(index, end) {
                let first = self.first_traffic(index, up);
                match first {
                    Some((wait, request)) if wait <= RECOVERY => {
                        let was_asked = self.was_asked_for(index, up, up + wait);
                        waits.extend(was_asked.then_some((wait, request)));
                    }
                    _ if self.was_asked_for(index, up + OPEN, up + RECOVERY - OPEN / 10) => {
                        let found = format!(
                            "house-{index} came up {:.1?} before the last request, stayed up for {:.1?}, first (wait, request): {first:.2?}",
                            end - up,
                            down - up
                        );
                        report.violate(RECOVERIES, found);
                    }
                    _ => {}
                }
            }
        }
        report.tell("recoveries observed", waits.len());
        if let Some((wait, request)) = waits.iter().max() {
            let slowest = format!("{wait:.2?} (request {request})");
            report.tell("slowest way back to traffic", slowest);
        }
        report.sum_up(RECOVERIES);
    }

    /// Times that were long enough for a recovery to show.
    fn recoveries(&self, index: usize, end: Instant) -> Vec<(Instant, Instant)> {
        let book = self.street.houses()[index].book();
        let ups = book.turns.iter().enumerate().filter(|(_, turn)| turn.is_up);
        let spans = ups.map(|(place, up)| {
            let down = book.turns.get(place + 1).map_or(end, |turn| turn.at);
            (up.at, down.min(end))
        });
        spans.filter(|(up, down)| *up + RECOVERY <= *down).collect()
    }

    /// The first request after `up` for the model that this provider sells cheapest, and how long after.
    fn first_traffic(&self, index: usize, up: Instant) -> Option<(Duration, u32)> {
        let book = self.street.houses()[index].book();
        let mut own = book
            .sightings
            .iter()
            .filter(|sighting| sighting.model == index);
        own.find(|sighting| sighting.at >= up)
            .map(|first| (first.at - up, first.request))
    }

    /// Whether there was a request in that time that should have come here, had no circuit been open.
    fn was_asked_for(&self, index: usize, from: Instant, to: Instant) -> bool {
        let mut own = self.visits.iter().filter(|visit| visit.model == index);
        own.any(|visit| visit.began >= from && visit.began < to)
    }
}

/// Whether what `house` saw of a request can have been these attempts.
fn match_attempts(
    house: usize,
    seen: &[(usize, Sighting)],
    attempts: &[(String, String)],
) -> Result<(), String> {
    let name = script::provider(house);
    let seen: Vec<Told> = seen
        .iter()
        .filter(|(index, _)| *index == house)
        .map(|(_, sighting)| sighting.told)
        .collect();
    let attempts: Vec<&str> = attempts
        .iter()
        .filter(|(provider, _)| *provider == name)
        .map(|(_, outcome)| outcome.as_str())
        .collect();
    let kept = |words: &[&str]| attempts.iter().filter(|word| words.contains(word)).count();
    let told: Vec<String> = seen.iter().filter_map(|told| word(*told)).collect();
    let heard: Vec<&str> = attempts
        .iter()
        .copied()
        .filter(|word| is_definite(word))
        .collect();
    let mut rest = told.iter();
    let in_order = heard.iter().all(|word| rest.any(|told| told == word));
    // What came too late, or after arbstr had hung up for its client's sake, was told and not heard.
    let missed = told.len() - heard.len().min(told.len());
    let may_miss = kept(&["error=timeout", "error=cancelled"]);
    let parts = seen.iter().filter(|told| **told == Told::Part).count();
    let unseen = kept(&[
        "error=connect",
        "error=connect_timeout",
        "error=closed",
        "error=cancelled",
    ]);
    let is_right = in_order
        && missed <= may_miss
        && parts <= kept(&["error=cut", "error=timeout", "error=cancelled"])
        && seen.len() + unseen >= attempts.len()
        // Each attempt may have met one connection that had been closed under it.
        && seen.len() <= 2 * attempts.len();
    is_right
        .then_some(())
        .ok_or_else(|| format!("the provider saw {seen:?}, the row has {attempts:?}"))
}

/// The outcome that an attempt must have had, where that can be told.
fn word(told: Told) -> Option<String> {
    match told {
        Told::Nothing | Told::Part => None,
        Told::Refusal(status) => Some(format!("status={status}")),
        Told::Fault => Some("error=error_event".to_owned()),
        Told::Empty => Some("error=empty".to_owned()),
        Told::Beginning | Told::All => Some("status=200".to_owned()),
    }
}

fn is_definite(outcome: &str) -> bool {
    outcome.starts_with("status=") || outcome == "error=error_event" || outcome == "error=empty"
}

const FAILURES: &str = "failures before the first event, with a provider up";
const ANSWERS: &str = "answers that are not what the provider sent";
const STATES: &str = "state lines without a change";
const LINES: &str = "failed attempts without their line";
const ERRORS: &str = "errors in the log";
const ROWS: &str = "requests without their one completed row";
const COSTS: &str = "costs that are not what was billed";
const ATTEMPTS: &str = "attempts that the provider saw otherwise";
const RECOVERIES: &str = "recoveries unnoticed for longer than open_secs + 1 s";
const SECRETS: &str = "secrets";
const OPEN: Duration = Duration::from_secs(OPEN_SECS);
const RECOVERY: Duration = Duration::from_secs(OPEN_SECS + 1);
