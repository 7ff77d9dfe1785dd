//! The calls that the proxy answers itself, as [`crate::own`] does over HTTP.

use aegis_protocol::{
    Reason,
    grpc::{
        HealthCheckRequest, HealthCheckResponse, Method, ModelReadyResponse, ServerLiveResponse,
        ServerMetadataResponse, ServerReadyResponse, ServingStatus, Target, frame, read_call,
    },
};
use bytes::Bytes;
use http::HeaderMap;

use crate::{
    answer::{Answer, Refusal},
    model::Model,
    request::{find_model, find_pinned},
    state::{Shared, Snapshot},
};

/// The name of the service in a health check.
const SERVICE: &str = "inference.GRPCInferenceService";

/// Answers a call of ours with this body.
///
/// # Errors
/// A refusal, where the question cannot be answered.
pub fn answer(
    method: Method,
    body: &[u8],
    headers: &HeaderMap,
    shared: &Shared,
    snapshot: &Snapshot,
) -> Result<Answer, Refusal> {
    let message = match method {
        Method::ServerLive => frame(&ServerLiveResponse { live: true }),
        Method::ServerReady => frame(&ServerReadyResponse {
            ready: shared.is_ready(),
        }),
        Method::ServerMetadata => frame(&ServerMetadataResponse {
            name: "aegis-proxy".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            extensions: Vec::new(),
        }),
        Method::ModelReady => model_ready(body, headers, snapshot)?,
        Method::HealthCheck => health(body, shared, snapshot)?,
        Method::Repository => {
            let message = "this port does not load or unload models: ask the backends themselves";
            return Err(Refusal::new(Reason::MethodNotAllowed, message));
        }
        Method::ModelMetadata | Method::ModelInfer | Method::ModelStreamInfer => {
            return Err(Refusal::new(Reason::UpstreamError, "the proxy failed"));
        }
    };
    Ok(Answer::message(message))
}

fn model_ready(body: &[u8], headers: &HeaderMap, snapshot: &Snapshot) -> Result<Bytes, Refusal> {
    let target: Target = read_call(body).map_err(bad)?;
    let model = find_model(snapshot, &target.model)?;
    let version = Some(&*target.version).filter(|version| !version.is_empty());
    let version = find_pinned(&model, version, Some(headers))?;
    Ok(frame(&ModelReadyResponse {
        ready: is_ready(&model, version.as_deref()),
    }))
}

fn is_ready(model: &Model, version: Option<&str>) -> bool {
    match version {
        None => model.can_serve(),
        Some(version) => model.available(version) > 0.0,
    }
}

/// The health of the server, or of a model by its name.
fn health(body: &[u8], shared: &Shared, snapshot: &Snapshot) -> Result<Bytes, Refusal> {
    let request: HealthCheckRequest = read_call(body).map_err(bad)?;
    let serves = match &*request.service {
        "" | SERVICE => shared.is_ready(),
        model => find_model(snapshot, model)?.can_serve() && !shared.is_draining(),
    };
    let status = if serves {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    Ok(frame(&HealthCheckResponse {
        status: status.into(),
    }))
}

fn bad(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Reason::BadRequest, error.to_string())
}
