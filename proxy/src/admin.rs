//! The operator's face, on a port of its own.
//!
//! | path | answer |
//! |---|---|
//! | `GET /livez` | 200 while the process runs |
//! | `GET /readyz` | 200 when every model can be answered, and after the first time while any can; 503 else, and while a drain is on. Both name what cannot be answered |
//! | `GET /metrics` | Prometheus' text format |
//! | `GET /status` | all that is known, as JSON ([`Status`]) |
//! | `POST /reload` | reads the configuration file now: 200, or 422 with every fault |
//! | `POST /rollback` | takes the configuration that ran before, until the file changes: 200, or 409 when there is none |
//! | `POST /models/M/versions/V/endpoints/A/drain`, `…/undrain` | takes an endpoint out of the choice, or back in, until it leaves the configuration or the proxy restarts: 200, or 404 |
//!
//! Apart from the data port, so that it answers while that one drains or is
//! full, and so that it can be kept on loopback: it has no password. Every change that
//! is asked for leaves its line in the audit log, with the address of whoever asked. Gauges are
//! set from the state itself at the moment of asking.

mod listener;

#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc};

use aegis_protocol::{ErrorBody, excerpt};
use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Path, State},
    http::{Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::{
    audit::{self, By},
    config::Name,
    health::{Findings, Target},
    metrics::{CONTENT_TYPE, Metrics, ReloadResult},
    reload::{AskError, ReloadHandle, Report},
    status::{ConfigStatus, Running, Status, StatusSource},
};

/// Who asks.
type Client = ConnectInfo<SocketAddr>;

/// What an operator can do to the models that run.
pub trait Controls: Send + Sync + 'static {
    /// Takes an endpoint out of the choice, or back in. False when there is no
    /// such model, version or endpoint.
    fn set_drained(&self, model: &str, version: &str, endpoint: SocketAddr, drained: bool) -> bool;
}

/// What the admin port answers from.
#[derive(Clone)]
pub struct Admin {
    /// What runs.
    pub source: Arc<dyn StatusSource>,
    /// What can be done to it.
    pub controls: Arc<dyn Controls>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The configuration's file.
    pub reloads: ReloadHandle,
    /// What active checks found.
    pub findings: Findings,
}

/// The answer to `GET /readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether requests are to be sent here.
    pub ready: bool,
    /// Why not; or what cannot be answered all the same.
    pub reasons: Vec<String>,
}

/// The answer to a `POST /reload` whose file was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// What happened, in a sentence.
    pub error: String,
    /// How the reading ended, with every fault.
    #[serde(flatten)]
    pub report: Report,
}

/// Answers on `listener` until it is dropped.
pub async fn serve(listener: TcpListener, admin: Admin) {
    listener::serve(listener, router(admin)).await;
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/reload", post(reload))
        .route("/rollback", post(rollback))
        .route(
            "/models/{model}/versions/{version}/endpoints/{endpoint}/{word}",
            post(drain),
        )
        .method_not_allowed_fallback(wrong_method)
        .fallback(no_such_path)
        .with_state(admin)
}

async fn live() -> Response {
    json(StatusCode::OK, &serde_json::json!({ "live": true }))
}

async fn ready(State(admin): State<Admin>) -> Response {
    if admin.source.serves_all() {
        let well = Readiness {
            ready: true,
            reasons: Vec::new(),
        };
        return json(StatusCode::OK, &well);
    }
    aside(move || {
        let running = admin.source.running();
        let readiness = Readiness {
            ready: running.ready,
            reasons: running.shortcomings(),
        };
        let status = if readiness.ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        json(status, &readiness)
    })
    .await
}

