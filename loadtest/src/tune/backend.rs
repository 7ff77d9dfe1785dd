//! A backend for one setting: a copy of its configuration, a repository of links, and a process that ends with us.
//!
//! Nothing of the user's is changed. The copy listens on a free port and has absolute paths; the repository links
//! what the version's folder holds, but for `model.toml`, which is edited. A signature cannot fit that, so that the
//! copy verifies nothing. Other models are loaded as they are: a guard may be one of them.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use toml_edit::{Array, DocumentMut, Item, Table, value};

use super::Setting;
use super::bench::{self, Ready};

/// The longest that a backend is waited for until its model is loaded and warm.
const PATIENCE: Duration = Duration::from_mins(5);

/// How often it is asked.
const EVERY: Duration = Duration::from_millis(20);

/// Lines of its log that are kept.
const LINES: usize = 20;

/// The configuration and the description that are edited.
#[derive(Clone, Debug)]
pub struct Edited {
    config: DocumentMut,
    description: DocumentMut,
    repository: PathBuf,
    model: String,
    version: String,
}

/// A backend that runs, and is killed when this is dropped.
#[derive(Debug)]
pub struct Backend {
    child: Child,
    url: String,
    _folder: TempDir,
}

/// Why there is no backend.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is no TOML.
    #[error("{}: {source}", path.display())]
    Toml {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: Box<toml_edit::TomlError>,
    },
    /// The configuration does not serve such a model.
    #[error("{}: expected [models.{model}]{more}", path.display())]
    NoModel {
        /// The file.
        path: PathBuf,
        /// The model.
        model: String,
        /// What else, and what there is.
        more: String,
    },
    /// There is nothing to link.
    #[error("{}: expected a folder: a version that comes from an archive is unpacked there first", .0.display())]
    NoFolder(PathBuf),
    /// The copies cannot be written.
    #[error("a folder for the backend's configuration: {0}")]
    Write(io::Error),
    /// The program does not start.
    #[error("--backend: {}: {source}", program.display())]
    Start {
        /// Which.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It ended before it served.
    #[error("the backend ended before it served ({status}): {log}")]
    Ended {
        /// How.
        status: String,
        /// The end of what it wrote.
        log: String,
    },
    /// The model is not loaded.
    #[error("the backend did not load the model `{model}` version {version}: {reason}")]
    NotLoaded {
        /// The model.
        model: String,
        /// Its version.
        version: String,
        /// What `/health` says.
        reason: String,
    },
    /// It is not ready in time.
    #[error("the backend was not ready within {} s", PATIENCE.as_secs())]
    Late,
}

// === impl Edited ===

impl Edited {
    /// Reads the configuration and the description of a version; of the first, where none is named.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or the model is not in it.
    pub fn read(config: &Path, model: &str, version: Option<&str>) -> Result<Self, BackendError> {
        let no_model = |more: String| BackendError::NoModel {
            path: config.to_owned(),
            model: model.to_owned(),
            more,
        };
        let mut document = parse(config)?;
        let folder = std::path::absolute(config).map_err(|source| BackendError::Read {
            path: config.to_owned(),
            source,
        })?;
        let folder = folder.parent().unwrap_or(Path::new("/"));
        let models = document.get("models").and_then(Item::as_table_like);
        let Some(table) = models.and_then(|models| models.get(model)?.as_table_like()) else {
            let names = models.into_iter().flat_map(|models| models.iter());
            let names: Vec<_> = names.map(|(name, _)| name.to_owned()).collect();
            return Err(no_model(format!(", got {}", listed(&names))));
        };
        let versions = table.get("versions").and_then(Item::as_array);
        let versions = versions.into_iter().flat_map(|versions| versions.iter());
        let versions: Vec<_> = versions
            .filter_map(|version| version.as_str().map(ToOwned::to_owned))
            .collect();
        let wanted = version.or(versions.first().map(String::as_str));
        let Some(version) =
            wanted.filter(|wanted| versions.iter().any(|version| version == wanted))
        else {
            let wanted = version.map_or("a version".to_owned(), |wanted| {
                format!("the version `{wanted}`")
            });
            return Err(no_model(format!(
                " with {wanted} in `versions`, got {}",
                listed(&versions)
            )));
        };
        let version = version.to_owned();
        let repository = document.get("model_repository").and_then(Item::as_str);
        let repository = folder.join(repository.unwrap_or("models"));
        let versions = repository.join(model).join(&version);
        if !versions.is_dir() {
            return Err(BackendError::NoFolder(versions));
        }
        let own = versions.join("model.toml");
        let description = if own.exists() {
            own
        } else {
            repository.join(model).join("model.toml")
        };
        let description = parse(&description)?;
        absolute(&mut document, folder);
        only(&mut document, model, &version);
        Ok(Self {
            config: document,
            description,
            repository,
            model: model.to_owned(),
            version,
        })
    }

