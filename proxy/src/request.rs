//! What a request wants: read from its method, path and headers, before
//! anything else is done for it.

use std::sync::Arc;

use aegis_policy::Purpose;
use aegis_protocol::{
    Reason, excerpt, headers, listed,
    path::{self, Route},
};
use http::{HeaderMap, Method, header};

use crate::{answer::Refusal, model::Model, state::Snapshot};

mod framing;
mod seen;

pub use framing::refuse_framing;
pub use seen::Seen;

/// What is to be done with a request.
#[derive(Debug)]
pub enum Wanted {
    /// Answered here.
    Own(Own),
    /// Sent to a version of a model.
    Forward(Forward),
}

/// The questions that the proxy answers itself.
#[derive(Debug)]
pub enum Own {
    /// `/v2`
    Server,
    /// `/v2/health/live`
    Live,
    /// `/v2/health/ready`
    Ready,
    /// `/health`
    Health,
    /// `/v2/models/M[/versions/V]/ready`
    ModelReady(Arc<Model>, Option<Arc<str>>),
}

/// A request for a model.
#[derive(Clone, Debug)]
pub struct Forward {
    /// The model.
    pub model: Arc<Model>,
    /// The version that the client named, if it did.
    pub pinned: Option<Arc<str>>,
    /// What is asked of it.
    pub action: Action,
}

/// What a backend is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// An inference.
    Infer,
    /// Text that the model writes.
    Generate,
    /// The same, in events as it writes them.
    GenerateStream,
    /// A connection of its own with the model (WebSocket), on the same path.
    Upgrade,
    /// The model's metadata.
    Metadata,
    /// An inference over gRPC.
    CallInfer,
    /// Inferences over gRPC, for as long as the client likes.
    CallStream,
    /// The model's metadata, over gRPC.
    CallMetadata,
}

// === impl Action ===

impl Action {
    /// Whether endpoints are judged by it.
    #[must_use]
    pub fn purpose(self) -> Purpose {
        match self {
            Self::Infer
            | Self::Generate
            | Self::GenerateStream
            | Self::Upgrade
            | Self::CallInfer
            | Self::CallStream => Purpose::Inference,
            Self::Metadata | Self::CallMetadata => Purpose::Other,
        }
    }

    /// Whether it is counted as an inference.
    #[must_use]
    pub fn is_inference(self) -> bool {
        self.purpose() == Purpose::Inference
    }

    /// Whether requests and answers pass for as long as both sides like.
    #[must_use]
    pub fn is_stream(self) -> bool {
        matches!(self, Self::Upgrade | Self::CallStream)
    }
}

/// Reads what a request wants; `seen` says which headers need not be looked for.
///
/// # Errors
/// A refusal that names what was wrong and what is known.
pub fn identify(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    seen: Seen,
    snapshot: &Snapshot,
) -> Result<Wanted, Refusal> {
    let pins = seen.version.then_some(headers);
    if path == path::HEALTH {
        allow(method, &Method::GET, path)?;
        return Ok(Wanted::Own(Own::Health));
    }
    let route = path::parse(path).ok_or_else(|| no_such_path(path))?;
    let upgrade = matches!(&route, Route::Generate { stream: true, .. }) && upgrades(headers);
    let expected = if upgrade { Method::GET } else { route.method() };
    if !is_repository(&route) {
        allow(method, &expected, path)?;
    }
    Ok(match route {
        Route::Server => Wanted::Own(Own::Server),
        Route::Live => Wanted::Own(Own::Live),
        Route::Ready => Wanted::Own(Own::Ready),
        Route::ModelReady { model, version } => {
            let model = find_model(snapshot, &model)?;
            let version = find_pinned(&model, version.as_deref(), pins)?;
            Wanted::Own(Own::ModelReady(model, version))
        }
        Route::Model { model, version } => {
            forward(snapshot, &model, version.as_deref(), pins, Action::Metadata)?
        }
        Route::Infer { model, version } => {
            forward(snapshot, &model, version.as_deref(), pins, Action::Infer)?
        }
        Route::Generate {
            model,
            version,
            stream,
        } => {
            let action = match (upgrade, stream) {
                (true, _) => Action::Upgrade,
                (false, true) => Action::GenerateStream,
                (false, false) => Action::Generate,
            };
            forward(snapshot, &model, version.as_deref(), pins, action)?
        }
        Route::RepositoryIndex | Route::RepositoryLoad { .. } | Route::RepositoryUnload { .. } => {
            return Err(no_such_path(path));
        }
    })
}

