//! Whose part a request is in a larger trace: the `traceparent` header of W3C Trace Context, read and written.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use crate::arrival::Arrival;

/// The place of a sampled request in its trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Context {
    trace: u128,
    parent: Option<u64>,
    random: u64,
}

/// What a client says of its own trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parent {
    trace: u128,
    span: u64,
    sampled: bool,
}

impl Context {
    /// The context of a request that has come: its client's trace goes on, or a new one begins. `None` when the client
    /// does not sample its own, or when `sample_ppm`, requests in a million, leaves this one out.
    ///
    /// A new trace is called as the request is, so that each leads to the other.
    pub(super) fn begin(
        traceparent: Option<&str>,
        arrival: &Arrival,
        sample_ppm: u32,
    ) -> Option<Self> {
        let random = arrival.random;
        match traceparent.and_then(Parent::read) {
            Some(parent) => parent.sampled.then_some(Self {
                trace: parent.trace,
                parent: Some(parent.span),
                random,
            }),
            None => is_sampled(random, sample_ppm).then_some(Self {
                trace: Uuid::parse_str(&arrival.id).ok()?.as_u128(),
                parent: None,
                random,
            }),
        }
    }

    /// A client's headers with the attempt of that number as the parent of what the provider does; the first is 1.
    pub(crate) fn headers(&self, client: &HeaderMap, attempt: usize) -> HeaderMap {
        let mut headers = client.clone();
        let text = format!("00-{}-{}-01", self.trace_id(), self.span_id(attempt));
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(TRACEPARENT, value);
        }
        if self.parent.is_none() {
            // It belongs to a trace that this one does not continue.
            headers.remove(TRACESTATE);
        }
        headers
    }

    /// The trace's id as hexadecimal text.
    pub(super) fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    /// The client's span, if there is one.
    pub(super) fn parent_id(&self) -> Option<String> {
        self.parent.map(|span| format!("{span:016x}"))
    }

    /// The span of the request, which is 0, or of one of its attempts.
    pub(super) fn span_id(&self, number: usize) -> String {
        let step = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // All zeros would be no span.
        format!("{:016x}", mix(self.random.wrapping_add(step)).max(1))
    }
}

impl Parent {
    /// Reads `version-trace-span-flags`. Versions to come may add to the end; anything else is no parent.
    fn read(text: &str) -> Option<Self> {
        let (version, rest) = (hex::<u8>(text.get(..2)?)?, text.get(2..)?);
        let (fields, more) = rest.split_at_checked(53)?;
        let is_known =
            version != 0xff && (more.is_empty() || (version > 0 && more.starts_with('-')));
        let mut parts = fields.strip_prefix('-')?.split('-');
        let (trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?);
        let lengths = [trace.len(), span.len(), flags.len()];
        if !is_known || lengths != [32, 16, 2] || parts.next().is_some() {
            return None;
        }
        let parent = Self {
            trace: hex(trace)?,
            span: hex(span)?,
            sampled: hex::<u8>(flags)? & 1 == 1,
        };
        (parent.trace != 0 && parent.span != 0).then_some(parent)
    }
}

/// Hexadecimal digits in lower case, as the header has them.
fn hex<T: TryFrom<u128>>(text: &str) -> Option<T> {
    let valid = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let number = valid.then(|| u128::from_str_radix(text, 16).ok())??;
    T::try_from(number).ok()
}

/// A number that looks like chance for each request.
fn is_sampled(random: u64, sample_ppm: u32) -> bool {
    (u128::from(mix(random)) * 1_000_000) >> 64 < u128::from(sample_ppm)
}

/// Spreads what differs anywhere in `value` over all of its bits (the end of splitmix64): of a request's number the upper
/// half only counts up within a millisecond.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn reads_what_the_recommendation_allows() {
        let parent = Parent::read(PARENT).unwrap();
        assert_eq!(parent.trace, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!((parent.span, parent.sampled), (0xb7ad_6b71_6920_3331, true));
        let cases = [
            (PARENT.replace("-01", "-00"), Some(false)),
            (PARENT.replace("-01", "-03"), Some(true)),
            (format!("01{}-more", &PARENT[2..]), Some(true)),
            (format!("{PARENT}-more"), None),
            (format!("01{}x", &PARENT[2..]), None),
            (PARENT.replace("00-", "ff-"), None),
            (PARENT.to_uppercase(), None),
            (PARENT.replace("b7ad6b7169203331", "0000000000000000"), None),
            (
                PARENT.replace(
                    "0af7651916cd43dd8448eb211c80319c",
                    "00000000000000000000000000000000",
                ),
                None,
            ),
            (PARENT.replace('-', "_"), None),
            (PARENT[..54].to_owned(), None),
            ("é".repeat(40), None),
            (String::new(), None),
        ];
        for (text, sampled) in cases {
            assert_eq!(
                Parent::read(&text).map(|parent| parent.sampled),
                sampled,
                "{text}"
            );
        }
    }

    #[test]
    fn a_trace_goes_on_or_begins() {
        let arrival = Arrival::now();
        let on = Context::begin(Some(PARENT), &arrival, 0).expect("the client decided");
        assert_eq!(on.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(on.parent_id().as_deref(), Some("b7ad6b7169203331"));
        let off = PARENT.replace("-01", "-00");
        assert_eq!(Context::begin(Some(&off), &arrival, 1_000_000), None);
        assert_eq!(Context::begin(None, &arrival, 0), None);
        let new = Context::begin(Some("nonsense"), &arrival, 1_000_000).unwrap();
        assert_eq!(new.trace_id(), arrival.id.replace('-', ""));
        assert_eq!(new.parent_id(), None);
        let ids: std::collections::BTreeSet<_> =
            (0..100).map(|number| new.span_id(number)).collect();
        assert_eq!(ids.len(), 100);
    }

    #[test]
    fn a_share_of_requests_is_sampled() {
        let sampled = (0..20_000)
            .filter(|_| is_sampled(Arrival::now().random, 250_000))
            .count();
        assert!((4_500..5_500).contains(&sampled), "{sampled}");
        for number in 0..1000 {
            assert!(is_sampled(number, 1_000_000) && !is_sampled(number, 0));
        }
    }

    #[test]
    fn a_provider_is_told_whose_child_it_is() {
        let client = HeaderMap::from_iter([(TRACESTATE, HeaderValue::from_static("a=1"))]);
        let arrival = Arrival::now();
        let on = Context::begin(Some(PARENT), &arrival, 0).unwrap();
        let headers = on.headers(&client, 2);
        let expected = format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", on.span_id(2));
        assert_eq!(headers[TRACEPARENT], expected);
        assert_eq!(headers[TRACESTATE], "a=1");
        let new = Context::begin(None, &arrival, 1_000_000).unwrap();
        assert_eq!(new.headers(&client, 1).get(TRACESTATE), None);
    }
}
