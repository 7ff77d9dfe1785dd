//! TOML files taken whole or refused whole, with every fault by key path and line.
//!
//! # Why
//!
//! A deserialiser stops at the first fault, so that a file with six of them
//! takes seven runs to mend, and a rollout that edits a mounted file pays
//! minutes for each. Here one run names them all:
//!
//! 1. **Syntax.** The parser recovers after each error; all are reported.
//!    Nothing else is looked at, because keys may be in the wrong place.
//! 2. **Shape.** Unknown keys and wrong types. The offending key is reported,
//!    taken out of a copy of the tree, and the copy is deserialised again,
//!    until it succeeds.
//! 3. **Meaning.** The program's own `validate` sees the raw struct (every field
//!    optional or defaulted, so that "missing" is a matter of meaning) and
//!    pushes into [`Faults`]. What it says about a key that already failed
//!    before is dropped: one mistake, one fault.
//!
//! Reports are bounded ([`MAX_FAULTS`]), and so is what is read
//! ([`MAX_FILE_BYTES`]).
//!
//! # Example
//!
//! ```
//! use aegis_config::{Faults, KeyPath, load};
//!
//! #[derive(Default, serde::Deserialize)]
//! #[serde(default, deny_unknown_fields)]
//! struct Raw {
//!     weight: Option<f64>,
//! }
//!
//! fn validate(raw: Raw, faults: &mut Faults<'_>) -> Option<f64> {
//!     let path = KeyPath::from("weight");
//!     match raw.weight {
//!         Some(weight) if weight >= 0.0 => Some(weight),
//!         Some(weight) => faults.refuse(path, format!("expected a number >= 0, got {weight}")),
//!         None => faults.refuse(path, "missing"),
//!     }
//! }
//!
//! assert_eq!(load("a.toml", "weight = 3", validate)?, 3.0);
//! let rejected = load("a.toml", "\nweight = -3", validate).unwrap_err();
//! assert_eq!(rejected.to_string(), "a.toml:2: weight: expected a number >= 0, got -3");
//! let rejected = load("a.toml", "wieght = 3", validate).unwrap_err();
//! assert!(rejected.to_string().contains("did you mean `weight`?"));
//! # Ok::<(), aegis_config::Rejected>(())
//! ```

mod decode;
mod document;
mod fault;
mod file;
mod path;
mod schema;
mod wording;

#[cfg(test)]
mod tests;

pub use fault::{Fault, Faults, MAX_FAULTS, Rejected};
pub use file::{MAX_FILE_BYTES, ReadError, read_file};
pub use path::{KeyPath, Segment};
pub use schema::{SchemaError, keys_mentioned, keys_of_schema, schema, uncommented};

use document::Document;
use serde::de::DeserializeOwned;

/// Turns `text` into a validated `T`, by way of the raw struct `R`.
///
/// `origin` names the text in messages: a file's path, as the user wrote it.
/// `validate` returns `None` when it pushed a fault and cannot build a `T`; a
/// value that comes with faults is thrown away.
///
/// # Errors
///
/// [`Rejected`], with every fault that was found, in the order of the text.
pub fn load<R, T>(
    origin: &str,
    text: &str,
    validate: impl FnOnce(R, &mut Faults<'_>) -> Option<T>,
) -> Result<T, Rejected>
where
    R: DeserializeOwned + Default,
{
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(faults) => return Err(Rejected::new(origin, faults)),
    };
    let mut faults = Faults::new(&document);
    let raw = decode::decode::<R>(&document, &mut faults);
    match validate(raw, &mut faults) {
        Some(value) if faults.is_empty() => Ok(value),
        value => {
            // A validator that gives up in silence is a bug, not a valid file.
            if value.is_none() && faults.is_empty() {
                faults.at(KeyPath::root(), "refused without a reason");
            }
            Err(Rejected::new(origin, faults.into_vec()))
        }
    }
}