    /// The version that is tuned.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether models were to be verified, which the copy does not do.
    #[must_use]
    pub fn was_verified(&self) -> bool {
        let verify = self.config.get("verify").and_then(Item::as_str);
        verify.is_some_and(|verify| verify != "off")
    }

    /// How many instances can run at once on so many processors.
    #[must_use]
    pub fn lanes(&self, processors: u32) -> u32 {
        let text = |key| self.description.get(key).and_then(Item::as_str);
        // What does not compute here is not bound by what computes here.
        if text("platform") == Some("scripted") || text("device").is_some_and(|at| at != "cpu") {
            return u32::MAX;
        }
        let threads = self.description.get("intra_op_threads");
        let threads = threads.and_then(Item::as_integer).unwrap_or(1);
        let threads = u32::try_from(threads).unwrap_or(1).max(1);
        (processors / threads).max(1)
    }

    /// Starts a backend with a setting, and waits until its model is loaded and warm.
    ///
    /// # Errors
    ///
    /// When it does not start, ends, refuses its configuration or does not load its model.
    ///
    /// # Cancel safety
    ///
    /// Dropping it kills the backend.
    pub async fn start(&self, program: &Path, setting: Setting) -> Result<Backend, BackendError> {
        let folder = tempfile::tempdir().map_err(BackendError::Write)?;
        let config = self
            .lay(folder.path(), setting)
            .map_err(BackendError::Write)?;
        let mut command = Command::new(program);
        command
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|source| BackendError::Start {
            program: program.to_owned(),
            source,
        })?;
        let log = Arc::new(Mutex::new(Vec::new()));
        let reader = child
            .stderr
            .take()
            .map(|stderr| tokio::spawn(keep(stderr, Arc::clone(&log))));
        let stdout = child.stdout.take();
        let line = match stdout {
            Some(stdout) => BufReader::new(stdout).lines().next_line().await,
            None => Ok(None),
        };
        let address = line.ok().flatten().and_then(|line| bound(&line));
        let Some(address) = address else {
            let _ = child.start_kill();
            let status = child.wait().await;
            if let Some(reader) = reader {
                let _ = reader.await;
            }
            return Err(BackendError::Ended {
                status: status.map_or("unknown".to_owned(), |status| status.to_string()),
                log: log.lock().join("\n"),
            });
        };
        let mut backend = Backend {
            child,
            url: format!("http://{address}"),
            _folder: folder,
        };
        let ready = tokio::time::timeout(PATIENCE, self.ready(&mut backend, &log)).await;
        ready.unwrap_or(Err(BackendError::Late))?;
        Ok(backend)
    }

    async fn ready(
        &self,
        backend: &mut Backend,
        log: &Mutex<Vec<String>>,
    ) -> Result<(), BackendError> {
        loop {
            if let Ok(Some(status)) = backend.child.try_wait() {
                return Err(BackendError::Ended {
                    status: status.to_string(),
                    log: log.lock().join("\n"),
                });
            }
            match bench::ready(&backend.url, &self.model, &self.version).await {
                Ready::Yes => return Ok(()),
                Ready::Never(reason) => {
                    return Err(BackendError::NotLoaded {
                        model: self.model.clone(),
                        version: self.version.clone(),
                        reason,
                    });
                }
                Ready::NotYet => tokio::time::sleep(EVERY).await,
            }
        }
    }

    /// Writes the copies and links; gives the configuration's path.
    fn lay(&self, folder: &Path, setting: Setting) -> io::Result<PathBuf> {
        let repository = folder.join("models");
        let version = repository.join(&self.model).join(&self.version);
        std::fs::create_dir_all(&version)?;
        let source = self.repository.join(&self.model).join(&self.version);
        for entry in std::fs::read_dir(source)? {
            let entry = entry?;
            let is_edited = ["model.toml", "model.sig"]
                .iter()
                .any(|name| entry.file_name() == *name);
            if !is_edited {
                std::os::unix::fs::symlink(entry.path(), version.join(entry.file_name()))?;
            }
        }
        let models = self.config.get("models").and_then(Item::as_table_like);
        for (other, _) in models.into_iter().flat_map(|models| models.iter()) {
            let theirs = self.repository.join(other);
            if other != self.model && theirs.exists() {
                std::os::unix::fs::symlink(theirs, repository.join(other))?;
            }
        }
        let mut description = self.description.clone();
        for (key, number) in [
            ("max_batch_size", setting.max_batch_size),
            ("instances", setting.instances),
        ] {
            set(&mut description, key, i64::from(number));
        }
        std::fs::write(version.join("model.toml"), description.to_string())?;
        let mut config = self.config.clone();
        set(
            &mut config,
            "model_repository",
            repository.to_string_lossy().into_owned(),
        );
        set(&mut config, "listen", "127.0.0.1:0");
        set(&mut config, "verify", "off");
        config.remove("grpc_listen");
        let path = folder.join("backend.toml");
        std::fs::write(&path, config.to_string())?;
        Ok(path)
    }
}

