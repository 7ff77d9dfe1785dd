//! What a line of the log says of a request.
//!
//! Field names are those of the metrics' labels where there is one. A field that
//! does not apply is left out. Whatever a client or an endpoint wrote is escaped
//! as JSON says and cut to a bound, so that it can neither forge a line nor fill
//! the log.
//!
//! The object is put together by hand: its keys need no escaping, most texts do not
//! either (which is seen sixteen bytes at a time), and the date changes once a
//! second. Through serde a line cost three times as many instructions, a twentieth
//! of the whole request.

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime},
};

use itoa::Integer;
use jiff::Timestamp;

use crate::text::{put_address, put_number, put_socket};

/// The longest text of a client's or an endpoint's that a line holds, in bytes.
const MAX_TEXT: usize = 512;

/// One request.
#[derive(Debug)]
pub struct Line<'a> {
    /// When it began: in the line as RFC 3339 to the millisecond, in UTC.
    pub time: SystemTime,
    /// The request's id, as the client and the endpoint know it.
    pub request_id: &'a [u8],
    /// The trace that it is a part of.
    pub trace_id: Option<&'a [u8]>,
    /// Who asked.
    pub client: Option<IpAddr>,
    /// The method.
    pub method: &'a [u8],
    /// The path, without its query.
    pub path: &'a [u8],
    /// The protocol that the client speaks.
    pub protocol: &'static str,
    /// The model.
    pub model: Option<&'a str>,
    /// The version that the client named.
    pub version_asked: Option<&'a str>,
    /// The version that was chosen first.
    pub version_chosen: Option<&'a str>,
    /// The version that the last attempt went to.
    pub model_version: Option<&'a str>,
    /// How that came about.
    pub route: Option<&'static str>,
    /// The endpoint of the last attempt.
    pub endpoint: Option<SocketAddr>,
    /// Attempts that were made.
    pub attempts: u32,
    /// The status that the client got; 499 when it left before.
    pub status: u16,
    /// Why it was refused, by the proxy or the endpoint.
    pub reason: Option<&'a [u8]>,
    /// Why the last attempt failed that did.
    pub failure: Option<&'static str>,
    /// Bytes of the request's body that were read.
    pub bytes_in: Option<u64>,
    /// Bytes of the answer's body that were sent.
    pub bytes_out: Option<u64>,
    /// From the request's last byte to the answer's first: `ttfb_ms`, in milliseconds
    /// to the microsecond.
    pub first_byte: Option<Duration>,
    /// From the request's first byte to the answer's last: `duration_ms`, likewise.
    pub duration: Duration,
    /// The part of ordinary requests that is written, where that is not all of them.
    pub sample: Option<f64>,
}

/// Puts lines together, in the same place one after the other.
#[derive(Debug, Default)]
pub(super) struct Writer {
    text: Vec<u8>,
    /// The second of the last line, and its text: `2026-11-25T02:53:56`.
    second: Option<i64>,
    date: String,
}

/// The comma before a key, the key, and the colon after it.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}

// === impl Writer ===

