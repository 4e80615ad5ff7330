//! Which candidates a request may use, and by what it ranks them.
//!
//! A rule is chosen by name, or by a keyword in what the user wrote. A keyword counts only as a whole word: `go` is
//! not in `google`. The text is looked at where it lies, letter by letter, and only when some rule has keywords.

use std::fmt;
use std::sync::Arc;

use arbstr_price::{Quote, Rate, Sats};
use arbstr_wire::{Request, Role};

use crate::candidate::{Offer, Tier};

/// By what candidates are ranked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// The least expected cost.
    #[default]
    Cheapest,
    /// The shortest usual time to a first event.
    LowestLatency,
    /// Each in turn.
    RoundRobin,
}

/// The rules of a config.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    /// The strategy where no rule says otherwise.
    pub default_strategy: Strategy,
    /// The rules; the first with a keyword that occurs is chosen.
    pub rules: Vec<Rule>,
}

/// One rule, as configured.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    /// Its name, as in the `X-Arbstr-Policy` header.
    pub name: String,
    /// Its own strategy.
    pub strategy: Option<Strategy>,
    /// The models it allows, by the name asked for or the candidate's; empty allows all.
    pub allowed_models: Vec<String>,
    /// The providers it allows; empty allows all.
    pub allowed_providers: Vec<String>,
    /// The least tier.
    pub min_tier: Option<Tier>,
    /// The dearest output rate; an offer without a price is dearer.
    pub max_sats_per_1m_output: Option<Rate>,
    /// The most that the request may be expected to cost; an offer without a price costs more.
    pub max_cost: Option<Sats>,
    /// Words that choose this rule.
    pub keywords: Vec<String>,
}

/// What a policy has against a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Objection {
    /// The model is not among `allowed_models`.
    Model,
    /// The provider is not among `allowed_providers`.
    Provider,
    /// Below `min_tier`.
    Tier,
    /// Above `max_sats_per_1m_output`.
    OutputRate,
    /// Above the most that a request may cost.
    Cost,
    /// A limit is set and the price is not known.
    PriceUnknown,
}

/// What the user wrote, in pieces.
pub trait Texts {
    /// Shows each piece to `found` until that is satisfied; whether it was.
    fn any(&self, found: &mut dyn FnMut(&str) -> bool) -> bool;
}

/// The rules, ready for use.
#[derive(Debug)]
pub(crate) struct PolicySet {
    default_strategy: Strategy,
    rules: Vec<Entry>,
    keywords: Vec<Keyword>,
    starts: [bool; 128],
}

#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    rule: Rule,
}

/// A keyword in lower case, and the rule it chooses.
#[derive(Debug)]
struct Keyword {
    rule: usize,
    first: char,
    letters: Vec<char>,
}

impl Strategy {
    /// As written in a config.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cheapest => "cheapest",
            Self::LowestLatency => "lowest_latency",
            Self::RoundRobin => "round_robin",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Model => "model not allowed",
            Self::Provider => "provider not allowed",
            Self::Tier => "tier too low",
            Self::OutputRate => "output rate too high",
            Self::Cost => "expected cost too high",
            Self::PriceUnknown => "price unknown",
        })
    }
}

impl Texts for () {
    fn any(&self, _: &mut dyn FnMut(&str) -> bool) -> bool {
        false
    }
}

impl Texts for Vec<&str> {
    fn any(&self, found: &mut dyn FnMut(&str) -> bool) -> bool {
        self.iter().any(|text| found(text))
    }
}

impl Texts for Request<'_> {
    /// What the `user` says; a piece is copied only where it has escapes.
    fn any(&self, found: &mut dyn FnMut(&str) -> bool) -> bool {
        let mut satisfied = false;
        self.for_each_text(|text| {
            if !satisfied && text.role == Role::User {
                satisfied = found(&text.decode());
            }
        });
        satisfied
    }
}

impl PolicySet {
    /// The rules of `policies`; their names and keywords are checked by whoever builds a market.
    pub(crate) fn new(policies: Policies) -> Self {
        let mut keywords = Vec::new();
        let mut starts = [false; 128];
        for (index, rule) in policies.rules.iter().enumerate() {
            for keyword in rule
                .keywords
                .iter()
                .filter_map(|text| Keyword::new(index, text))
            {
                if let Some(start) = starts.get_mut(keyword.first as usize) {
                    *start = true;
                }
                keywords.push(keyword);
            }
        }
        let entry = |rule: Rule| Entry {
            name: rule.name.as_str().into(),
            rule,
        };
        Self {
            default_strategy: policies.default_strategy,
            rules: policies.rules.into_iter().map(entry).collect(),
            keywords,
            starts,
        }
    }

