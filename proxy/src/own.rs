//! The questions that the proxy answers itself, for all that lies behind it.
//!
//! A client sees one server. It is live when this process runs, ready when
//! every model can be answered, and has the models and versions of the
//! configuration; what a model's tensors look like, a backend is asked.

use aegis_protocol::{
    HealthReport, ModelHealth, ModelReady, Reason, ServerLive, ServerMetadata, ServerReady,
};
use http::StatusCode;

use crate::{
    answer::{Answer, Refusal},
    model::Model,
    request::Own,
    state::{Shared, Snapshot},
};

/// Answers one of our own questions.
///
/// # Errors
/// A refusal, where something is not ready.
pub fn answer(question: &Own, shared: &Shared, snapshot: &Snapshot) -> Result<Answer, Refusal> {
    match question {
        Own::Server => Ok(Answer::json(StatusCode::OK, &server())),
        Own::Live => Ok(Answer::json(StatusCode::OK, &ServerLive { live: true })),
        Own::Ready => ready(shared),
        Own::Health => Ok(health(shared, snapshot)),
        Own::ModelReady(model, version) => model_ready(model, version.as_deref()),
    }
}

fn server() -> ServerMetadata {
    ServerMetadata {
        name: "aegis-proxy".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        extensions: Vec::new(),
    }
}

fn ready(shared: &Shared) -> Result<Answer, Refusal> {
    if shared.is_draining() {
        return Err(Refusal::new(Reason::Draining, "the proxy is shutting down"));
    }
    if !shared.is_ready() {
        let message = "no endpoint is ready: of any model, or at the start of one of them, nor has its fallback one";
        return Err(Refusal::new(Reason::NotReady, message));
    }
    Ok(Answer::json(StatusCode::OK, &ServerReady { ready: true }))
}

fn model_ready(model: &Model, version: Option<&str>) -> Result<Answer, Refusal> {
    let ready = match version {
        None => model.can_serve(),
        Some(version) => model.available(version) > 0.0,
    };
    if !ready {
        let message = match version {
            None => format!("model `{}` has no endpoint that is ready", model.name()),
            Some(version) => format!(
                "version `{version}` of model `{}` has no endpoint that is ready",
                model.name()
            ),
        };
        return Err(Refusal::new(Reason::NotReady, message));
    }
    let name = model.name().to_string();
    Ok(Answer::json(StatusCode::OK, &ModelReady { name, ready }))
}

/// `/health` as a backend gives it: `loaded` when every model can be answered,
/// `model_version` the version that most of the traffic goes to.
fn health(shared: &Shared, snapshot: &Snapshot) -> Answer {
    let mut models: Vec<&Model> = snapshot.models().map(|model| &**model).collect();
    models.sort_unstable_by_key(|model| model.name());
    let loaded = models.iter().all(|model| model.can_serve());
    let report = HealthReport {
        model_version: models
            .first()
            .and_then(|model| model.main_version())
            .map_or_else(String::new, ToString::to_string),
        loaded,
        draining: shared.is_draining(),
        models: models.iter().copied().flat_map(model_health).collect(),
    };
    let status = if loaded && !report.draining {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    Answer::json(status, &report)
}

fn model_health(model: &Model) -> impl Iterator<Item = ModelHealth> {
    model.versions().iter().map(|version| {
        let available = model.available(version.name()) > 0.0;
        ModelHealth {
            name: model.name().to_string(),
            version: version.name().to_string(),
            loaded: available,
            warm: available,
            digest: None,
            signer: None,
            reason: (!available).then(|| "no endpoint is ready".into()),
        }
    })
}
