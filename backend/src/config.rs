//! What `backend.toml` says, checked.
//!
//! [`RawConfig`] is the file as serde reads it; [`Config`] cannot be wrong. Validation runs on the
//! final values, defaults included, and reports every fault by key path and line.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aegis_config::{Faults, KeyPath, Rejected, load};
use aegis_signing::Digest;

mod raw;
#[cfg(test)]
mod tests;

pub use raw::{
    LogFormat, RawConfig, RawModel, RawModelControl as ModelControl, RawVerify as Verify,
};

/// What the program runs with.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where it listens, too.
    pub grpc_listen: Option<SocketAddr>,
    /// The folder that holds `NAME/model.toml`; relative to the configuration's own folder.
    pub model_repository: PathBuf,
    /// The models that it serves, in the order of their names.
    pub models: Vec<ModelEntry>,
    /// Bounds on what waits for a model version.
    pub queue: QueueLimits,
    /// Bounds on connections and requests.
    pub http: HttpLimits,
    /// How it goes away.
    pub drain: DrainTimes,
    /// What may be loaded.
    pub integrity: Integrity,
    /// Whether metrics are kept.
    pub metrics: bool,
    /// How log lines are written.
    pub log_format: LogFormat,
}

/// What may be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Integrity {
    /// Whether models are verified.
    pub verify: Verify,
    /// The files of the keys that are trusted; at least one where models are verified.
    pub trusted_keys: Vec<PathBuf>,
    /// The most bytes of one model version.
    pub max_model_bytes: u64,
    /// Bounds on fetching.
    pub fetch: FetchLimits,
    /// Whether models are loaded and unloaded at run time.
    pub model_control: ModelControl,
}

/// A model that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelEntry {
    /// Its folder in the repository, and its name on the wire.
    pub name: String,
    /// Its versions; the first answers requests that name none.
    pub versions: Vec<String>,
    /// Where versions come from that are not in the repository.
    pub sources: BTreeMap<String, Source>,
}

/// Where a version comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Where its archive is.
    pub from: Location,
    /// What the archive must be.
    pub sha256: Digest,
}

/// Where an archive is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// At an address, `http://` or `https://`.
    Http(String),
    /// On a disk.
    File(PathBuf),
}

/// Bounds on fetching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchLimits {
    /// The folder of what was fetched.
    pub cache: PathBuf,
    /// The longest for one archive.
    pub timeout: Duration,
}

/// Bounds on what waits for one model version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Requests.
    pub requests: usize,
    /// Bytes of their inputs.
    pub bytes: usize,
}

/// Bounds on connections and requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// The largest body.
    pub body_bytes: usize,
    /// Bytes of all bodies that are being read or decoded.
    pub upload_bytes: usize,
    /// The most connections that are open.
    pub connections: usize,
    /// The longest until a new connection has sent its first request's head.
    pub header_timeout: Duration,
    /// The longest between a request's head and the end of its body.
    pub body_timeout: Duration,
    /// The longest that a connection may be idle between requests.
    pub idle_timeout: Duration,
    /// The deadline of a request that names none, and the most that one may ask for.
    pub request_timeout: Duration,
}

/// How the program goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainTimes {
    /// Not ready, but still serving, so that proxies notice.
    pub delay: Duration,
    /// The longest in all.
    pub grace: Duration,
}

// === impl Config ===

impl Config {
    /// Reads the text of `backend.toml`. `folder` is where the file lies.
    ///
    /// # Errors
    ///
    /// Every fault of the text.
    pub fn parse(origin: &str, text: &str, folder: &Path) -> Result<Self, Rejected> {
        load(origin, text, |raw: RawConfig, faults| {
            validate(&raw, faults, folder)
        })
    }
}

fn validate(raw: &RawConfig, faults: &mut Faults<'_>, folder: &Path) -> Option<Config> {
    let listen = address("listen", &raw.listen, faults);
    let grpc_listen = Some(&raw.grpc_listen).filter(|text| !text.is_empty());
    let grpc_listen = grpc_listen.map(|text| address("grpc_listen", text, faults));
    let models = models(raw, faults, folder);
    check_limits(raw, faults);
    Some(Config {
        listen: listen?,
        grpc_listen: match grpc_listen {
            Some(address) => Some(address?),
            None => None,
        },
        model_repository: folder.join(&raw.model_repository),
        models: models?,
        queue: QueueLimits {
            requests: raw.max_queue_requests,
            bytes: raw.max_queue_bytes,
        },
        http: HttpLimits {
            body_bytes: raw.max_body_bytes,
            upload_bytes: raw.max_upload_bytes,
            connections: raw.max_connections,
            header_timeout: Duration::from_millis(raw.header_timeout_ms),
            body_timeout: Duration::from_millis(raw.body_timeout_ms),
            idle_timeout: Duration::from_millis(raw.idle_timeout_ms),
            request_timeout: Duration::from_millis(raw.request_timeout_ms),
        },
        drain: DrainTimes {
            delay: Duration::from_millis(raw.drain_delay_ms),
            grace: Duration::from_millis(raw.grace_ms),
        },
        integrity: integrity(raw, faults, folder),
        metrics: raw.metrics,
        log_format: raw.log_format,
    })
}

fn address(key: &str, text: &str, faults: &mut Faults<'_>) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| {
        let message = format!("expected an address such as 127.0.0.1:8000, got `{text}`");
        faults.refuse(key, message)
    })
}

