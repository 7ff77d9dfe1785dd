//! Tells the ways apart in which there is no answer.

use std::error::Error;
use std::io;

use rustix::io::Errno;

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
            kind: (!is_own(error)).then_some(kind),
            text: text.chars().take(MAX_TEXT).collect(),
        }
    }

    pub(super) fn broken(error: &(dyn Error + 'static)) -> Self {
        Self::new(broken(error), error)
    }
}

/// Whether this machine has no descriptor, local port or memory left: no server can help that.
fn is_own(error: &(dyn Error + 'static)) -> bool {
    let errors = chain(error).filter_map(|error| error.downcast_ref::<io::Error>());
    let mut errnos = errors.filter_map(Errno::from_io_error);
    errnos.any(|errno| {
        matches!(
            errno,
            Errno::MFILE | Errno::NFILE | Errno::ADDRNOTAVAIL | Errno::NOBUFS | Errno::NOMEM
        )
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_has_run_out_of_is_no_failure_of_the_server() {
        let of = |errno: Errno| SendError::new(ErrorKind::Connect, &io::Error::from(errno));
        for errno in [
            Errno::MFILE,
            Errno::NFILE,
            Errno::ADDRNOTAVAIL,
            Errno::NOBUFS,
        ] {
            assert_eq!(of(errno).kind, None, "{errno}");
        }
        for errno in [Errno::CONNREFUSED, Errno::HOSTUNREACH, Errno::TIMEDOUT] {
            assert_eq!(of(errno).kind, Some(ErrorKind::Connect), "{errno}");
        }
    }
}
