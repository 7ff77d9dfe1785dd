//! The protocol's paths, read and written.
//!
//! One parser serves the proxy and the server, so that they cannot disagree on
//! what a path means: a request that the proxy took for version 2 is version 2
//! behind it. Names are percent-decoded after the path is cut at its slashes,
//! so `%2F` stays inside a name; names that a client library would normalise
//! away (`.` and `..`), empty ones, over-long ones and ones with control
//! characters have no route.

use std::borrow::Cow;

use http::Method;

mod name;
#[cfg(test)]
mod tests;

/// The server's metadata.
pub const SERVER: &str = "/v2";
/// Whether the process is alive.
pub const LIVE: &str = "/v2/health/live";
/// Whether the server is ready.
pub const READY: &str = "/v2/health/ready";
/// Which models the repository holds.
pub const REPOSITORY_INDEX: &str = "/v2/repository/index";
/// The document that says what a server answers; ours, not the protocol's.
pub const OPENAPI: &str = "/v2/openapi.json";
/// The report on every model; ours, not the protocol's.
pub const HEALTH: &str = "/health";

/// What a path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// The server's metadata.
    Server,
    /// Whether the process is alive.
    Live,
    /// Whether the server is ready.
    Ready,
    /// A model's metadata.
    Model {
        /// The model's name, decoded.
        model: Cow<'a, str>,
        /// The version named, decoded.
        version: Option<Cow<'a, str>>,
    },
    /// Whether a model is ready.
    ModelReady {
        /// The model's name, decoded.
        model: Cow<'a, str>,
        /// The version named, decoded.
        version: Option<Cow<'a, str>>,
    },
    /// An inference.
    Infer {
        /// The model's name, decoded.
        model: Cow<'a, str>,
        /// The version named, decoded.
        version: Option<Cow<'a, str>>,
    },
    /// Text that a model writes, whole or as it writes it.
    Generate {
        /// The model's name, decoded.
        model: Cow<'a, str>,
        /// The version named, decoded.
        version: Option<Cow<'a, str>>,
        /// As it writes it: an answer in events.
        stream: bool,
    },
    /// Which models the repository holds.
    RepositoryIndex,
    /// A model is to be loaded.
    RepositoryLoad {
        /// The model's name, decoded.
        model: Cow<'a, str>,
    },
    /// A model is to be unloaded.
    RepositoryUnload {
        /// The model's name, decoded.
        model: Cow<'a, str>,
    },
}

/// Reads a path (without query); none where the protocol has no such path.
#[must_use]
pub fn parse(path: &str) -> Option<Route<'_>> {
    match path.strip_prefix(SERVER)? {
        "" | "/" => Some(Route::Server),
        "/health/live" => Some(Route::Live),
        "/health/ready" => Some(Route::Ready),
        "/repository/index" => Some(Route::RepositoryIndex),
        rest if rest.starts_with("/repository/") => {
            parse_repository(rest.strip_prefix("/repository/models/")?)
        }
        rest => parse_model(rest.strip_prefix("/models/")?),
    }
}

/// The path of a model's metadata.
#[must_use]
pub fn model(model: &str, version: Option<&str>) -> String {
    let mut path = String::from("/v2/models/");
    name::encode(&mut path, model);
    if let Some(version) = version {
        path.push_str("/versions/");
        name::encode(&mut path, version);
    }
    path
}

/// The path that says whether a model is ready.
#[must_use]
pub fn model_ready(model: &str, version: Option<&str>) -> String {
    self::model(model, version) + "/ready"
}

/// The path of an inference.
#[must_use]
pub fn infer(model: &str, version: Option<&str>) -> String {
    self::model(model, version) + "/infer"
}

/// The path of what a model writes: whole, or as it writes it.
#[must_use]
pub fn generate(model: &str, version: Option<&str>, stream: bool) -> String {
    let action = if stream {
        "/generate_stream"
    } else {
        "/generate"
    };
    self::model(model, version) + action
}

/// The path that loads a model.
#[must_use]
pub fn repository_load(model: &str) -> String {
    repository(model) + "/load"
}

/// The path that unloads a model.
#[must_use]
pub fn repository_unload(model: &str) -> String {
    repository(model) + "/unload"
}

fn repository(model: &str) -> String {
    let mut path = String::from("/v2/repository/models/");
    name::encode(&mut path, model);
    path
}

// === impl Route ===

impl Route<'_> {
    /// The one method that this path answers.
    #[must_use]
    pub fn method(&self) -> Method {
        match self {
            Self::Infer { .. }
            | Self::Generate { .. }
            | Self::RepositoryIndex
            | Self::RepositoryLoad { .. }
            | Self::RepositoryUnload { .. } => Method::POST,
            _ => Method::GET,
        }
    }
}

/// Reads what follows `/v2/repository/models/`.
fn parse_repository(rest: &str) -> Option<Route<'_>> {
    let (model, action) = cut(rest);
    let model = name::decode(model)?;
    match action? {
        "load" => Some(Route::RepositoryLoad { model }),
        "unload" => Some(Route::RepositoryUnload { model }),
        _ => None,
    }
}

/// Reads what follows `/v2/models/`.
fn parse_model(rest: &str) -> Option<Route<'_>> {
    let (model, rest) = cut(rest);
    let model = name::decode(model)?;
    let (version, action) = match rest.and_then(|rest| rest.strip_prefix("versions/")) {
        Some(rest) => {
            let (version, action) = cut(rest);
            (Some(name::decode(version)?), action)
        }
        None => (None, rest),
    };
    match action {
        None => Some(Route::Model { model, version }),
        Some("ready") => Some(Route::ModelReady { model, version }),
        Some("infer") => Some(Route::Infer { model, version }),
        Some("generate") => Some(Route::Generate {
            model,
            version,
            stream: false,
        }),
        Some("generate_stream") => Some(Route::Generate {
            model,
            version,
            stream: true,
        }),
        Some(_) => None,
    }
}

/// Cuts at the first slash: the segment, and what follows the slash.
fn cut(path: &str) -> (&str, Option<&str>) {
    match path.split_once('/') {
        Some((segment, rest)) => (segment, Some(rest)),
        None => (path, None),
    }
}
