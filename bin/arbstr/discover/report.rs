//! What is logged of discovery: a first list, what changed in it, trouble that begins, changes or ends. A reading that
//! brings nothing new is not worth a line.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use arbstr_price::BtcPrice;
use arbstr_wire::{Catalog, Currency, ListedModel};

use super::Tracked;
use super::offers::is_per_million;

/// Logs how the list of `provider` went from `old` to `new`. `btc`: whether dollars can be turned into sats.
pub(crate) fn log_list(
    provider: &str,
    old: &Tracked<Arc<Catalog>>,
    new: &Tracked<Arc<Catalog>>,
    btc: bool,
    now: Instant,
) {
    log_trouble(provider, old, new, now);
    let Some((catalog, read_at)) = &new.latest else {
        return;
    };
    match &old.latest {
        None => log_first(provider, catalog, btc),
        Some((earlier, at)) if at != read_at => log_differences(provider, earlier, catalog),
        Some(_) => {}
    }
}

/// Logs how the price of bitcoin went from `old` to `new`.
pub(crate) fn log_bitcoin(old: &Tracked<BtcPrice>, new: &Tracked<BtcPrice>, now: Instant) {
    log_trouble("the price of bitcoin", old, new, now);
    if let (None, Some((price, _))) = (&old.latest, &new.latest) {
        tracing::info!(usd_per_btc = %price, "the price of bitcoin is known");
    }
}

fn log_trouble<T>(what: &str, old: &Tracked<T>, new: &Tracked<T>, now: Instant) {
    let why = |tracked: &Tracked<T>| tracked.trouble.as_ref().map(|(_, why)| why.clone());
    match (why(old), why(new)) {
        (None, None) => {}
        (Some(_), None) => tracing::info!(of = what, "discovery works again"),
        (before, Some(error)) if before.as_ref() != Some(&error) => match new.age(now) {
            Some(age) => tracing::warn!(
                of = what,
                error,
                age_secs = age.as_secs(),
                "discovery failed; what was read last stays in force"
            ),
            None => tracing::warn!(
                of = what,
                error,
                "discovery failed; only what the config says is in force"
            ),
        },
        (Some(_) | None, Some(_)) => {}
    }
}

fn log_first(provider: &str, catalog: &Catalog, btc: bool) {
    let priced = catalog.models.iter().filter(|model| model.price.is_some());
    tracing::info!(
        provider,
        models = catalog.models.len(),
        with_prices = priced.count(),
        unusable = catalog.unusable,
        contradicted = catalog.contradicted,
        "models discovered"
    );
    let per_million: Vec<String> = catalog
        .models
        .iter()
        .filter(|listed| listed.price.as_ref().is_some_and(is_per_million))
        .map(|listed| listed.id.clone())
        .collect();
    if !per_million.is_empty() {
        tracing::warn!(
            provider,
            models = %sample(&per_million),
            "prices that seem to be for a million tokens, not for one, stay unknown; set the rates in the config"
        );
    }
    let in_dollars = |listed: &&ListedModel| {
        let price = listed.price.as_ref();
        price.is_some_and(|price| price.currency == Currency::Dollars)
    };
    let dollars = catalog.models.iter().filter(in_dollars).count();
    if dollars > 0 && !btc {
        tracing::warn!(
            provider,
            models = dollars,
            "prices in dollars stay unknown until [prices] has usd_per_btc or btc_price_url"
        );
    }
}

fn log_differences(provider: &str, old: &Catalog, new: &Catalog) {
    let index = |catalog: &'_ Catalog| -> HashMap<String, ListedModel> {
        let models = catalog.models.iter();
        models
            .map(|model| (model.id.clone(), model.clone()))
            .collect()
    };
    let (before, after) = (index(old), index(new));
    let names = |from: &HashMap<String, ListedModel>, keep: &dyn Fn(&ListedModel) -> bool| {
        let mut names: Vec<String> = from
            .values()
            .filter(|model| keep(model))
            .map(|model| model.id.clone())
            .collect();
        names.sort_unstable();
        names
    };
    let added = names(&after, &|model| !before.contains_key(&model.id));
    let removed = names(&before, &|model| !after.contains_key(&model.id));
    let repriced = names(&after, &|model| {
        before
            .get(&model.id)
            .is_some_and(|earlier| earlier.price != model.price)
    });
    if added.is_empty() && removed.is_empty() && repriced.is_empty() {
        return;
    }
    tracing::info!(
        provider,
        models = new.models.len(),
        added = %sample(&added),
        removed = %sample(&removed),
        repriced = %sample(&repriced),
        "the models of a provider changed"
    );
}

/// How many, and the first few by name.
fn sample(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let shown = names
        .iter()
        .take(SHOWN)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("{} ({shown}{more})", names.len())
}

/// Names in a line.
const SHOWN: usize = 5;
