//! What is told of requests while they pass.

use std::path::PathBuf;

use super::scope::Scope;
use crate::config::{
    AccessLog, LogTarget,
    observe::{STDERR, STDOUT},
    ranges::{LOG_BUFFER_BYTES, SAMPLE, SLOW_REQUEST_MS},
    raw::RawAccessLog,
};

/// `[access_log]`.
pub(super) fn access_log(raw: &RawAccessLog, mut scope: Scope<'_, '_>) -> AccessLog {
    AccessLog {
        target: scope.parsed("path", target(&raw.path)).flatten(),
        sample: scope.fraction("sample", raw.sample, SAMPLE),
        slow: scope.millis("slow_ms", raw.slow_ms, SLOW_REQUEST_MS),
        buffer_bytes: scope.number("buffer_bytes", raw.buffer_bytes, LOG_BUFFER_BYTES),
    }
}

/// A word without a slash is taken for a misspelt one rather than for a file.
fn target(path: &str) -> Result<Option<LogTarget>, String> {
    match path {
        "" => Ok(None),
        STDOUT => Ok(Some(LogTarget::Stdout)),
        STDERR => Ok(Some(LogTarget::Stderr)),
        path if path.contains('\0') || path.ends_with('/') => {
            Err(format!("expected the path of a file, got {path:?}"))
        }
        path if path.contains('/') => Ok(Some(LogTarget::File(PathBuf::from(path)))),
        other => Err(format!(
            "expected \"stdout\", \"stderr\" or a path with a slash such as ./access.log, got {other:?}"
        )),
    }
}
