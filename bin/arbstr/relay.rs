//! A provider's stream on its way to the client, and its record on the way to the ledger.
//!
//! [`Body`] is what hyper polls for the client; it owns a [`Course`], which brings the stream to its end with or
//! without a client. When the client leaves, `Body` hands the course over to [`drain`] or ends it at once, as the
//! operator chose. Whatever happens, the course completes the record exactly once.
//!
//! ```text
//!            poll_step: Released*            [DONE] | clean end | break | timeout | cut
//!  Body ───► Course ──────────────────────────────────────────────────────────────────► Ended (record completed)
//!    │                                                                                     ▲
//!    └─ dropped (client left) ─► drain(Course): the same steps, nobody listens ────────────┘
//!                             └► abort: record completed, upstream closed
//! ```

pub(crate) mod drain;
mod fate;
mod patience;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arbstr_route::{Permit, Report};
use arbstr_wire::{BreakCode, End, Rewriter, Trailer};
use bytes::{Bytes, BytesMut};

use self::fate::Fate;
use self::patience::Lost;
pub(crate) use self::patience::Patience;
use crate::app::Live;
use crate::clock;
use crate::config::OnClientDisconnect;
use crate::ledger::{Bill, Entry, decimal};
use crate::shutdown::ShutdownToken;
use crate::upstream::{self, Opened};

/// The body that hyper polls for the client of a stream.
#[derive(Debug)]
pub(crate) struct Body {
    course: Option<Box<Course>>,
    leaving: Leaving,
}

/// What happens to a stream whose client leaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leaving {
    /// Read on for the usage, or close the upstream.
    pub(crate) then: OnClientDisconnect,
    /// How long to read on at most.
    pub(crate) drain_max: std::time::Duration,
}

impl Body {
    /// The relay of `course`.
    pub(crate) fn new(course: Course, leaving: Leaving) -> Self {
        Self {
            course: Some(Box::new(course)),
            leaving,
        }
    }

    /// The next bytes for the client, never empty; `None` when the stream is over.
    pub(crate) fn poll_released(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(course) = &mut self.course else {
            return Poll::Ready(None);
        };
        match course.poll_step(cx, Audience::Present) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Step::Released(bytes)) => Poll::Ready(Some(bytes)),
            Poll::Ready(Step::Ended(bytes)) => {
                self.course = None;
                Poll::Ready(Some(bytes).filter(|bytes| !bytes.is_empty()))
            }
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(course) = self.course.take() {
            drain::take_over(course, self.leaving);
        }
    }
}

/// A stream between its first event and its end.
pub(crate) struct Course {
    upstream: Option<upstream::Body>,
    rewriter: Box<Rewriter>,
    released: Bytes,
    entry: Option<Entry>,
    permit: Option<Permit>,
    conditions: Conditions,
    cut: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    watches_cut: bool,
}

/// What a stream goes by.
#[derive(Debug)]
pub(crate) struct Conditions {
    /// Whether an end without `[DONE]` is none.
    pub(crate) requires_done: bool,
    /// How long it may be silent, and last.
    pub(crate) patience: Patience,
    /// The settings it began under.
    pub(crate) live: Arc<Live>,
    /// Its hold on the process.
    pub(crate) shutdown: ShutdownToken,
}

/// What one step of a course gave.
#[derive(Debug)]
pub(crate) enum Step {
    /// Bytes for the client, never empty.
    Released(Bytes),
    /// The last bytes, possibly none; the record is complete.
    Ended(Bytes),
}

/// Whether anyone still reads what a course releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// The client is there.
    Present,
    /// The client has left.
    Gone,
}

impl Course {
    /// A stream whose first event has come.
    pub(crate) fn new(
        opened: Opened,
        entry: Entry,
        permit: Option<Permit>,
        conditions: Conditions,
    ) -> Self {
        Self {
            upstream: Some(opened.body),
            rewriter: opened.rewriter,
            released: opened.released,
            entry: Some(entry),
            permit,
            cut: conditions.shutdown.clone().into_cut(),
            conditions,
            watches_cut: false,
        }
    }

    /// Takes the stream one step further.
    pub(crate) fn poll_step(&mut self, cx: &mut Context<'_>, audience: Audience) -> Poll<Step> {
        if self.rewriter.is_done() {
            return Poll::Ready(self.done(cx, audience));
        }
        if !self.released.is_empty() {
            return Poll::Ready(Step::Released(std::mem::take(&mut self.released)));
        }
        if self.conditions.shutdown.is_cut() {
            return Poll::Ready(self.break_off(&Fate::ShutDown, SHUTTING_DOWN, audience));
        }
        loop {
            let Some(upstream) = &mut self.upstream else {
                return Poll::Ready(Step::Ended(Bytes::new()));
            };
            match upstream.poll_chunk(cx) {
                Poll::Ready(Some(Ok(chunk))) => {
                    self.conditions.patience.renew(clock::now());
                    let bytes = self.rewriter.push(chunk);
                    if self.rewriter.is_done() {
                        self.released = bytes;
                        return Poll::Ready(self.done(cx, audience));
                    }
                    if !bytes.is_empty() {
                        return Poll::Ready(Step::Released(bytes));
                    }
                }
                Poll::Ready(Some(Err(fault))) => {
                    let fate = Fate::Broke(fault.kind());
                    return Poll::Ready(self.break_off(&fate, &fault.to_string(), audience));
                }
                Poll::Ready(None) => return Poll::Ready(self.ended(audience)),
                Poll::Pending => return self.poll_limits(cx, audience),
            }
        }
    }

