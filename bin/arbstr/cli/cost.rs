//! `arbstr cost`: what a request of some size would cost at each provider, by the prices of the config or, where an arbstr
//! is running, by those that it has.

use std::io::{self, Write};
use std::path::PathBuf;

use arbstr_price::{Quote, Sats, Tokens, quote};
use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;

use super::providers::Listing;
use super::screen::Screen;
use super::table::{Cell, Column, Table};
use super::{Failure, json_line, printed};
use crate::config::{self, Env, VirtualModel};
use crate::records::exact;

/// `arbstr cost`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Cost {
    /// Config file [default: ./arbstr.toml, else ~/.config/arbstr/config.toml]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The model as clients ask for it, virtual ones too
    #[arg(short, long)]
    pub(crate) model: String,
    /// Input tokens
    #[arg(long, value_name = "TOKENS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(..=MOST_TOKENS))]
    pub(crate) input: u64,
    /// Output tokens
    #[arg(long, value_name = "TOKENS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(..=MOST_TOKENS))]
    pub(crate) output: u64,
    /// Print JSON, in the shape of POST /v1/cost
    #[arg(long)]
    pub(crate) json: bool,
}

/// Prints what each provider would charge, cheapest first.
///
/// # Errors
/// When there is no config, it is wrong, or no provider has the model.
pub(crate) fn run(options: &Cost, env: Env<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let (listing, config) = Listing::locate(options.config.as_deref(), env)?;
    let virtual_models = config
        .map(|config| config.virtual_models)
        .unwrap_or_default();
    let offers = offers(&listing, &virtual_models, options);
    if offers.is_empty() {
        return Err(unknown_model(&listing, &virtual_models, &options.model));
    }
    let done = if options.json {
        print_json(&offers, options, out)
    } else {
        print_table(&offers, options, Screen::of_stdout(), out)
            .and_then(|()| writeln!(out, "\n{}", listing.source()))
    };
    printed(done)
}

/// One provider's price for it.
#[derive(Debug)]
struct PricedOffer<'a> {
    provider: &'a str,
    tier: &'a str,
    model: &'a str,
    quote: Option<Quote>,
}

impl PricedOffer<'_> {
    fn total(&self) -> Option<Sats> {
        self.quote.as_ref().map(Quote::total)
    }
}

/// Cheapest first, those without a price last.
fn offers<'a>(
    listing: &'a Listing,
    virtual_models: &[VirtualModel],
    asked: &Cost,
) -> Vec<PricedOffer<'a>> {
    let mut members = virtual_models.iter();
    let any_of = members.find(|virtual_model| virtual_model.name == asked.model);
    let is_asked_for = |name: &str| {
        any_of.map_or(name == asked.model, |virtual_model| {
            virtual_model.any_of.iter().any(|member| member == name)
        })
    };
    let tokens = Tokens {
        input: asked.input,
        cached_input: 0,
        output: asked.output,
    };
    let sold = listing.prices().filter(|price| is_asked_for(price.model));
    let mut offers: Vec<_> = sold
        .map(|price| PricedOffer {
            provider: price.provider,
            tier: price.tier,
            model: price.model,
            quote: price.rates.map(|rates| quote(&tokens, &rates)),
        })
        .collect();
    offers.sort_by_key(|offer| (offer.quote.is_none(), offer.total()));
    offers
}

fn unknown_model(listing: &Listing, virtual_models: &[VirtualModel], model: &str) -> Failure {
    let sold = listing.prices().map(|price| price.model);
    let known = sold.chain(virtual_models.iter().map(|model| model.name.as_str()));
    let meant = config::nearest(model, known).map_or_else(
        || "see `arbstr providers`".to_owned(),
        |near| format!("did you mean {near:?}?"),
    );
    Failure::Failed(format!("no provider has the model {model:?}; {meant}"))
}

