//! The kinds of provider that are known by name: what `kind` fills in, so that a provider needs little more than a key.
//!
//! A kind is a set of defaults and nothing else; whatever the file says itself is stronger. All of them end their
//! streams with `[DONE]`. None brings a price: those come from the provider's list or from the operator.

use super::{BaseUrl, Tier};

/// What a kind of provider fills in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Preset {
    /// Where it is.
    pub(crate) url: &'static str,
    /// The variable its own users keep the key in, used only with that address.
    pub(crate) key: Option<&'static str>,
    /// Whether models are read from its list.
    pub(crate) auto_discover: bool,
    /// What its list says of prices.
    pub(crate) prices: Published,
    /// How good it is said to be.
    pub(crate) tier: Tier,
}

/// Whether a list has prices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Published {
    /// In dollars, which `[prices]` turns into sats.
    Dollars,
    /// In sats.
    Sats,
    /// None.
    Nothing,
}

impl Preset {
    /// Its address.
    pub(super) fn base_url(&self) -> BaseUrl {
        BaseUrl::parse(self.url).expect("a kind's address is a base URL")
    }
}

/// Every kind, by the name it has in a file.
pub(crate) const PRESETS: [(&str, &Preset); 4] = [
    (
        "openrouter",
        &Preset {
            url: "https://openrouter.ai/api/v1",
            key: Some("OPENROUTER_API_KEY"),
            auto_discover: true,
            prices: Published::Dollars,
            tier: Tier::Standard,
        },
    ),
    (
        "routstr",
        &Preset {
            url: "https://api.routstr.com/v1",
            key: Some("ROUTSTR_API_KEY"),
            auto_discover: true,
            prices: Published::Sats,
            tier: Tier::Standard,
        },
    ),
    (
        "ollama",
        &Preset {
            url: "http://127.0.0.1:11434/v1",
            key: None,
            auto_discover: true,
            prices: Published::Nothing,
            tier: Tier::Local,
        },
    ),
    (
        // Its list has no prices, and many models that chat is not for: the file names those that are wanted.
        "openai",
        &Preset {
            url: "https://api.openai.com/v1",
            key: Some("OPENAI_API_KEY"),
            auto_discover: false,
            prices: Published::Nothing,
            tier: Tier::Standard,
        },
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_an_address() {
        for (name, preset) in PRESETS {
            assert_eq!(preset.base_url().to_string(), preset.url, "{name}");
        }
    }
}
