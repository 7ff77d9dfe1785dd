//! One attempt after the other: where it goes, how long it gets, what it taught,
//! and whether another one follows.
//!
//! An attempt is judged once, by the head of its answer or by its absence. A
//! failure that another endpoint may not have is tried there, as long as no byte
//! has gone to the client; the choice is made at the moment of the failure, so
//! that an answer is dropped only when there is somewhere else to go.
//!
//! A 500 may be the request's own fault: its endpoint is charged when another
//! one answers the same request well, and not when all of them answer 500.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aegis_policy::{Again, BadAnswer, Excuse, LoadReport, Observed, Outcome, Refusal as NoAttempt};
use aegis_protocol::{Reason, headers};
use http::{HeaderValue, StatusCode, header};
use pingora_core::{
    Error, ErrorType, Result,
    upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy, PeerOptions},
};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::{
    Exchange, Routed,
    failure::{Failure, Stage},
    hop,
};
use crate::{
    answer::Refusal,
    clock,
    config::Timeouts,
    metrics::RetryResult,
    model::Attempt,
    request::{Action, Forward},
    rescue::{Connection, FirstByte, Held, Rescues},
    uncased::edit_response,
};

/// Where both the sweep and pingora watch for the first byte, pingora waits longer.
const SWEEP_MAY_LAG: Duration = Duration::from_secs(1);
/// An endpoint is told its time in whole ones of these: of less, none is left.
const A_MILLISECOND: Duration = Duration::from_millis(1);
/// Ends an attempt in whose place the static answer is given.
const TO_BE_REPLACED: ErrorType = ErrorType::new("an answer that another one stands in for");
/// Ends an attempt whose answer is not passed on.
const TO_BE_RETRIED: ErrorType = ErrorType::new("an answer that is tried elsewhere");

/// How far the running attempt has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Its connection, on which it is watched how long things take.
    pub(super) held: Option<Held>,
    /// When the whole request was on its way.
    pub(super) sent: Option<Instant>,
    /// When the first byte of the answer must be there; none before that.
    pub(super) until: Option<Instant>,
    /// How long the next piece of its answer may take, where the sweep watches that;
    /// none where pingora does.
    pub(super) idle: Option<Duration>,
    /// The time that it has in all.
    pub(super) within: Option<Duration>,
    /// Its answer ends where its head says, and not where the connection does.
    pub(super) framed: bool,
    /// Its answer has begun.
    pub(super) answered: bool,
    /// When the head of its answer came.
    pub(super) first_byte: Option<Instant>,
    /// What that taught, if the trailers say that it went well.
    pub(super) pending: Option<Observed>,
}

impl Exchange {
    /// Says where the next attempt goes.
    ///
    /// # Errors
    /// Never in practice: an attempt was chosen when the last one failed.
    pub fn choose(&mut self) -> Result<Box<HttpPeer>> {
        let (Some(attempt), Some(forward)) = (self.next.take(), &self.forward) else {
            return Err(Error::new_in(ErrorType::InternalError));
        };
        let timeouts = forward.model.config().timeouts;
        // While a body comes in or anything may pass in both directions, and on the
        // connections of HTTP/2, only pingora knows who waits for whom.
        let one_way = !self.uploading && forward.action != Action::Upgrade;
        let idle = (one_way && self.call.is_none()).then_some(timeouts.idle);
        self.attempts += 1;
        self.progress = Progress {
            idle,
            within: Some(attempt.first_byte_within),
            ..Progress::default()
        };
        self.streamed = 0;
        self.body.rewind();
        let mut peer = Box::new(HttpPeer::new(attempt.address, false, String::new()));
        let first_byte = attempt.first_byte_within;
        if forward.action != Action::Upgrade {
            peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
        }
        set_timeouts(&mut peer.options, first_byte, timeouts, idle.is_none());
        if self.call.is_some() {
            // The sweep knows connections by their descriptor, which streams share.
            peer.options.idle_timeout = Some(self.idle_timeout);
        }
        if let Some(call) = &mut self.call
            && let Err(error) = call.aim(attempt.version.name(), &mut self.body, &mut peer)
        {
            self.refused = Some(Refusal::new(Reason::BadRequest, error.to_string()));
            return Err(Error::new_in(ErrorType::InternalError));
        }
        self.waiting = Some(attempt.version.metrics().waiting());
        self.route = Some(Routed {
            version: Arc::clone(&attempt.version),
            chosen: Arc::clone(&attempt.chosen),
            by: attempt.by,
            kind: attempt.kind,
            endpoint: Some(attempt.address),
        });
        self.trace_attempt(&attempt);
        self.attempt = Some(attempt);
        Ok(peer)
    }

