//! What the scripted server says, in the words of our backend.

use aegis_protocol::{ErrorBody, HealthReport, ModelHealth, Reason, headers, path};
use std::convert::Infallible;

use bytes::Bytes;
use futures::stream;
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use serde_json::json;
use tokio::sync::watch;

use super::{Health, Script, Seen, grpc};

pub(super) type Answer = Response<BoxBody<Bytes, Infallible>>;

/// Answers a health path; none for any other.
pub(super) fn health(asked: &str, script: &Script) -> Option<Answer> {
    let health = script.health();
    if asked == path::HEALTH {
        return Some(report(health, script));
    }
    match path::parse(asked)? {
        path::Route::Live => Some(json_answer(StatusCode::OK, &json!({"live": true}))),
        path::Route::Ready | path::Route::ModelReady { .. } => Some(match health {
            Health::Ready => json_answer(
                StatusCode::OK,
                &json!({"name": script.model, "ready": true}),
            ),
            Health::NotLoaded => refusal(Reason::NotReady),
            Health::Draining => refusal(Reason::Draining),
        }),
        _ => None,
    }
}

fn report(health: Health, script: &Script) -> Answer {
    let loaded = health != Health::NotLoaded;
    let model = ModelHealth {
        name: script.model.clone(),
        version: script.version.clone(),
        loaded,
        warm: loaded,
        digest: None,
        signer: None,
        reason: (!loaded).then(|| "the script says so".to_owned()),
    };
    let report = HealthReport {
        model_version: script.version.clone(),
        loaded,
        draining: health == Health::Draining,
        models: vec![model],
    };
    let ready = health == Health::Ready;
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json_answer(status, &report)
}

/// 200, with what was asked in the outputs.
pub(super) fn echo(seen: &Seen, script: &Script) -> Answer {
    if seen.is_call() {
        return grpc::echo(seen, script, grpc::WELL);
    }
    if let Some((body, json_length)) = script.answer() {
        let mut answer = json_body(StatusCode::OK, body);
        if let Some(length) = json_length {
            let fields = answer.headers_mut();
            let kind = header::HeaderValue::from_static("application/octet-stream");
            fields.insert(header::CONTENT_TYPE, kind);
            fields.insert(headers::JSON_LENGTH, length.into());
        }
        return signed(answer, script);
    }
    let text = format!("{} {} {} bytes", seen.method, seen.path, seen.body.len());
    let body = json!({
        "model_name": script.model,
        "model_version": script.version,
        "outputs": [{"name": "echo", "datatype": "BYTES", "shape": [1], "data": [text]}],
    });
    signed(json_answer(StatusCode::OK, &body), script)
}

/// Says which version it is.
fn signed(mut answer: Answer, script: &Script) -> Answer {
    if let Ok(version) = script.version.parse() {
        answer.headers_mut().insert(headers::MODEL_VERSION, version);
    }
    answer
}

/// Says how loaded it is, where the script does.
pub(super) fn with_load(mut answer: Answer, script: &Script) -> Answer {
    if let Some(load) = script.load() {
        answer.headers_mut().insert(headers::LOAD_REPORT, load);
    }
    answer
}

/// A bare status, with an error in the body.
pub(super) fn status(seen: &Seen, status: StatusCode) -> Answer {
    if seen.is_call() {
        return grpc::failed(grpc::code(status), None);
    }
    json_answer(status, &ErrorBody::new("the script says so"))
}

/// A refusal as our backend sends it.
pub(super) fn refuse(seen: &Seen, reason: Reason) -> Answer {
    if seen.is_call() {
        return grpc::failed(reason.into(), Some(reason));
    }
    refusal(reason)
}

/// So many events, each when it is allowed.
pub(super) fn events(count: u64, script: &Script) -> Answer {
    let allowed = script.events.subscribe();
    let events = stream::unfold((1, allowed), move |(event, mut allowed)| async move {
        if event > count || !is_allowed(&mut allowed, event).await {
            return None;
        }
        let data = Frame::data(Bytes::from(format!("data: {event}\n\n")));
        Some((Ok(data), (event + 1, allowed)))
    });
    let mut answer = Response::new(BodyExt::boxed(StreamBody::new(events)));
    let kind = header::HeaderValue::from_static("text/event-stream");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

async fn is_allowed(allowed: &mut watch::Receiver<u64>, event: u64) -> bool {
    allowed.wait_for(|allowed| *allowed >= event).await.is_ok()
}

fn refusal(reason: Reason) -> Answer {
    let mut answer = json_answer(reason.status(), &ErrorBody::new(reason));
    let headers = answer.headers_mut();
    headers.insert(
        headers::REASON,
        header::HeaderValue::from_static(reason.name()),
    );
    if reason.is_pushback() {
        headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    answer
}

fn json_answer(status: StatusCode, body: &impl serde::Serialize) -> Answer {
    json_body(status, serde_json::to_vec(body).unwrap_or_default().into())
}

fn json_body(status: StatusCode, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body).boxed());
    *answer.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    answer
}
