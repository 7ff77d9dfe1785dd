//! The model repository extension: what there is, and loading and unloading.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use aegis_protocol::{ChangeRequest, IndexRequest, ModelIndex, ModelState};
use http::StatusCode;
use hyper::Response;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::body::{self, BodyError};
use super::{Answer, Payload, Refused, json};
use crate::app::App;
use crate::clock;
use crate::config::is_name;
use crate::control::Action;
use crate::served::{Served, Standing};

/// No request of these says more than a few words.
const MAX_BODY: usize = 64 << 10;

/// The most models of the repository that are listed without being loaded.
const MAX_LISTED: usize = 10_000;

/// Answers which models there are: every version that is served, and every other model of the
/// repository.
pub(super) async fn index(app: &App, body: &mut Incoming) -> Result<Answer, Refused> {
    let request: IndexRequest = read(app, body).await?;
    Ok(json(StatusCode::OK, &lines(app, request.ready).await?))
}

/// The lines of the index; only what is ready, if that is asked for.
pub(super) async fn lines(app: &App, ready: bool) -> Result<Vec<ModelIndex>, Refused> {
    let served = app.models.all();
    let names: BTreeSet<String> = served.iter().map(|one| one.name.clone()).collect();
    let mut lines: Vec<ModelIndex> = served.iter().map(|one| line(app, one)).collect();
    let folder = app.models.gate().repository().to_owned();
    let others = tokio::task::spawn_blocking(move || others(&folder, &names));
    lines.extend(others.await.map_err(|_| Refused::Panicked)?);
    if ready {
        lines.retain(|line| line.state == ModelState::Ready);
    }
    Ok(lines)
}

/// Loads a model, and answers when it is served.
pub(super) async fn load(app: &App, model: &str, body: &mut Incoming) -> Result<Answer, Refused> {
    change_load(app, model, &read(app, body).await?).await?;
    Ok(done())
}

/// Loads a model.
pub(super) async fn change_load(
    app: &App,
    model: &str,
    request: &ChangeRequest,
) -> Result<(), Refused> {
    let action = Action::Load {
        model: model.to_owned(),
        versions: request.versions()?,
    };
    Ok(app.models.control().ask(action).await?)
}

/// Unloads a model, and answers when no request can find it any more.
pub(super) async fn unload(app: &App, model: &str, body: &mut Incoming) -> Result<Answer, Refused> {
    change_unload(app, model, &read(app, body).await?).await?;
    Ok(done())
}

/// Unloads a model.
pub(super) async fn change_unload(
    app: &App,
    model: &str,
    request: &ChangeRequest,
) -> Result<(), Refused> {
    request.check_unload()?;
    let action = Action::Unload {
        model: model.to_owned(),
    };
    Ok(app.models.control().ask(action).await?)
}

fn done() -> Answer {
    Response::new(Payload::default())
}

/// Reads a body that may be left out.
async fn read<T: DeserializeOwned + Default>(app: &App, body: &mut Incoming) -> Result<T, Refused> {
    let arrived = clock::now();
    let upload = body::read(body, app, arrived, arrived + app.http.request_timeout).await?;
    if upload.bytes.len() > MAX_BODY {
        return Err(BodyError::TooLarge { limit: MAX_BODY }.into());
    }
    if upload.bytes.is_empty() {
        return Ok(T::default());
    }
    // An object and nothing else: a struct would be read from a list too.
    let object: serde_json::Map<_, _> = serde_json::from_slice(&upload.bytes)?;
    Ok(serde_json::from_value(Value::Object(object))?)
}

fn line(app: &App, served: &Served) -> ModelIndex {
    let (state, reason) = match app.models.standing(served) {
        Standing::Ready => (ModelState::Ready, String::new()),
        Standing::Loading => (ModelState::Loading, String::new()),
        standing => (ModelState::Unavailable, standing.reason()),
    };
    ModelIndex {
        name: served.name.clone(),
        version: served.version.clone(),
        state,
        reason,
    }
}

/// The models of the repository but for these, in the order of their names.
fn others(repository: &Path, but: &BTreeSet<String>) -> Vec<ModelIndex> {
    let entries = fs::read_dir(repository).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    let names = folders.filter_map(|entry| entry.file_name().into_string().ok());
    let names: BTreeSet<String> = names
        .filter(|name| is_name(name) && !but.contains(name))
        .take(MAX_LISTED)
        .collect();
    let line = |name| ModelIndex {
        name,
        version: String::new(),
        state: ModelState::Unavailable,
        reason: "not loaded".to_owned(),
    };
    names.into_iter().map(line).collect()
}