    /// The rule of that name.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.rules.iter().position(|entry| &*entry.name == name)
    }

    /// The first rule that has a keyword in what the user wrote.
    pub(crate) fn choose(&self, texts: &dyn Texts) -> Option<usize> {
        let first = self.keywords.first()?.rule;
        let mut chosen = None;
        texts.any(&mut |text| {
            self.scan(text, &mut chosen);
            chosen == Some(first)
        });
        chosen
    }

    pub(crate) fn name(&self, rule: usize) -> Arc<str> {
        Arc::clone(&self.rules[rule].name)
    }

    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        let rules = self.rules.iter();
        rules.map(|entry| Arc::clone(&entry.name)).collect()
    }

    pub(crate) fn strategy(&self, rule: Option<usize>) -> Strategy {
        rule.and_then(|index| self.rules[index].rule.strategy)
            .unwrap_or(self.default_strategy)
    }

    /// What `rule` has against `offer` for a request for the model `asked`, expected to cost `quote`.
    pub(crate) fn objection(
        &self,
        rule: usize,
        asked: &str,
        offer: &Offer,
        quote: Option<&Quote>,
    ) -> Option<Objection> {
        let rule = &self.rules[rule].rule;
        let allows = |list: &[String], name: &str| {
            list.is_empty() || list.iter().any(|allowed| allowed == name)
        };
        if !allows(&rule.allowed_models, asked) && !allows(&rule.allowed_models, offer.model()) {
            return Some(Objection::Model);
        }
        if !allows(&rule.allowed_providers, offer.provider()) {
            return Some(Objection::Provider);
        }
        if rule.min_tier.is_some_and(|least| offer.tier() < least) {
            return Some(Objection::Tier);
        }
        if let Some(most) = rule.max_sats_per_1m_output {
            match offer.rates() {
                None => return Some(Objection::PriceUnknown),
                Some(rates) if rates.output > most => return Some(Objection::OutputRate),
                Some(_) => {}
            }
        }
        if let Some(most) = rule.max_cost {
            match quote {
                None => return Some(Objection::PriceUnknown),
                Some(quote) if quote.total() > most => return Some(Objection::Cost),
                Some(_) => {}
            }
        }
        None
    }

    /// Looks for keywords of rules that come before `chosen`.
    fn scan(&self, text: &str, chosen: &mut Option<usize>) {
        let mut before = ' ';
        for (at, letter) in text.char_indices() {
            let previous = std::mem::replace(&mut before, letter);
            let Some(lower) = letter.to_lowercase().next() else {
                continue;
            };
            if lower.is_ascii() && !self.starts[lower as usize] {
                continue;
            }
            for keyword in &self.keywords {
                if chosen.is_some_and(|chosen| keyword.rule >= chosen) {
                    break;
                }
                if keyword.first == lower
                    && !goes_on(previous, letter)
                    && keyword.begins(&text[at..])
                {
                    *chosen = Some(keyword.rule);
                    break;
                }
            }
        }
    }
}

impl Keyword {
    fn new(rule: usize, text: &str) -> Option<Self> {
        let letters: Vec<char> = text.trim().chars().flat_map(char::to_lowercase).collect();
        let first = *letters.first()?;
        Some(Self {
            rule,
            first,
            letters,
        })
    }

    /// Whether `text` begins with this keyword, whatever the case, and the word ends there.
    fn begins(&self, text: &str) -> bool {
        let mut wanted = self.letters.iter();
        let mut last = self.first;
        for letter in text.chars() {
            if wanted.as_slice().is_empty() {
                return !goes_on(last, letter);
            }
            if !letter
                .to_lowercase()
                .all(|lower| wanted.next() == Some(&lower))
            {
                return false;
            }
            last = letter;
        }
        wanted.as_slice().is_empty()
    }
}

