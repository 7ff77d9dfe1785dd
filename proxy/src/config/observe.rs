//! What is told of requests while they pass: to the access log, to a collector of
//! traces, and to servers.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use ipnet::IpNet;

use super::{
    effective::millis,
    raw::{RawAccessLog, RawForwarded, RawTraces},
};

/// The word for standard output in `access_log.path`.
pub(super) const STDOUT: &str = "stdout";
/// The word for standard error.
pub(super) const STDERR: &str = "stderr";

/// One line for every request.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    /// Where lines go; none writes no log.
    pub target: Option<LogTarget>,
    /// The part of ordinary requests that is written down, from 0 to 1.
    pub sample: f64,
    /// A request that takes longer is not ordinary.
    pub slow: Duration,
    /// Lines that wait to be written, in bytes.
    pub buffer_bytes: u64,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output, after the line of the bound addresses.
    Stdout,
    /// Standard error, among the log of the process.
    Stderr,
    /// The end of this file.
    File(PathBuf),
}

/// Who is told of the traces that requests are a part of.
#[derive(Clone, Debug, PartialEq)]
pub struct Traces {
    /// The collector's `http://` address, path included; none leaves traces alone.
    pub otlp_endpoint: Option<String>,
    /// The part of new traces that is recorded, from 0 to 1.
    pub sample: f64,
    /// Requests that have ended and may wait to be sent.
    pub queue_requests: NonZeroU32,
    /// The most requests that are sent at once; not above `queue_requests`.
    pub batch_requests: NonZeroU32,
    /// How long the first of a batch waits for others.
    pub batch_interval: Duration,
    /// The longest that a batch may take on its way.
    pub export_timeout: Duration,
}

impl From<&Traces> for RawTraces {
    fn from(traces: &Traces) -> Self {
        Self {
            otlp_endpoint: traces.otlp_endpoint.clone().unwrap_or_default(),
            sample: traces.sample,
            queue_requests: u32::from(traces.queue_requests).into(),
            batch_requests: u32::from(traces.batch_requests).into(),
            batch_interval_ms: millis(traces.batch_interval),
            export_timeout_ms: millis(traces.export_timeout),
        }
    }
}

/// Other proxies in front.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// Networks whose word on where a request comes from is believed.
    pub trusted: Vec<IpNet>,
}

impl From<&Forwarded> for RawForwarded {
    fn from(forwarded: &Forwarded) -> Self {
        Self {
            trusted: forwarded.trusted.iter().map(IpNet::to_string).collect(),
        }
    }
}

impl From<&AccessLog> for RawAccessLog {
    fn from(log: &AccessLog) -> Self {
        Self {
            path: match &log.target {
                None => String::new(),
                Some(LogTarget::Stdout) => STDOUT.to_owned(),
                Some(LogTarget::Stderr) => STDERR.to_owned(),
                Some(LogTarget::File(path)) => path.display().to_string(),
            },
            sample: log.sample,
            slow_ms: millis(log.slow),
            buffer_bytes: log.buffer_bytes,
        }
    }
}
