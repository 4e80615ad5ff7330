//! The attempts of one request: the waterfall says whom to ask, the upstream asks, the outcome goes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arbstr_price::Sats;
use arbstr_route::{Attempt, AttemptOutcome, Finish, Offer, Permit, Plan, Step, Waterfall};
use arbstr_wire::{Edits, Request, Rewriter, Splicer, StreamSettings};

use super::disconnect::Disconnect;
use super::{InboundRequest, explain};
use crate::app::{App, Live};
use crate::buffer_pool;
use crate::clock;
use crate::config::{FirstEvent, Provider};
use crate::ledger::{self, AttemptEnd, RequestRecord};
use crate::relay::DisconnectPolicy;
use crate::upstream::attempt::{Call, GoodAnswer, Limits, attempt};
use crate::upstream::error::AttemptError;
use crate::upstream::reported_cost;

/// What the request asks for, as far as its attempts must know it.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestOptions {
    splicer: Splicer,
    streaming: bool,
    asked_for_usage: bool,
    choices: u32,
}

/// What planning made of a request.
pub(super) struct Planned {
    pub(super) record: RequestRecord,
    pub(super) plan: Plan,
    pub(super) options: RequestOptions,
}

/// One request on its way through its candidates: planned, not answered yet.
pub(super) struct InFlight {
    pub(super) app: Arc<App>,
    pub(super) live: Arc<Live>,
    pub(super) inbound: InboundRequest,
    pub(super) disconnect: Disconnect,
    pub(super) record: RequestRecord,
    pub(super) waterfall: Waterfall,
    pub(super) last_error: Option<AttemptError>,
    options: RequestOptions,
    rolls: u64,
}

/// How the attempts came out.
pub(super) enum FlowOutcome {
    /// Somebody answered.
    Served {
        /// What.
        good: Box<GoodAnswer>,
        /// Who.
        offer: Arc<Offer>,
        /// To be held until the last byte.
        permit: Option<Permit>,
    },
    /// Nobody did, or nobody should be asked any more.
    Unserved(Finish),
    /// The process is ending.
    ShutDown,
}

impl RequestOptions {
    /// What `request` asks for.
    pub(super) fn of(request: &Request<'_>) -> Self {
        Self {
            splicer: request.splicer(),
            streaming: request.is_stream(),
            asked_for_usage: request.asked_for_usage(),
            choices: request.choices(),
        }
    }
}

impl InFlight {
    /// A request that is planned. Boxed: it is handed on whole from stage to stage.
    pub(super) fn begin(
        app: Arc<App>,
        live: Arc<Live>,
        inbound: InboundRequest,
        disconnect: Disconnect,
        planned: Planned,
    ) -> Box<Self> {
        let deadline = live
            .config
            .timeouts
            .total
            .map(|total| inbound.arrival.at + total);
        Box::new(Self {
            app,
            live,
            inbound,
            disconnect,
            record: planned.record,
            waterfall: Waterfall::new(planned.plan, deadline),
            last_error: None,
            options: planned.options,
            rolls: 0,
        })
    }

    /// Asks one candidate after another until one gives a good answer or none is left.
    pub(super) async fn attempts(&mut self) -> FlowOutcome {
        // When it was planned, which is when the first attempt begins.
        let mut now = self.inbound.arrival.read_at;
        loop {
            if self.app.shutdown.is_cut() {
                return FlowOutcome::ShutDown;
            }
            if self.disconnect.is_gone() {
                self.waterfall.on_client_gone();
            }
            let dice = self.roll();
            match self.waterfall.next(now, dice) {
                Step::Attempt(attempt) => {
                    if let Some(served) = self.attempt(attempt, now).await {
                        return served;
                    }
                }
                Step::Wait(duration) => {
                    self.record.paused(duration);
                    self.wait(duration).await;
                }
                Step::Finish(finish) => return FlowOutcome::Unserved(finish),
            }
            now = clock::now();
        }
    }

    async fn attempt(&mut self, mut attempt: Attempt, now: Instant) -> Option<FlowOutcome> {
        let offer = Arc::clone(&attempt.offer);
        self.record
            .attempt_started(Arc::clone(&offer), now)
            .written()
            .await;
        let sent_at = clock::now();
        self.record.attempt_sent(sent_at);
        let (result, injected) = self.call(&attempt, sent_at).await;
        let now = clock::now();
        let end = match &result {
            Ok(good) => AttemptEnd {
                status: Some(good.head().status.as_u16()),
                sunk_cost: None,
            },
            Err(error) => AttemptEnd {
                status: error.status(),
                sunk_cost: self.sunk_cost(error, &offer),
            },
        };
        let outcome = match &result {
            Ok(good) => AttemptOutcome::Good {
                status: good.head().status.as_u16(),
            },
            Err(error) => error.outcome(self.options.streaming, injected),
        };
        self.live
            .meters
            .attempt_ended(offer.provider(), outcome.kind(), end.status);
        self.record.attempt_ended(outcome.word(), end, now);
        attempt.sunk_cost = end.sunk_cost;
        let after = self.waterfall.on_outcome(attempt, outcome, now);
        self.live.log_changes();
        match result {
            Ok(good) => Some(FlowOutcome::Served {
                good: Box::new(good),
                offer,
                permit: after.permit,
            }),
            Err(error) => {
                if let Some(tried) = self.waterfall.attempts().last() {
                    explain::attempt_failed(
                        &self.inbound.arrival,
                        &self.live,
                        &offer,
                        &error,
                        tried,
                    );
                }
                self.last_error = Some(error);
                None
            }
        }
    }

