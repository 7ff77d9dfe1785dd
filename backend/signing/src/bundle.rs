//! The file `model.sig`: a Sigstore bundle v0.3 around a DSSE envelope.
//!
//! What is signed is not the payload but its pre-authentication encoding ([`signed_bytes`]), which
//! puts type and lengths in front. Bundles with a certificate or an entry of a transparency log
//! belong to other ways of signing, and are refused by name.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// What is longer is no bundle: a manifest of all the files that a folder may hold is shorter.
pub const MAX_BUNDLE_BYTES: u64 = 64 << 20;

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// A signed payload that is not verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// What was signed: an in-toto statement.
    pub payload: Vec<u8>,
    /// The signature, in DER.
    pub signature: Vec<u8>,
    /// The fingerprint of the key that signed, where the bundle says it.
    pub hint: Option<String>,
}

/// A text is no bundle that is understood. The signer's fault, or somebody's who changed it.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It is not JSON of that form.
    #[error("no Sigstore bundle: {0}")]
    Json(#[from] serde_json::Error),
    /// It is a bundle of another version.
    #[error("mediaType: expected `{MEDIA_TYPE}`, got {got:?}")]
    MediaType {
        /// What it says.
        got: String,
    },
    /// It was not signed with a key.
    #[error(
        "verificationMaterial: expected publicKey; certificates and Sigstore identities are not supported"
    )]
    NoKey,
    /// It signs something else than a statement.
    #[error("expected dsseEnvelope; other signatures are not supported")]
    NoEnvelope,
    /// The payload is something else.
    #[error("payloadType: expected `{PAYLOAD_TYPE}`, got {got:?}")]
    PayloadType {
        /// What it says.
        got: String,
    },
    /// None, or several.
    #[error("signatures: expected 1, got {got}")]
    Signatures {
        /// How many.
        got: usize,
    },
    /// A field is not base64.
    #[error("{field}: not base64")]
    Base64 {
        /// Which one.
        field: &'static str,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBundle {
    media_type: String,
    verification_material: RawMaterial,
    dsse_envelope: Option<RawEnvelope>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMaterial {
    public_key: Option<RawKey>,
    /// Written because readers of the format expect it; there is no log.
    #[serde(default)]
    tlog_entries: Vec<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
struct RawKey {
    hint: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEnvelope {
    payload: String,
    payload_type: String,
    signatures: Vec<RawSignature>,
}

#[derive(Serialize, Deserialize)]
struct RawSignature {
    sig: String,
    #[serde(default)]
    keyid: String,
}

/// The bytes that are signed for a payload: DSSE's pre-authentication encoding.
#[must_use]
pub fn signed_bytes(payload: &[u8]) -> Vec<u8> {
    let head = format!(
        "DSSEv1 {} {PAYLOAD_TYPE} {} ",
        PAYLOAD_TYPE.len(),
        payload.len()
    );
    [head.as_bytes(), payload].concat()
}

// === impl Bundle ===

impl Bundle {
    /// Reads a bundle. Nothing of it is trusted yet.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn parse(text: &[u8]) -> Result<Self, BundleError> {
        let raw: RawBundle = serde_json::from_slice(text)?;
        if raw.media_type != MEDIA_TYPE {
            return Err(BundleError::MediaType {
                got: cut(&raw.media_type),
            });
        }
        let key = raw
            .verification_material
            .public_key
            .ok_or(BundleError::NoKey)?;
        let envelope = raw.dsse_envelope.ok_or(BundleError::NoEnvelope)?;
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err(BundleError::PayloadType {
                got: cut(&envelope.payload_type),
            });
        }
        let [signature] = &envelope.signatures[..] else {
            return Err(BundleError::Signatures {
                got: envelope.signatures.len(),
            });
        };
        Ok(Self {
            payload: decode(&envelope.payload, "dsseEnvelope.payload")?,
            signature: decode(&signature.sig, "dsseEnvelope.signatures[0].sig")?,
            hint: key.hint.filter(|hint| !hint.is_empty()),
        })
    }

    /// Writes a bundle.
    ///
    /// # Errors
    ///
    /// Never for these types; the encoder's signature allows it.
    pub fn write(payload: &[u8], signature: &[u8], key: Digest) -> Result<String, BundleError> {
        let raw = RawBundle {
            media_type: MEDIA_TYPE.to_owned(),
            verification_material: RawMaterial {
                public_key: Some(RawKey {
                    hint: Some(key.to_string()),
                }),
                tlog_entries: Vec::new(),
            },
            dsse_envelope: Some(RawEnvelope {
                payload: BASE64_STANDARD.encode(payload),
                payload_type: PAYLOAD_TYPE.to_owned(),
                signatures: vec![RawSignature {
                    sig: BASE64_STANDARD.encode(signature),
                    keyid: String::new(),
                }],
            }),
        };
        Ok(serde_json::to_string(&raw)?)
    }
}

fn decode(text: &str, field: &'static str) -> Result<Vec<u8>, BundleError> {
    let bytes = BASE64_STANDARD.decode(text);
    bytes.map_err(|_| BundleError::Base64 { field })
}

/// Texts of strangers reach logs; what is over a line says no more.
fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Bundle, signed_bytes};
    use crate::digest::Digest;

    fn written() -> Value {
        let text = Bundle::write(b"payload", b"signature", Digest::of(b"key")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_bundle_is_read_back() {
        let bundle = Bundle::parse(written().to_string().as_bytes()).unwrap();
        assert_eq!(bundle.payload, b"payload");
        assert_eq!(bundle.signature, b"signature");
        assert_eq!(bundle.hint, Some(Digest::of(b"key").to_string()));
    }

    #[test]
    fn type_and_length_are_signed_too() {
        assert_eq!(
            signed_bytes(b"{}"),
            b"DSSEv1 28 application/vnd.in-toto+json 2 {}"
        );
    }

    #[test]
    fn what_is_no_bundle_with_a_key_is_refused_with_what_is_wrong() {
        let cases = [
            (
                "/mediaType",
                json!("application/other"),
                "mediaType: expected",
            ),
            (
                "/verificationMaterial",
                json!({ "certificate": {} }),
                "expected publicKey",
            ),
            ("/dsseEnvelope", Value::Null, "expected dsseEnvelope"),
            (
                "/dsseEnvelope/payloadType",
                json!("text/plain"),
                "payloadType: expected",
            ),
            ("/dsseEnvelope/signatures", json!([]), "expected 1, got 0"),
            (
                "/dsseEnvelope/payload",
                json!("%"),
                "dsseEnvelope.payload: not base64",
            ),
            (
                "/dsseEnvelope/signatures/0/sig",
                json!("%"),
                "sig: not base64",
            ),
            ("/verificationMaterial", json!(3), "no Sigstore bundle"),
        ];
        for (at, value, expected) in cases {
            let mut bundle = written();
            *bundle.pointer_mut(at).unwrap() = value;
            let error = Bundle::parse(bundle.to_string().as_bytes()).unwrap_err();
            assert!(error.to_string().contains(expected), "{at}: {error}");
        }
        for text in ["", "[]", "{", "null"] {
            assert!(Bundle::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
