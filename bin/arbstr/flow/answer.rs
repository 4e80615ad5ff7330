//! The last stage: what the client gets.

use std::sync::Arc;

use arbstr_route::{Failure, Finish, Offer, Permit, PermitEnd, Report};
use arbstr_wire::{Answer, relay_error};
use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};

use super::attempts::{FlowOutcome, InFlight, disconnect_policy};
use super::explain;
use super::headers::tell_cost;
use crate::api::ResponseBody;
use crate::api::error::ApiError;
use crate::clock;
use crate::ledger::{Bill, Pending, RequestOutcome, Winner, decimal};
use crate::relay::{self, StreamContext, StreamPump, StreamTimeouts};
use crate::upstream::{OpenedStream, ResponseHead, attempt::GoodAnswer, reported_cost};

/// The client's answer.
pub(super) struct Answered {
    pub(super) response: Response<ResponseBody>,
    /// To be written before the answer is; `None` while a stream goes on.
    pub(super) completion: Option<Pending>,
}

impl Answered {
    fn completed(response: Response<ResponseBody>, completion: Pending) -> Self {
        Self {
            response,
            completion: Some(completion),
        }
    }
}

impl InFlight {
    /// Turns the outcome into the client's answer and, unless a stream goes on, completes the record.
    pub(super) fn answer(mut self: Box<Self>, outcome: FlowOutcome) -> Answered {
        match outcome {
            FlowOutcome::Served {
                good,
                offer,
                permit,
            } => match *good {
                GoodAnswer::Whole(head, body, answer) => {
                    self.won(offer, &head);
                    self.whole(head, body, &answer, permit)
                }
                GoodAnswer::Stream(head, opened) => {
                    self.won(Arc::clone(&offer), &head);
                    self.stream(&offer, head, *opened, permit)
                }
            },
            FlowOutcome::Unserved(finish) => self.unserved(finish),
            FlowOutcome::ShutDown => {
                let error = ApiError::shutting_down();
                let outcome = if self.disconnect.is_gone() {
                    RequestOutcome::ShutDown
                } else {
                    RequestOutcome::Refused(error.status(), error.code().to_owned())
                };
                self.told_error(&outcome, error)
            }
        }
    }

    fn won(&mut self, offer: Arc<Offer>, head: &ResponseHead) {
        let sent_at = self.record.last_attempt_at();
        self.record.won(Winner {
            offer,
            sent_at,
            latency: head.first_byte.saturating_duration_since(sent_at),
            reported_cost: reported_cost(&head.headers),
            btc_price: self.live.btc_price(),
        });
    }

    fn whole(
        mut self: Box<Self>,
        head: ResponseHead,
        body: Bytes,
        answer: &Answer,
        permit: Option<Permit>,
    ) -> Answered {
        let mut bill = self.record.bill_answer(answer.usage, body.len() as u64);
        let mut headers = self.told(head.headers);
        if let Some(cost) = decimal(bill.cost) {
            tell_cost(&mut headers, &cost);
        }
        let response = respond(head.status, headers, ResponseBody::whole(body));
        let now = clock::now();
        if let Some(permit) = permit {
            let report = Report {
                usage: answer.usage,
                text_bytes: Some(answer.text_bytes),
            };
            bill.implausible = permit.finish(PermitEnd::Complete, &report, now);
        }
        self.live.log_changes();
        let outcome = if self.disconnect.is_gone() {
            RequestOutcome::ClientLeft
        } else {
            RequestOutcome::Complete
        };
        let completion =
            self.record
                .complete(&outcome, &bill, answer.finish_reason.as_deref(), now);
        Answered::completed(response, completion)
    }

    fn stream(
        mut self: Box<Self>,
        offer: &Offer,
        head: ResponseHead,
        opened: OpenedStream,
        permit: Option<Permit>,
    ) -> Answered {
        let headers = self.told(head.headers);
        self.record.streams();
        let (provider, _) = self.live.provider(offer);
        let until = provider
            .timeouts
            .total
            .map(|total| self.inbound.arrival.at + total);
        let on_disconnect = disconnect_policy(&self.live, provider);
        let context = StreamContext {
            requires_done: provider.requires_done,
            timeouts: StreamTimeouts::new(provider.timeouts.idle, until, clock::now()),
            live: Arc::clone(&self.live),
            shutdown: self.app.shutdown.token(),
        };
        let pump = StreamPump::new(opened, self.record, permit, context);
        let body = ResponseBody::relayed(relay::Body::new(pump, on_disconnect));
        Answered {
            response: respond(head.status, headers, body),
            completion: None,
        }
    }

