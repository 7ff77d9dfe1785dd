//! The static answer of a model: what may be in it.
//!
//! The proxy frames the answer and signs it, so headers that speak of the
//! connection, of the body's length or in the proxy's own name are refused
//! rather than overwritten.

use http::{HeaderName, HeaderValue, StatusCode, header};

use super::scope::Scope;
use crate::config::{
    StaticAnswer,
    ranges::{MAX_ANSWER_BYTES, MAX_ANSWER_HEADERS, MAX_ANSWER_STATUS, MIN_ANSWER_STATUS},
    raw::{RawModel, RawStaticAnswer},
};

/// In fallback metrics, what stands for the static answer.
const LABEL: &str = "static";
/// The proxy's own headers, to clients and to endpoints.
const OUR_PREFIX: &str = "x-aegis-";
/// Headers that belong to the connection or to the framing of a message.
const FRAMING: [HeaderName; 9] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// The static answer, if the model has one.
pub(super) fn static_answer(model: &RawModel, scope: &mut Scope<'_, '_>) -> Option<StaticAnswer> {
    let raw = &model.static_answer;
    if *raw == RawStaticAnswer::default() {
        return None;
    }
    if model.versions.contains_key(LABEL) {
        let message = "a version named \"static\" could not be told from the static answer";
        scope.overall_fault("versions", message);
    }
    let mut scope = scope.child("static_answer");
    let status = status(raw.status, &mut scope);
    let headers = headers(&raw.headers, &mut scope);
    let longest = status.map_or(MAX_ANSWER_BYTES, longest_body);
    if raw.body.len() > longest {
        let got = raw.body.len();
        scope.fault(
            "body",
            format!("expected at most {longest} bytes, got {got}"),
        );
    }
    Some(StaticAnswer {
        status: status?,
        headers,
        body: raw.body.clone(),
    })
}

fn status(raw: u64, scope: &mut Scope<'_, '_>) -> Option<StatusCode> {
    let status = u16::try_from(raw).ok();
    let status = status.filter(|code| (MIN_ANSWER_STATUS..=MAX_ANSWER_STATUS).contains(code));
    let status = status.and_then(|code| StatusCode::from_u16(code).ok());
    if status.is_none() {
        let range = format!("{MIN_ANSWER_STATUS} to {MAX_ANSWER_STATUS}");
        scope.fault("status", format!("expected {range}, got {raw}"));
    }
    status
}

/// HTTP has statuses whose answers end with their headers.
fn longest_body(status: StatusCode) -> usize {
    match status {
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED => 0,
        _ => MAX_ANSWER_BYTES,
    }
}

fn headers(raw: &[String], scope: &mut Scope<'_, '_>) -> Vec<(HeaderName, HeaderValue)> {
    if raw.len() > MAX_ANSWER_HEADERS {
        let got = raw.len();
        let message = format!("expected at most {MAX_ANSWER_HEADERS} headers, got {got}");
        scope.fault("headers", message);
    }
    let mut headers = Vec::with_capacity(raw.len());
    for (i, line) in raw.iter().enumerate() {
        match header(line) {
            Ok(header) => headers.push(header),
            Err(message) => scope.element_fault("headers", i, message),
        }
    }
    headers
}

fn header(line: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = line
        .split_once(':')
        .ok_or_else(|| format!("expected \"name: value\", got {line:?}"))?;
    let name = HeaderName::try_from(name)
        .map_err(|_| format!("expected the name of a header before the colon, got {name:?}"))?;
    if FRAMING.contains(&name) || name.as_str().starts_with(OUR_PREFIX) {
        return Err(format!("{name} is written by the proxy itself"));
    }
    let value = value.trim_matches([' ', '\t']);
    let is_text = value
        .bytes()
        .all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
    match HeaderValue::try_from(value) {
        Ok(value) if is_text => Ok((name, value)),
        _ => Err(format!(
            "expected printable ASCII as the value of {name}, got {value:?}"
        )),
    }
}