    /// Asks one provider. Also says whether `stream_options` was added to what it got.
    async fn call(
        &self,
        attempt: &Attempt,
        sent_at: Instant,
    ) -> (Result<GoodAnswer, AttemptError>, bool) {
        let (provider, upstream) = self.live.provider(&attempt.offer);
        let upstream_model = attempt.offer.upstream_model();
        let edits = Edits {
            model: (upstream_model != self.waterfall.plan().model).then_some(upstream_model),
            include_usage: !attempt.omit_stream_options,
        };
        let splicer = &self.options.splicer;
        let spliced = splicer.apply_with(&self.inbound.body, &edits, buffer_pool::join);
        let traced = self.record.trace_headers(&self.inbound.headers);
        let mut call = Call {
            upstream,
            endpoint: self.inbound.endpoint,
            client_headers: traced.as_ref().unwrap_or(&self.inbound.headers),
            body: spliced.body,
            stream: self.options.streaming.then(|| self.rewriter(provider)),
            limits: self.limits(attempt, provider),
            sent_at,
        };
        let result = tokio::select! {
            // An answer that is there is not asked whether anybody waits for it.
            biased;
            result = self::attempt(&mut call) => result,
            () = self.given_up(attempt, provider) => Err(AttemptError::cancelled()),
            () = self.app.shutdown.until_cut() => Err(AttemptError::cancelled()),
        };
        (result, spliced.injected_usage)
    }

    /// Resolves when the client has gone and the attempt should not be waited for any longer.
    async fn given_up(&self, attempt: &Attempt, provider: &Provider) {
        self.disconnect.is_announced().await;
        let now = clock::now();
        let waited = now.saturating_duration_since(self.record.last_attempt_at());
        attempt.on_client_gone(waited, now);
        self.live.log_changes();
        let on_disconnect = disconnect_policy(&self.live, provider);
        self.disconnect.is_final(on_disconnect).await;
    }

    fn sunk_cost(&self, error: &AttemptError, offer: &Offer) -> Option<Sats> {
        let reported = error
            .head
            .as_ref()
            .and_then(|head| reported_cost(&head.headers));
        let usage = error.usage.as_ref();
        let btc = self.live.btc_price();
        let reported = usage
            .and_then(|usage| arbstr_price::reported_cost(usage, btc))
            .or(reported);
        ledger::sunk_cost(self.inbound.endpoint, usage, offer.rates(), reported)
    }

    async fn wait(&self, duration: Duration) {
        tokio::select! {
            () = tokio::time::sleep(duration) => {}
            () = self.disconnect.is_announced() => {}
            () = self.app.shutdown.until_cut() => {}
        }
    }

    fn rewriter(&self, provider: &Provider) -> Box<Rewriter> {
        let settings = StreamSettings {
            endpoint: self.inbound.endpoint,
            hide_usage: !self.options.asked_for_usage,
            metadata: self.live.config.stream.metadata,
            requires_done: provider.requires_done,
            choices: self.options.choices,
        };
        let live: Arc<Live> = Arc::clone(&self.live);
        Box::new(Rewriter::new(settings).redacting(live))
    }

    fn limits(&self, attempt: &Attempt, provider: &Provider) -> Limits {
        let timeouts = &provider.timeouts;
        let (first, extended) = match timeouts.first_event {
            _ if !self.options.streaming || attempt.last => (timeouts.response, timeouts.response),
            FirstEvent::Fixed(limit) => (limit, limit),
            FirstEvent::Auto => (attempt.first_event_auto(), timeouts.response),
        };
        let until = timeouts.total.map(|total| self.inbound.arrival.at + total);
        Limits {
            first,
            extended,
            pause: timeouts.response,
            until,
        }
    }

    /// A number that no other call of this request got, where routing needs chance.
    fn roll(&mut self) -> u64 {
        self.rolls += 1;
        self.inbound
            .arrival
            .random
            .wrapping_add(self.rolls)
            .wrapping_mul(ODD)
    }
}

/// What happens to the provider's answer when the client leaves.
pub(super) fn disconnect_policy(live: &Live, provider: &Provider) -> DisconnectPolicy {
    DisconnectPolicy {
        then: provider.on_client_disconnect,
        drain_max: live.config.stream.drain_max,
    }
}

/// Spreads neighbouring numbers over all 64 bits (the golden ratio's fraction, made odd).
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
