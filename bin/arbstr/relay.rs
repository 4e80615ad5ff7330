//! A provider's stream on its way to the client, and its record on the way to the ledger.
//!
//! [`Body`] is what the connection polls for the client; it owns a [`StreamPump`], which brings the stream to its end with or
//! without a client. When the client leaves, `Body` hands the pump over to [`drain`] or ends it at once, as the
//! operator chose. Whatever happens, the pump completes the record exactly once.
//!
//! ```text
//!           poll_step: Released*             [DONE] | whole             end: the last bytes can be sent
//!  Body ──► StreamPump ─────────────────────────────────────► Ending ───────────────────────► record completed
//!   │          │                                                                                  ▲
//!   │          └─ broken | silent | out of time | cut ──────► Ended ──────────────────────────────┤
//!   └─ dropped (client left) ─► drain(StreamPump): the same steps, nobody listens ────────────────┤
//!                            └► abort: upstream closed ───────────────────────────────────────────┘
//! ```
//!
//! A record says that its client got everything: it is completed only when the last bytes can be sent, and before they are.

pub(crate) mod drain;
mod timeouts;
mod upstream_end;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arbstr_price::Decimal;
use arbstr_route::{Permit, Report};
use arbstr_wire::{BreakCode, Rewriter, StreamEnd, Trailer};
use bytes::{Bytes, BytesMut};

use self::timeouts::Expired;
pub(crate) use self::timeouts::StreamTimeouts;
use self::upstream_end::UpstreamEnd;
use crate::app::Live;
use crate::clock;
use crate::config::OnClientDisconnect;
use crate::ledger::{Bill, RequestRecord, decimal};
use crate::shutdown::ShutdownToken;
use crate::upstream::{self, OpenedStream};

/// The body that the connection polls for the client of a stream.
#[derive(Debug)]
pub(crate) struct Body {
    pump: Option<Box<StreamPump>>,
    on_disconnect: DisconnectPolicy,
}

/// What happens to a stream whose client leaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DisconnectPolicy {
    /// Read on for the usage, or close the upstream.
    pub(crate) then: OnClientDisconnect,
    /// How long to read on at most.
    pub(crate) drain_max: std::time::Duration,
}

impl Body {
    /// The relay of `pump`.
    pub(crate) fn new(pump: StreamPump, on_disconnect: DisconnectPolicy) -> Self {
        Self {
            pump: Some(Box::new(pump)),
            on_disconnect,
        }
    }

    /// What comes next.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        let Some(pump) = &mut self.pump else {
            return Poll::Ready(Piece::Over);
        };
        pump.poll_step(cx, Audience::Present)
            .map(|step| match step {
                PumpStep::Released(bytes) => Piece::Data(bytes),
                PumpStep::Ending => Piece::Ending,
                PumpStep::Ended(bytes) => {
                    self.pump = None;
                    if bytes.is_empty() {
                        Piece::Over
                    } else {
                        Piece::Data(bytes)
                    }
                }
            })
    }

    /// The last bytes, after [`Piece::Ending`]. The record is complete from then on.
    pub(crate) fn end(&mut self) -> Bytes {
        let pump = self.pump.take();
        pump.map_or_else(Bytes::new, |mut pump| pump.end(Audience::Present))
    }

    /// The next bytes, never empty; `None` when the stream is over. For one who cannot tell what can be sent, but asks beyond
    /// some bytes only once the first of them can: the provider's last byte comes alone, and the record is completed when
    /// somebody asks beyond it.
    pub(crate) fn poll_released(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        Poll::Ready(match ready!(self.poll_piece(cx)) {
            Piece::Data(bytes) => Some(bytes),
            Piece::Ending => {
                let before_end = self.pump.as_mut().and_then(|pump| pump.before_end());
                before_end.or_else(|| Some(self.end()).filter(|bytes| !bytes.is_empty()))
            }
            Piece::Over => None,
        })
    }
}

/// A piece of a stream on its way to its client.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Bytes, never empty.
    Data(Bytes),
    /// What is left are the last bytes, few of them, for [`Body::end`] to give once they can be sent.
    Ending,
    /// There is no more.
    Over,
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(pump) = self.pump.take() {
            drain::take_over(pump, self.on_disconnect);
        }
    }
}

/// Takes a stream from its first event to its end.
pub(crate) struct StreamPump {
    upstream: Option<upstream::Body>,
    rewriter: Box<Rewriter>,
    released: Bytes,
    record: Option<RequestRecord>,
    permit: Option<Permit>,
    context: StreamContext,
    cut: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    watches_cut: bool,
    /// All has come that there is, and only the last of it is still `released`.
    is_ending: bool,
}

/// What a stream was begun with.
#[derive(Debug)]
pub(crate) struct StreamContext {
    /// Whether an end without `[DONE]` is none.
    pub(crate) requires_done: bool,
    /// How long it may be silent, and last.
    pub(crate) timeouts: StreamTimeouts,
    /// The settings it began under.
    pub(crate) live: Arc<Live>,
    /// Makes the process wait for it.
    pub(crate) shutdown: ShutdownToken,
}

