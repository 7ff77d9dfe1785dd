//! Signs a folder.

use std::path::{Path, absolute};

use crate::bundle::{Bundle, BundleError, signed_bytes};
use crate::folder::{self, FolderError};
use crate::key::{KeyError, PrivateKey};
use crate::manifest::{Manifest, ManifestError};
use crate::sealed::{self, Budget, ReadError};

/// What belongs to git is no part of a model; `model-signing` leaves out the same.
const GIT: [&str; 4] = [".git", ".gitattributes", ".github", ".gitignore"];

/// A folder cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// It cannot be listed, or holds a link.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The folder is empty.
    #[error("{folder} holds nothing to sign")]
    Empty {
        /// The folder.
        folder: String,
    },
    /// The key cannot be written down.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The statement cannot be written.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The bundle cannot be written.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// Signs every file of a folder; returns the text of the bundle, which belongs into `signature`.
/// That file is left out, and what belongs to git.
///
/// # Errors
///
/// See [`SignError`].
pub fn sign(folder: &Path, signature: &Path, key: &PrivateKey) -> Result<String, SignError> {
    let mut ignored: Vec<String> = GIT.map(str::to_owned).into();
    ignored.extend(below(folder, signature));
    let mut budget = Budget::new(u64::MAX);
    let hashed = folder::list(folder, &ignored)?.into_iter().map(|file| {
        let digest = sealed::hash(&file.path, &mut budget)?;
        Ok((file.name, digest))
    });
    let manifest = Manifest {
        name: name_of(folder),
        files: hashed.collect::<Result<_, ReadError>>()?,
        ignored,
    };
    if manifest.files.is_empty() {
        return Err(SignError::Empty {
            folder: folder.display().to_string(),
        });
    }
    let statement = manifest.to_statement()?;
    let signature = key.sign(&signed_bytes(&statement));
    Ok(Bundle::write(
        &statement,
        &signature,
        key.public()?.fingerprint(),
    )?)
}

/// The path below the folder, where it is below it, however both are written.
pub(crate) fn below(folder: &Path, path: &Path) -> Option<String> {
    let (folder, path) = (absolute(folder).ok()?, absolute(path).ok()?);
    Some(path.strip_prefix(folder).ok()?.to_str()?.to_owned())
}

fn name_of(folder: &Path) -> String {
    // `.` and `..` have no name of their own.
    let resolved = folder.canonicalize().ok();
    let name = resolved.as_deref().unwrap_or(folder).file_name();
    name.map_or_else(
        || "model".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{SignError, below, sign};
    use crate::fixture::{key, model, write};

    #[test]
    fn the_same_key_and_folder_always_give_the_same_signature() {
        let folder = model();
        let signature = folder.path().join("model.sig");
        let first = sign(folder.path(), &signature, &key(7)).unwrap();
        write(folder.path(), "model.sig", first.as_bytes());
        assert_eq!(sign(folder.path(), &signature, &key(7)).unwrap(), first);
        assert_ne!(sign(folder.path(), &signature, &key(8)).unwrap(), first);
    }

    #[test]
    fn an_empty_folder_is_not_signed() {
        let folder = tempfile::tempdir().unwrap();
        let signature = folder.path().join("model.sig");
        let error = sign(folder.path(), &signature, &key(7)).unwrap_err();
        assert!(matches!(error, SignError::Empty { .. }), "{error}");
    }

    #[test]
    fn a_signature_is_found_below_its_folder_however_both_are_written() {
        let here = std::env::current_dir().unwrap();
        for (folder, path) in [
            (".", "model.sig"),
            ("a", "./a/model.sig"),
            ("a/", "a/model.sig"),
        ] {
            let below = |path| below(Path::new(folder), path);
            assert_eq!(
                below(Path::new(path)).as_deref(),
                Some("model.sig"),
                "{folder}"
            );
            assert_eq!(
                below(&here.join(path)).as_deref(),
                Some("model.sig"),
                "{folder}"
            );
        }
        assert_eq!(below(Path::new("a"), Path::new("b/model.sig")), None);
    }
}
