//! Whether a model version may be loaded, and the very bytes that it is loaded from.
//!
//! What a version computes is decided by two files: its weights, and the description that names its
//! tensors, its device and its safety checks. Both must be covered, or whoever can write to the
//! repository turns the checks off and leaves the weights alone. So a version's folder may hold a
//! `model.toml` of its own, which comes before the one that describes all versions, and where
//! signatures are required only such a one counts: it is listed in the signature like any other
//! file of the folder.
//!
//! Verified bytes are kept in sealed memory ([`aegis_signing::Sealed`]) from the moment that they are
//! hashed until every instance was made from them; the files are not opened again.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aegis_config::{ReadError, read_file};
use aegis_signing::{
    ArchiveError, Contents, KeyError, Outcome, PublicKey, Request, SIGNATURE_FILE, Sealed,
    TrustedKey, Verified, VerifyError,
};
use prometheus::IntCounter;

use crate::chain::Chain;
use crate::config::{Config, Integrity, Source, Verify};
use crate::fetch::{FetchError, Fetcher, Pause};
use crate::repository::{self, ModelSpec, Platform, SpecError};
use crate::safety::{self, StatisticsError};

const MODEL: &str = "model.pt";
const DESCRIPTION: &str = "model.toml";
const STATISTICS: &str = safety::FILE;

/// Decides what may be loaded.
#[derive(Debug)]
pub struct Gate {
    settings: Integrity,
    repository: PathBuf,
    counted: Verifications,
    fetcher: Fetcher,
    /// By model and version.
    sources: BTreeMap<(String, String), Source>,
}

/// How often verifications ended how, in the order of [`Outcome::ALL`].
#[derive(Clone, Debug)]
pub struct Verifications(pub(crate) [IntCounter; Outcome::ALL.len()]);

/// What may be loaded.
#[derive(Debug)]
pub struct Admitted {
    /// What the model is.
    pub spec: Arc<ModelSpec>,
    /// Its weights.
    pub weights: Weights,
    /// What is known of them.
    pub provenance: Provenance,
}

/// Where a model's bytes are.
#[derive(Clone, Debug)]
pub enum Weights {
    /// In the repository, unverified.
    File(PathBuf),
    /// In memory, verified.
    Sealed(Arc<Sealed>),
    /// It has none.
    None,
}

/// What is known of a model's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The digest over all files of the version, where they were verified.
    pub digest: Option<String>,
    /// Who signed them.
    pub signer: Option<String>,
    /// Why they were loaded all the same, where they should have been verified.
    pub warning: Option<String>,
}

