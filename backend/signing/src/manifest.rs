//! The statement that a signature signs: every file's name and digest, and what was left out.
//!
//! A manifest is read only after its signature was verified, so it says what a trusted signer said.
//! It is checked all the same: a name must be a plain path below the folder, no name may come twice,
//! and the digest over all digests must be the one that the statement claims.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hasher, NoDigest};

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://model_signing/signature/v1.0";
const METHOD: &str = "files";
const HASH: &str = "sha256";

/// The longest name of a file, in bytes: what Linux takes for a path.
const MAX_NAME_BYTES: usize = 4_096;

/// Every file of a folder, as it was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What the folder was called; it may be called anything now.
    pub name: String,
    /// Each file's digest, by its path with `/` between the parts.
    pub files: BTreeMap<Name, Digest>,
    /// Paths that were left out, files or whole folders.
    pub ignored: Vec<String>,
}

/// The path of a file below its folder: parts with `/` between, none empty, `.` or `..`.
///
/// Ordered by its parts, as the digest over all digests demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

/// A statement is none that is understood, or contradicts itself. The signer's fault.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is not JSON of that form.
    #[error("no statement: {0}")]
    Json(#[from] serde_json::Error),
    /// A field says that it is something else.
    #[error("{field}: expected `{expected}`, got {got:?}")]
    Other {
        /// Which field.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is, cut.
        got: String,
    },
    /// None, or several.
    #[error("subject: expected 1, got {got}")]
    Subjects {
        /// How many.
        got: usize,
    },
    /// A name is no path below a folder.
    #[error("{got:?} is no path below the folder")]
    Name {
        /// The name, cut.
        got: String,
    },
    /// A name comes twice.
    #[error("{got:?} is listed twice")]
    Twice {
        /// The name.
        got: String,
    },
    /// A digest is none.
    #[error("digest of {name:?}")]
    Digest {
        /// Whose.
        name: String,
        /// What is wrong.
        #[source]
        source: NoDigest,
    },
    /// The digest over all digests is another.
    #[error("the digests of all files come to {got}, and the statement says {expected}")]
    Root {
        /// What it says.
        expected: Digest,
        /// What they come to.
        got: Digest,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawStatement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<RawSubject>,
    predicate_type: String,
    predicate: serde_json::Value,
}

#[derive(Serialize, Deserialize)]
struct RawSubject {
    name: String,
    digest: RawSubjectDigest,
}

#[derive(Serialize, Deserialize)]
struct RawSubjectDigest {
    sha256: String,
}

#[derive(Serialize, Deserialize)]
struct RawPredicate {
    serialization: RawSerialization,
    resources: Vec<RawResource>,
}

#[derive(Serialize, Deserialize)]
struct RawSerialization {
    method: String,
    hash_type: String,
    #[serde(default)]
    allow_symlinks: bool,
    #[serde(default)]
    ignore_paths: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct RawResource {
    name: String,
    algorithm: String,
    digest: String,
}

// === impl Manifest ===

impl Manifest {
    /// Reads a statement.
    ///
    /// # Errors
    ///
    /// When it is something else, or contradicts itself.
    pub fn parse(payload: &[u8]) -> Result<Self, ManifestError> {
        let raw: RawStatement = serde_json::from_slice(payload)?;
        expect("_type", STATEMENT, &raw.kind)?;
        // Before the predicate is read, so that an unknown one is called that.
        expect("predicateType", PREDICATE, &raw.predicate_type)?;
        let [subject] = &raw.subject[..] else {
            return Err(ManifestError::Subjects {
                got: raw.subject.len(),
            });
        };
        let predicate: RawPredicate = serde_json::from_value(raw.predicate)?;
        let serialization = predicate.serialization;
        expect("serialization.method", METHOD, &serialization.method)?;
        expect("serialization.hash_type", HASH, &serialization.hash_type)?;
        let (mut files, mut root) = (BTreeMap::new(), Hasher::default());
        for resource in predicate.resources {
            expect("algorithm", HASH, &resource.algorithm)?;
            let name = Name::new(&resource.name)?;
            let hash = digest(&resource.name, &resource.digest)?;
            root.update(&hash.0);
            if files.insert(name, hash).is_some() {
                return Err(ManifestError::Twice { got: resource.name });
            }
        }
        let expected = digest(&subject.name, &subject.digest.sha256)?;
        let got = root.finish();
        if got != expected {
            return Err(ManifestError::Root { expected, got });
        }
        Ok(Self {
            name: subject.name.clone(),
            files,
            ignored: serialization.ignore_paths,
        })
    }

    /// Writes the statement.
    ///
    /// # Errors
    ///
    /// Never for these types; the encoder's signature allows it.
    pub fn to_statement(&self) -> Result<Vec<u8>, ManifestError> {
        let resource = |(name, digest): (&Name, &Digest)| RawResource {
            name: name.0.clone(),
            algorithm: HASH.to_owned(),
            digest: digest.to_string(),
        };
        let predicate = RawPredicate {
            serialization: RawSerialization {
                method: METHOD.to_owned(),
                hash_type: HASH.to_owned(),
                allow_symlinks: false,
                ignore_paths: self.ignored.clone(),
            },
            resources: self.files.iter().map(resource).collect(),
        };
        let sha256 = self.digest().to_string();
        let statement = RawStatement {
            kind: STATEMENT.to_owned(),
            subject: vec![RawSubject {
                name: self.name.clone(),
                digest: RawSubjectDigest { sha256 },
            }],
            predicate_type: PREDICATE.to_owned(),
            predicate: serde_json::to_value(&predicate)?,
        };
        Ok(serde_json::to_vec(&statement)?)
    }

    /// The digest over all digests, in the order of names: one number for the whole folder.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut root = Hasher::default();
        self.files
            .values()
            .for_each(|digest| root.update(&digest.0));
        root.finish()
    }
}

fn expect(field: &'static str, expected: &'static str, got: &str) -> Result<(), ManifestError> {
    if got == expected {
        return Ok(());
    }
    Err(ManifestError::Other {
        field,
        expected,
        got: cut(got),
    })
}

fn digest(name: &str, text: &str) -> Result<Digest, ManifestError> {
    text.parse().map_err(|source| ManifestError::Digest {
        name: cut(name),
        source,
    })
}

/// A signer's text reaches logs; what is over a line says no more.
fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}

