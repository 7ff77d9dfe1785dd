//! Verifies a folder, and hands out the very bytes that were verified.
//!
//! First the signature, then everything else: nothing that the bundle says is believed, and no file
//! of the model is read, before a trusted key has vouched for it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use crate::archive::Contents;
use crate::bundle::{Bundle, BundleError, MAX_BUNDLE_BYTES, signed_bytes};
use crate::digest::Digest;
use crate::folder::{self, FolderError};
use crate::key::PublicKey;
use crate::manifest::{Manifest, ManifestError, Name};
use crate::outcome::Outcome;
use crate::sealed::{self, Budget, ReadError, Sealed};
use crate::sign::below;

/// A key whose signatures are believed.
#[derive(Clone, Debug)]
pub struct TrustedKey {
    /// What its owner is called, where an answer says who signed.
    pub name: String,
    /// The key.
    pub key: PublicKey,
}

/// What is to be verified.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// The folder.
    pub folder: &'r Path,
    /// Its signature; `model.sig` in the folder, when not given.
    pub signature: Option<&'r Path>,
    /// Files whose bytes are wanted, by their paths below the folder.
    pub keep: &'r [&'r str],
    /// The most bytes of all files.
    pub max_bytes: u64,
}

/// A folder that is as it was signed.
#[derive(Debug)]
pub struct Verified {
    /// The digest over all its files.
    pub digest: Digest,
    /// Who signed it.
    pub signer: String,
    /// How many files it has.
    pub files: usize,
    /// Those that were wanted and are there.
    pub kept: BTreeMap<String, Sealed>,
}

