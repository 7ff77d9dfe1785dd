//! Heads that do not remember how their names were written.
//!
//! pingora keeps a second map beside the headers of HTTP/1.1: their names as the
//! sender wrote them. With it, every insertion, removal and copy of a head is done
//! twice, and a name that is added is copied and parsed anew. Names mean the same
//! in upper and lower case (RFC 9110, 5.1), so the second map is dropped at the
//! first look: what passes is written as pingora writes a name that it knows, and
//! in lower case else. Without it, and with ours set in one go, a request takes about a
//! tenth fewer instructions.

use std::mem;

use http::{HeaderMap, Request, Response, request, response, uri::PathAndQuery};
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};

/// Forgets how a request's names were written.
///
/// # Errors
/// Never in practice: what was a target stays one.
pub fn forget_case(request: &mut RequestHeader) -> Result<()> {
    if !request.has_case() {
        return Ok(());
    }
    edit_request(request, |_| ())
}

/// Changes a request's headers, all in one go.
///
/// # Errors
/// As [`forget_case`].
pub fn edit_request(
    request: &mut RequestHeader,
    change: impl FnOnce(&mut HeaderMap),
) -> Result<()> {
    // The URI has only a part of such a target as `http://host/path`.
    let target = request.raw_path();
    let of_uri = request.uri.path_and_query().map(PathAndQuery::as_str);
    let target = (of_uri.map(str::as_bytes) != Some(target)).then(|| target.to_vec());
    let ends = request.send_end_stream();
    let mut parts = request::Parts::from(mem::replace(request, no_request()));
    change(&mut parts.headers);
    *request = RequestHeader::from(parts);
    if let Some(ends) = ends {
        request.set_send_end_stream(ends);
    }
    target.map_or(Ok(()), |target| request.set_raw_path(&target))
}

/// Changes an answer's headers, all in one go, and forgets how its names were
/// written.
///
/// # Errors
/// Never in practice: what was a reason phrase stays one.
pub fn edit_response(
    response: &mut ResponseHeader,
    change: impl FnOnce(&mut HeaderMap),
) -> Result<()> {
    let phrase = response.get_reason_phrase();
    let usual = phrase == response.status.canonical_reason();
    let phrase = phrase.filter(|_| !usual).map(str::to_owned);
    let empty = ResponseHeader::from(Response::new(()).into_parts().0);
    let mut parts = response::Parts::from(mem::replace(response, empty));
    change(&mut parts.headers);
    *response = ResponseHeader::from(parts);
    match phrase {
        Some(phrase) => response.set_reason_phrase(Some(&phrase)),
        None => Ok(()),
    }
}

/// Stands in while the real one is changed; nothing is allocated for it.
fn no_request() -> RequestHeader {
    RequestHeader::from(Request::new(()).into_parts().0)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const NAME: HeaderName = HeaderName::from_static("x-added");
    const VALUE: HeaderValue = HeaderValue::from_static("1");

    fn add(headers: &mut HeaderMap) {
        headers.insert(NAME, VALUE);
    }

    fn wire(request: &RequestHeader) -> String {
        let mut wire = Vec::new();
        request.header_to_h1_wire(&mut wire);
        String::from_utf8(wire).unwrap()
    }

    #[test]
    fn a_request_stays_what_it_was_but_for_the_case_of_its_names() {
        let targets: [&[u8]; 6] = [
            b"/v2",
            b"/v2?a=b",
            b"*",
            b"http://host/v2",
            b"a:1",
            b"/\xff",
        ];
        for target in targets {
            let mut request = RequestHeader::build("POST", target, None).unwrap();
            request.append_header("CONTENT-type", "a").unwrap();
            request.append_header("X-Some", "b").unwrap();
            request.append_header("X-Some", "c").unwrap();
            let uri = request.uri.clone();
            edit_request(&mut request, add).unwrap();
            assert!(!request.has_case());
            assert_eq!(request.raw_path(), target);
            assert_eq!(request.uri, uri);
            assert_eq!(request.method, "POST");
            assert_eq!(
                wire(&request),
                "Content-Type: a\r\nx-some: b\r\nx-some: c\r\nx-added: 1\r\n"
            );
        }
    }

    /// pingora's types may come to hold more than is put back here.
    #[test]
    fn nothing_else_of_a_head_is_lost() {
        let mut request = RequestHeader::build_no_case("POST", b"/v2?a", None).unwrap();
        request.append_header("x-some", "a").unwrap();
        request.set_version(http::Version::HTTP_2);
        request.set_send_end_stream(false);
        let before = format!("{request:?}");
        edit_request(&mut request, |_| ()).unwrap();
        assert_eq!(format!("{request:?}"), before);
        let mut response = ResponseHeader::build_no_case(404, None).unwrap();
        response.append_header("x-some", "a").unwrap();
        response.set_reason_phrase(Some("Gone Fishing")).unwrap();
        let before = format!("{response:?}");
        edit_response(&mut response, |_| ()).unwrap();
        assert_eq!(format!("{response:?}"), before);
    }

    #[test]
    fn how_a_request_of_http_2_ends_is_kept() {
        for ends in [true, false] {
            let mut request = RequestHeader::build("POST", b"/", None).unwrap();
            request.set_version(http::Version::HTTP_2);
            request.set_send_end_stream(ends);
            forget_case(&mut request).unwrap();
            assert_eq!(request.send_end_stream(), Some(ends));
        }
    }

    #[test]
    fn an_answer_keeps_its_status_and_its_phrase() {
        for phrase in [None, Some("OK"), Some("Fine"), Some("")] {
            let mut response = ResponseHeader::build(200, None).unwrap();
            response.set_reason_phrase(phrase).unwrap();
            let before = response.get_reason_phrase().map(str::to_owned);
            edit_response(&mut response, add).unwrap();
            assert_eq!(response.status, 200);
            assert_eq!(response.get_reason_phrase().map(str::to_owned), before);
            assert_eq!(response.headers[NAME], VALUE);
        }
    }
}
