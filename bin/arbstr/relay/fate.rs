//! How the upstream's part of a stream ended, and what follows from it for the record and for routing.
//!
//! The two do not follow from each other: a client that left makes its record `client_disconnected`, while the provider
//! whose stream came to its end all the same has served well.

use arbstr_route::End as PermitEnd;

use super::Audience;
use crate::ledger::Ending;

/// How the upstream's part ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// As it should: with `[DONE]`, or without from a provider that never sends it.
    Whole,
    /// Cleanly and finished, but without the `[DONE]` that is expected of this provider.
    Unmarked,
    /// Cleanly, in the middle.
    Incomplete,
    /// It broke or fell silent; the kind.
    Broke(&'static str),
    /// The time for the whole request was over.
    OutOfTime,
    /// arbstr ended.
    ShutDown,
    /// Nobody wanted it any more.
    Abandoned,
}

impl Fate {
    /// Whether the usage seen is final.
    pub(super) fn is_trusted(&self) -> bool {
        *self == Self::Whole
    }

    /// For the record; `fault`: what the provider's own error event was called, if one came.
    pub(super) fn ending(&self, audience: Audience, fault: Option<String>) -> Ending {
        match (audience, self, fault) {
            (Audience::Gone, ..) | (_, Self::Abandoned, _) => Ending::ClientLeft,
            (Audience::Present, Self::ShutDown, _) => Ending::ShutDown,
            (Audience::Present, _, Some(kind)) => Ending::Broke(kind),
            (Audience::Present, Self::Whole, None) => Ending::Complete,
            (Audience::Present, Self::Unmarked | Self::Incomplete, None) => Ending::Incomplete,
            (Audience::Present, Self::Broke(kind), None) => Ending::Broke((*kind).to_owned()),
            (Audience::Present, Self::OutOfTime, None) => Ending::Broke("timeout".to_owned()),
        }
    }

    /// For routing: what it says about the provider.
    pub(super) fn permit_end(&self, has_fault: bool) -> PermitEnd {
        match self {
            Self::Whole if has_fault => PermitEnd::Broken,
            Self::Whole => PermitEnd::Complete,
            Self::Incomplete | Self::Broke(_) => PermitEnd::Broken,
            Self::Unmarked | Self::OutOfTime | Self::ShutDown | Self::Abandoned => {
                PermitEnd::ClientGone
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: &str = "server_error";

    #[test]
    fn the_record_tells_of_the_client_and_the_stream() {
        let here = |fate: Fate| fate.ending(Audience::Present, None);
        let broke = |kind: &str| Ending::Broke(kind.to_owned());
        assert_eq!(here(Fate::Whole), Ending::Complete);
        assert_eq!(here(Fate::Unmarked), Ending::Incomplete);
        assert_eq!(here(Fate::Incomplete), Ending::Incomplete);
        assert_eq!(here(Fate::Broke("reset")), broke("reset"));
        assert_eq!(here(Fate::OutOfTime), broke("timeout"));
        assert_eq!(here(Fate::ShutDown), Ending::ShutDown);
        assert_eq!(here(Fate::Abandoned), Ending::ClientLeft);
        for fate in [Fate::Whole, Fate::Broke("reset")] {
            let told = fate.ending(Audience::Present, Some(KIND.to_owned()));
            assert_eq!(told, broke(KIND), "the provider's own word counts");
            assert_eq!(fate.ending(Audience::Gone, None), Ending::ClientLeft);
        }
    }

    #[test]
    fn routing_hears_of_the_provider_alone() {
        let cases = [
            (Fate::Whole, PermitEnd::Complete),
            (Fate::Unmarked, PermitEnd::ClientGone),
            (Fate::Incomplete, PermitEnd::Broken),
            (Fate::Broke("reset"), PermitEnd::Broken),
            (Fate::OutOfTime, PermitEnd::ClientGone),
            (Fate::ShutDown, PermitEnd::ClientGone),
            (Fate::Abandoned, PermitEnd::ClientGone),
        ];
        for (fate, expected) in cases {
            assert_eq!(fate.permit_end(false), expected, "{fate:?}");
        }
        assert_eq!(Fate::Whole.permit_end(true), PermitEnd::Broken);
    }
}
