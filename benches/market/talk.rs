//! What is asked: kinds of request, told apart in one way or another, and conversations.

use std::fmt::Write as _;
use std::time::Duration;

use crate::dice::Dice;
use crate::world::Job;

/// A kind of request.
#[derive(Debug, Clone)]
pub(crate) struct Kind {
    system: Option<String>,
    openings: Vec<String>,
    /// Words of the user's text, on average, and how much they vary.
    words: f64,
    words_spread: f64,
    bound: Option<u64>,
    /// The bound is drawn anew for each request.
    bound_varies: bool,
    tools: bool,
    streams: bool,
    format: bool,
    /// Output tokens: so many, and so many for each word of the text.
    output: f64,
    output_per_word: f64,
    output_spread: f64,
    bytes_per_token: f64,
    tokens_per_word: f64,
}

/// Conversations under way.
#[derive(Debug)]
pub(crate) struct Talk {
    conversations: bool,
    open: Vec<Turn>,
    count: usize,
}

#[derive(Debug)]
struct Turn {
    number: usize,
    kind: Kind,
    messages: String,
    tokens: f64,
    left: usize,
}

impl Kind {
    pub(crate) fn new(dice: &mut Dice) -> Self {
        let id = dice.below(1_000_000);
        let has_system = dice.chance(0.7);
        let known_openings = !has_system || dice.chance(0.5);
        let openings = (0..1 + dice.below(3))
            .map(|index| {
                format!(
                    "{} {}",
                    dice.pick(VERBS),
                    ["this:", "the following.", "for me"][index]
                )
            })
            .collect();
        let long_answer = dice.chance(0.5);
        let proportional = dice.chance(0.3);
        Self {
            system: has_system.then(|| {
                let mut text = format!("You are assistant number {id}.");
                for _ in 0..dice.spread(5.0, 600.0) as usize {
                    let _ = write!(text, " {}", dice.pick(WORDS));
                }
                text
            }),
            openings: if known_openings { openings } else { Vec::new() },
            words: dice.spread(10.0, 3000.0),
            words_spread: dice.between(0.1, 0.8),
            bound: dice.chance(0.4).then(|| dice.spread(50.0, 4000.0) as u64),
            bound_varies: dice.chance(0.2),
            tools: dice.chance(0.2),
            streams: dice.chance(0.5),
            format: dice.chance(0.2),
            output: if long_answer {
                dice.spread(200.0, 3000.0)
            } else {
                dice.spread(3.0, 200.0)
            },
            output_per_word: if proportional {
                dice.between(0.1, 1.2)
            } else {
                0.0
            },
            output_spread: dice.between(0.1, 0.7),
            bytes_per_token: dice.between(3.0, 5.0),
            tokens_per_word: dice.between(1.1, 1.9),
        }
    }
}

/// The mean of a lognormal draw that a bound cuts off, by its quantiles.
fn usual(mean: f64, spread: f64, bound: Option<u64>) -> f64 {
    const NORMAL: [f64; 10] = [
        -1.645, -1.036, -0.674, -0.385, -0.126, 0.126, 0.385, 0.674, 1.036, 1.645,
    ];
    let most = bound.map_or(f64::MAX, |bound| bound as f64);
    let draws = NORMAL.map(|z| (mean * (spread * z - spread * spread / 2.0).exp()).min(most));
    draws.iter().sum::<f64>() / draws.len() as f64
}

impl Talk {
    pub(crate) fn new(conversations: bool) -> Self {
        Self {
            conversations,
            open: Vec::new(),
            count: 0,
        }
    }

    pub(crate) fn job(&mut self, kind: &Kind, at: Duration, dice: &mut Dice) -> Job {
        let goes_on = self.conversations && !self.open.is_empty() && dice.chance(0.75);
        let index = if goes_on {
            dice.below(self.open.len())
        } else {
            self.begin(kind, dice)
        };
        let turn = &mut self.open[index];
        let known = turn.tokens;
        let (body, words) = turn.ask(dice);
        let kind = turn.kind.clone();
        let mean = kind.output + kind.output_per_word * words;
        let spread = kind.output_spread;
        let output = mean * (spread * dice.normal() - spread * spread / 2.0).exp();
        let input = turn.tokens;
        let bound = turn.bound(dice);
        turn.answer(
            output.min(bound.map_or(f64::MAX, |bound| bound as f64)),
            dice,
        );
        let job = Job {
            at,
            body: kind.body(&body, bound, dice),
            input,
            output: output.max(1.0),
            usual_output: usual(mean, spread, bound),
            bytes_per_token: kind.bytes_per_token * dice.between(0.95, 1.05),
            bound,
            conversation: turn.number,
            known,
            luck: dice.roll(),
        };
        turn.left = turn.left.saturating_sub(1);
        if turn.left == 0 {
            self.open.swap_remove(index);
        }
        job
    }