    /// A connection to the endpoint stands.
    ///
    /// # Errors
    /// When nobody could watch it: it has no addresses, and will not live.
    pub fn connected(
        &mut self,
        connection: Option<Connection>,
        rescues: &Arc<Rescues>,
    ) -> Result<()> {
        let Some(connection) = connection else {
            let context = "the connection has no addresses";
            return Err(Error::explain(ErrorType::ConnectionClosed, context).into_up());
        };
        self.progress.held = Some(rescues.hold(connection));
        Ok(())
    }

    /// Takes note of why the running attempt failed, and says on the error
    /// whether another one is to be made.
    pub fn attempt_failed(&mut self, mut error: Box<Error>, stage: Stage) -> Box<Error> {
        if self.next.is_some() {
            // Its answer was judged, and is tried elsewhere.
            error.set_retry(true);
            return error;
        }
        let failure = self.failure(&error, stage);
        self.progress.held = None;
        let Some(attempt) = self.attempt.take() else {
            error.set_retry(false);
            return error;
        };
        let now = clock::now();
        self.trace(|trace| trace.failed(failure.label()));
        if self.progress.answered {
            attempt.lease.end(failure.is_the_endpoints(), now);
            self.last_failure = Some(failure);
            error.set_retry(false);
            return error;
        }
        let forgiven = failure == Failure::StaleConnection && !self.forgave_stale;
        if forgiven {
            self.forgave_stale = true;
        } else {
            self.tried.push(attempt.endpoint);
        }
        let outcome = match failure {
            _ if forgiven || !failure.is_the_endpoints() => Outcome::Neutral,
            // It took nothing of a body for too long, which no deadline explains.
            Failure::Timeout if stage != Stage::Connect && self.progress.sent.is_none() => {
                Outcome::Failure
            }
            Failure::Timeout => Outcome::TimedOut,
            _ => Outcome::Failure,
        };
        attempt.lease.judge(outcome, now);
        attempt.lease.end(false, now);
        self.waiting = None;
        let retry = failure.may_be_retried()
            && stage.nothing_answered()
            && self.try_again(failure, stage.body_lost()).is_ok();
        tracing::debug!(endpoint = %attempt.address, attempt = self.attempts, retry, %error, "an attempt failed");
        self.last_failure = Some(failure);
        error.set_retry(retry);
        error
    }

    /// Reads an error; one that came after the time was up is that.
    fn failure(&self, error: &Error, stage: Stage) -> Failure {
        let failure = Failure::of(error, stage);
        let overdue = self
            .progress
            .until
            .is_some_and(|until| until <= clock::now());
        // A client's short deadline must not look like an endpoint that cannot
        // be reached.
        let hurried = matches!(error.etype(), ErrorType::ConnectTimedout) && self.is_hurried();
        let shut = self.progress.held.as_ref().is_some_and(Held::is_shut);
        let late = if self.progress.answered {
            shut
        } else {
            overdue
        };
        match failure {
            Failure::Reset | Failure::StaleConnection if late => Failure::Timeout,
            Failure::Connect if hurried => Failure::Timeout,
            _ => failure,
        }
    }

    /// Whether the attempt had less time in all than a connection may take.
    fn is_hurried(&self) -> bool {
        let (Some(forward), Some(within)) = (&self.forward, self.progress.within) else {
            return false;
        };
        within < forward.model.config().timeouts.connect
    }

    /// Chooses another attempt, if there may be one; the reason, if not.
    fn try_again(&mut self, failure: Failure, body_lost: bool) -> Result<(), RetryResult> {
        let result = self.another(body_lost);
        let counted = result
            .as_ref()
            .map_or_else(|why| *why, |_| RetryResult::Made);
        self.count_retry(failure, counted);
        self.next = Some(result?);
        Ok(())
    }

