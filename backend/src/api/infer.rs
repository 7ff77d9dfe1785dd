//! An inference: decode, check, queue, answer.

use std::sync::Arc;
use std::time::Instant;

use aegis_protocol::{LoadReport, excerpt, headers, timeout};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::body::Incoming;

use super::codec::{self, Head};
use super::{Answer, Refused, body, deadline, json_bytes, not_ready};
use crate::app::App;
use crate::clock;
use crate::metrics::VersionMetrics;
use crate::safety::Check;
use crate::served::Served;

/// What a body may say that it is. The second is what `curl -d` says when it is told nothing.
const JSON_TYPES: [&str; 2] = ["application/json", "application/x-www-form-urlencoded"];

/// A request that is somewhere between its head and its answer.
struct InFlight<'m> {
    metrics: &'m VersionMetrics,
    arrived: Instant,
    /// It was handed to the engine.
    queued: bool,
    ended: bool,
}

/// Answers an inference, and counts how it ended. A future that is dropped has lost its client.
pub(super) async fn infer(
    app: &App,
    served: &Arc<Served>,
    parts: &Parts,
    body: &mut Incoming,
) -> Result<Answer, Refused> {
    let arrived = clock::now();
    let mut in_flight = InFlight::new(&served.metrics, arrived);
    let outcome = answer(app, served, parts, body, &mut in_flight).await;
    let mut answer = match outcome {
        Ok(answer) => answer,
        // Nobody reads this, and dropping `in_flight` counts it.
        Err(refused) if refused.is_client_gone() => return Ok(refused.answer()),
        Err(refused) => {
            app.metrics.rejected(refused.reason());
            let safety = served.spec().map(|spec| spec.safety);
            let is_on =
                |check: &Check| safety.is_some_and(|safety| safety.action(*check).is_some());
            if let Some(check) = refused.check().filter(is_on) {
                served.metrics.blocked(check);
            }
            tracing::debug!(
                model = served.name,
                version = served.version,
                "refused: {refused}"
            );
            refused.answer()
        }
    };
    mark(&mut answer, served);
    report_load(&mut answer, served, &parts.headers);
    in_flight.end(answer.status());
    Ok(answer)
}

/// Says which version answered.
pub(super) fn mark(answer: &mut Answer, served: &Served) {
    answer
        .headers_mut()
        .insert(headers::MODEL_VERSION, served.version_header.clone());
}

/// Tells of the load beside the answer, when it is asked for in a form that we write.
fn report_load(answer: &mut Answer, served: &Served, asked: &HeaderMap) {
    let (Some(form), Some(engine)) = (asked.get(headers::LOAD_REPORT_FORMAT), served.engine())
    else {
        return;
    };
    let write: fn(&LoadReport) -> String = match form.as_bytes() {
        b"text" => LoadReport::to_string,
        b"json" => LoadReport::to_json,
        _ => return,
    };
    if let Ok(value) = HeaderValue::try_from(write(&engine.load_report())) {
        answer.headers_mut().insert(headers::LOAD_REPORT, value);
    }
}

async fn answer(
    app: &App,
    served: &Served,
    parts: &Parts,
    body: &mut Incoming,
    in_flight: &mut InFlight<'_>,
) -> Result<Answer, Refused> {
    let (Some(spec), Some(engine)) = (served.spec(), served.engine()) else {
        return Err(not_ready(served, served.standing()));
    };
    check_type(&parts.headers)?;
    let (arrived, allowed) = (in_flight.arrived, app.http.request_timeout);
    let patience = timeout::from_headers(&parts.headers).map_err(deadline::TimeoutError::from)?;
    let deadline = deadline::deadline(arrived, [patience, None], allowed);
    let body = body::read(body, app, arrived, deadline).await?;
    let asked = codec::decode(spec, body).await?;
    let deadline = deadline::deadline(arrived, [patience, asked.timeout], allowed);
    in_time(deadline)?;
    in_flight.queued = true;
    let outputs = engine.infer(asked.inputs, deadline).await?;
    in_time(deadline)?;
    let head = Head {
        model: served.name.clone(),
        version: served.version.clone(),
        id: asked.id,
    };
    let answer = codec::encode(spec, head, outputs, asked.wanted).await?;
    Ok(json_bytes(StatusCode::OK, answer))
}

/// Nobody waits for what is late: no more work is put into it.
fn in_time(deadline: Instant) -> Result<(), Refused> {
    if clock::now() < deadline {
        Ok(())
    } else {
        Err(Refused::Late)
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), Refused> {
    if let Some(value) = headers.get(CONTENT_TYPE) {
        let got = value.to_str().unwrap_or("not ASCII");
        let kind = got.split(';').next().unwrap_or_default().trim();
        if !JSON_TYPES
            .iter()
            .any(|json| kind.eq_ignore_ascii_case(json))
        {
            return Err(Refused::ContentType {
                got: excerpt(got).to_string(),
            });
        }
    }
    if let Some(value) = headers.get(CONTENT_ENCODING) {
        let got = value.to_str().unwrap_or("not ASCII");
        if !got.trim().eq_ignore_ascii_case("identity") {
            return Err(Refused::ContentEncoding {
                got: excerpt(got).to_string(),
            });
        }
    }
    Ok(())
}

// === impl InFlight ===

impl<'m> InFlight<'m> {
    fn new(metrics: &'m VersionMetrics, arrived: Instant) -> Self {
        metrics.in_flight.inc();
        Self {
            metrics,
            arrived,
            queued: false,
            ended: false,
        }
    }

    fn end(mut self, status: StatusCode) {
        self.ended = true;
        self.metrics.answered(status);
        // With another status the engine turned it away.
        if self.queued && matches!(status.as_u16(), 200 | 422 | 500 | 504) {
            let latency = clock::now().saturating_duration_since(self.arrived);
            self.metrics.latency.observe(latency.as_secs_f64());
        }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
        if !self.ended {
            self.metrics.client_left();
        }
    }
}