impl Writer {
    /// The line, with its end.
    pub(super) fn write(&mut self, line: &Line<'_>) -> &[u8] {
        self.text.clear();
        self.time(line.time);
        self.text(key!("request_id"), line.request_id);
        self.maybe_text(key!("trace_id"), line.trace_id);
        if let Some(client) = line.client {
            self.quoted(key!("client"), |out| put_address(out, client));
        }
        self.text(key!("method"), line.method);
        self.text(key!("path"), line.path);
        self.text(key!("protocol"), line.protocol.as_bytes());
        self.maybe_text(key!("model"), line.model.map(str::as_bytes));
        self.maybe_text(key!("version_asked"), line.version_asked.map(str::as_bytes));
        self.maybe_text(
            key!("version_chosen"),
            line.version_chosen.map(str::as_bytes),
        );
        self.maybe_text(key!("model_version"), line.model_version.map(str::as_bytes));
        self.maybe_text(key!("route"), line.route.map(str::as_bytes));
        if let Some(endpoint) = line.endpoint {
            self.quoted(key!("endpoint"), |out| put_socket(out, endpoint));
        }
        self.number(key!("attempts"), line.attempts);
        self.number(key!("status"), line.status);
        self.maybe_text(key!("reason"), line.reason);
        self.maybe_text(key!("failure"), line.failure.map(str::as_bytes));
        if let Some(bytes) = line.bytes_in {
            self.number(key!("bytes_in"), bytes);
        }
        if let Some(bytes) = line.bytes_out {
            self.number(key!("bytes_out"), bytes);
        }
        if let Some(first_byte) = line.first_byte {
            self.millis(key!("ttfb_ms"), first_byte);
        }
        self.millis(key!("duration_ms"), line.duration);
        if let Some(sample) = line.sample {
            self.text.extend_from_slice(key!("sample").as_bytes());
            // A number that the configuration bounds, and so one of JSON's.
            let _ = write!(self.text, "{sample}");
        }
        self.text.extend_from_slice(b"}\n");
        &self.text
    }

    /// Gives back what an uncommonly long line took.
    pub(super) fn shrink_to(&mut self, room: usize) {
        self.text.shrink_to(room);
    }

    fn time(&mut self, time: SystemTime) {
        let time = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
        let second = time.as_second();
        if self.second != Some(second) {
            self.second = Some(second);
            let whole = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
            self.date.clear();
            let text = whole.to_string();
            self.date.push_str(text.trim_end_matches('Z'));
        }
        self.text.extend_from_slice(b"{\"time\":\"");
        self.text.extend_from_slice(self.date.as_bytes());
        self.text.push(b'.');
        let millis = time.subsec_millisecond().unsigned_abs().into();
        self.text.extend_from_slice(&three_digits(millis));
        self.text.extend_from_slice(b"Z\"");
    }

    fn maybe_text(&mut self, key: &'static str, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    /// A text, cut to a bound.
    fn text(&mut self, key: &'static str, value: &[u8]) {
        if value.len() <= MAX_TEXT && is_plain(value) {
            self.quoted(key, |out| out.extend_from_slice(value));
            return;
        }
        let shown = &value[..value.len().min(MAX_TEXT)];
        let mut shown = String::from_utf8_lossy(shown).into_owned();
        if value.len() > MAX_TEXT {
            shown.push('…');
        }
        self.text.extend_from_slice(key.as_bytes());
        // A text has a JSON form, and memory does not fail.
        let _ = serde_json::to_writer(&mut self.text, &shown);
    }

    fn quoted(&mut self, key: &'static str, put: impl FnOnce(&mut Vec<u8>)) {
        self.text.extend_from_slice(key.as_bytes());
        self.text.push(b'"');
        put(&mut self.text);
        self.text.push(b'"');
    }

    fn number(&mut self, key: &'static str, number: impl Integer) {
        self.text.extend_from_slice(key.as_bytes());
        put_number(&mut self.text, number);
    }

    fn millis(&mut self, key: &'static str, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.number(key, micros / 1_000);
        self.text.push(b'.');
        self.text.extend_from_slice(&three_digits(micros % 1_000));
    }
}

/// Whether a text stands in JSON as it is: ASCII, with nothing to escape. There is
/// no way out of the loop before its end, so that it looks at many bytes at a time.
fn is_plain(text: &[u8]) -> bool {
    let strange =
        |byte: u8| u8::from(!matches!(byte, b' '..=b'~') || byte == b'"' || byte == b'\\');
    text.iter().fold(0, |any, &byte| any | strange(byte)) == 0
}

/// A number below a thousand, with its zeros.
fn three_digits(number: u64) -> [u8; 3] {
    let digit = |value: u64| b'0' + (value % 10) as u8;
    [digit(number / 100), digit(number / 10), digit(number)]
}
