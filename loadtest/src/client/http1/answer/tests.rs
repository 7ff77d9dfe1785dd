use proptest::prelude::*;

use super::*;

/// What comes of these bytes, handed over in these pieces: status, version, body, and whether the connection stays.
type Got = Result<Option<Whole>, String>;
type Whole = (u16, Option<String>, Vec<u8>, bool);

fn of(bytes: &[u8], pieces: &[usize]) -> Got {
    let (mut incoming, mut read) = (Incoming::default(), BytesMut::new());
    let mut rest = bytes;
    let mut pieces = pieces.iter().copied().cycle();
    while !rest.is_empty() {
        let piece;
        (piece, rest) = rest.split_at(pieces.next().unwrap_or(1).clamp(1, rest.len()));
        read.extend_from_slice(piece);
        match incoming
            .step(&mut read)
            .map_err(|error| error.to_string())?
        {
            Step::Whole(answer, may_stay) => {
                let version = answer.from.version.map(|version| version.to_string());
                let may_stay = may_stay && read.is_empty();
                return Ok(Some((
                    answer.status,
                    version,
                    answer.body.to_vec(),
                    may_stay,
                )));
            }
            Step::More => {}
        }
    }
    let end = incoming.end(&mut read);
    Ok(end.map(|answer| {
        (
            answer.status,
            answer.from.version.map(|version| version.to_string()),
            answer.body.to_vec(),
            false,
        )
    }))
}

fn whole(bytes: &str) -> Got {
    of(bytes.as_bytes(), &[usize::MAX])
}

fn answer(status: u16, body: &str, stays: bool) -> Whole {
    (status, None, body.as_bytes().to_vec(), stays)
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nX-Aegis-Model-Version: 2\r\nTransfer-Encoding: chunked\r\n\r\n\
                       3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n";

#[test]
fn a_body_ends_where_its_framing_says() {
    let length = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";
    assert_eq!(whole(length), Ok(Some(answer(200, "abc", true))));
    let chunked = (200, Some("2".to_owned()), b"abc0123456789".to_vec(), true);
    assert_eq!(whole(CHUNKED), Ok(Some(chunked)));
    let close = "HTTP/1.1 200 OK\r\n\r\nall of it";
    assert_eq!(whole(close), Ok(Some(answer(200, "all of it", false))));
    assert_eq!(
        whole("HTTP/1.1 204 No Content\r\n\r\n"),
        Ok(Some(answer(204, "", true)))
    );
}

#[test]
fn interim_answers_are_passed_over() {
    let bytes = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n\
                 HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\nno";
    assert_eq!(whole(bytes), Ok(Some(answer(503, "no", true))));
}

#[test]
fn a_connection_stays_as_its_answer_says_and_where_nothing_lies_behind_it() {
    let stays = |version: &str, header: &str, more: &str| {
        let bytes = format!("HTTP/{version} 200 OK\r\ncontent-length: 1\r\n{header}\r\na{more}");
        whole(&bytes).unwrap().unwrap().3
    };
    assert!(stays("1.1", "", ""));
    assert!(!stays("1.1", "Connection: Close\r\n", ""));
    assert!(!stays("1.1", "connection: keep-alive, close\r\n", ""));
    let lines = "connection: close\r\nconnection: keep-alive\r\n";
    assert!(!stays("1.1", lines, ""));
    assert!(!stays("1.1", "", "HTTP/1.1 408 Timeout\r\n\r\n"));
    assert!(!stays("1.0", "", ""));
    assert!(stays("1.0", "connection: keep-alive\r\n", ""));
    let both = CHUNKED.replace("Transfer", "content-length: 3\r\nTransfer");
    assert!(!whole(&both).unwrap().unwrap().3);
    let old = CHUNKED.replace("1.1 200 OK", "1.0 200 OK\r\nconnection: keep-alive");
    assert!(!whole(&old).unwrap().unwrap().3);
    let upgraded = whole("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n");
    assert_eq!(upgraded, Ok(Some(answer(101, "", false))));
}

#[test]
fn what_is_no_answer_says_why() {
    let error = |bytes: &str| whole(bytes).unwrap_err();
    assert_eq!(error("220 smtp ready\r\n"), "invalid HTTP version");
    assert!(error("HTTP/1.1 000 None\r\n\r\n").contains("at least 100, got 0"));
    let with =
        |header: &str, body: &str| error(&format!("HTTP/1.1 200 OK\r\n{header}\r\n\r\n{body}"));
    let length = "expected a content-length that is a number, and one only";
    assert_eq!(with("content-length: +3", "abc"), length);
    assert_eq!(
        with("content-length: 3\r\ncontent-length: 4", "abc"),
        length
    );
    assert!(with("content-length: 99999999999", "").contains("at most 16777216 bytes"));
    assert!(with("transfer-encoding: gzip", "").contains("ends with chunked"));
    let chunked = |body| with("transfer-encoding: chunked", body);
    assert!(chunked("x\r\n").contains("a chunk"));
    assert!(chunked("1\r\nabc").contains("a chunk"));
    assert!(
        chunked("\r\n\r\n").contains("a chunk"),
        "no length is no end"
    );
    assert!(chunked(";a=b\r\n\r\n").contains("a chunk"));
    assert!(chunked("fffffff\r\n").contains("at most 16777216 bytes"));
    let long = format!("HTTP/1.1 200 OK\r\n{}", "a".repeat(MAX_HEAD));
    assert!(error(&long).contains("a head of at most"));
    let trailers = format!("0\r\n{}", "a: b\r\n".repeat(MAX_HEAD / 6 + 1));
    assert!(chunked(&trailers).contains("a head of at most"));
}

#[test]
fn a_connection_that_ends_within_an_answer_has_given_none() {
    for bytes in [
        "",
        "HTTP/1.1 200",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab",
    ] {
        assert_eq!(whole(bytes), Ok(None), "{bytes}");
    }
    assert_eq!(whole(&CHUNKED[..CHUNKED.len() - 2]), Ok(None));
}

proptest! {
    /// However the network cuts an answer, it is the same.
    #[test]
    fn pieces_make_no_difference(pieces in prop::collection::vec(1_usize..9, 1..20), which in 0_usize..3) {
        let bytes = [
            CHUNKED,
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n0123456789a",
            "HTTP/1.1 200 OK\r\n\r\nuntil the connection ends",
        ][which];
        prop_assert_eq!(of(bytes.as_bytes(), &pieces), whole(bytes));
    }

    /// Nothing that a server sends makes it panic or take more than there is.
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), head in any::<bool>()) {
        let start: &[u8] = if head { b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" } else { b"" };
        let _ = of(&[start, &bytes].concat(), &[7]);
    }
}