fn integrity(raw: &RawConfig, faults: &mut Faults<'_>, folder: &Path) -> Integrity {
    if raw.verify != Verify::Off && raw.trusted_keys.is_empty() {
        let message = "expected at least one file of a public key, or nothing could be verified";
        faults.at("trusted_keys", message);
    }
    if raw.max_model_bytes == 0 {
        faults.at("max_model_bytes", "expected a number >= 1, got 0");
    }
    Integrity {
        verify: raw.verify,
        trusted_keys: raw
            .trusted_keys
            .iter()
            .map(|key| folder.join(key))
            .collect(),
        max_model_bytes: raw.max_model_bytes,
        fetch: FetchLimits {
            cache: folder.join(&raw.model_cache),
            timeout: Duration::from_millis(raw.fetch_timeout_ms),
        },
        model_control: raw.model_control,
    }
}

fn models(raw: &RawConfig, faults: &mut Faults<'_>, folder: &Path) -> Option<Vec<ModelEntry>> {
    let path = KeyPath::from("models");
    if raw.models.is_empty() {
        if !faults.failed_near(&path) {
            faults.at(
                &path,
                "expected at least one model, such as [models.digits]",
            );
        }
        return None;
    }
    let mut models = Vec::with_capacity(raw.models.len());
    for (name, model) in &raw.models {
        let path = path.key(name);
        check_name(name, &path, faults);
        check_versions(&model.versions, &path.key("versions"), faults);
        models.push(ModelEntry {
            name: name.clone(),
            versions: model.versions.clone(),
            sources: sources(model, &path.key("sources"), faults, folder),
        });
    }
    Some(models)
}

fn sources(
    model: &RawModel,
    path: &KeyPath,
    faults: &mut Faults<'_>,
    folder: &Path,
) -> BTreeMap<String, Source> {
    let mut sources = BTreeMap::new();
    for (version, raw) in &model.sources {
        let path = path.key(version);
        if !model.versions.contains(version) {
            faults.at(&path, format!("`{version}` is none of `versions`"));
        }
        if raw.from.is_empty() {
            faults.at(path.key("from"), "expected an address or a path, got none");
        }
        let is_address = ["http://", "https://"]
            .iter()
            .any(|scheme| raw.from.starts_with(scheme));
        let from = if is_address {
            Location::Http(raw.from.clone())
        } else {
            Location::File(folder.join(&raw.from))
        };
        match raw.sha256.parse() {
            Ok(sha256) => {
                sources.insert(version.clone(), Source { from, sha256 });
            }
            Err(error) => faults.at(path.key("sha256"), format!("{error}")),
        }
    }
    sources
}

fn check_versions(versions: &[String], path: &KeyPath, faults: &mut Faults<'_>) {
    if versions.is_empty() && !faults.failed_near(path) {
        faults.at(path, "expected at least one version, such as [\"1\"]");
    }
    for (at, version) in versions.iter().enumerate() {
        check_name(version, &path.index(at), faults);
        if versions[..at].contains(version) {
            faults.at(
                path.index(at),
                format!("version `{version}` is listed twice"),
            );
        }
    }
}

/// Names are folders, labels and parts of paths: nothing in them may need escaping.
#[must_use]
pub fn is_name(name: &str) -> bool {
    const MAX: usize = 100;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    !name.is_empty() && name.len() <= MAX && !name.starts_with('.') && name.chars().all(is_plain)
}

/// What [`is_name`] takes.
pub const NAME: &str =
    "a name of 1 to 100 letters, digits, `_`, `-` and `.`, not starting with `.`";

fn check_name(name: &str, path: &KeyPath, faults: &mut Faults<'_>) {
    if !is_name(name) {
        faults.at(path, format!("expected {NAME}"));
    }
}

fn check_limits(raw: &RawConfig, faults: &mut Faults<'_>) {
    let at_least_one = [
        ("max_body_bytes", raw.max_body_bytes),
        ("max_queue_requests", raw.max_queue_requests),
        ("max_queue_bytes", raw.max_queue_bytes),
        ("max_connections", raw.max_connections),
    ];
    for (key, value) in at_least_one {
        if value == 0 {
            faults.at(key, "expected a number >= 1, got 0");
        }
    }
    let times = [
        ("header_timeout_ms", raw.header_timeout_ms),
        ("body_timeout_ms", raw.body_timeout_ms),
        ("idle_timeout_ms", raw.idle_timeout_ms),
        ("request_timeout_ms", raw.request_timeout_ms),
        ("grace_ms", raw.grace_ms),
        ("fetch_timeout_ms", raw.fetch_timeout_ms),
    ];
    for (key, value) in times {
        if !(1..=MAX_MS).contains(&value) {
            faults.at(
                key,
                format!("expected milliseconds from 1 to {MAX_MS}, got {value}"),
            );
        }
    }
    if raw.max_connections > MAX_CONNECTIONS {
        let got = raw.max_connections;
        let message = format!("expected at most {MAX_CONNECTIONS}, got {got}");
        faults.at("max_connections", message);
    }
    if raw.max_upload_bytes < raw.max_body_bytes {
        let (all, one) = (raw.max_upload_bytes, raw.max_body_bytes);
        let message = format!("expected at least max_body_bytes, which is {one}, got {all}");
        faults.at("max_upload_bytes", message);
    }
    if raw.drain_delay_ms >= raw.grace_ms {
        let (delay, grace) = (raw.drain_delay_ms, raw.grace_ms);
        let message = format!("expected less than grace_ms, which is {grace}, got {delay}");
        faults.at("drain_delay_ms", message);
    }
}

/// A day; what is meant to be for ever is a mistake.
const MAX_MS: u64 = 24 * 60 * 60 * 1000;

/// More than the file descriptors of a process.
const MAX_CONNECTIONS: usize = 1_000_000;
