//! What is told of requests while they pass: the access log.

use std::{path::PathBuf, time::Duration};

use super::{effective::millis, raw::RawAccessLog};

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