    fn another(&self, body_lost: bool) -> Result<Attempt, RetryResult> {
        let (Some(forward), Some(routed), Some(deadline)) =
            (&self.forward, &self.route, self.deadline)
        else {
            return Err(RetryResult::Exhausted);
        };
        if !self.body.replayable(body_lost) {
            return Err(RetryResult::NotReplayable);
        }
        let max_retries = forward.model.config().retry.max_retries;
        if self.attempts > max_retries {
            return Err(RetryResult::Exhausted);
        }
        if deadline.saturating_duration_since(clock::now()) < A_MILLISECOND {
            return Err(RetryResult::NoTime);
        }
        let again = Again {
            chosen: &routed.chosen,
            by: routed.by,
            tried: &self.tried,
            uploading: self.uploading,
            retries_left: self.attempts < max_retries,
            purpose: forward.action.purpose(),
            deadline,
        };
        forward.model.again(again).map_err(|refusal| match refusal {
            NoAttempt::NoBudget => RetryResult::NoBudget,
            NoAttempt::NoTime => RetryResult::NoTime,
            NoAttempt::UnknownVersion
            | NoAttempt::NoEndpoint
            | NoAttempt::NoRoom
            | NoAttempt::QueueFull
            | NoAttempt::WaitTooLong
            | NoAttempt::WaitedInVain => RetryResult::Exhausted,
        })
    }

    pub(super) fn sent(&mut self) {
        let Some(attempt) = &self.attempt else {
            return;
        };
        let now = clock::now();
        if let (true, Some(forward)) = (self.uploading, &self.forward) {
            // Of one that was whole when its attempt was chosen, the policy knows already.
            attempt.lease.sent(now);
            // Once: that it is sent again gives a request no more time.
            let received = *self.received.get_or_insert(now);
            let ours = forward.model.config().timeouts.request;
            self.deadline = Some(self.deadline_from(received, ours));
            // Of a stream, only the first message is there.
            self.uploading = self.is_stream();
        }
        // Connecting has taken some of the time.
        let until = now + attempt.first_byte_within;
        let until = self.deadline.map_or(until, |deadline| until.min(deadline));
        self.progress.sent = Some(now);
        self.progress.until = Some(until);
        if let Some(held) = &self.progress.held {
            // Of a stream, more goes out than what is waited for.
            let latest = self.deadline.filter(|_| !self.is_stream());
            held.first_byte(FirstByte {
                by: until,
                within: attempt.first_byte_within,
                latest: latest.unwrap_or(until),
            });
        }
    }

