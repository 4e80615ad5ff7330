//! How requests and attempts ended, in words that are few enough for a label.

use arbstr_store::Completion;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutcomeLabel {
    Success,
    ClientDisconnected,
    StreamIncomplete,
    UpstreamError,
    AllProvidersFailed,
    Rejected,
    Refused,
    ServerShuttingDown,
}

impl OutcomeLabel {
    /// Every outcome, each at the index that it is as a number.
    pub(super) const ALL: [Self; 8] = [
        Self::Success,
        Self::ClientDisconnected,
        Self::StreamIncomplete,
        Self::UpstreamError,
        Self::AllProvidersFailed,
        Self::Rejected,
        Self::Refused,
        Self::ServerShuttingDown,
    ];

    /// That of a request on record. `Rejected`: its provider found fault with the request itself, and the client was
    /// told; `Refused`: no provider was asked.
    pub(super) fn of(row: &Completion<&str>) -> Self {
        let Some(message) = row.error_message else {
            return Self::Success;
        };
        match message {
            "client_disconnected" => Self::ClientDisconnected,
            "stream_incomplete" => Self::StreamIncomplete,
            "server_shutting_down" => Self::ServerShuttingDown,
            "all_providers_failed" => Self::AllProvidersFailed,
            "upstream_error: status" if is_the_clients(row.error_status) => Self::Rejected,
            _ if message.starts_with("upstream_error") => Self::UpstreamError,
            _ => Self::Refused,
        }
    }

    /// Its label.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ClientDisconnected => "client_disconnected",
            Self::StreamIncomplete => "stream_incomplete",
            Self::UpstreamError => "upstream_error",
            Self::AllProvidersFailed => "all_providers_failed",
            Self::Rejected => "rejected",
            Self::Refused => "refused",
            Self::ServerShuttingDown => "server_shutting_down",
        }
    }

    /// Whether the provider broke what it had begun.
    pub(super) fn is_interruption(self) -> bool {
        matches!(self, Self::StreamIncomplete | Self::UpstreamError)
    }
}

/// A provider's status as a label: a provider can send any number, so only the usual ones have a series of their own.
pub(super) fn status_word(status: Option<u16>) -> &'static str {
    match status {
        None => "",
        Some(200) => "200",
        Some(400) => "400",
        Some(401) => "401",
        Some(402) => "402",
        Some(403) => "403",
        Some(404) => "404",
        Some(408) => "408",
        Some(409) => "409",
        Some(413) => "413",
        Some(422) => "422",
        Some(429) => "429",
        Some(500) => "500",
        Some(502) => "502",
        Some(503) => "503",
        Some(504) => "504",
        Some(529) => "529",
        Some(100..=199) => "1xx",
        Some(201..=299) => "2xx",
        Some(300..=399) => "3xx",
        Some(405..=499) => "4xx",
        Some(501..=599) => "5xx",
        Some(_) => "other",
    }
}

fn is_the_clients(status: Option<u16>) -> bool {
    matches!(status, Some(400 | 413 | 415 | 422))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(status: Option<u16>, message: Option<&str>) -> Completion<&str> {
        Completion {
            error_status: status,
            error_message: message,
            ..Completion::default()
        }
    }

    #[test]
    fn what_a_row_says_has_one_outcome() {
        let cases = [
            (None, None, "success"),
            (None, Some("client_disconnected"), "client_disconnected"),
            (None, Some("upstream_error: reset"), "upstream_error"),
            (Some(500), Some("upstream_error: status"), "upstream_error"),
            (Some(400), Some("upstream_error: status"), "rejected"),
            (Some(404), Some("upstream_error: status"), "upstream_error"),
            (Some(404), Some("model_not_found"), "refused"),
            (
                Some(503),
                Some("all_providers_failed"),
                "all_providers_failed",
            ),
        ];
        for (status, message, expected) in cases {
            assert_eq!(
                OutcomeLabel::of(&row(status, message)).word(),
                expected,
                "{message:?}"
            );
        }
    }

    #[test]
    fn every_outcome_stands_at_its_own_index() {
        for (index, outcome) in OutcomeLabel::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index, "{outcome:?}");
        }
    }

    #[test]
    fn statuses_make_few_labels() {
        let words: std::collections::BTreeSet<_> = (0..=u16::MAX)
            .map(|status| status_word(Some(status)))
            .collect();
        assert_eq!(words.len(), 22, "{words:?}");
        assert_eq!(
            (status_word(Some(404)), status_word(Some(418))),
            ("404", "4xx")
        );
    }
}