/// A model version must not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// A file of a trusted key cannot be read. The operator's fault.
    #[error("not verified: trusted key")]
    KeyFile(#[source] ReadError),
    /// A file of a trusted key holds none.
    #[error("not verified: trusted key {path}", path = path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: KeyError,
    },
    /// It is not what a trusted signer signed.
    #[error("not verified")]
    Verify(#[source] VerifyError),
    /// A file that decides what is computed is not among those that were signed.
    #[error("{file} is not among the verified files of {folder}", folder = folder.display())]
    Uncovered {
        /// The file.
        file: &'static str,
        /// Where it should be.
        folder: PathBuf,
    },
    /// It could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// What was fetched is no archive that can be used.
    #[error("the archive")]
    Archive(#[from] ArchiveError),
    /// The description is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The description cannot be read from memory.
    #[error("cannot read the verified description")]
    Description(#[source] io::Error),
    /// What its safety checks compare with is wrong, or not there.
    #[error(transparent)]
    Statistics(#[from] StatisticsError),
    /// What its safety checks compare with cannot be read.
    #[error("cannot read {path}", path = path.display())]
    StatisticsFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The weights are over the limit.
    #[error("{path} has {bytes} bytes, more than max_model_bytes, which is {limit}", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
}

// === impl Gate ===

impl Gate {
    /// A gate for the models of a repository, and for those that are fetched.
    #[must_use]
    pub fn new(config: &Config, counted: Verifications) -> Self {
        let settings = config.integrity.clone();
        let fetcher = Fetcher::new(settings.fetch.clone(), settings.max_model_bytes);
        let sources = config.models.iter().flat_map(|model| {
            let with_name = |(version, source): (&String, &Source)| {
                ((model.name.clone(), version.clone()), source.clone())
            };
            model.sources.iter().map(with_name)
        });
        Self {
            repository: config.model_repository.clone(),
            counted,
            fetcher,
            sources: sources.collect(),
            settings,
        }
    }

    /// Where a version comes from, if not from the repository.
    #[must_use]
    pub fn source(&self, name: &str, version: &str) -> Option<&Source> {
        self.sources.get(&(name.to_owned(), version.to_owned()))
    }

    /// The folder of the models.
    #[must_use]
    pub fn repository(&self) -> &Path {
        &self.repository
    }

    /// The description of a version, where it need not be verified first.
    #[must_use]
    pub fn spec_unverified(
        &self,
        name: &str,
        version: &str,
    ) -> Option<Result<Arc<ModelSpec>, SpecError>> {
        let read = || ModelSpec::read(&self.repository, name, version).map(Arc::new);
        let is_here = self.source(name, version).is_none();
        (is_here && self.settings.verify == Verify::Off).then(read)
    }

    /// Decides on a version, which is fetched first where it is not in the repository. `known` is its
    /// description, where that needs no verification.
    ///
    /// # Errors
    ///
    /// Why it must not be loaded.
    pub fn admit(
        &self,
        name: &str,
        version: &str,
        known: Option<&Arc<ModelSpec>>,
        pause: Pause<'_>,
    ) -> Result<Admitted, GateError> {
        if let Some(spec) = known {
            return self.unverified(name, version, Arc::clone(spec), None);
        }
        if let Some(source) = self.source(name, version) {
            return self.fetched(name, version, source, pause);
        }
        let folder = self.repository.join(name).join(version);
        let verified = self.verify_folder(&folder);
        match self.judge(name, version, verified)? {
            Ok(admitted) => Ok(admitted),
            Err(warning) => {
                let spec = Arc::new(ModelSpec::read(&self.repository, name, version)?);
                self.unverified(name, version, spec, Some(warning))
            }
        }
    }

    /// Counts a verification. One that failed is the inner error where it only warns.
    fn judge(
        &self,
        name: &str,
        version: &str,
        verified: Result<Admitted, GateError>,
    ) -> Result<Result<Admitted, String>, GateError> {
        self.counted.count(match &verified {
            Ok(_) => Outcome::Verified,
            Err(error) => error.outcome(),
        });
        match verified {
            Ok(admitted) => Ok(Ok(admitted)),
            // What was verified, and is wrong, is wrong however it is loaded.
            Err(error)
                if self.settings.verify == Verify::Warn && error.outcome() != Outcome::Verified =>
            {
                let warning = Chain(&error).to_string();
                tracing::warn!(model = name, version, "loaded all the same: {warning}");
                Ok(Err(warning))
            }
            Err(error) => Err(error),
        }
    }

    fn fetched(
        &self,
        name: &str,
        version: &str,
        source: &Source,
        pause: Pause<'_>,
    ) -> Result<Admitted, GateError> {
        let archive = self.fetcher.obtain(source, pause)?;
        let read = || {
            let keep = [MODEL, DESCRIPTION, STATISTICS, SIGNATURE_FILE];
            Contents::read(&archive.path(), &keep, self.settings.max_model_bytes)
        };
        let origin = PathBuf::from(format!("{name}/{version}"));
        let mut warning = None;
        if self.settings.verify != Verify::Off {
            let verified = trusted_keys(&self.settings.trusted_keys).and_then(|keys| {
                let verified = aegis_signing::verify_archive(read()?, &keys);
                admit_verified(verified.map_err(GateError::Verify)?, &origin)
            });
            match self.judge(name, version, verified)? {
                Ok(admitted) => return Ok(admitted),
                Err(failed) => warning = Some(failed),
            }
        }
        let mut kept = read()?.kept;
        let spec = match kept.remove(DESCRIPTION) {
            Some(text) => parse(&text, &origin)?,
            None => ModelSpec::read(&self.repository, name, version)?,
        };
        let weights = weights(&spec, kept.remove(MODEL), &origin)?;
        Ok(Admitted {
            spec: with_statistics(spec, kept.remove(STATISTICS), &origin)?,
            weights,
            provenance: Provenance {
                digest: Some(format!("sha256:{}", source.sha256)),
                signer: None,
                warning,
            },
        })
    }

    fn unverified(
        &self,
        name: &str,
        version: &str,
        spec: Arc<ModelSpec>,
        warning: Option<String>,
    ) -> Result<Admitted, GateError> {
        let weights = match &spec.platform {
            Platform::TorchScript(_) => {
                let path = repository::torchscript_file(&self.repository, name, version);
                Weights::File(self.within_limit(path)?)
            }
            Platform::Scripted(_) => Weights::None,
        };
        let spec = if spec.safety.needs_statistics() {
            let path = self.repository.join(name).join(version).join(STATISTICS);
            armed(&spec, &read_statistics(path)?)?
        } else {
            spec
        };
        Ok(Admitted {
            spec,
            weights,
            provenance: Provenance {
                warning,
                ..Provenance::default()
            },
        })
    }

    /// A file that is not there is the executor's to complain about.
    fn within_limit(&self, path: PathBuf) -> Result<PathBuf, GateError> {
        let limit = self.settings.max_model_bytes;
        match std::fs::metadata(&path).map(|file| file.len()) {
            Ok(bytes) if bytes > limit => Err(GateError::TooLarge { path, bytes, limit }),
            _ => Ok(path),
        }
    }

    fn verify_folder(&self, folder: &Path) -> Result<Admitted, GateError> {
        let request = Request {
            folder,
            signature: None,
            keep: &[MODEL, DESCRIPTION, STATISTICS],
            max_bytes: self.settings.max_model_bytes,
        };
        let keys = trusted_keys(&self.settings.trusted_keys)?;
        let verified = aegis_signing::verify(request, &keys).map_err(GateError::Verify)?;
        admit_verified(verified, folder)
    }
}

/// What was verified, if all is among it that decides what is computed.
fn admit_verified(mut verified: Verified, folder: &Path) -> Result<Admitted, GateError> {
    let description = verified.kept.remove(DESCRIPTION);
    let description = description.ok_or_else(|| GateError::Uncovered {
        file: DESCRIPTION,
        folder: folder.to_owned(),
    })?;
    let spec = parse(&description, folder)?;
    let weights = weights(&spec, verified.kept.remove(MODEL), folder)?;
    Ok(Admitted {
        spec: with_statistics(spec, verified.kept.remove(STATISTICS), folder)?,
        weights,
        provenance: Provenance {
            digest: Some(format!("sha256:{}", verified.digest)),
            signer: Some(verified.signer),
            warning: None,
        },
    })
}

fn parse(description: &Sealed, folder: &Path) -> Result<ModelSpec, GateError> {
    let text = description.read().map_err(GateError::Description)?;
    let origin = folder.join(DESCRIPTION).display().to_string();
    // What is no text has a fault at its place, as in a file.
    let text = String::from_utf8_lossy(&text);
    Ok(ModelSpec::parse(&origin, &text).map_err(SpecError::from)?)
}

fn weights(spec: &ModelSpec, kept: Option<Sealed>, folder: &Path) -> Result<Weights, GateError> {
    match (&spec.platform, kept) {
        (Platform::Scripted(_), _) => Ok(Weights::None),
        (Platform::TorchScript(_), Some(sealed)) => Ok(Weights::Sealed(Arc::new(sealed))),
        (Platform::TorchScript(_), None) => Err(GateError::Uncovered {
            file: MODEL,
            folder: folder.to_owned(),
        }),
    }
}

/// The description with its safety checks filled in from a file that was kept, where they need it.
fn with_statistics(
    spec: ModelSpec,
    kept: Option<Sealed>,
    folder: &Path,
) -> Result<Arc<ModelSpec>, GateError> {
    if !spec.safety.needs_statistics() {
        return Ok(Arc::new(spec));
    }
    let kept = kept.ok_or(StatisticsError::NoFile)?;
    let text = kept.read().map_err(|source| GateError::StatisticsFile {
        path: folder.join(STATISTICS),
        source,
    })?;
    armed(&spec, &text)
}

/// The description with its safety checks filled in.
fn armed(spec: &ModelSpec, statistics: &[u8]) -> Result<Arc<ModelSpec>, GateError> {
    let statistics = safety::Statistics::from_json(statistics)?;
    let safety = spec.safety.armed(&spec.signature, &statistics)?;
    Ok(Arc::new(ModelSpec {
        safety,
        ..spec.clone()
    }))
}

fn read_statistics(path: PathBuf) -> Result<Vec<u8>, GateError> {
    match safety::read_file(&path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(StatisticsError::NoFile.into())
        }
        Err(source) => Err(GateError::StatisticsFile { path, source }),
    }
}

/// Reads trusted keys. At every verification, so that a key that is replaced counts from the next
/// load on.
///
/// # Errors
///
/// The first that cannot be read: with one left out, a rotation would fail long after it was made.
pub fn trusted_keys(files: &[PathBuf]) -> Result<Vec<TrustedKey>, GateError> {
    files.iter().map(|file| trusted_key(file)).collect()
}

fn trusted_key(file: &Path) -> Result<TrustedKey, GateError> {
    let text = read_file(file).map_err(GateError::KeyFile)?;
    let key = PublicKey::from_pem(&text).map_err(|source| GateError::Key {
        path: file.to_owned(),
        source,
    })?;
    let stem = file
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    Ok(TrustedKey {
        name: stem.unwrap_or_else(|| key.fingerprint().to_string()),
        key,
    })
}

// === impl Verifications ===

impl Verifications {
    fn count(&self, outcome: Outcome) {
        if let Some(at) = Outcome::ALL.iter().position(|known| *known == outcome) {
            self.0[at].inc();
        }
    }
}

// === impl GateError ===

impl GateError {
    /// What a counter says of it. A description that is wrong is still the one that was signed.
    fn outcome(&self) -> Outcome {
        match self {
            Self::KeyFile(_) | Self::Key { .. } => Outcome::NoKey,
            Self::Verify(error) => error.outcome(),
            Self::Uncovered { .. } => Outcome::Uncovered,
            Self::Spec(_) | Self::Statistics(_) => Outcome::Verified,
            Self::Archive(ArchiveError::NotPlain { .. }) => Outcome::Link,
            Self::Archive(ArchiveError::Read(_) | ArchiveError::TooMany)
            | Self::TooLarge { .. } => Outcome::TooLarge,
            Self::Archive(_)
            | Self::Description(_)
            | Self::StatisticsFile { .. }
            | Self::Fetch(_) => Outcome::Unreadable,
        }
    }
}
