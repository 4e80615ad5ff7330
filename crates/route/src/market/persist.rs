//! What a market has learned, saved and taken up again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arbstr_wire::Fingerprint;

use super::Market;
use crate::candidate::OfferLive;
use crate::latency::Latency;
use crate::learn::demand::{Demand, DemandState};
use crate::learn::prefix::{EXPIRY, Holder, MOST_NAMES};
use crate::learn::profile::OfferProfile;
use crate::learn::save::{LoadError, Moment, Reader, Stored, VERSION, Writer};

impl Market {
    /// What was learned so far, as bytes for [`Self::load`]; some two megabytes at most. `unix_ms` is the time in
    /// milliseconds since the epoch, UTC.
    #[must_use]
    pub fn save(&self, now: Instant, unix_ms: i64) -> Vec<u8> {
        let since = Duration::ZERO;
        let moment = Moment { now, since };
        let mut to = Writer::default();
        to.small(VERSION);
        to.number(unix_ms.cast_unsigned());
        let clock = self.shared.now();
        let common = self.shared.common();
        common.write(SAVED_NODES / 4, clock, &mut to, moment);
        drop(common);
        self.save_demands(&mut to, moment);
        self.save_offers(&mut to, moment);
        self.save_prefixes(&mut to, moment);
        to.finish()
    }

    /// Takes up what was saved, as far as it is about models and offers that there are. What is learned already gives
    /// way.
    ///
    /// # Errors
    ///
    /// When the bytes are of another version, or damaged; then nothing is taken up.
    pub fn load(&self, bytes: &[u8], now: Instant, unix_ms: i64) -> Result<(), LoadError> {
        let mut from = Reader::new(bytes);
        let found = from.small()?;
        if found != VERSION {
            return Err(LoadError::Version { found });
        }
        let saved_ms = from.number()?.cast_signed();
        let since = Duration::from_millis(unix_ms.saturating_sub(saved_ms).max(0).cast_unsigned());
        let moment = Moment { now, since };
        let common = DemandState::read(&mut from, moment)?;
        let demands = many(&mut from, MOST_DEMANDS, |from| {
            DemandState::read(from, moment)
        })?;
        let offers = many(&mut from, MOST_OFFERS, |from| {
            OfferRecord::read(from, moment)
        })?;
        let prefixes = many(&mut from, MOST_NAMES, |from| {
            Vec::<Holder>::read(from, moment)
        })?;
        from.end()?;
        self.shared.replace(common);
        self.take_up(demands, offers, prefixes);
        Ok(())
    }

    fn take_up(
        &self,
        demands: Vec<(u64, DemandState)>,
        offers: Vec<(u64, OfferRecord)>,
        prefixes: Vec<(u64, Vec<Holder>)>,
    ) {
        let mut unclaimed = self.unclaimed.lock();
        unclaimed.demands = demands.into_iter().collect();
        unclaimed.offers = offers.into_iter().collect();
        for (model, demand) in &self.demands {
            unclaimed.claim_demand(model, demand);
        }
        for offer in &self.offers {
            unclaimed.claim_offer(offer.name, &offer.live);
        }
        drop(unclaimed);
        let known = prefixes
            .into_iter()
            .filter(|(_, holders)| !holders.is_empty());
        *self.prefixes.lock() = known.collect();
    }

    fn save_demands(&self, to: &mut Writer, moment: Moment) {
        let mut demands: Vec<_> = self.demands.iter().collect();
        demands.retain(|(_, demand)| demand.lock().ticks > 0);
        demands.sort_unstable_by_key(|(model, _)| named(model));
        demands.truncate(MOST_DEMANDS);
        to.count(demands.len());
        let most = SAVED_NODES / demands.len().max(4);
        let clock = self.shared.now();
        for (model, demand) in demands {
            to.number(named(model));
            demand.lock().write(most, clock, to, moment);
        }
    }