async fn metrics(State(admin): State<Admin>) -> Response {
    aside(move || {
        admin.metrics.show(&admin.source.running());
        match admin.metrics.render() {
            Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
            Err(error) => failed(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    })
    .await
}

async fn status(State(admin): State<Admin>) -> Response {
    aside(move || json(StatusCode::OK, &admin.status())).await
}

/// Makes an answer on a thread of its own. To look at tens of thousands of endpoints or
/// series and to write them down takes a while; the threads that carry traffic are not to
/// wait for it.
async fn aside(answer: impl FnOnce() -> Response + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(answer).await {
        Ok(answer) => answer,
        Err(error) => failed(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

async fn reload(State(admin): State<Admin>, ConnectInfo(client): Client) -> Response {
    let result = admin.reloads.reload(client).await;
    reloaded(result, audit::Action::Reload, client, &admin)
}

async fn rollback(State(admin): State<Admin>, ConnectInfo(client): Client) -> Response {
    let result = admin.reloads.rollback(client).await;
    reloaded(result, audit::Action::Rollback, client, &admin)
}

async fn drain(
    State(admin): State<Admin>,
    ConnectInfo(client): Client,
    Path((model, version, endpoint, word)): Path<(String, String, String, String)>,
) -> Response {
    let drained = match word.as_str() {
        "drain" => true,
        "undrain" => false,
        _ => return no_such_path().await,
    };
    let action = if drained {
        audit::Action::Drain
    } else {
        audit::Action::Undrain
    };
    let [of_model, of_version, at] = [&model, &version, &endpoint].map(|text| excerpt(text));
    let subject = format!("{of_model}/{of_version}/{at}");
    let Ok(address) = endpoint.parse() else {
        let message =
            format!("expected an address and a port such as 10.0.0.1:8000, got {endpoint:?}");
        refused(action, client, &subject, "that is no address");
        return failed(StatusCode::BAD_REQUEST, &message);
    };
    let controls = &admin.controls;
    if !controls.set_drained(&model, &version, address, drained) {
        let message =
            format!("no endpoint {address} of version {version:?} of model {model:?}; see /status");
        refused(action, client, &subject, "there is no such endpoint");
        return failed(StatusCode::NOT_FOUND, &message);
    }
    let facts = [format!("drained = {drained}")];
    audit::Entry {
        by: By::Admin(client),
        action,
        subject: &subject,
        outcome: audit::Outcome::Applied,
        generation: None,
        facts: &facts,
    }
    .write();
    let answer = serde_json::json!({
        "model": model, "version": version, "endpoint": address, "drained": drained,
    });
    json(StatusCode::OK, &answer)
}

/// Leaves the audit line of a change that came to nothing before it was tried.
fn refused(action: audit::Action, client: SocketAddr, subject: &str, why: &str) {
    audit::Entry {
        by: By::Admin(client),
        action,
        subject,
        outcome: audit::Outcome::Refused,
        generation: None,
        facts: &[why.to_owned()],
    }
    .write();
}

fn reloaded(
    result: Result<Report, AskError>,
    action: audit::Action,
    client: SocketAddr,
    admin: &Admin,
) -> Response {
    if let Err(error) = &result {
        refused(action, client, admin.reloads.origin(), &error.to_string());
    }
    match result {
        Ok(report) if report.result == ReloadResult::Refused => {
            let refused = Refused {
                error: "the configuration was refused; the running one stays".to_owned(),
                report,
            };
            json(StatusCode::UNPROCESSABLE_ENTITY, &refused)
        }
        Ok(report) => json(StatusCode::OK, &report),
        Err(error @ AskError::NothingBefore) => failed(StatusCode::CONFLICT, &error.to_string()),
        Err(error @ (AskError::Busy | AskError::Gone)) => {
            failed(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())
        }
    }
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let path = uri.path();
    failed(
        StatusCode::METHOD_NOT_ALLOWED,
        &format!("{path} does not take {method}"),
    )
}

async fn no_such_path() -> Response {
    let known = "GET /livez, GET /readyz, GET /metrics, GET /status, POST /reload, POST /rollback, \
                 POST /models/M/versions/V/endpoints/A/drain and /undrain";
    failed(
        StatusCode::NOT_FOUND,
        &format!("no such path; known are {known}"),
    )
}

fn failed(status: StatusCode, error: &str) -> Response {
    let body = ErrorBody {
        error: error.to_owned(),
    };
    json(status, &body)
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    match serde_json::to_vec(body) {
        Ok(text) => (status, headers, text).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer has no JSON form");
            (StatusCode::INTERNAL_SERVER_ERROR, Body::empty()).into_response()
        }
    }
}

// === impl Admin ===

impl Admin {
    fn status(&self) -> Status {
        let mut running = self.source.running();
        self.add_findings(&mut running);
        Status {
            running,
            config: ConfigStatus {
                origin: self.reloads.origin().to_owned(),
                last_reload: self.reloads.last(),
            },
            in_flight: self.metrics.in_flight(),
            connections: self.metrics.connections(),
        }
    }

    /// Says of every endpoint what its last check found.
    fn add_findings(&self, running: &mut Running) {
        for (model, status) in &mut running.models {
            for (version, status) in &mut status.versions {
                let (Ok(model), Ok(version)) = (Name::new(model), Name::new(version)) else {
                    continue;
                };
                for endpoint in &mut status.endpoints {
                    endpoint.health_detail = self.findings.of(&Target {
                        model: model.clone(),
                        version: version.clone(),
                        address: endpoint.address,
                    });
                }
            }
        }
    }
}
