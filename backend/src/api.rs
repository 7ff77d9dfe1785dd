//! The Open Inference Protocol over HTTP: one request in, one answer out.
//!
//! Paths are read by [`aegis_protocol::path`], the parser that the proxy uses too, and not by a
//! router's patterns beside it: two parsers would disagree one day on what `%2F` means, and the
//! request that the proxy took for version 2 would be another one here. The match over
//! [`Route`] is the route table, and the compiler keeps it whole.
//!
//! Everything that is not an answer is a [`Refused`], which knows its status, reason and text.

use std::sync::Arc;

use aegis_protocol::grpc::is_grpc;
use aegis_protocol::path::{self, Route};
use aegis_protocol::{
    ErrorBody, ModelReady, Reason, ServerLive, ServerMetadata, ServerReady, headers,
};
use http::header::{CONNECTION, CONTENT_TYPE, EXPECT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};
use serde::Serialize;

use crate::app::{App, Phase};
use crate::infer::{Caller, not_ready};
use crate::served::{Served, Standing};

mod body;
mod codec;
mod coding;
mod grpc;
mod infer;
mod payload;
mod refused;
mod repository;
mod uploads;

pub use payload::Payload;
pub use refused::Refused;
pub use uploads::{Uploads, UploadsFull};

/// Prometheus' text format, version 0.0.4.
const METRICS_TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const METRICS: &str = "/metrics";
/// The longest `traceparent` that is logged: what its first version has, and some room for a later one.
const MAX_TRACEPARENT: usize = 128;
/// The document of all that this module answers; a test compares them.
const OPENAPI: &str = include_str!("api/openapi.json");

/// What is sent back.
pub type Answer = Response<Payload>;

/// Answers a request. `is_first` says that its connection has carried none before.
pub async fn handle(app: &Arc<App>, request: Request<Incoming>, is_first: bool) -> Answer {
    let (parts, body) = request.into_parts();
    let mut answer = if parts.version == Version::HTTP_2 && is_grpc(&parts.headers) {
        grpc::handle(app, &parts, body, is_first).await
    } else {
        rest(app, &parts, body, is_first).await
    };
    if let Some(id) = headers::request_id(&parts.headers) {
        answer.headers_mut().insert(headers::REQUEST_ID, id.clone());
    }
    answer
}

/// The names that a request brought, for the log.
fn caller(headers: &HeaderMap) -> Caller<'_> {
    Caller {
        request_id: headers::request_id(headers).and_then(|value| value.to_str().ok()),
        traceparent: headers.get(headers::TRACEPARENT).and_then(|value| {
            let text = value.to_str().ok()?;
            (text.len() <= MAX_TRACEPARENT).then_some(text)
        }),
    }
}

