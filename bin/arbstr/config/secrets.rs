//! Everything in a config that must never be shown to anyone.

use std::iter;

use arbstr_wire::redact::SHORTEST_SECRET;
use hyper::header::HeaderName;

use super::Config;
use crate::secret::Secret;

impl Config {
    /// The secrets that are looked for in what providers say. Those that are too short stand in any text by chance.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        let texts = self.named_secrets().map(|(_, secret)| secret.expose());
        texts.filter(|text| text.len() >= SHORTEST_SECRET)
    }

    /// A warning for each that is not looked for.
    pub(super) fn short_secrets(&self) -> impl Iterator<Item = String> {
        let short = self
            .named_secrets()
            .filter(|(_, secret)| secret.expose().len() < SHORTEST_SECRET);
        short.map(|((kind, name), _)| {
            format!(
                "{kind} {name} is shorter than {SHORTEST_SECRET} characters: \
                 an answer that echoes it is passed on as it is"
            )
        })
    }

    fn named_secrets(&self) -> impl Iterator<Item = ((&'static str, &str), &Secret)> {
        let of_providers = self.providers.iter().flat_map(|provider| {
            let key = provider.api_key.iter();
            let key = key.map(|key| (("the key of", provider.name.as_str()), key));
            key.chain(credentials(&provider.headers))
        });
        let token = self.server.auth_token.iter();
        let token = token.map(|token| (("the token", "server.auth_token"), token));
        of_providers
            .chain(token)
            .chain(credentials(&self.telemetry.headers))
    }
}

/// Headers that are secret by their name, so that an everyday word in another one is not blotted out of every message.
fn credentials(
    headers: &[(HeaderName, Secret)],
) -> impl Iterator<Item = ((&'static str, &str), &Secret)> {
    let is_credential = |name: &str| {
        ["auth", "key", "token", "secret", "cookie", "password"]
            .iter()
            .any(|word| name.contains(word))
    };
    let named = iter::zip(iter::repeat("the header"), headers);
    named
        .map(|(kind, (name, value))| ((kind, name.as_str()), value))
        .filter(move |((_, name), _)| is_credential(name))
}
