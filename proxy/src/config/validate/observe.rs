//! What is told of requests while they pass.

use std::{net::IpAddr, path::PathBuf};

use ipnet::IpNet;

use super::scope::Scope;
use crate::config::{
    AccessLog, Forwarded, LogTarget,
    observe::{STDERR, STDOUT},
    ranges::{LOG_BUFFER_BYTES, MAX_TRUSTED, SAMPLE, SLOW_REQUEST_MS},
    raw::{RawAccessLog, RawForwarded},
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

/// `[forwarded]`.
pub(super) fn forwarded(raw: &RawForwarded, mut scope: Scope<'_, '_>) -> Forwarded {
    if raw.trusted.len() > MAX_TRUSTED {
        let got = raw.trusted.len();
        scope.fault(
            "trusted",
            format!("expected at most {MAX_TRUSTED} networks, got {got}"),
        );
    }
    let mut trusted = Vec::with_capacity(raw.trusted.len());
    for (i, text) in raw.trusted.iter().enumerate() {
        match network(text) {
            Ok(network) => trusted.push(network),
            Err(message) => scope.element_fault("trusted", i, message),
        }
    }
    Forwarded { trusted }
}

/// A network that is written with more than its own bits is likely a mistake.
fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let network: IpNet = text.parse().map_err(|_| {
        format!("expected a network such as 10.0.0.0/8 or an address, got {text:?}")
    })?;
    let whole = network.trunc();
    if whole != network {
        return Err(format!(
            "expected {whole}, or {} alone, got {text}",
            network.addr()
        ));
    }
    Ok(network)
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
