//! What is expanded, what is refused, and how much memory it takes.

use http::{HeaderName, HeaderValue};

use super::*;

fn compressed(coding: Coding, bytes: &[u8]) -> Vec<u8> {
    coding.compress(&Encoded {
        head: bytes.to_vec(),
        parts: None,
    })
}

fn expand(coding: Coding, body: &[u8], limit: usize) -> Result<Vec<u8>, BodyError> {
    coding.expand(body, limit, |_| Ok(()))
}

fn headers(name: &HeaderName, values: &[&'static str]) -> HeaderMap {
    let pair = |value: &&'static str| (name.clone(), HeaderValue::from_static(value));
    values.iter().map(pair).collect()
}

#[test]
fn what_was_compressed_is_expanded_to_the_last_byte_of_the_limit() {
    let text = b"0123456789".repeat(10_000);
    for coding in Coding::ALL {
        let body = compressed(coding, &text);
        assert!(body.len() < text.len() / 10);
        assert_eq!(expand(coding, &body, text.len()).unwrap(), text);
        let error = expand(coding, &body, text.len() - 1).unwrap_err();
        assert!(matches!(error, BodyError::TooLarge { limit } if limit == text.len() - 1));
    }
}

#[test]
fn a_bomb_takes_no_more_memory_than_the_limit() {
    let bomb = compressed(Coding::Gzip, &vec![0; 32 << 20]);
    // How well it is packed depends on the library of the build; far below the limit it is by any.
    let limit = 1 << 20;
    assert!(bomb.len() < limit, "{}", bomb.len());
    let mut most = 0;
    let error = Coding::Gzip.expand(&bomb, limit, |more| {
        most += more;
        Ok(())
    });
    assert!(matches!(error, Err(BodyError::TooLarge { .. })));
    assert!(most <= limit, "{most}");
}

#[test]
fn what_finds_no_room_is_refused_before_it_is_kept() {
    let body = compressed(Coding::Deflate, &vec![0; 1 << 20]);
    let full = Coding::Deflate.expand(&body, usize::MAX, |_| Err(UploadsFull { limit: 5 }));
    assert!(matches!(
        full,
        Err(BodyError::NoRoom(UploadsFull { limit: 5 }))
    ));
}

#[test]
fn what_is_not_whole_or_followed_by_more_is_refused() {
    for coding in Coding::ALL {
        let body = compressed(coding, b"some text that is long enough to be cut");
        let other = match coding {
            Coding::Gzip => Coding::Deflate,
            Coding::Deflate => Coding::Gzip,
        };
        let mut longer = body.clone();
        longer.push(b'x');
        let mut flipped = body.clone();
        let last = flipped.len() - 1;
        flipped[last] ^= 1;
        for (what, bytes) in [
            ("empty", &b""[..]),
            ("cut", &body[..body.len() - 1]),
            ("longer", &longer),
            ("flipped", &flipped),
            ("another", &compressed(other, b"text")),
            ("plain", b"{}"),
        ] {
            let error = expand(coding, bytes, 1 << 20).expect_err(what).to_string();
            let start = format!("body: expected {}, as content-encoding says", coding.name());
            assert!(error.starts_with(&start), "{what}: {error}");
        }
    }
}

#[test]
fn a_body_names_at_most_one_coding() {
    let of = |values: &[&'static str]| Coding::of_body(&headers(&CONTENT_ENCODING, values));
    assert_eq!(of(&[]).unwrap(), None);
    assert_eq!(of(&["identity"]).unwrap(), None);
    assert_eq!(of(&["GZip"]).unwrap(), Some(Coding::Gzip));
    assert_eq!(of(&["x-gzip"]).unwrap(), Some(Coding::Gzip));
    assert_eq!(of(&["deflate"]).unwrap(), Some(Coding::Deflate));
    for values in [&["br"][..], &["gzip, gzip"], &["gzip", "gzip"], &[""]] {
        assert!(of(values).is_err(), "{values:?}");
    }
}

#[test]
fn a_client_gets_what_it_likes_best() {
    let of = |values: &[&'static str]| Coding::accepted(&headers(&ACCEPT_ENCODING, values));
    assert_eq!(of(&[]), None);
    assert_eq!(of(&["identity, br"]), None);
    assert_eq!(of(&["gzip, deflate"]), Some(Coding::Gzip));
    assert_eq!(of(&["br", "deflate"]), Some(Coding::Deflate));
    assert_eq!(of(&["gzip;q=0.5, deflate; q=0.8"]), Some(Coding::Deflate));
    assert_eq!(of(&["gzip;q=0, deflate;q=x"]), None);
}
