//! Tells the ways apart in which there is no answer.

use std::error::Error;

use super::SendError;
use crate::outcome::ErrorKind;

/// The most characters of a library's error that are kept.
const MAX_TEXT: usize = 200;

// === impl SendError ===

impl SendError {
    pub(super) fn new(kind: ErrorKind, error: &(dyn Error + 'static)) -> Self {
        let mut text = error.to_string();
        for cause in chain(error).skip(1) {
            text.push_str(": ");
            text.push_str(&cause.to_string());
        }
        Self {
            kind,
            text: text.chars().take(MAX_TEXT).collect(),
        }
    }

    pub(super) fn broken(error: &(dyn Error + 'static)) -> Self {
        Self::new(broken(error), error)
    }
}

/// Tells an answer that makes no sense from a connection that broke.
fn broken(error: &(dyn Error + 'static)) -> ErrorKind {
    let is_nonsense = chain(error).any(|error| {
        error.is::<http_body_util::LengthLimitError>()
            || error
                .downcast_ref::<hyper::Error>()
                .is_some_and(hyper::Error::is_parse)
    });
    if is_nonsense {
        ErrorKind::BadAnswer
    } else {
        ErrorKind::Reset
    }
}

/// The error and what caused it, outermost first.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}