/// Sets a key and leaves its comments.
fn set(document: &mut DocumentMut, key: &str, to: impl Into<toml_edit::Value>) {
    document.as_table_mut().insert(key, value(to));
}

fn parse(path: &Path) -> Result<DocumentMut, BackendError> {
    let text = std::fs::read_to_string(path).map_err(|source| BackendError::Read {
        path: path.to_owned(),
        source,
    })?;
    text.parse().map_err(|source| BackendError::Toml {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

/// Names as they are read.
fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// Makes the paths that are relative to the configuration's folder absolute.
fn absolute(config: &mut DocumentMut, folder: &Path) {
    let at = |path: &str| folder.join(path).to_string_lossy().into_owned();
    if let Some(keys) = config.get("trusted_keys").and_then(Item::as_array) {
        let keys: Array = keys.iter().filter_map(|key| key.as_str()).map(at).collect();
        set(config, "trusted_keys", keys);
    }
    let cache = config.get("model_cache").and_then(Item::as_str);
    let cache = at(cache.unwrap_or("model-cache"));
    set(config, "model_cache", cache);
    let Some(models) = config.get_mut("models").and_then(Item::as_table_like_mut) else {
        return;
    };
    for (_, model) in models.iter_mut() {
        let sources = model.as_table_like_mut();
        let sources = sources.and_then(|model| model.get_mut("sources")?.as_table_like_mut());
        for (_, source) in sources.into_iter().flat_map(|sources| sources.iter_mut()) {
            let Some(source) = source.as_table_like_mut() else {
                continue;
            };
            let from = source.get("from").and_then(Item::as_str);
            if let Some(path) = from.filter(|from| !from.contains("://")).map(at) {
                source.insert("from", value(path));
            }
        }
    }
}

/// Serves one version of the model, which lies in its folder.
fn only(config: &mut DocumentMut, model: &str, version: &str) {
    let models = config.get_mut("models").and_then(Item::as_table_like_mut);
    if let Some(models) = models {
        let mut table = Table::new();
        let versions: Array = [version].into_iter().collect();
        table.insert("versions", value(versions));
        models.insert(model, Item::Table(table));
    }
}

/// The address in the line that a backend writes when it listens.
fn bound(line: &str) -> Option<String> {
    let told: serde_json::Value = serde_json::from_str(line).ok()?;
    told.get("http")?.as_str().map(ToOwned::to_owned)
}

/// Keeps the last lines of a log.
async fn keep(stderr: ChildStderr, log: Arc<Mutex<Vec<String>>>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut log = log.lock();
        if log.len() == LINES {
            log.remove(0);
        }
        log.push(line);
    }
}

// === impl Backend ===

impl Backend {
    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends it, and waits until its processors are free again.
    pub async fn end(mut self) {
        let _ = self.child.kill().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "\
        listen = \"0.0.0.0:8000\"\ngrpc_listen = \"0.0.0.0:8001\"\nmodel_repository = \"models\"\n\
        verify = \"required\"\ntrusted_keys = [\"key.pub\"]\n\
        [models.other]\nversions = [\"1\"]\n[models.m]\nversions = [\"1\", \"2\"]\n";

    fn folder() -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let version = folder.path().join("models/m/2");
        std::fs::create_dir_all(&version).unwrap();
        std::fs::create_dir_all(folder.path().join("models/other/1")).unwrap();
        std::fs::write(version.join("model.pt"), "weights").unwrap();
        std::fs::write(version.join("model.sig"), "signature").unwrap();
        let description = "# ours\nplatform = \"torchscript\"\nmax_batch_size = 3 # rows\nintra_op_threads = 2\n[[inputs]]\nname = \"x\"\n";
        std::fs::write(folder.path().join("models/m/model.toml"), description).unwrap();
        std::fs::write(folder.path().join("backend.toml"), CONFIG).unwrap();
        folder
    }

    #[test]
    fn the_copy_has_its_own_port_and_links_what_is_not_edited() {
        let (folder, copy) = (folder(), tempfile::tempdir().unwrap());
        let edited = Edited::read(&folder.path().join("backend.toml"), "m", Some("2")).unwrap();
        assert!(edited.was_verified());
        assert_eq!((edited.lanes(8), edited.lanes(1)), (4, 1));
        let setting = Setting {
            instances: 2,
            max_batch_size: 16,
        };
        let path = edited.lay(copy.path(), setting).unwrap();
        let config = parse(&path).unwrap();
        let text = |key: &str| config[key].as_str().unwrap().to_owned();
        assert_eq!(
            (text("listen"), text("verify")),
            ("127.0.0.1:0".to_owned(), "off".to_owned())
        );
        assert!(config.get("grpc_listen").is_none());
        assert_eq!(
            config["trusted_keys"][0].as_str(),
            folder.path().join("key.pub").to_str()
        );
        assert_eq!(
            config["models"]["m"]["versions"].to_string().trim(),
            "[\"2\"]"
        );
        let version = copy.path().join("models/m/2");
        assert_eq!(
            std::fs::read_to_string(version.join("model.pt")).unwrap(),
            "weights"
        );
        assert!(!version.join("model.sig").exists());
        assert!(copy.path().join("models/other/1").is_dir());
        let description = parse(&version.join("model.toml")).unwrap();
        assert_eq!(description["max_batch_size"].as_integer(), Some(16));
        assert_eq!(description["instances"].as_integer(), Some(2));
        assert_eq!(description["inputs"][0]["name"].as_str(), Some("x"));
        let before = std::fs::read_to_string(folder.path().join("models/m/model.toml")).unwrap();
        assert!(before.contains("max_batch_size = 3 # rows"), "{before}");
    }

    #[test]
    fn what_is_not_served_is_named_with_what_is() {
        let folder = folder();
        let config = folder.path().join("backend.toml");
        for (model, version, says) in [
            ("nobody", None, "expected [models.nobody], got other, m"),
            (
                "m",
                Some("9"),
                "[models.m] with the version `9` in `versions`, got 1, 2",
            ),
            ("m", Some("1"), "models/m/1: expected a folder"),
        ] {
            let error = Edited::read(&config, model, version)
                .unwrap_err()
                .to_string();
            assert!(error.contains(says), "{error}");
        }
        let error = Edited::read(&folder.path().join("none.toml"), "m", None).unwrap_err();
        assert!(error.to_string().contains("none.toml: "), "{error}");
        std::fs::write(&config, "listen = ").unwrap();
        let error = Edited::read(&config, "m", None).unwrap_err().to_string();
        assert!(
            error.contains("backend.toml: TOML parse error at line 1"),
            "{error}"
        );
    }
}
