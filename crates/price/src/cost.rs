//! What a finished request cost, from the tokens its provider reported.
//!
//! Cached tokens are a part of the input and reasoning tokens a part of the output: parts are priced or ignored,
//! never added. A count that is missing or no sane count makes the cost unknown, because a wrong sum is worse than
//! none.

use arbstr_wire::{ReportedCost, Usage};

use crate::published::dollars_in_sats;
use crate::{BtcPrice, Rates, Sats, Tokens, quote};

/// What `usage` costs at `rates`, exactly; `None` when input or output is unknown, or the usage is not sane.
#[must_use]
pub fn cost(usage: &Usage, rates: &Rates) -> Option<Sats> {
    price(usage, usage.output?, rates)
}

/// As [`cost`], for an endpoint that produces no tokens, such as embeddings: an absent output count is zero.
#[must_use]
pub fn input_cost(usage: &Usage, rates: &Rates) -> Option<Sats> {
    price(usage, usage.output.unwrap_or(0), rates)
}

/// The cost the provider itself stated, in sats or thousandths of them; in dollars only when `btc` says what they are
/// worth, rounded up to a nanosat.
#[must_use]
pub fn reported_cost(usage: &Usage, btc: Option<BtcPrice>) -> Option<Sats> {
    match (usage.reported_cost?, btc) {
        (ReportedCost::Nanosats(nanosats), _) => Some(Sats::from_nanosats(i128::from(nanosats))),
        (ReportedCost::Nanodollars(nanodollars), Some(btc)) => dollars_in_sats(nanodollars, btc),
        _ => None,
    }
}

/// Whether a provider's own figure is off from `ours` by more than 1 % of ours.
#[must_use]
pub const fn disagrees(ours: Sats, reported: Sats) -> bool {
    let gap = ours.nanosats().abs_diff(reported.nanosats());
    gap.saturating_mul(100) > ours.nanosats().unsigned_abs()
}

/// The largest count that is believed.
const MAX_COUNT: u64 = 1 << 40;

fn price(usage: &Usage, output: u64, rates: &Rates) -> Option<Sats> {
    let input = usage.input?;
    let cached_input = usage.cached_input.unwrap_or(0);
    if usage.insane || cached_input > input || input > MAX_COUNT || output > MAX_COUNT {
        return None;
    }
    let tokens = Tokens {
        input,
        cached_input,
        output,
    };
    Some(quote(&tokens, rates).total())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rate;
    use proptest::prelude::*;

    fn usage(input: Option<u64>, output: Option<u64>) -> Usage {
        let mut usage = Usage::default();
        usage.input = input;
        usage.output = output;
        usage
    }

    fn rates(input: &str, output: &str, cached: Option<&str>, base: &str) -> Rates {
        Rates {
            input: input.parse().unwrap(),
            output: output.parse().unwrap(),
            cached_input: cached.map(|text| text.parse().unwrap()),
            base_fee: base.parse().unwrap(),
        }
    }

    #[test]
    fn follows_the_formula() {
        let card = rates("10000", "30000", Some("5000"), "1");
        let mut tokens = usage(Some(1000), Some(200));
        assert_eq!(cost(&tokens, &card).unwrap().to_string(), "17");
        tokens.cached_input = Some(400);
        tokens.reasoning = Some(150);
        assert_eq!(cost(&tokens, &card).unwrap().to_string(), "15");
        let odd = rates("0.001", "0.002", None, "0.5");
        assert_eq!(
            cost(&usage(Some(1), Some(3)), &odd).unwrap().to_string(),
            "0.500000007"
        );
    }

    #[test]
    fn unknown_tokens_have_no_cost() {
        let card = rates("1", "1", None, "1");
        for (input, output) in [(None, Some(1)), (Some(1), None), (None, None)] {
            assert_eq!(cost(&usage(input, output), &card), None);
        }
        assert_eq!(input_cost(&usage(None, None), &card), None);
        let mut insane = usage(Some(1), Some(1));
        insane.insane = true;
        assert_eq!(cost(&insane, &card), None);
        let mut part_over_whole = usage(Some(1), Some(1));
        part_over_whole.cached_input = Some(2);
        assert_eq!(cost(&part_over_whole, &card), None);
        assert_eq!(cost(&usage(Some(MAX_COUNT + 1), Some(1)), &card), None);
        assert_eq!(cost(&usage(Some(1), Some(MAX_COUNT + 1)), &card), None);
        assert!(cost(&usage(Some(MAX_COUNT), Some(MAX_COUNT)), &card).is_some());
    }

    #[test]
    fn an_embedding_is_charged_its_input() {
        let card = rates("10000", "30000", None, "0");
        let tokens = usage(Some(100), None);
        assert_eq!(input_cost(&tokens, &card).unwrap().to_string(), "1");
        assert_eq!(cost(&tokens, &card), None);
    }

    #[test]
    fn flags_a_difference_of_more_than_one_percent() {
        let cases: [(i128, i128, bool); 7] = [
            (100, 100, false),
            (100, 101, false),
            (100, 102, true),
            (100, 99, false),
            (100, 98, true),
            (0, 0, false),
            (0, 1, true),
        ];
        for (ours, theirs, want) in cases {
            let flagged = disagrees(Sats::from_nanosats(ours), Sats::from_nanosats(theirs));
            assert_eq!(flagged, want, "{ours} {theirs}");
        }
        assert!(disagrees(Sats::MAX, Sats::from_nanosats(i128::MIN)));
    }

    #[test]
    fn reported_dollars_are_sats_only_where_bitcoin_has_a_price() {
        let btc = "80000".parse().ok();
        let mut tokens = usage(Some(1), Some(1));
        for (reported, without, with) in [
            (None, None, None),
            (
                Some(ReportedCost::Nanodollars(5)),
                None,
                Some("0.000006250"),
            ),
            (
                Some(ReportedCost::Nanosats(1_500_000_000)),
                Some("1.5"),
                Some("1.5"),
            ),
        ] {
            tokens.reported_cost = reported;
            let sats = |text: Option<&str>| text.map(|text| text.parse::<Sats>().unwrap());
            assert_eq!(reported_cost(&tokens, None), sats(without));
            assert_eq!(reported_cost(&tokens, btc), sats(with));
        }
    }

    proptest! {
        #[test]
        fn two_requests_cost_the_sum_of_both(
            a in 0..MAX_COUNT / 2, b in 0..MAX_COUNT / 2, c in 0..MAX_COUNT / 2, d in 0..MAX_COUNT / 2,
            input: u64, output: u64,
        ) {
            let card = Rates {
                input: Rate::from_millisats_per_million(input),
                output: Rate::from_millisats_per_million(output),
                ..Rates::default()
            };
            let first = cost(&usage(Some(a), Some(b)), &card).unwrap();
            let second = cost(&usage(Some(c), Some(d)), &card).unwrap();
            let both = cost(&usage(Some(a + c), Some(b + d)), &card).unwrap();
            prop_assert_eq!(first.checked_add(second), Some(both));
        }

        #[test]
        fn nothing_panics_at_any_count(
            input: Option<u64>, output: Option<u64>, cached: Option<u64>, rate: u64, fee: i128,
        ) {
            let mut tokens = usage(input, output);
            tokens.cached_input = cached;
            let rate = Rate::from_millisats_per_million(rate);
            let card = Rates { input: rate, output: rate, cached_input: Some(rate), base_fee: Sats::from_nanosats(fee) };
            let _ = (cost(&tokens, &card), input_cost(&tokens, &card));
        }
    }
}
