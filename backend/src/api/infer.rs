//! An inference over REST: the head is checked, the body read, and the answer written.

use std::sync::Arc;

use aegis_protocol::{LoadReport, binary, excerpt, headers, timeout};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use hyper::body::Incoming;

use super::coding::Coding;
use super::{Answer, Refused, body, caller, codec};
use crate::app::App;
use crate::clock;
use crate::infer::{self, InFlight, TimeoutError};
use crate::served::Served;

/// What a body may say that it is. The second is what `curl -d` says when it is told nothing; the third
/// is for tensors behind the JSON, and what `tritonclient.http.aio` says of JSON alone, too.
const TYPES: [&str; 3] = [
    "application/json",
    "application/x-www-form-urlencoded",
    "application/octet-stream",
];

/// Answers an inference, and counts how it ended. A future that is dropped has lost its client.
pub(super) async fn infer(
    app: &App,
    served: &Arc<Served>,
    parts: &Parts,
    body: &mut Incoming,
) -> Result<Answer, Refused> {
    let arrived = clock::now();
    let mut in_flight = InFlight::new(&served.metrics, caller(&parts.headers), arrived);
    let outcome = answer(app, served, parts, body, &mut in_flight).await;
    let mut answer = match outcome {
        Ok(answer) => answer,
        // Nobody reads this, and dropping `in_flight` counts it.
        Err(refused) if refused.is_client_gone() => return Ok(refused.answer()),
        Err(refused) => {
            let flags = infer::count(app, served, &in_flight, &refused);
            let mut answer = refused.answer();
            flag(&mut answer, flags);
            answer
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

/// Says what safety checks found.
pub(super) fn flag(answer: &mut Answer, flags: Option<HeaderValue>) {
    if let Some(flags) = flags {
        answer.headers_mut().insert(headers::SAFETY_FLAGS, flags);
    }
}

/// Tells of the load beside the answer, when it is asked for in a form that we write.
pub(super) fn report_load(answer: &mut Answer, served: &Served, asked: &HeaderMap) {
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
    let (spec, _) = infer::loaded(served)?;
    let length = binary::json_length(&parts.headers)?;
    check_type(&parts.headers)?;
    let coding = Coding::of_body(&parts.headers)?;
    let (arrived, allowed) = (in_flight.arrived, app.http.request_timeout);
    let patience = timeout::from_headers(&parts.headers).map_err(TimeoutError::from)?;
    let deadline = infer::deadline(arrived, [patience, None], allowed);
    let body = body::read(body, app, arrived, deadline).await?;
    let limit = app.http.body_bytes;
    let (asked, forms) = codec::decode(spec, body, length, coding, limit).await?;
    let answered = infer::run(app, served, asked, patience, in_flight).await?;
    let accepted = Coding::accepted(&parts.headers);
    let flags = answered.flags();
    let mut answer = codec::encode(spec, answered, forms, accepted).await?;
    flag(&mut answer, flags);
    Ok(answer)
}

/// A body is JSON, or JSON with tensors behind it; which of them, the length of the JSON says.
fn check_type(headers: &HeaderMap) -> Result<(), Refused> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let got = value.to_str().unwrap_or("not ASCII");
    let kind = got.split(';').next().unwrap_or_default().trim();
    if TYPES.iter().any(|taken| kind.eq_ignore_ascii_case(taken)) {
        Ok(())
    } else {
        Err(Refused::ContentType {
            got: excerpt(got).to_string(),
        })
    }
}