/// A folder is not as a trusted signer signed it.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no signature.
    #[error("not signed: there is no {path}")]
    Unsigned {
        /// Where it should be.
        path: String,
    },
    /// The signature cannot be read.
    #[error("its signature")]
    Signature(#[source] ReadError),
    /// The signature is no bundle.
    #[error("its signature")]
    Bundle(#[source] BundleError),
    /// No trusted key made it.
    #[error("signed by a key that is not trusted: {hint}; trusted are {trusted}")]
    Untrusted {
        /// The fingerprint of the key that signed, as the bundle has it.
        hint: String,
        /// The keys that would have done.
        trusted: String,
    },
    /// The key is trusted, and did not sign this.
    #[error("its signature is not that of key {name}: it, or what it signs, was changed")]
    Forged {
        /// The key that the bundle names.
        name: String,
    },
    /// What is signed is no manifest.
    #[error("its manifest")]
    Manifest(#[source] ManifestError),
    /// The folder cannot be listed.
    #[error(transparent)]
    Folder(FolderError),
    /// A file cannot be read.
    #[error(transparent)]
    Read(ReadError),
    /// A file is not as it was signed.
    #[error("{name} is not as it was signed: expected {expected}, got {got}")]
    Changed {
        /// The file.
        name: String,
        /// As it was signed.
        expected: Digest,
        /// As it is.
        got: Digest,
    },
    /// A file is gone.
    #[error("{name} was signed and is not there")]
    Missing {
        /// The file.
        name: String,
    },
    /// A file came.
    #[error("{name} was not signed")]
    Unlisted {
        /// The file.
        name: String,
    },
}

/// Verifies a folder with the keys that are trusted.
///
/// # Errors
///
/// The first thing that is wrong.
pub fn verify(request: Request<'_>, trusted: &[TrustedKey]) -> Result<Verified, VerifyError> {
    let folder = request.folder;
    let default = folder.join(crate::SIGNATURE_FILE);
    let signature = request.signature.unwrap_or(&default);
    let (signer, manifest) = check_bundle(&read_bundle(signature)?, trusted)?;
    let mut ignored = manifest.ignored.clone();
    ignored.extend(below(folder, signature));
    let found = folder::list(folder, &ignored).map_err(VerifyError::Folder)?;
    // Both lists, before any file is read: to name what is missing costs nothing, and to hash the
    // rest may cost much.
    compare_names(found.iter().map(|file| &file.name), &manifest)?;
    let (mut budget, mut kept) = (Budget::new(request.max_bytes), BTreeMap::new());
    for file in &found {
        let name = file.name.as_str();
        let got = if request.keep.contains(&name) {
            let (digest, sealed) =
                sealed::keep(&file.path, &mut budget).map_err(VerifyError::Read)?;
            kept.insert(name.to_owned(), sealed);
            digest
        } else {
            sealed::hash(&file.path, &mut budget).map_err(VerifyError::Read)?
        };
        compare_digest(&file.name, got, &manifest)?;
    }
    Ok(Verified {
        digest: manifest.digest(),
        signer,
        files: found.len(),
        kept,
    })
}

/// Verifies what was read from an archive, whose signature is among it.
///
/// # Errors
///
/// The first thing that is wrong.
pub fn verify_archive(
    mut contents: Contents,
    trusted: &[TrustedKey],
) -> Result<Verified, VerifyError> {
    let path = crate::SIGNATURE_FILE;
    let signature = contents.kept.remove(path);
    let signature = signature.ok_or_else(|| VerifyError::Unsigned { path: path.into() })?;
    let text = signature.read().map_err(|source| {
        let path = path.into();
        VerifyError::Signature(ReadError::Unreadable { path, source })
    })?;
    let bundle = Bundle::parse(&text).map_err(VerifyError::Bundle)?;
    let (signer, manifest) = check_bundle(&bundle, trusted)?;
    let is_ignored = |name: &str| {
        let mut ignored = manifest.ignored.iter();
        name == path
            || ignored.any(|ignored| {
                let rest = name.strip_prefix(ignored.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
    };
    contents.files.retain(|name, _| !is_ignored(name.as_str()));
    contents.kept.retain(|name, _| !is_ignored(name));
    compare_names(contents.files.keys(), &manifest)?;
    for (name, got) in &contents.files {
        compare_digest(name, *got, &manifest)?;
    }
    Ok(Verified {
        digest: manifest.digest(),
        signer,
        files: contents.files.len(),
        kept: contents.kept,
    })
}

fn check_bundle(
    bundle: &Bundle,
    trusted: &[TrustedKey],
) -> Result<(String, Manifest), VerifyError> {
    let signer = check_signature(bundle, trusted)?;
    let manifest = Manifest::parse(&bundle.payload).map_err(VerifyError::Manifest)?;
    Ok((signer, manifest))
}

fn compare_names<'n>(
    found: impl Iterator<Item = &'n Name>,
    manifest: &Manifest,
) -> Result<(), VerifyError> {
    let mut missing: BTreeSet<&Name> = manifest.files.keys().collect();
    for name in found {
        if !missing.remove(name) {
            let name = name.as_str().to_owned();
            return Err(VerifyError::Unlisted { name });
        }
    }
    match missing.first() {
        None => Ok(()),
        Some(name) => Err(VerifyError::Missing {
            name: name.as_str().to_owned(),
        }),
    }
}

fn compare_digest(name: &Name, got: Digest, manifest: &Manifest) -> Result<(), VerifyError> {
    match manifest.files.get(name) {
        Some(expected) if *expected == got => Ok(()),
        Some(expected) => Err(VerifyError::Changed {
            name: name.as_str().to_owned(),
            expected: *expected,
            got,
        }),
        None => Err(VerifyError::Unlisted {
            name: name.as_str().to_owned(),
        }),
    }
}

fn read_bundle(path: &Path) -> Result<Bundle, VerifyError> {
    let text = sealed::read(path, MAX_BUNDLE_BYTES).map_err(|error| match error {
        ReadError::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            VerifyError::Unsigned {
                path: path.display().to_string(),
            }
        }
        error => VerifyError::Signature(error),
    })?;
    Bundle::parse(&text).map_err(VerifyError::Bundle)
}

/// The name of the trusted key that signed the bundle. Without a hint, as older bundles are, every
/// key is tried.
fn check_signature(bundle: &Bundle, trusted: &[TrustedKey]) -> Result<String, VerifyError> {
    let message = signed_bytes(&bundle.payload);
    let verifies = |one: &&TrustedKey| one.key.verifies(&message, &bundle.signature);
    let hinted = bundle.hint.as_deref().map(|hint| {
        let is_meant = |one: &&TrustedKey| one.key.fingerprint().to_string() == hint;
        (hint, trusted.iter().find(is_meant))
    });
    let signer = match hinted {
        Some((_, Some(one))) if !verifies(&one) => {
            return Err(VerifyError::Forged {
                name: one.name.clone(),
            });
        }
        Some((_, named)) => named,
        None => trusted.iter().find(verifies),
    };
    signer
        .map(|one| one.name.clone())
        .ok_or_else(|| VerifyError::Untrusted {
            hint: hinted.map_or_else(
                || "it is not named".to_owned(),
                |(hint, _)| hint.chars().take(64).collect(),
            ),
            trusted: names(trusted),
        })
}

fn names(trusted: &[TrustedKey]) -> String {
    let names = trusted
        .iter()
        .map(|one| format!("{} ({})", one.name, one.key.fingerprint()));
    let names: Vec<_> = names.collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

// === impl VerifyError ===

impl VerifyError {
    /// What a counter says of it.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Unsigned { .. } => Outcome::Unsigned,
            Self::Bundle(_) | Self::Manifest(_) => Outcome::BadSignature,
            Self::Untrusted { .. } | Self::Forged { .. } => Outcome::Untrusted,
            Self::Changed { .. } => Outcome::Changed,
            Self::Missing { .. } => Outcome::Missing,
            Self::Unlisted { .. } | Self::Folder(FolderError::Name { .. }) => Outcome::Unlisted,
            Self::Folder(FolderError::NotPlain { .. }) => Outcome::Link,
            Self::Signature(ReadError::TooLarge { .. })
            | Self::Read(ReadError::TooLarge { .. })
            | Self::Folder(FolderError::TooLarge { .. }) => Outcome::TooLarge,
            Self::Signature(_) | Self::Read(_) | Self::Folder(FolderError::Unreadable { .. }) => {
                Outcome::Unreadable
            }
        }
    }
}

#[cfg(test)]
mod tests;