/// Paths that are none here, whatever the method.
fn is_repository(route: &Route<'_>) -> bool {
    matches!(
        route,
        Route::RepositoryIndex | Route::RepositoryLoad { .. } | Route::RepositoryUnload { .. }
    )
}

fn allow(method: &Method, expected: &Method, path: &str) -> Result<(), Refusal> {
    if method == expected {
        return Ok(());
    }
    let (expected, allow) = match *expected {
        Method::POST => (expected, "POST"),
        _ => (&Method::GET, "GET"),
    };
    let message = format!("`{}` wants {expected}, got {method}", excerpt(path));
    Err(Refusal {
        allow: Some(allow),
        ..Refusal::new(Reason::MethodNotAllowed, message)
    })
}

/// Whether the client wants to go on as a WebSocket on this connection. A request
/// with a body does not.
fn upgrades(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE);
    let empty = headers.get(header::CONTENT_LENGTH).is_none_or(|l| l == "0");
    upgrade.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && empty
        && !headers.contains_key(header::TRANSFER_ENCODING)
}

fn no_such_path(path: &str) -> Refusal {
    if path.starts_with("/v2/repository/") {
        let message = "this port does not load or unload models: ask the backends themselves";
        return Refusal::new(Reason::UnknownModel, message);
    }
    let message = format!(
        "no such path: `{}`; inference is POST /v2/models/MODEL[/versions/VERSION]/infer",
        excerpt(path)
    );
    Refusal::new(Reason::UnknownModel, message)
}

fn forward(
    snapshot: &Snapshot,
    model: &str,
    version: Option<&str>,
    pins: Option<&HeaderMap>,
    action: Action,
) -> Result<Wanted, Refusal> {
    let model = find_model(snapshot, model)?;
    let pinned = find_pinned(&model, version, pins)?;
    Ok(Wanted::Forward(Forward {
        model,
        pinned,
        action,
    }))
}

/// The model of that name.
pub(crate) fn find_model(snapshot: &Snapshot, name: &str) -> Result<Arc<Model>, Refusal> {
    snapshot.model(name).map(Arc::clone).ok_or_else(|| {
        let known = listed(snapshot.models().map(|model| &**model.name()));
        let message = format!("unknown model `{}`; known: {known}", excerpt(name));
        Refusal::new(Reason::UnknownModel, message)
    })
}

/// The version that the path names, or else a header, where `pins` may have one. Two that
/// differ are refused: somebody would get another version than they asked for.
pub(crate) fn find_pinned(
    model: &Model,
    in_path: Option<&str>,
    pins: Option<&HeaderMap>,
) -> Result<Option<Arc<str>>, Refusal> {
    let in_headers = pins.map(|headers| headers.get_all(headers::MODEL_VERSION));
    let in_headers = in_headers.into_iter().flatten();
    let in_headers = in_headers.map(|value| value.to_str().unwrap_or("(not text)"));
    let mut pins = in_path.into_iter().chain(in_headers);
    let Some(asked) = pins.next() else {
        return Ok(None);
    };
    if let Some(other) = pins.find(|other| *other != asked) {
        let message = format!(
            "the request asks for version `{}` and for version `{}`; name one",
            excerpt(asked),
            excerpt(other)
        );
        return Err(Refusal::new(Reason::BadRequest, message));
    }
    if !model.config().allow_pin {
        let message = format!(
            "model `{}` does not let clients choose the version (allow_pin = false)",
            model.name()
        );
        return Err(Refusal::new(Reason::BadRequest, message));
    }
    let version = model.version(asked);
    version.map(|v| Some(Arc::clone(v.name()))).ok_or_else(|| {
        let known = listed(model.versions().iter().map(|v| &**v.name()));
        let message = format!(
            "model `{}` has no version `{}`; known: {known}",
            model.name(),
            excerpt(asked)
        );
        Refusal::new(Reason::UnknownVersion, message)
    })
}

#[cfg(test)]
mod tests;