    /// Completes the record of a stream that nobody will read on; a shutdown is told as one.
    pub(crate) fn abandon(mut self) {
        let fate = if self.conditions.shutdown.is_cut() {
            Fate::ShutDown
        } else {
            Fate::Abandoned
        };
        self.conclude(&fate, Audience::Present, |_, _| Bytes::new());
    }

    /// Whether the process is past its grace period.
    pub(crate) fn is_cut(&self) -> bool {
        self.conditions.shutdown.is_cut()
    }

    /// The course is polled by another task from now on, which must be woken at the cut.
    pub(crate) fn changed_task(&mut self) {
        self.watches_cut = false;
    }

    fn poll_limits(&mut self, cx: &mut Context<'_>, audience: Audience) -> Poll<Step> {
        if !self.watches_cut {
            self.watches_cut = true;
            if self.cut.as_mut().poll(cx).is_ready() {
                return Poll::Ready(self.break_off(&Fate::ShutDown, SHUTTING_DOWN, audience));
            }
        }
        self.conditions.patience.poll_lost(cx).map(|lost| {
            let fate = if lost == Lost::Total {
                Fate::OutOfTime
            } else {
                Fate::Broke("timeout")
            };
            self.break_off(&fate, lost.message(), audience)
        })
    }

    /// The upstream's `[DONE]` has come: the trailer follows it in the same write.
    fn done(&mut self, cx: &mut Context<'_>, audience: Audience) -> Step {
        if let Some(upstream) = self.upstream.take() {
            drain::give_back(upstream, cx);
        }
        let trailer = self.conclude(&Fate::Whole, audience, Rewriter::trailer);
        Step::Ended(join(std::mem::take(&mut self.released), trailer))
    }

    /// The upstream ended cleanly, with or without `[DONE]`.
    fn ended(&mut self, audience: Audience) -> Step {
        let (tail, end) = self.rewriter.finish();
        let fate = match end {
            End::Done => Fate::Whole,
            End::CompleteWithoutDone if self.conditions.requires_done => Fate::Unmarked,
            End::CompleteWithoutDone => Fate::Whole,
            End::Incomplete => {
                let message = "the provider ended the stream before it was complete";
                let Step::Ended(rest) = self.break_off(&Fate::Incomplete, message, audience) else {
                    return Step::Ended(tail);
                };
                return Step::Ended(join(tail, rest));
            }
        };
        let trailer = self.conclude(&fate, audience, Rewriter::trailer);
        Step::Ended(join(tail, trailer))
    }

    /// The stream ends here, and the client is told so; after the provider's own error event there is nothing to add.
    fn break_off(&mut self, fate: &Fate, message: &str, audience: Audience) -> Step {
        let code = if *fate == Fate::ShutDown {
            BreakCode::ServerShuttingDown
        } else {
            BreakCode::UpstreamStreamInterrupted
        };
        let is_told = self.rewriter.observation().fault.is_some();
        Step::Ended(self.conclude(fate, audience, |rewriter, trailer| {
            if is_told {
                Bytes::new()
            } else {
                rewriter.break_off(code, message, trailer)
            }
        }))
    }

    /// Settles everything: what the client still gets, the permit, the record.
    fn conclude(
        &mut self,
        fate: &Fate,
        audience: Audience,
        write: impl FnOnce(&mut Rewriter, &Trailer<'_>) -> Bytes,
    ) -> Bytes {
        self.upstream = None;
        let mut bill = self.bill(fate.is_trusted());
        let bytes = self.with_trailer(&bill, write);
        let fault = self.fault_kind();
        let seen = self.rewriter.observation();
        if let Some(permit) = self.permit.take() {
            let report = Report {
                usage: seen.usage,
                text_bytes: Some(seen.text_bytes),
            };
            bill.implausible =
                permit.finish(fate.permit_end(fault.is_some()), &report, clock::now());
        }
        if let Some(entry) = self.entry.take() {
            entry.complete(&fate.ending(audience, fault), &bill, seen.finish_reason);
        }
        self.conditions.live.log_changes();
        bytes
    }

    /// What the provider's own error event is called in the record, if one came.
    fn fault_kind(&self) -> Option<String> {
        let fault = self.rewriter.observation().fault?;
        let named = fault
            .code
            .as_deref()
            .or(fault.kind.as_deref())
            .unwrap_or("error_event");
        Some(self.conditions.live.redact(named).into_owned())
    }

    fn bill(&self, trusted: bool) -> Bill {
        let seen = self.rewriter.observation();
        self.entry
            .as_ref()
            .map(|entry| entry.bill_stream(&seen, trusted))
            .unwrap_or_default()
    }

    fn with_trailer(
        &mut self,
        bill: &Bill,
        write: impl FnOnce(&mut Rewriter, &Trailer<'_>) -> Bytes,
    ) -> Bytes {
        let Some(entry) = &self.entry else {
            return Bytes::new();
        };
        let Some(winner) = entry.winner() else {
            return Bytes::new();
        };
        let cost = decimal(bill.cost);
        let trailer = Trailer {
            request_id: &entry.arrival().id,
            provider: &winner.provider,
            model: &winner.served_model,
            created: u64::try_from(entry.arrival().timestamp_ms / 1000).unwrap_or(0),
            cost_sats: cost.as_deref(),
            latency_ms: clock::whole_ms(winner.latency),
            input_tokens: bill.usage.input,
            output_tokens: bill.usage.output,
            retries: entry.retries(),
        };
        write(&mut self.rewriter, &trailer)
    }
}

impl std::fmt::Debug for Course {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Course")
            .field("entry", &self.entry)
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

const SHUTTING_DOWN: &str = "arbstr is shutting down and its grace period is over";