    fn unserved(self: Box<Self>, finish: Finish) -> Answered {
        let now = clock::now();
        match finish {
            Finish::ReturnLast | Finish::Transparent(Failure::Answered) => self.transparent(),
            Finish::Transparent(failure) => {
                let reason = self.reason();
                let error = match failure {
                    Failure::TimedOut => ApiError::gateway_timeout(reason),
                    Failure::BadAnswer => ApiError::bad_gateway(reason),
                    _ => ApiError::unavailable(
                        "upstream_unavailable",
                        reason,
                        self.waterfall.retry_after(now),
                    ),
                };
                let outcome = RequestOutcome::Refused(error.status(), self.upstream_error());
                self.told_error(&outcome, error)
            }
            Finish::AllFailed { retry_after } => {
                let error = if self.waterfall.attempts().is_empty() {
                    ApiError::nobody_ready(&explain::passed_over(&self.waterfall, now), retry_after)
                } else {
                    let tried = explain::tried(&self.waterfall, &self.live);
                    ApiError::all_failed(tried, retry_after)
                };
                let outcome = RequestOutcome::Refused(error.status(), error.code().to_owned());
                self.told_error(&outcome, error)
            }
            Finish::OutOfTime => {
                let error =
                    ApiError::gateway_timeout("the request took longer than the total timeout");
                let outcome =
                    RequestOutcome::Refused(error.status(), "upstream_error: timeout".to_owned());
                self.told_error(&outcome, error)
            }
            Finish::ClientGone => {
                let error = ApiError::internal("the client left before it was answered");
                self.told_error(&RequestOutcome::ClientLeft, error)
            }
            Finish::Accepted => {
                let error = ApiError::internal("an accepted answer was lost");
                self.told_error(&RequestOutcome::Broke("internal".to_owned()), error)
            }
        }
    }

    /// The last provider's own status and error body, keys redacted.
    fn transparent(mut self: Box<Self>) -> Answered {
        let Some(mut error) = self.last_error.take() else {
            return self.told_error(
                &RequestOutcome::Broke("internal".to_owned()),
                ApiError::internal("an error answer was lost"),
            );
        };
        let status = error.status().unwrap_or(502);
        let secrets = self.live.secrets();
        let body = relay_error(status, &error.body, &secrets);
        let head = error.head.take();
        let mut headers = self.told(head.map(|head| head.headers).unwrap_or_default());
        if body != error.body || !headers.contains_key(header::CONTENT_TYPE) {
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            );
        }
        let status_code = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        let response = respond(status_code, headers, ResponseBody::whole(body));
        let outcome = RequestOutcome::Refused(status, self.upstream_error());
        let completion = self
            .record
            .complete(&outcome, &Bill::default(), None, clock::now());
        Answered::completed(response, completion)
    }

    fn told_error(mut self: Box<Self>, outcome: &RequestOutcome, error: ApiError) -> Answered {
        let mut response = error.into_response();
        self.tell(response.headers_mut());
        let completion = self
            .record
            .complete(outcome, &Bill::default(), None, clock::now());
        Answered::completed(response, completion)
    }

    fn reason(&self) -> String {
        let last = self.waterfall.attempts().last();
        let text = last.map(|tried| {
            format!(
                "provider {}: {}",
                self.waterfall.offer_of(tried).provider(),
                tried.outcome.reason()
            )
        });
        text.map_or_else(
            || "no provider could be asked".to_owned(),
            |text| self.live.redact(&text).into_owned(),
        )
    }

    fn upstream_error(&self) -> String {
        let kind = self
            .waterfall
            .attempts()
            .last()
            .map_or("unavailable", |tried| tried.outcome.kind());
        format!("upstream_error: {kind}")
    }
}

/// A response of arbstr's own making: the provider's protocol version and reason phrase are between it and arbstr.
fn respond(status: StatusCode, headers: HeaderMap, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
