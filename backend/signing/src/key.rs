//! ECDSA keys on P-256, P-384 and P-521: read from PEM, signing and checking.
//!
//! The curve decides the hash: SHA-256, SHA-384 or SHA-512, as Sigstore pairs them. Signatures are
//! ASN.1 DER. They are made without chance (RFC 6979): the same key and folder always give the same
//! file.

use std::fmt;

use p256::ecdsa::signature::{Signer, Verifier};
use p256::elliptic_curve::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePublicKey, LineEnding};

use crate::digest::Digest;

/// What is longer is no key.
pub const MAX_KEY_BYTES: usize = 16 << 10;

/// Checks signatures.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    curve: PublicCurve,
    fingerprint: Digest,
}

#[derive(Clone, PartialEq, Eq)]
enum PublicCurve {
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
    P521(p521::ecdsa::VerifyingKey),
}

/// Makes signatures. It shows itself in no log.
pub struct PrivateKey(PrivateCurve);

enum PrivateCurve {
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    P521(p521::ecdsa::SigningKey),
}

/// A text is no key that is understood. Its owner's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It holds no key, or one of another kind.
    #[error("expected a public key in PEM, of ECDSA on P-256, P-384 or P-521")]
    Public,
    /// It holds no key, or one of another kind.
    #[error("expected a private key in PEM (PKCS #8 or SEC 1), of ECDSA on P-256, P-384 or P-521")]
    Private,
    /// A private key was given for a public one.
    #[error("expected a public key, got a private one; keep it where nobody reads it")]
    PrivateForPublic,
    /// The key needs a password.
    #[error("the private key is encrypted; decrypt it first, as with `openssl pkey`")]
    Encrypted,
}

// === impl PublicKey ===

impl PublicKey {
    /// Reads the PEM of a public key, `-----BEGIN PUBLIC KEY-----`.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        if text.contains("PRIVATE KEY-----") {
            return Err(KeyError::PrivateForPublic);
        }
        let pem = block(text, "PUBLIC KEY").ok_or(KeyError::Public)?;
        let p256 =
            p256::PublicKey::from_public_key_pem(pem).map(|key| PublicCurve::P256(key.into()));
        let p384 =
            |_| p384::PublicKey::from_public_key_pem(pem).map(|key| PublicCurve::P384(key.into()));
        let p521 =
            |_| p521::PublicKey::from_public_key_pem(pem).map(|key| PublicCurve::P521(key.into()));
        let curve = p256.or_else(p384).or_else(p521);
        Self::new(curve.map_err(|_| KeyError::Public)?)
    }

    fn new(curve: PublicCurve) -> Result<Self, KeyError> {
        let pem = match &curve {
            PublicCurve::P256(key) => key.to_public_key_pem(LineEnding::LF),
            PublicCurve::P384(key) => key.to_public_key_pem(LineEnding::LF),
            PublicCurve::P521(key) => key.to_public_key_pem(LineEnding::LF),
        };
        let pem = pem.map_err(|_| KeyError::Public)?;
        let fingerprint = Digest::of(pem.as_bytes());
        Ok(Self { curve, fingerprint })
    }

    /// The SHA-256 of the key's PEM: how a bundle says which key made its signature.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    /// Whether this key signed the message.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.curve {
            PublicCurve::P256(key) => p256::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            PublicCurve::P384(key) => p384::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            PublicCurve::P521(key) => p521::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
        }
    }

    /// The PEM of the key.
    ///
    /// # Errors
    ///
    /// Never for a key that was read; the encoder's signature allows it.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        let pem = match &self.curve {
            PublicCurve::P256(key) => key.to_public_key_pem(LineEnding::LF),
            PublicCurve::P384(key) => key.to_public_key_pem(LineEnding::LF),
            PublicCurve::P521(key) => key.to_public_key_pem(LineEnding::LF),
        };
        pem.map_err(|_| KeyError::Public)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint)
    }
}

// === impl PrivateKey ===