/// Whether a word goes on from one letter to the next.
fn goes_on(letter: char, next: char) -> bool {
    is_word(letter) && is_word(next) && !(is_unspaced(letter) || is_unspaced(next))
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Whether a letter belongs to a script that puts no blanks between words (Thai to Khmer, Chinese, Japanese), or none
/// between a word and its endings (Korean).
const fn is_unspaced(letter: char) -> bool {
    matches!(letter,
        '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1100}'..='\u{11ff}' | '\u{1780}'..='\u{17ff}'
        | '\u{2e80}'..='\u{a4cf}' | '\u{a960}'..='\u{a97f}' | '\u{ac00}'..='\u{d7ff}' | '\u{f900}'..='\u{faff}'
        | '\u{ff66}'..='\u{ffdc}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(name: &str, keywords: &[&str]) -> Rule {
        Rule {
            name: name.to_owned(),
            keywords: keywords.iter().map(|&word| word.to_owned()).collect(),
            ..Rule::default()
        }
    }

    fn set(rules: Vec<Rule>) -> PolicySet {
        PolicySet::new(Policies {
            rules,
            ..Policies::default()
        })
    }

    #[test]
    fn a_keyword_is_a_whole_word_in_any_case() {
        let rules = set(vec![rule(
            "code",
            &[
                "function",
                "C++",
                "größe",
                "unit test",
                "#define",
                "调试",
                "디버그",
            ],
        )]);
        let cases = [
            ("write a function", true),
            ("FUNCTION!", true),
            ("(Function)", true),
            ("functional", false),
            ("malfunction", false),
            ("my_function", false),
            ("function_name", false),
            ("function2", false),
            ("functions", false),
            ("c++ please", true),
            ("abc++", false),
            ("C++20", true),
            ("die GRÖSSE", false),
            ("die GRÖßE.", true),
            ("a Unit Test of", true),
            ("unit tests", false),
            ("x#define y", true),
            ("请调试代码", true),
            ("この調試を", false),
            ("디버그해줘", true),
            ("bitte调试bitte", true),
            ("#defined", false),
            ("", false),
        ];
        for (text, found) in cases {
            assert_eq!(rules.choose(&vec![text]).is_some(), found, "{text:?}");
        }
    }

    #[test]
    fn the_first_rule_wins_wherever_its_word_stands() {
        let rules = set(vec![
            rule("none", &[]),
            rule("code", &["debug"]),
            rule("verse", &["poem", "debug"]),
        ]);
        let cases = [
            (vec!["a poem about how to debug"], Some(1)),
            (vec!["debug this poem"], Some(1)),
            (vec!["debug", "a poem"], Some(1)),
            (vec!["a poem", "and debug it"], Some(1)),
            (vec!["a poem"], Some(2)),
            (vec!["debugger", "poems"], None),
            (vec![], None),
        ];
        for (texts, want) in cases {
            assert_eq!(rules.choose(&texts), want, "{texts:?}");
        }
    }

    #[test]
    fn text_is_left_alone_when_no_rule_has_keywords() {
        struct Untouchable;
        impl Texts for Untouchable {
            fn any(&self, _: &mut dyn FnMut(&str) -> bool) -> bool {
                panic!("looked at")
            }
        }
        assert_eq!(set(vec![rule("plain", &[])]).choose(&Untouchable), None);
    }

    #[test]
    fn only_the_users_words_count_and_escapes_are_undone() {
        let rules = set(vec![rule("code", &["debug"])]);
        let cases = [
            (r#"{"role":"user","content":"please\ndebug"}"#, true),
            (
                r#"{"role":"user","content":[{"type":"text","text":"deb\u0075g"}]}"#,
                true,
            ),
            (r#"{"role":"system","content":"debug"}"#, false),
            (r#"{"role":"assistant","content":"debug"}"#, false),
        ];
        for (message, found) in cases {
            let body = format!(r#"{{"model":"m","messages":[{message}]}}"#);
            let request = Request::parse(arbstr_wire::Endpoint::Chat, body.as_bytes()).unwrap();
            assert_eq!(rules.choose(&request).is_some(), found, "{message}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_plain_way_for_ascii(text in "[abAB_ .]{0,40}", word in "[ab]{1,3}") {
            let want = text
                .split(|letter: char| !is_word(letter))
                .any(|piece| piece.eq_ignore_ascii_case(&word));
            let got = set(vec![rule("r", &[&word])]).choose(&vec![text.as_str()]).is_some();
            prop_assert_eq!(got, want, "{:?} in {:?}", word, text);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}", word in "\\PC{0,6}") {
            let _ = set(vec![rule("r", &[&word])]).choose(&vec![text.as_str()]);
        }
    }
}