fn print_table(
    offers: &[PricedOffer<'_>],
    asked: &Cost,
    screen: Screen,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut table = Table::new(vec![
        Column::text("PROVIDER"),
        Column::text("TIER").dispensable(1),
        Column::text("MODEL").dispensable(2),
        Column::number("INPUT"),
        Column::number("OUTPUT"),
        Column::number("FEE"),
        Column::number("TOTAL"),
    ]);
    for offer in offers {
        let quote = offer.quote;
        let parts = [
            quote.map(|quote| quote.input),
            quote.map(|quote| quote.output),
            quote.map(|quote| quote.base_fee),
            offer.total(),
        ];
        let words = [offer.provider, offer.tier, offer.model].map(Cell::text);
        table.row(words.into_iter().chain(parts.map(Cell::number)));
    }
    let Cost { input, output, .. } = asked;
    writeln!(out, "sats for {input} input and {output} output tokens\n")?;
    table.print(out, screen)
}

fn print_json(offers: &[PricedOffer<'_>], asked: &Cost, out: &mut dyn Write) -> io::Result<()> {
    let candidates = offers.iter().map(|offer| CandidateJson {
        provider: offer.provider,
        model: offer.model,
        expected_input_tokens: asked.input,
        expected_output_tokens: asked.output,
        expected_cost_sats: exact(offer.total()),
        skipped: None,
    });
    let shape = CostJson {
        model: &asked.model,
        candidates: candidates.collect(),
    };
    json_line(&shape, out)
}

#[derive(Serialize)]
struct CostJson<'a> {
    model: &'a str,
    candidates: Vec<CandidateJson<'a>>,
}

#[derive(Serialize)]
struct CandidateJson<'a> {
    provider: &'a str,
    model: &'a str,
    expected_input_tokens: u64,
    expected_output_tokens: u64,
    expected_cost_sats: Option<Box<RawValue>>,
    skipped: Option<&'a str>,
}

/// No answer has more; sums stay far from their bounds.
const MOST_TOKENS: u64 = 1 << 40;

pub(super) const EXAMPLES: &str = "\
Examples:
  arbstr cost --model gpt-4o
  arbstr cost --model gpt-4o --input 20000 --output 1000
  arbstr cost -m cheap-smart --json

Asks an arbstr that runs at the config's server.listen for models and prices that providers publish; else by the \
config alone. What a request of a kind usually produces only a running arbstr knows: POST /v1/cost.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::providers::AskError;
    use crate::config::Options;
    use std::path::Path;

    const FILE: &str = r#"
        [[providers]]
        name = "dear"
        url = "https://a.example/v1"
        models = ["gpt-4o", "gpt-4o-mini"]
        input_rate = 10000
        output_rate = 30000
        base_fee = 1
        [[providers]]
        name = "cheap"
        url = "https://b.example/v1"
        models = ["gpt-4o"]
        tier = "frontier"
        input_rate = 0.001
        output_rate = 12000
        [[providers]]
        name = "unpriced"
        url = "https://c.example/v1"
        models = ["gpt-4o"]
        [[models]]
        name = "smart"
        any_of = ["gpt-4o", "gpt-4o-mini"]
    "#;

    fn shown(model: &str, json: bool) -> String {
        let source = config::Source {
            file: Path::new("a.toml"),
            text: FILE,
            mode: None,
        };
        let config = config::read(&source, &|_| None, &Options::default()).unwrap();
        let asked = Cost {
            config: None,
            model: model.to_owned(),
            input: 1000,
            output: 500,
            json,
        };
        let listing = Listing::of(&config, Err(AskError::Unreachable));
        let offers = offers(&listing, &config.virtual_models, &asked);
        if offers.is_empty() {
            return unknown_model(&listing, &config.virtual_models, model).to_string();
        }
        let mut out = Vec::new();
        if json {
            print_json(&offers, &asked, &mut out).unwrap();
        } else {
            print_table(&offers, &asked, Screen::PLAIN, &mut out).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lists_what_each_would_charge_exactly_cheapest_first() {
        let expected = "\
sats for 1000 input and 500 output tokens

PROVIDER  TIER      MODEL       INPUT  OUTPUT  FEE      TOTAL
cheap     frontier  gpt-4o   0.000001       6    0   6.000001
dear      standard  gpt-4o  10             15    1  26
unpriced  standard  gpt-4o   -              -    -   -
";
        assert_eq!(shown("gpt-4o", false), expected);
        assert_eq!(
            shown("gpt-4o-mini", true),
            "{\"model\":\"gpt-4o-mini\",\"candidates\":[{\"provider\":\"dear\",\"model\":\"gpt-4o-mini\",\
             \"expected_input_tokens\":1000,\"expected_output_tokens\":500,\"expected_cost_sats\":26,\"skipped\":null}]}\n"
        );
    }

    #[test]
    fn a_virtual_model_is_priced_at_all_its_members() {
        assert_eq!(shown("smart", false).matches("dear").count(), 2);
    }

    #[test]
    fn an_unknown_model_names_the_nearest() {
        for (model, told) in [
            (
                "gpt-4p",
                "no provider has the model \"gpt-4p\"; did you mean \"gpt-4o\"?",
            ),
            (
                "smrt",
                "no provider has the model \"smrt\"; did you mean \"smart\"?",
            ),
            (
                "llama",
                "no provider has the model \"llama\"; see `arbstr providers`",
            ),
            (
                "\u{1b}[2J",
                "no provider has the model \"\\u{1b}[2J\"; see `arbstr providers`",
            ),
        ] {
            assert_eq!(shown(model, false), told);
        }
    }
}