    /// Judges the endpoint by its answer's head, and the answer: one that another
    /// endpoint may give better is not passed on while there is another.
    ///
    /// # Errors
    /// When the request is tried elsewhere.
    pub fn judge(&mut self, session: &mut Session, response: &mut ResponseHeader) -> Result<()> {
        // An upgrade is an answer, and there is no other.
        let upgrade = response.status == StatusCode::SWITCHING_PROTOCOLS;
        if upgrade && !self.upgrades() {
            let context = "the endpoint changes to another protocol, which nobody asked for";
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, context).into_up());
        }
        if response.status.is_informational() && !upgrade {
            return Ok(());
        }
        self.waiting = None;
        let now = clock::now();
        if let Some(held) = &self.progress.held {
            match self.progress.idle {
                Some(idle) => held.piece_by(now + idle),
                None => held.rests(),
            }
        }
        let seen = hop::Seen::of(&response.headers);
        self.progress.framed = seen.framed;
        let mut report = None;
        edit_response(response, |headers| {
            if seen.load_report {
                report = headers.remove(headers::LOAD_REPORT);
            }
            if self.call.is_none() && seen.of_the_connection {
                hop::remove(headers, upgrade);
            }
            self.sign_answer(headers);
        })?;
        let status = response.status.as_u16();
        let ended = self.call.as_mut().filter(|_| status == 200);
        let status = ended
            .and_then(|call| call.ended(&response.headers))
            .unwrap_or(status);
        self.trace(|trace| trace.answered(status));
        let call = self.call.as_ref();
        let excuse = call.map_or(seen.excuse, |call| call.excuse(seen.excuse));
        let park = (excuse != Excuse::None)
            .then(|| response.headers.get(header::RETRY_AFTER))
            .flatten()
            .and_then(seconds);
        self.progress.first_byte = Some(now);
        let sent = self.progress.sent;
        let waited = sent.map(|sent| now.saturating_duration_since(sent));
        let outcome = Outcome::of_status(status, excuse, park, waited);
        let report = report.as_ref().and_then(load_report);
        let observed = Observed { outcome, report };
        let Some(bad) = BadAnswer::of_status(status, excuse) else {
            self.well(observed, now);
            self.draw_for_shadow(session, response);
            return Ok(());
        };
        self.failed_with(bad, session, observed, now)
    }

    /// An answer that is passed on, and that clears up who was to blame for 500s.
    pub(super) fn well(&mut self, observed: Observed, now: Instant) {
        if self.awaits_trailers() {
            self.progress.answered = true;
            self.progress.pending = Some(observed);
            return;
        }
        let well = matches!(observed.outcome, Outcome::Success { .. } | Outcome::Early);
        for suspect in self.suspects.drain(..) {
            suspect.close(well);
        }
        self.answered(observed, now);
    }

    pub(super) fn answered(&mut self, observed: Observed, now: Instant) {
        self.progress.answered = true;
        if let Some(attempt) = &self.attempt {
            attempt.lease.judge(observed, now);
        }
    }

    fn failed_with(
        &mut self,
        bad: BadAnswer,
        session: &mut Session,
        observed: Observed,
        now: Instant,
    ) -> Result<()> {
        let Some(attempt) = self.attempt.take() else {
            return Ok(());
        };
        self.tried.push(attempt.endpoint);
        let failure = Failure::from(bad);
        self.last_failure = Some(failure);
        self.trace(|trace| trace.failed(failure.label()));
        let wanted = self
            .forward
            .as_ref()
            .is_some_and(|forward| bad.is_tried_elsewhere(forward.model.config().retry.on_500));
        let lost = session.retry_buffer_truncated();
        let again = if wanted {
            self.try_again(failure, lost)
        } else {
            Err(RetryResult::Exhausted)
        };
        if again.is_ok() {
            if bad.is_suspicious() {
                self.suspects.push(attempt.lease.suspect());
            } else {
                attempt.lease.judge(observed, now);
            }
            let mut error = Error::new_up(TO_BE_RETRIED);
            error.set_retry(true);
            return Err(error);
        }
        let others_too = !self.suspects.is_empty();
        let exhausted = again == Err(RetryResult::Exhausted);
        let charged = bad.is_charged(others_too, exhausted);
        self.suspects.clear();
        let outcome = if charged {
            observed.outcome
        } else {
            Outcome::Neutral
        };
        let observed = Observed {
            outcome,
            ..observed
        };
        if wanted && charged && self.has_last_resort() {
            attempt.lease.judge(observed, now);
            attempt.lease.end(false, now);
            // pingora drops the answer, and asks what to say instead.
            return Err(Error::new_up(TO_BE_REPLACED));
        }
        self.attempt = Some(attempt);
        self.answered(observed, now);
        Ok(())
    }

    fn count_retry(&self, failure: Failure, result: RetryResult) {
        if let Some(Forward { model, .. }) = &self.forward {
            let reason = failure.label();
            model.metrics().retried(model.name(), reason, result);
        }
    }
}

/// What an endpoint says of its load, as far as the policy wants to know.
fn load_report(value: &HeaderValue) -> Option<LoadReport> {
    let report = aegis_protocol::LoadReport::parse(value.to_str().ok()?)?;
    let queued = report.queue_depth.unwrap_or(0.0);
    Some(LoadReport {
        in_flight: report.in_flight.unwrap_or(0.0).max(queued),
        expected_wait: report.expected_wait,
    })
}

/// `Retry-After` in seconds; a date is not worth the reading.
fn seconds(value: &HeaderValue) -> Option<Duration> {
    let seconds = value.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn set_timeouts(
    options: &mut PeerOptions,
    first_byte: Duration,
    timeouts: Timeouts,
    reads_too: bool,
) {
    let connect = timeouts.connect.min(first_byte);
    options.connection_timeout = Some(connect);
    options.total_connection_timeout = Some(connect);
    options.write_timeout = Some(timeouts.write);
    // The first byte is watched by the sweep, which must come first.
    options.read_timeout = reads_too.then(|| timeouts.idle.max(first_byte + SWEEP_MAY_LAG));
}