impl PrivateKey {
    /// Reads the PEM of a private key, of PKCS #8 or, as `openssl ecparam` writes it, SEC 1.
    ///
    /// # Errors
    ///
    /// When it is something else, or encrypted.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        if text.contains("BEGIN ENCRYPTED PRIVATE KEY-----")
            || text.contains("Proc-Type: 4,ENCRYPTED")
        {
            return Err(KeyError::Encrypted);
        }
        if let Some(pem) = block(text, "PRIVATE KEY") {
            let p256 = p256::SecretKey::from_pkcs8_pem(pem).map(PrivateCurve::from);
            let p384 = |_| p384::SecretKey::from_pkcs8_pem(pem).map(PrivateCurve::from);
            let p521 = |_| p521::SecretKey::from_pkcs8_pem(pem).map(PrivateCurve::from);
            let curve = p256.or_else(p384).or_else(p521);
            return curve.map(Self).map_err(|_| KeyError::Private);
        }
        let pem = block(text, "EC PRIVATE KEY").ok_or(KeyError::Private)?;
        let p256 = p256::SecretKey::from_sec1_pem(pem).map(PrivateCurve::from);
        let p384 = |_| p384::SecretKey::from_sec1_pem(pem).map(PrivateCurve::from);
        let p521 = |_| p521::SecretKey::from_sec1_pem(pem).map(PrivateCurve::from);
        let curve = p256.or_else(p384).or_else(p521);
        curve.map(Self).map_err(|_| KeyError::Private)
    }

    /// Its public half.
    ///
    /// # Errors
    ///
    /// Never for a key that was read; the encoder's signature allows it.
    pub fn public(&self) -> Result<PublicKey, KeyError> {
        PublicKey::new(match &self.0 {
            PrivateCurve::P256(key) => PublicCurve::P256(*key.verifying_key()),
            PrivateCurve::P384(key) => PublicCurve::P384(*key.verifying_key()),
            PrivateCurve::P521(key) => PublicCurve::P521(*key.verifying_key()),
        })
    }

    /// Signs a message, in DER.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.0 {
            PrivateCurve::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
            PrivateCurve::P384(key) => {
                let signature: p384::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
            PrivateCurve::P521(key) => {
                let signature: p521::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
        }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

impl From<p256::SecretKey> for PrivateCurve {
    fn from(key: p256::SecretKey) -> Self {
        Self::P256(key.into())
    }
}

impl From<p384::SecretKey> for PrivateCurve {
    fn from(key: p384::SecretKey) -> Self {
        Self::P384(key.into())
    }
}

impl From<p521::SecretKey> for PrivateCurve {
    fn from(key: p521::SecretKey) -> Self {
        Self::P521(key.into())
    }
}

/// The block of that label, without what stands before and behind it: openssl writes the curve's
/// parameters, or a description, in front of a key.
fn block<'t>(text: &'t str, label: &str) -> Option<&'t str> {
    let (begin, end) = (
        format!("-----BEGIN {label}-----"),
        format!("-----END {label}-----"),
    );
    let text = &text[text.find(&begin)?..];
    Some(&text[..text.find(&end)? + end.len()])
}

#[cfg(test)]
mod tests {
    use super::{KeyError, PrivateKey, PublicKey};
    use crate::fixture::{CURVES, private_pem};

    #[test]
    fn each_curve_verifies_what_its_key_signed_and_nothing_else() {
        for curve in CURVES {
            let key = PrivateKey::from_pem(&private_pem(curve, 7)).unwrap();
            let other = PrivateKey::from_pem(&private_pem(curve, 8)).unwrap();
            let (public, other) = (key.public().unwrap(), other.public().unwrap());
            let mut signature = key.sign(b"a message");
            assert!(public.verifies(b"a message", &signature), "{curve}");
            assert!(!public.verifies(b"a massage", &signature), "{curve}");
            assert!(!other.verifies(b"a message", &signature), "{curve}");
            *signature.last_mut().unwrap() ^= 1;
            assert!(!public.verifies(b"a message", &signature), "{curve}");
            assert!(!public.verifies(b"a message", b""), "{curve}");
        }
    }

    #[test]
    fn a_public_key_is_read_back_from_its_pem_whatever_stands_around_it() {
        for curve in CURVES {
            let key = PrivateKey::from_pem(&private_pem(curve, 7)).unwrap();
            let public = key.public().unwrap();
            let pem = format!("a description\n{}trailing", public.to_pem().unwrap());
            assert_eq!(PublicKey::from_pem(&pem).unwrap(), public);
        }
    }

    #[test]
    fn the_fingerprint_is_that_of_the_pem() {
        let key = PrivateKey::from_pem(&private_pem("p256", 7)).unwrap();
        let public = key.public().unwrap();
        let pem = public.to_pem().unwrap();
        assert_eq!(public.fingerprint(), crate::Digest::of(pem.as_bytes()));
    }

    #[test]
    fn what_is_no_key_is_refused_with_what_was_expected() {
        assert_eq!(PublicKey::from_pem("no key"), Err(KeyError::Public));
        let private = private_pem("p384", 7);
        assert_eq!(
            PublicKey::from_pem(&private),
            Err(KeyError::PrivateForPublic)
        );
        let encrypted = private.replace("BEGIN PRIVATE", "BEGIN ENCRYPTED PRIVATE");
        assert_eq!(
            PrivateKey::from_pem(&encrypted).unwrap_err(),
            KeyError::Encrypted
        );
        let public = PrivateKey::from_pem(&private).unwrap().public().unwrap();
        let error = PrivateKey::from_pem(&public.to_pem().unwrap()).unwrap_err();
        assert_eq!(error, KeyError::Private);
        // Ed25519, as openssl writes it.
        let other = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        assert_eq!(PublicKey::from_pem(other), Err(KeyError::Public));
    }

    #[test]
    fn a_private_key_shows_itself_in_no_log() {
        let key = PrivateKey::from_pem(&private_pem("p256", 7)).unwrap();
        assert_eq!(format!("{key:?}"), "PrivateKey(..)");
    }
}