    fn save_offers(&self, to: &mut Writer, moment: Moment) {
        let heard: Vec<_> = self
            .offers
            .iter()
            .filter(|offer| offer.lock().profile.tally.at.is_some())
            .take(MOST_OFFERS)
            .collect();
        to.count(heard.len());
        for offer in heard {
            let state = offer.lock();
            to.number(offer.name);
            state.profile.write(to, moment);
            state.streams.write(to, moment);
            state.wholes.write(to, moment);
        }
    }

    fn save_prefixes(&self, to: &mut Writer, moment: Moment) {
        let seen = self.prefixes.lock();
        let is_fresh = |holder: &Holder| moment.now.saturating_duration_since(holder.at) < EXPIRY;
        let mut fresh: Vec<_> = seen
            .iter()
            .filter_map(|(name, holders)| Some((name, holders, holders.last()?.at)))
            .filter(|(_, holders, _)| holders.last().is_some_and(is_fresh))
            .collect();
        fresh.sort_unstable_by_key(|(name, _, at)| {
            (moment.now.saturating_duration_since(*at), **name)
        });
        fresh.truncate(SAVED_PREFIXES);
        to.count(fresh.len());
        for (name, holders, _) in fresh {
            to.number(*name);
            holders.write(to, moment);
        }
    }
}

/// What was loaded about models and offers that are not there yet: some come only when providers are asked for their
/// lists.
#[derive(Debug, Default)]
pub(super) struct Unclaimed(Mutex<Waiting>);

#[derive(Debug, Default)]
pub(super) struct Waiting {
    demands: HashMap<u64, DemandState>,
    offers: HashMap<u64, OfferRecord>,
}

impl Unclaimed {
    pub(super) fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Gives a model what was loaded about it, if anything was.
    pub(super) fn claim_demand(&mut self, model: &str, demand: &Demand) {
        if let Some(state) = self.demands.remove(&named(model)) {
            demand.replace(state);
        }
    }

    /// Gives an offer what was loaded about it, if anything was.
    pub(super) fn claim_offer(&mut self, name: u64, live: &OfferLive) {
        if let Some(record) = self.offers.remove(&name) {
            let mut state = live.lock();
            state.profile = record.profile;
            state.streams = record.streams;
            state.wholes = record.wholes;
        }
    }
}

/// What is saved of one offer.
#[derive(Debug)]
struct OfferRecord {
    profile: OfferProfile,
    streams: Latency,
    wholes: Latency,
}

impl OfferRecord {
    fn read(from: &mut Reader<'_>, moment: Moment) -> Result<Self, LoadError> {
        Ok(Self {
            profile: OfferProfile::read(from, moment)?,
            streams: Latency::read(from, moment)?,
            wholes: Latency::read(from, moment)?,
        })
    }
}

/// A counted list of named things.
fn many<'a, T>(
    from: &mut Reader<'a>,
    most: usize,
    mut read: impl FnMut(&mut Reader<'a>) -> Result<T, LoadError>,
) -> Result<Vec<(u64, T)>, LoadError> {
    let count = from.count(most)?;
    (0..count)
        .map(|_| Ok((from.number()?, read(from)?)))
        .collect()
}

fn named(model: &str) -> u64 {
    let mut name = Fingerprint::default();
    name.push(model.as_bytes());
    name.value()
}