// === impl Name ===

impl Name {
    /// Takes a path for the name of a file.
    ///
    /// # Errors
    ///
    /// When it may lead out of the folder, or to no file.
    pub fn new(path: &str) -> Result<Self, ManifestError> {
        let is_plain = |part: &str| !matches!(part, "" | "." | "..");
        let good = path.len() <= MAX_NAME_BYTES
            && !path.chars().any(char::is_control)
            && path.split('/').all(is_plain);
        if good {
            return Ok(Self(path.to_owned()));
        }
        Err(ManifestError::Name { got: cut(path) })
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.split('/').cmp(other.0.split('/'))
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Manifest, Name};
    use crate::digest::Digest;

    fn manifest(names: &[&str]) -> Manifest {
        let file = |name: &&str| (Name::new(name).unwrap(), Digest::of(name.as_bytes()));
        Manifest {
            name: "1".to_owned(),
            files: names.iter().map(file).collect(),
            ignored: vec!["model.sig".to_owned()],
        }
    }

    /// A statement with one value replaced.
    fn with(at: &str, value: Value) -> String {
        let statement = manifest(&["a", "b"]).to_statement().unwrap();
        let mut statement: Value = serde_json::from_slice(&statement).unwrap();
        *statement.pointer_mut(at).unwrap() = value;
        statement.to_string()
    }

    #[test]
    fn a_manifest_is_read_back() {
        let manifest = manifest(&["model.pt", "a/b/c", "a.txt"]);
        let statement = manifest.to_statement().unwrap();
        assert_eq!(Manifest::parse(&statement).unwrap(), manifest);
    }

    #[test]
    fn names_are_ordered_by_their_parts() {
        let manifest = manifest(&["a.txt", "a/b", "a"]);
        let names: Vec<_> = manifest.files.keys().map(Name::as_str).collect();
        // As text, `a.txt` would come before `a/b`.
        assert_eq!(names, ["a", "a/b", "a.txt"]);
    }

    #[test]
    fn a_name_that_may_lead_elsewhere_is_refused() {
        let long = "a".repeat(5_000);
        for name in [
            "",
            "/etc/passwd",
            "..",
            "../a",
            "a/../b",
            "a//b",
            "a/",
            "./a",
            "a\0b",
            "a\nb",
            &long,
        ] {
            let statement = with("/predicate/resources/0/name", json!(name));
            let error = Manifest::parse(statement.as_bytes()).unwrap_err();
            assert!(
                error.to_string().contains("no path below"),
                "{name:?}: {error}"
            );
        }
    }

    #[test]
    fn a_name_that_comes_twice_is_refused() {
        let statement = with("/predicate/resources/0/name", json!("b"));
        let error = Manifest::parse(statement.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "\"b\" is listed twice");
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let cases = [
            (
                "/_type",
                json!("https://in-toto.io/Statement/v0.1"),
                "_type: expected",
            ),
            (
                "/predicateType",
                json!("https://model_signing/Digests/v0.1"),
                "predicateType: expected",
            ),
            (
                "/predicate/serialization/method",
                json!("shards"),
                "method: expected `files`, got \"shards\"",
            ),
            (
                "/predicate/serialization/hash_type",
                json!("blake3"),
                "hash_type: expected `sha256`",
            ),
            (
                "/predicate/resources/1/algorithm",
                json!("blake2"),
                "algorithm: expected `sha256`",
            ),
            (
                "/predicate/resources/1/digest",
                json!("00"),
                "digest of \"b\"",
            ),
            ("/subject", json!([]), "subject: expected 1, got 0"),
            ("/predicate", json!({}), "no statement"),
        ];
        for (at, value, expected) in cases {
            let error = Manifest::parse(with(at, value).as_bytes()).unwrap_err();
            assert!(error.to_string().contains(expected), "{at}: {error}");
        }
    }

    #[test]
    fn a_statement_whose_digest_is_not_that_of_its_files_is_refused() {
        let other = Digest::of(b"other").to_string();
        for at in ["/subject/0/digest/sha256", "/predicate/resources/0/digest"] {
            let error = Manifest::parse(with(at, json!(other)).as_bytes()).unwrap_err();
            assert!(error.to_string().contains("come to"), "{at}: {error}");
        }
    }
}
