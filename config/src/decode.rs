//! Every fault of shape in one run, from a deserialiser that stops at the first.
//!
//! An error's span names the node that it is about. That node is reported and
//! taken out of a working copy of the tree, which is deserialised again. Each
//! round removes a node, and the larger the text, the fewer rounds it gets: a
//! huge file with many faults does not keep its reader for minutes.
//!
//! The alternative, a deserialiser of our own that goes on after an error, was
//! refused: a serde visitor must return a value, so it cannot.

use serde::de::DeserializeOwned;
use toml::de::Deserializer;

use crate::document::{Document, find, prune};
use crate::{Faults, KeyPath, MAX_FAULTS, wording};

/// Text that all rounds over one file may go through together, in bytes: about
/// two seconds of work in a build without optimisation.
const BUDGET: usize = 8 * 1024 * 1024;
/// Rounds that even the largest file gets.
const MIN_ROUNDS: usize = 4;

/// Deserialises what can be; the rest is recorded and keeps its default.
pub(crate) fn decode<R>(document: &Document<'_>, faults: &mut Faults<'_>) -> R
where
    R: DeserializeOwned + Default,
{
    let mut tree = document.tree();
    for _ in 0..rounds(document.text().len()) {
        let error = match R::deserialize(Deserializer::from(tree.clone())) {
            Ok(raw) => return raw,
            Err(error) => error,
        };
        let path = error
            .span()
            .and_then(|span| find(tree.get_ref(), &span))
            .unwrap_or_default();
        faults.fail(&path, wording::explain(error.message()));
        if !prune(tree.get_mut(), path.segments()) {
            // About the file as a whole: nothing smaller can be taken out.
            return R::default();
        }
    }
    // At the root it also silences `validate`, which would judge half a tree.
    let message = "there may be more faults; mend these first";
    faults.fail(&KeyPath::root(), message.into());
    R::default()
}

fn rounds(bytes: usize) -> usize {
    (BUDGET / bytes.max(1)).clamp(MIN_ROUNDS, MAX_FAULTS + 1)
}
