//! What a line of the log says of a request.
//!
//! Field names are those of the metrics' labels where there is one. A field that
//! does not apply is left out. Whatever a client or an endpoint wrote is escaped
//! as JSON says and cut to a bound, so that it can neither forge a line nor fill
//! the log.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// The longest text of a client's or an endpoint's that a line holds, in bytes.
const MAX_TEXT: usize = 512;

/// One request.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    /// When it began.
    pub time: Moment,
    /// The request's id, as the client and the endpoint know it.
    pub request_id: Bounded<'a>,
    /// The trace that it is a part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<Bounded<'a>>,
    /// Who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// The method.
    pub method: Bounded<'a>,
    /// The path, without its query.
    pub path: Bounded<'a>,
    /// The protocol that the client speaks.
    pub protocol: &'static str,
    /// The model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<&'a str>,
    /// The version that the client named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_asked: Option<&'a str>,
    /// The version that was chosen first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_chosen: Option<&'a str>,
    /// The version that the last attempt went to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_version: Option<&'a str>,
    /// How that came about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<&'static str>,
    /// The endpoint of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<SocketAddr>,
    /// Attempts that were made.
    pub attempts: u32,
    /// The status that the client got; 499 when it left before.
    pub status: u16,
    /// Why it was refused, by the proxy or the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Bounded<'a>>,
    /// Why the last attempt failed that did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<&'static str>,
    /// Bytes of the request's body that were read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_in: Option<u64>,
    /// Bytes of the answer's body that were sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_out: Option<u64>,
    /// From the request's last byte to the answer's first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttfb_ms: Option<Millis>,
    /// From the request's first byte to the answer's last.
    pub duration_ms: Millis,
}

/// A time of the calendar: RFC 3339, to the millisecond, in UTC.
#[derive(Clone, Copy, Debug)]
pub struct Moment(pub SystemTime);

/// A duration in milliseconds, to the microsecond.
#[derive(Clone, Copy, Debug)]
pub struct Millis(pub Duration);

/// Somebody else's text, cut to a bound.
#[derive(Clone, Copy, Debug)]
pub struct Bounded<'a>(pub &'a [u8]);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A clock beyond the year 9999 shows as its beginning.
        let time = Timestamp::try_from(self.0).unwrap_or(Timestamp::UNIX_EPOCH);
        serializer.collect_str(&format_args!("{time:.3}"))
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.as_micros() as f64 / 1e3)
    }
}

impl Serialize for Bounded<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.len() <= MAX_TEXT
            && let Ok(text) = std::str::from_utf8(self.0)
        {
            return serializer.serialize_str(text);
        }
        let shown = &self.0[..self.0.len().min(MAX_TEXT)];
        let mark = if shown.len() < self.0.len() {
            "…"
        } else {
            ""
        };
        let text = String::from_utf8_lossy(shown);
        serializer.collect_str(&format_args!("{text}{mark}"))
    }
}
