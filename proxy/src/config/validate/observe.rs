//! What is told of requests while they pass.

use std::{net::IpAddr, path::PathBuf};

use http::{Uri, uri::Scheme};
use ipnet::IpNet;

use super::scope::Scope;
use crate::config::{
    AccessLog, Forwarded, LogTarget, Traces,
    observe::{STDERR, STDOUT},
    ranges::{
        BATCH_MS, BATCH_REQUESTS, EXPORT_TIMEOUT_MS, LOG_BUFFER_BYTES, MAX_TRUSTED, QUEUE_REQUESTS,
        SAMPLE, SLOW_REQUEST_MS,
    },
    raw::{RawAccessLog, RawForwarded, RawTraces},
};

/// Where a collector takes traces, unless another path is given.
const COLLECTORS_PATH: &str = "/v1/traces";

/// `[access_log]`.
pub(super) fn access_log(raw: &RawAccessLog, mut scope: Scope<'_, '_>) -> AccessLog {
    AccessLog {
        target: scope.parsed("path", target(&raw.path)).flatten(),
        sample: scope.fraction("sample", raw.sample, SAMPLE),
        slow: scope.millis("slow_ms", raw.slow_ms, SLOW_REQUEST_MS),
        buffer_bytes: scope.number("buffer_bytes", raw.buffer_bytes, LOG_BUFFER_BYTES),
    }
}

/// `[traces]`.
pub(super) fn traces(raw: &RawTraces, mut scope: Scope<'_, '_>) -> Traces {
    let endpoint = scope.parsed("otlp_endpoint", collector(&raw.otlp_endpoint));
    let traces = Traces {
        otlp_endpoint: endpoint.flatten(),
        sample: scope.fraction("sample", raw.sample, SAMPLE),
        queue_requests: scope.count("queue_requests", raw.queue_requests, QUEUE_REQUESTS),
        batch_requests: scope.count("batch_requests", raw.batch_requests, BATCH_REQUESTS),
        batch_interval: scope.millis("batch_interval_ms", raw.batch_interval_ms, BATCH_MS),
        export_timeout: scope.millis(
            "export_timeout_ms",
            raw.export_timeout_ms,
            EXPORT_TIMEOUT_MS,
        ),
    };
    if traces.batch_requests > traces.queue_requests {
        let (most, got) = (traces.queue_requests, traces.batch_requests);
        let message = format!("expected at most queue_requests, {most}, got {got}");
        scope.fault("batch_requests", message);
    }
    traces
}

/// The whole address of a collector. Secrets do not belong into the file: the
/// environment can hold them, as headers (`OTEL_EXPORTER_OTLP_HEADERS`).
fn collector(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let expected =
        || format!("expected an address such as http://127.0.0.1:4318, without TLS, got {text:?}");
    let uri: Uri = text.parse().map_err(|_| expected())?;
    let authority = uri.authority().ok_or_else(expected)?;
    if uri.scheme() != Some(&Scheme::HTTP)
        || uri.query().is_some()
        || authority.as_str().contains('@')
    {
        return Err(expected());
    }
    let path = match uri.path() {
        "/" => COLLECTORS_PATH,
        path => path,
    };
    Ok(Some(format!("http://{authority}{path}")))
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