/// What one step of a pump gave.
#[derive(Debug)]
pub(crate) enum PumpStep {
    /// Bytes for the client, never empty.
    Released(Bytes),
    /// It is whole; [`StreamPump::end`] gives the last bytes.
    Ending,
    /// It broke off. The last bytes, possibly none; the record is complete.
    Ended(Bytes),
}

/// Whether anyone still reads what a pump releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// The client is there.
    Present,
    /// The client has left.
    Gone,
}

impl StreamPump {
    /// A stream whose first event has come.
    pub(crate) fn new(
        opened: OpenedStream,
        record: RequestRecord,
        permit: Option<Permit>,
        context: StreamContext,
    ) -> Self {
        Self {
            upstream: Some(opened.body),
            rewriter: opened.rewriter,
            released: opened.released,
            record: Some(record),
            permit,
            cut: context.shutdown.clone().into_cut(),
            context,
            watches_cut: false,
            is_ending: false,
        }
    }

    /// Takes the stream one step further.
    pub(crate) fn poll_step(&mut self, cx: &mut Context<'_>, audience: Audience) -> Poll<PumpStep> {
        if self.is_ending {
            return Poll::Ready(PumpStep::Ending);
        }
        if self.rewriter.is_done() {
            return Poll::Ready(self.done(cx));
        }
        if !self.released.is_empty() {
            return Poll::Ready(PumpStep::Released(std::mem::take(&mut self.released)));
        }
        if self.context.shutdown.is_cut() {
            return Poll::Ready(self.break_off(&UpstreamEnd::ShutDown, SHUTTING_DOWN, audience));
        }
        loop {
            let Some(upstream) = &mut self.upstream else {
                return Poll::Ready(PumpStep::Ended(Bytes::new()));
            };
            match upstream.poll_chunk(cx) {
                Poll::Ready(Some(Ok(chunk))) => {
                    self.context.timeouts.renew(clock::now());
                    let bytes = self.rewriter.push(chunk);
                    if self.rewriter.is_done() {
                        self.released = bytes;
                        return Poll::Ready(self.done(cx));
                    }
                    if !bytes.is_empty() {
                        return Poll::Ready(PumpStep::Released(bytes));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    let end = UpstreamEnd::Broke(error.kind());
                    return Poll::Ready(self.break_off(&end, &error.to_string(), audience));
                }
                Poll::Ready(None) => return Poll::Ready(self.ended(audience)),
                Poll::Pending => return self.poll_limits(cx, audience),
            }
        }
    }

    /// Completes the record of a stream that is whole, and gives the last bytes.
    pub(crate) fn end(&mut self, audience: Audience) -> Bytes {
        let trailer = self.conclude(&UpstreamEnd::Whole, audience, Rewriter::trailer);
        join(std::mem::take(&mut self.released), trailer)
    }

    /// Of what [`Self::end`] would give, the provider's part, its last byte alone; `None` when that is gone.
    fn before_end(&mut self) -> Option<Bytes> {
        let length = self.released.len();
        (length > 0).then(|| self.released.split_to((length - 1).max(1)))
    }

    /// Completes the record of a stream that nobody will read on; a shutdown is told as one.
    pub(crate) fn abandon(mut self) {
        if self.is_ending {
            self.end(Audience::Gone);
            return;
        }
        let end = if self.context.shutdown.is_cut() {
            UpstreamEnd::ShutDown
        } else {
            UpstreamEnd::Abandoned
        };
        self.conclude(&end, Audience::Present, |_, _| Bytes::new());
    }

    /// Whether the process is past its grace period.
    pub(crate) fn is_cut(&self) -> bool {
        self.context.shutdown.is_cut()
    }

    /// The pump is polled by another task from now on, which must be woken at the cut.
    pub(crate) fn changed_task(&mut self) {
        self.watches_cut = false;
    }

    fn poll_limits(&mut self, cx: &mut Context<'_>, audience: Audience) -> Poll<PumpStep> {
        if !self.watches_cut {
            self.watches_cut = true;
            if self.cut.as_mut().poll(cx).is_ready() {
                return Poll::Ready(self.break_off(
                    &UpstreamEnd::ShutDown,
                    SHUTTING_DOWN,
                    audience,
                ));
            }
        }
        self.context.timeouts.poll_expired(cx).map(|expired| {
            let end = if expired == Expired::Total {
                UpstreamEnd::OutOfTime
            } else {
                UpstreamEnd::Broke("timeout")
            };
            self.break_off(&end, expired.message(), audience)
        })
    }

    /// The upstream's `[DONE]` has come: the trailer follows it in the same write.
    fn done(&mut self, cx: &mut Context<'_>) -> PumpStep {
        if let Some(upstream) = self.upstream.take() {
            drain::give_back(upstream, cx);
        }
        self.ending()
    }

    /// It is whole. What is released goes ahead, but for as much as can be sent at once.
    fn ending(&mut self) -> PumpStep {
        self.is_ending = true;
        self.upstream = None;
        match self.released.len().saturating_sub(LAST_BYTES) {
            0 => PumpStep::Ending,
            ahead => PumpStep::Released(self.released.split_to(ahead)),
        }
    }

    /// The upstream ended cleanly, with or without `[DONE]`.
    fn ended(&mut self, audience: Audience) -> PumpStep {
        let (tail, stream_end) = self.rewriter.finish();
        match stream_end {
            StreamEnd::CompleteWithoutDone if self.context.requires_done => {
                let trailer = self.conclude(&UpstreamEnd::Unmarked, audience, Rewriter::trailer);
                PumpStep::Ended(join(tail, trailer))
            }
            StreamEnd::Done | StreamEnd::CompleteWithoutDone => {
                self.released = tail;
                self.ending()
            }
            StreamEnd::Incomplete => {
                let message = "the provider ended the stream before it was complete";
                let PumpStep::Ended(rest) =
                    self.break_off(&UpstreamEnd::Incomplete, message, audience)
                else {
                    return PumpStep::Ended(tail);
                };
                PumpStep::Ended(join(tail, rest))
            }
        }
    }

    /// The stream ends here, and the client is told so; after the provider's own error event there is nothing to add.
    fn break_off(&mut self, end: &UpstreamEnd, message: &str, audience: Audience) -> PumpStep {
        let code = if *end == UpstreamEnd::ShutDown {
            BreakCode::ServerShuttingDown
        } else {
            BreakCode::UpstreamStreamInterrupted
        };
        let is_told = self.rewriter.observation().error.is_some();
        // An error of HTTP/2 quotes what the provider sent along with it.
        let live = Arc::clone(&self.context.live);
        let message = live.redact(message);
        PumpStep::Ended(self.conclude(end, audience, |rewriter, trailer| {
            if is_told {
                Bytes::new()
            } else {
                rewriter.break_off(code, &message, trailer)
            }
        }))
    }

    /// Settles everything: what the client still gets, the permit, the record.
    fn conclude(
        &mut self,
        end: &UpstreamEnd,
        audience: Audience,
        write: impl FnOnce(&mut Rewriter, &Trailer<'_>) -> Bytes,
    ) -> Bytes {
        self.upstream = None;
        let mut bill = self.bill(end.is_trusted());
        let bytes = self.with_trailer(&bill, write);
        let error = self.error_kind();
        let now = clock::now();
        let seen = self.rewriter.observation();
        if let Some(permit) = self.permit.take() {
            let report = Report {
                usage: seen.usage,
                text_bytes: Some(seen.text_bytes),
            };
            bill.implausible = permit.finish(end.permit_end(error.is_some()), &report, now);
        }
        if let Some(mut record) = self.record.take() {
            drop(record.complete(
                &end.request_outcome(audience, error),
                &bill,
                seen.finish_reason,
                now,
            ));
        }
        self.context.live.log_changes();
        bytes
    }

    /// What the provider's own error event is called in the record, if one came.
    fn error_kind(&self) -> Option<String> {
        let error = self.rewriter.observation().error?;
        let named = error
            .code
            .as_deref()
            .or(error.kind.as_deref())
            .unwrap_or("error_event");
        Some(self.context.live.redact(named).into_owned())
    }

    fn bill(&self, trusted: bool) -> Bill {
        let seen = self.rewriter.observation();
        self.record
            .as_ref()
            .map(|record| record.bill_stream(&seen, trusted))
            .unwrap_or_default()
    }

    fn with_trailer(
        &mut self,
        bill: &Bill,
        write: impl FnOnce(&mut Rewriter, &Trailer<'_>) -> Bytes,
    ) -> Bytes {
        let Some(record) = &self.record else {
            return Bytes::new();
        };
        let Some(winner) = record.winner() else {
            return Bytes::new();
        };
        let cost = decimal(bill.cost);
        let trailer = Trailer {
            request_id: &record.arrival().id,
            provider: winner.offer.provider(),
            model: winner.offer.upstream_model(),
            created: u64::try_from(record.arrival().timestamp_ms / 1000).unwrap_or(0),
            cost_sats: cost.as_ref().map(Decimal::as_str),
            latency_ms: clock::whole_ms(winner.latency),
            input_tokens: bill.usage.input,
            output_tokens: bill.usage.output,
            retries: record.retries(),
        };
        write(&mut self.rewriter, &trailer)
    }
}

impl std::fmt::Debug for StreamPump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamPump")
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

fn join(first: Bytes, second: Bytes) -> Bytes {
    if second.is_empty() {
        return first;
    }
    if first.is_empty() {
        return second;
    }
    let mut both = BytesMut::with_capacity(first.len() + second.len());
    both.extend_from_slice(&first);
    both.extend_from_slice(&second);
    both.freeze()
}

/// Of the provider's bytes these at most are held back until they can be sent: one read may bring a thousand events and the
/// end, of which a client may take none.
const LAST_BYTES: usize = 4096;
const SHUTTING_DOWN: &str = "arbstr is shutting down and its grace period is over";