async fn rest(app: &App, parts: &Parts, mut body: Incoming, is_first: bool) -> Answer {
    let mut answer = match route(app, parts, &mut body, is_first).await {
        Ok(answer) => answer,
        Err(refused) => {
            app.metrics.rejected(refused.reason());
            tracing::debug!(method = %parts.method, path = parts.uri.path(), "refused: {refused}");
            refused.answer()
        }
    };
    // hyper would send `100 Continue` behind the answer when it is asked for the body then.
    if !body.is_end_stream() && !parts.headers.contains_key(EXPECT) {
        tokio::spawn(body::discard(body));
    }
    if app.phase() != Phase::Serving && parts.version < Version::HTTP_2 {
        answer
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

async fn route(
    app: &App,
    parts: &Parts,
    body: &mut Incoming,
    is_first: bool,
) -> Result<Answer, Refused> {
    let path = parts.uri.path();
    let route = path::parse(path);
    let method = match &route {
        // Our models write no text.
        Some(Route::Generate { .. }) => return Err(Refused::unknown_path(path)),
        Some(route) => route.method(),
        None if [path::HEALTH, path::OPENAPI, METRICS].contains(&path) => Method::GET,
        None => return Err(Refused::unknown_path(path)),
    };
    check_method(&parts.method, &method)?;
    // A connection that was accepted before the listener closed gets its first request answered.
    if app.phase() == Phase::Closing && !is_first {
        return Err(Refused::Draining);
    }
    match route {
        Some(Route::Infer { model, version }) => {
            infer::infer(app, &find(app, &model, version.as_deref())?, parts, body).await
        }
        Some(Route::ModelReady { model, version }) => {
            Ok(model_ready(app, &*find(app, &model, version.as_deref())?))
        }
        Some(Route::Model { model, version }) => {
            metadata(app, &*find(app, &model, version.as_deref())?)
        }
        Some(Route::Generate { .. }) => Err(Refused::unknown_path(path)),
        Some(Route::RepositoryIndex) => repository::index(app, body).await,
        Some(Route::RepositoryLoad { model }) => repository::load(app, &model, body).await,
        Some(Route::RepositoryUnload { model }) => repository::unload(app, &model, body).await,
        Some(Route::Server) => Ok(server(app)),
        Some(Route::Live) => Ok(live(app)),
        Some(Route::Ready) => Ok(ready(app)),
        None if path == METRICS => metrics(app),
        None if path == path::OPENAPI => Ok(json_bytes(StatusCode::OK, OPENAPI)),
        None => Ok(health(app)),
    }
}

/// Every path has one method; what can be fetched can be asked about with HEAD.
fn check_method(got: &Method, expected: &Method) -> Result<(), Refused> {
    if got == expected || (got == Method::HEAD && expected == Method::GET) {
        Ok(())
    } else {
        Err(Refused::Method {
            got: got.clone(),
            expected: expected.clone(),
        })
    }
}

fn find(app: &App, model: &str, version: Option<&str>) -> Result<Arc<Served>, Refused> {
    app.models
        .find(model, version)
        .map_err(|what| Refused::not_found(what, model, version))
}

fn server(app: &App) -> Answer {
    json(StatusCode::OK, &server_metadata(app))
}

fn server_metadata(app: &App) -> ServerMetadata {
    let control = app.models.control();
    // What Triton's clients look for by these names.
    let extensions = ["binary_tensor_data"]
        .into_iter()
        .chain(control.is_on().then_some("model_repository"));
    ServerMetadata {
        name: "aegis-backend".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: extensions.map(str::to_owned).collect(),
    }
}

fn metadata(app: &App, served: &Served) -> Result<Answer, Refused> {
    match app.models.metadata(served) {
        Some(metadata) => Ok(json(StatusCode::OK, &metadata)),
        None => Err(not_ready(served, served.standing())),
    }
}

/// Alive means that waiting may help. Where an instance is lost, only a restart does; a model that cannot
/// be loaded is not helped by one, and one that fails every run may recover.
///
/// One of several is enough: the process is not ready for the rest of its life then, and so of no use,
/// however many instances are left. They serve on until the restart, which comes later than the end of
/// readiness: a probe of liveness is more patient, and by then a proxy has turned elsewhere. Who drains
/// ends anyway, and is not to be ended sooner.
fn is_live(app: &App) -> bool {
    app.phase() != Phase::Serving || !app.models.any_lost()
}

fn live(app: &App) -> Answer {
    let live = is_live(app);
    let status = if live {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json(status, &ServerLive { live })
}

fn ready(app: &App) -> Answer {
    if app.phase() != Phase::Serving {
        return Refused::Draining.answer();
    }
    match app.models.first_not_ready() {
        Some((served, standing)) => not_ready(&served, standing).answer(),
        None => json(StatusCode::OK, &ServerReady { ready: true }),
    }
}

fn model_ready(app: &App, served: &Served) -> Answer {
    let mut answer = match app.models.standing(served) {
        _ if app.phase() != Phase::Serving => Refused::Draining.answer(),
        Standing::Ready => json(
            StatusCode::OK,
            &ModelReady {
                name: served.name.clone(),
                ready: true,
            },
        ),
        standing => not_ready(served, standing).answer(),
    };
    infer::mark(&mut answer, served);
    answer
}

fn health(app: &App) -> Answer {
    let draining = app.phase() != Phase::Serving;
    let report = app.models.health(draining);
    let reason = if draining {
        Reason::Draining
    } else if !report.models.iter().all(|model| model.warm) {
        Reason::NotReady
    } else {
        return json(StatusCode::OK, &report);
    };
    let mut answer = json(reason.status(), &report);
    refused::explain(answer.headers_mut(), reason);
    answer
}

fn metrics(app: &App) -> Result<Answer, Refused> {
    if !app.metrics.are_kept() {
        return Err(Refused::unknown_path(METRICS));
    }
    let text = app.metrics.render().map_err(Refused::Metrics)?;
    let mut answer = Response::new(Payload::from(text));
    answer.headers_mut().insert(CONTENT_TYPE, METRICS_TYPE);
    Ok(answer)
}

fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    match serde_json::to_vec(body) {
        Ok(body) => json_bytes(status, body),
        // Our own types: they have string keys and no way to fail.
        Err(error) => json_bytes(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!(
                "{{\"error\":\"cannot encode the answer at line {}\"}}",
                error.line()
            ),
        ),
    }
}

fn json_bytes(status: StatusCode, body: impl Into<Payload>) -> Answer {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    answer
}

fn error(status: StatusCode, text: impl std::fmt::Display) -> Answer {
    json(status, &ErrorBody::new(text))
}