/// Keys saved, of all models together.
const SAVED_NODES: usize = 16_384;
const SAVED_PREFIXES: usize = 8192;
const MOST_DEMANDS: usize = 1024;
const MOST_OFFERS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::Market;
    use crate::testing::*;
    use crate::{AttemptOutcome, MarketSpec, OfferSpec, PermitEnd, Report, Step, Waterfall};
    use arbstr_price::Rate;
    use arbstr_wire::{Endpoint, Request, Usage};
    use proptest::prelude::*;

    fn spec() -> MarketSpec {
        let with_cache = |name: &str| {
            let mut offer: OfferSpec = offer("m", 1000, 2000);
            offer.rates.as_mut().unwrap().cached_input =
                Some(Rate::from_millisats_per_million(100_000));
            provider(name, vec![offer])
        };
        MarketSpec {
            providers: vec![with_cache("a"), with_cache("b")],
            ..MarketSpec::default()
        }
    }

    const BODY: &str =
        r#"{"model":"m","messages":[{"role":"user","content":"Tell me something."}]}"#;

    fn serve(market: &Market, now: Instant) {
        let request = Request::parse(Endpoint::Chat, BODY.as_bytes()).unwrap();
        let plan = market.plan(&crate::Facts::of(&request, None), now).unwrap();
        let mut waterfall = Waterfall::new(plan, None);
        let Step::Attempt(attempt) = waterfall.next(now, 0) else {
            panic!("nobody to ask")
        };
        let mut usage = Usage::default();
        (usage.input, usage.output) = (Some(20), Some(70));
        let report = Report {
            usage: Some(usage),
            text_bytes: Some(280),
        };
        let good = AttemptOutcome::Good { status: 200 };
        let permit = waterfall.on_outcome(attempt, good, now + secs(1)).permit;
        permit
            .unwrap()
            .finish(PermitEnd::Complete, &report, now + secs(1));
    }

    fn previewed(
        market: &Market,
        now: Instant,
    ) -> Vec<(String, arbstr_price::Tokens, Option<Duration>)> {
        let request = Request::parse(Endpoint::Chat, BODY.as_bytes()).unwrap();
        let plan = market
            .preview(&crate::Facts::of(&request, None), now)
            .unwrap();
        let candidates = plan.candidates.iter();
        candidates
            .map(|one| (one.offer.provider().to_owned(), one.tokens, one.latency))
            .collect()
    }

    #[test]
    fn what_was_saved_plans_as_before() {
        let now = start();
        let market = build(spec());
        (0..50).for_each(|_| serve(&market, now));
        let saved = market.save(now, 5_000_000);
        let heir = build(spec());
        assert_ne!(previewed(&heir, now), previewed(&market, now));
        heir.load(&saved, now, 5_000_000).unwrap();
        assert_eq!(previewed(&heir, now), previewed(&market, now));
        assert_eq!(
            heir.save(now, 5_000_000),
            saved,
            "nothing is lost on the way"
        );
    }

    #[test]
    fn time_goes_on_between_save_and_load() {
        let now = start() + secs(100_000);
        let market = build(spec());
        (0..50).for_each(|_| serve(&market, now));
        let saved = market.save(now, 0);
        let cached = |later_ms: i64| {
            let heir = build(spec());
            heir.load(&saved, now, later_ms).unwrap();
            previewed(&heir, now)[0].1.cached_input
        };
        assert!(cached(1000) > 0);
        assert_eq!(cached(7_200_000), 0, "nobody keeps a prefix for two hours");
    }

    #[test]
    fn a_provider_that_is_discovered_later_finds_what_is_known_of_it() {
        let now = start();
        let market = build(spec());
        (0..50).for_each(|_| serve(&market, now));
        let early = build(MarketSpec::default());
        early.load(&market.save(now, 0), now, 0).unwrap();
        let later = Market::build(spec(), Some(&early)).unwrap();
        assert_eq!(previewed(&later, now), previewed(&market, now));
    }

    #[test]
    fn another_version_is_told_and_left() {
        let market = build(spec());
        let mut saved = market.save(start(), 0);
        saved[0] = 9;
        let error = market.load(&saved, start(), 0).unwrap_err();
        assert_eq!(error.to_string(), "has the format 9, expected 2");
    }

    proptest! {
        #[test]
        fn damage_never_panics(at: usize, byte: u8, keep: usize) {
            let now = start();
            let market = build(spec());
            (0..5).for_each(|_| serve(&market, now));
            let mut saved = market.save(now, 0);
            let place = at % saved.len();
            saved[place] = byte;
            saved.truncate(keep % (saved.len() + 1));
            let heir = build(spec());
            let _ = heir.load(&saved, now, i64::MAX);
            serve(&heir, now);
        }
    }
}
