//! `sign` and `verify`: OpenSSF Model Signing of a folder, with keys.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aegis_config::{ReadError, read_file};
use aegis_signing::{KeyError, PrivateKey, Request, SIGNATURE_FILE, SignError, VerifyError};

use super::{Exit, exit};
use crate::chain::Chain;
use crate::integrity::{GateError, trusted_keys};

/// Why a folder is not signed, or not verified.
#[derive(Debug, thiserror::Error)]
enum SigningError {
    #[error(transparent)]
    KeyFile(#[from] ReadError),
    #[error("{path}", path = path.display())]
    Key { path: PathBuf, source: KeyError },
    #[error(transparent)]
    Trusted(#[from] GateError),
    #[error("{folder} is not signed", folder = folder.display())]
    Sign { folder: PathBuf, source: SignError },
    #[error("cannot write {path}", path = path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{folder} is not verified", folder = folder.display())]
    Verify {
        folder: PathBuf,
        source: Box<VerifyError>,
    },
}

/// Signs a folder.
pub(super) fn sign(folder: &Path, key: &Path, out: Option<PathBuf>) -> Exit {
    let out = out.unwrap_or_else(|| folder.join(SIGNATURE_FILE));
    let signed = signed(folder, key, &out);
    // Only a hint: the folder may be meant for another server.
    if signed.is_ok() && folder.join("model.pt").exists() && !folder.join("model.toml").exists() {
        eprintln!(
            "note: {} holds no model.toml; with verify = \"required\" a version is served by one \
             that is signed with it",
            folder.display()
        );
    }
    ended(signed)
}

fn signed(folder: &Path, key: &Path, out: &Path) -> Result<String, SigningError> {
    let text = read_file(key)?;
    let private = PrivateKey::from_pem(&text).map_err(|source| SigningError::Key {
        path: key.to_owned(),
        source,
    })?;
    let bundle =
        aegis_signing::sign(folder, out, &private).map_err(|source| SigningError::Sign {
            folder: folder.to_owned(),
            source,
        })?;
    fs::write(out, bundle).map_err(|source| SigningError::Write {
        path: out.to_owned(),
        source,
    })?;
    Ok(format!("{}: signed\n", out.display()))
}

/// Verifies a folder.
pub(super) fn verify(folder: &Path, keys: &[PathBuf], signature: Option<&Path>) -> Exit {
    ended(verified(folder, keys, signature))
}

fn verified(
    folder: &Path,
    keys: &[PathBuf],
    signature: Option<&Path>,
) -> Result<String, SigningError> {
    let keys = trusted_keys(keys)?;
    let request = Request {
        folder,
        signature,
        keep: &[],
        max_bytes: u64::MAX,
    };
    let verified =
        aegis_signing::verify(request, &keys).map_err(|source| SigningError::Verify {
            folder: folder.to_owned(),
            source: Box::new(source),
        })?;
    Ok(format!(
        "{}: ok, {} files signed by {}, sha256:{}\n",
        folder.display(),
        verified.files,
        verified.signer,
        verified.digest
    ))
}

fn ended(outcome: Result<String, SigningError>) -> Exit {
    match outcome {
        Ok(text) => exit::print(&text),
        Err(error) => {
            eprintln!("{}", Chain(&error));
            Exit::Failed
        }
    }
}
