//! OpenSSF Model Signing v1.0 with keys: what a signature covers, how it is made, how it is checked.
//!
//! A signed folder holds `model.sig`, a Sigstore bundle v0.3: a DSSE envelope around an in-toto
//! statement, whose predicate lists every file of the folder with its SHA-256. What
//! `model-signing` for Python signs with a key is verified here, and what is signed here is verified
//! there.
//!
//! **The bytes that are verified are the bytes that are used.** A file is read once: while it is
//! hashed, it goes into memory that is then sealed ([`Sealed`]), and that is what a model is loaded
//! from. Whoever changes the file a moment later changes nothing.
//!
//! **Names decide nothing.** No path of a manifest is ever opened. The folder is listed by what it
//! holds, and the two lists are compared; so a manifest with `..` in it could do no harm, and is
//! refused all the same.
//!
//! | file | holds |
//! |---|---|
//! | [`key`] | ECDSA keys on P-256, P-384 and P-521, and their fingerprints |
//! | [`bundle`] | the file `model.sig`, and the bytes that are signed |
//! | [`manifest`] | the statement in it: names, digests, what was left out |
//! | [`folder`] | what a folder holds, without following links |
//! | [`archive`] | the same of an archive, without unpacking it |
//! | [`sealed`] | reads a file once, hashes it, keeps it where nobody can change it |
//! | [`sign()`], [`verify()`] | the two verbs |
//!
//! Sources: the DSSE protocol 1.0, in-toto Statement v1, the Sigstore bundle format, and the model
//! signing specification of the OpenSSF.

pub mod archive;
pub mod bundle;
pub mod digest;
pub mod folder;
pub mod key;
pub mod manifest;
pub mod outcome;
pub mod sealed;
pub mod sign;
pub mod verify;

#[cfg(test)]
mod fixture;

pub use archive::{ArchiveError, Contents};
pub use digest::Digest;
pub use key::{KeyError, PrivateKey, PublicKey};
pub use outcome::Outcome;
pub use sealed::Sealed;
pub use sign::{SignError, sign};
pub use verify::{Request, TrustedKey, Verified, VerifyError, verify, verify_archive};

/// The file that holds a folder's signature, unless another is named.
pub const SIGNATURE_FILE: &str = "model.sig";
