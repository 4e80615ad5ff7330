//! How the upstream's part of a stream ended, and what follows from it for the record and for routing.
//!
//! The two do not follow from each other: a client that left makes its record `client_disconnected`, while the provider
//! whose stream came to its end all the same has served well.

use arbstr_route::PermitEnd;

use super::Audience;
use crate::ledger::RequestOutcome;

/// How the upstream's part ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UpstreamEnd {
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

impl UpstreamEnd {
    /// Whether the usage seen is final.
    pub(super) fn is_trusted(&self) -> bool {
        *self == Self::Whole
    }

    /// For the record; `error`: what the provider's own error event was called, if one came.
    pub(super) fn request_outcome(
        &self,
        audience: Audience,
        error: Option<String>,
    ) -> RequestOutcome {
        match (audience, self, error) {
            (Audience::Gone, ..) | (_, Self::Abandoned, _) => RequestOutcome::ClientLeft,
            (Audience::Present, Self::ShutDown, _) => RequestOutcome::ShutDown,
            (Audience::Present, _, Some(kind)) => RequestOutcome::Broke(kind),
            (Audience::Present, Self::Whole, None) => RequestOutcome::Complete,
            (Audience::Present, Self::Unmarked | Self::Incomplete, None) => {
                RequestOutcome::Incomplete
            }
            (Audience::Present, Self::Broke(kind), None) => {
                RequestOutcome::Broke((*kind).to_owned())
            }
            (Audience::Present, Self::OutOfTime, None) => {
                RequestOutcome::Broke("timeout".to_owned())
            }
        }
    }

    /// For routing: what it says about the provider.
    pub(super) fn permit_end(&self, has_error: bool) -> PermitEnd {
        match self {
            Self::Whole if has_error => PermitEnd::Broken,
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
        let here = |end: UpstreamEnd| end.request_outcome(Audience::Present, None);
        let broke = |kind: &str| RequestOutcome::Broke(kind.to_owned());
        assert_eq!(here(UpstreamEnd::Whole), RequestOutcome::Complete);
        assert_eq!(here(UpstreamEnd::Unmarked), RequestOutcome::Incomplete);
        assert_eq!(here(UpstreamEnd::Incomplete), RequestOutcome::Incomplete);
        assert_eq!(here(UpstreamEnd::Broke("reset")), broke("reset"));
        assert_eq!(here(UpstreamEnd::OutOfTime), broke("timeout"));
        assert_eq!(here(UpstreamEnd::ShutDown), RequestOutcome::ShutDown);
        assert_eq!(here(UpstreamEnd::Abandoned), RequestOutcome::ClientLeft);
        for end in [UpstreamEnd::Whole, UpstreamEnd::Broke("reset")] {
            let told = end.request_outcome(Audience::Present, Some(KIND.to_owned()));
            assert_eq!(told, broke(KIND), "the provider's own word counts");
            assert_eq!(
                end.request_outcome(Audience::Gone, None),
                RequestOutcome::ClientLeft
            );
        }
    }

    #[test]
    fn routing_hears_of_the_provider_alone() {
        let cases = [
            (UpstreamEnd::Whole, PermitEnd::Complete),
            (UpstreamEnd::Unmarked, PermitEnd::ClientGone),
            (UpstreamEnd::Incomplete, PermitEnd::Broken),
            (UpstreamEnd::Broke("reset"), PermitEnd::Broken),
            (UpstreamEnd::OutOfTime, PermitEnd::ClientGone),
            (UpstreamEnd::ShutDown, PermitEnd::ClientGone),
            (UpstreamEnd::Abandoned, PermitEnd::ClientGone),
        ];
        for (end, expected) in cases {
            assert_eq!(end.permit_end(false), expected, "{end:?}");
        }
        assert_eq!(UpstreamEnd::Whole.permit_end(true), PermitEnd::Broken);
    }
}