    fn begin(&mut self, kind: &Kind, dice: &mut Dice) -> usize {
        self.count += 1;
        let mut messages = String::new();
        let mut tokens = 3.0;
        if let Some(system) = &kind.system {
            let _ = write!(messages, r#"{{"role":"system","content":"{system}"}},"#);
            tokens += 4.0 + system.split(' ').count() as f64 * kind.tokens_per_word;
        }
        self.open.push(Turn {
            number: self.count,
            kind: kind.clone(),
            messages,
            tokens,
            left: if self.conversations {
                1 + dice.spread(1.0, 12.0) as usize
            } else {
                1
            },
        });
        self.open.len() - 1
    }
}

impl Turn {
    /// The messages with one more of the user's, and how many words that has.
    fn ask(&mut self, dice: &mut Dice) -> (String, f64) {
        let kind = &self.kind;
        let words =
            (kind.words * (kind.words_spread * dice.normal()).exp()).clamp(2.0, 20_000.0) as usize;
        let mut text = if kind.openings.is_empty() {
            String::new()
        } else {
            dice.pick(&kind.openings).clone()
        };
        for _ in 0..words {
            text.push(' ');
            text.push_str(dice.pick::<&str>(WORDS));
        }
        self.tokens += 4.0 + words as f64 * kind.tokens_per_word;
        let _ = write!(self.messages, r#"{{"role":"user","content":"{text}"}}"#);
        (self.messages.clone(), words as f64)
    }

    fn answer(&mut self, output: f64, dice: &mut Dice) {
        self.tokens += 4.0 + output;
        self.messages
            .push_str(r#",{"role":"assistant","content":""#);
        for _ in 0..(output / self.kind.tokens_per_word) as usize {
            self.messages.push_str(dice.pick::<&str>(WORDS));
            self.messages.push(' ');
        }
        self.messages.push_str(r#""},"#);
    }

    fn bound(&self, dice: &mut Dice) -> Option<u64> {
        let bound = self.kind.bound?;
        Some(if self.kind.bound_varies {
            (bound as f64 * dice.spread(0.5, 2.0)) as u64
        } else {
            bound
        })
    }
}

impl Kind {
    fn body(&self, messages: &str, bound: Option<u64>, dice: &mut Dice) -> Vec<u8> {
        let mut body = String::from(r#"{"model":"m","#);
        if let Some(bound) = bound {
            let _ = write!(body, r#""max_tokens":{bound},"#);
        }
        if self.tools {
            body.push_str(r#""tools":[{"type":"function","function":{"name":"look","parameters":{"type":"object"}}}],"#);
        }
        if self.streams {
            body.push_str(r#""stream":true,"#);
        }
        if self.format {
            body.push_str(r#""response_format":{"type":"json_object"},"#);
        }
        let _ = write!(
            body,
            r#""temperature":{:.2},"messages":[{messages}]}}"#,
            dice.unit()
        );
        body.into_bytes()
    }
}

const VERBS: &[&str] = &[
    "Summarise",
    "Translate",
    "Explain",
    "Classify",
    "Write",
    "Review",
    "Fix",
    "Extract",
    "Compare",
    "Please do",
    "Continue",
];

const WORDS: &[&str] = &[
    "the",
    "river",
    "keeps",
    "what",
    "stone",
    "and",
    "people",
    "leave",
    "behind",
    "on",
    "its",
    "way",
    "market",
    "a",
    "price",
    "of",
    "things",
    "that",
    "nobody",
    "counted",
    "before",
    "winter",
    "came",
    "with",
    "questions",
    "answers",
    "small",
    "lamp",
];
