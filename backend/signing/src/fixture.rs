//! Keys and folders for tests. The keys come from a number, so that a failure repeats itself.

use std::fs;
use std::path::Path;

use p256::elliptic_curve::pkcs8::{EncodePrivateKey, LineEnding};
use tempfile::TempDir;

use crate::key::{PrivateKey, PublicKey};
use crate::verify::{Request, TrustedKey};

pub(crate) const CURVES: [&str; 3] = ["p256", "p384", "p521"];

/// A private key in PEM, of PKCS #8.
pub(crate) fn private_pem(curve: &str, seed: u8) -> String {
    let pem = match curve {
        "p256" => p256::SecretKey::from_slice(&[seed; 32])
            .unwrap()
            .to_pkcs8_pem(LineEnding::LF),
        "p384" => p384::SecretKey::from_slice(&[seed; 48])
            .unwrap()
            .to_pkcs8_pem(LineEnding::LF),
        _ => {
            let mut bytes = [seed; 66];
            // The curve's order begins with 0x01ff.
            bytes[0] = 0;
            p521::SecretKey::from_slice(&bytes)
                .unwrap()
                .to_pkcs8_pem(LineEnding::LF)
        }
    };
    pem.unwrap().to_string()
}

pub(crate) fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_pem(&private_pem("p256", seed)).unwrap()
}

pub(crate) fn public(seed: u8) -> PublicKey {
    key(seed).public().unwrap()
}

pub(crate) fn trusted(seeds: &[u8]) -> Vec<TrustedKey> {
    let trusted = |seed: &u8| TrustedKey {
        name: format!("key-{seed}"),
        key: public(*seed),
    };
    seeds.iter().map(trusted).collect()
}

/// A folder with a model, its description and labels in a folder below.
pub(crate) fn model() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "model.pt", b"weights");
    write(folder.path(), "model.toml", b"description");
    write(folder.path(), "labels/en.txt", b"zero\none\n");
    folder
}

pub(crate) fn write(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Signs a folder with the key of that number.
pub(crate) fn sign(folder: &Path, seed: u8) {
    let signature = folder.join(crate::SIGNATURE_FILE);
    let bundle = crate::sign(folder, &signature, &key(seed)).unwrap();
    fs::write(signature, bundle).unwrap();
}

/// What to verify, by default all of it.
pub(crate) fn request(folder: &Path) -> Request<'_> {
    Request {
        folder,
        signature: None,
        keep: &["model.pt"],
        max_bytes: 1 << 20,
    }
}
