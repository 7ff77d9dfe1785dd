//! The key of a client that stays with one version.

mod jwt;

use aegis_policy::sticky;
use http::{HeaderMap, header};

use crate::config::Sticky;

/// The client's key: a hash of its header, cookie or claim, salted with the model's
/// name, so that a client's luck with one model says nothing about another. None
/// when the request carries none of them, or an empty one.
#[must_use]
pub fn key(by: &Sticky, model: &str, headers: &HeaderMap) -> Option<u64> {
    let value = match by {
        Sticky::Header(name) => headers.get(name)?.as_bytes(),
        Sticky::Cookie(name) => cookie(headers, name.as_bytes())?,
        Sticky::Jwt { header, claim } => &jwt::claim(headers, header, claim)?.into_bytes(),
    };
    (!value.is_empty()).then(|| sticky::key(model, value))
}

/// The value of a cookie (RFC 6265, 4.2); the first, where there are several.
fn cookie<'h>(headers: &'h HeaderMap, name: &[u8]) -> Option<&'h [u8]> {
    let lines = headers.get_all(header::COOKIE).iter();
    let mut pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.find_map(|pair| {
        let rest = pair.trim_ascii().strip_prefix(name)?;
        rest.strip_prefix(b"=")
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_claim_makes_the_key_that_its_text_would() {
        let by_claim = Sticky::Jwt {
            header: header::AUTHORIZATION,
            claim: "sub".into(),
        };
        let by_header = Sticky::Header(HeaderName::from_static("x-user-id"));
        // {"sub":"anna"}
        let token = headers(&[("authorization", "Bearer e30.eyJzdWIiOiJhbm5hIn0.c2ln")]);
        let anna = key(&by_header, "m", &headers(&[("x-user-id", "anna")]));
        assert_eq!(key(&by_claim, "m", &token), anna);
        assert_eq!(key(&by_claim, "m", &headers(&[])), None);
    }

    #[test]
    fn a_header_or_a_cookie_makes_a_key_and_its_absence_none() {
        let by_header = Sticky::Header(HeaderName::from_static("x-user-id"));
        let by_cookie = Sticky::Cookie("uid".into());
        let of = |by: &Sticky, pairs: &[_]| key(by, "m", &headers(pairs));
        let anna = of(&by_header, &[("x-user-id", "anna")]);
        assert!(anna.is_some());
        assert_ne!(anna, of(&by_header, &[("x-user-id", "bert")]));
        assert_ne!(
            anna,
            key(&by_header, "other", &headers(&[("x-user-id", "anna")]))
        );
        assert_eq!(of(&by_header, &[]), None);
        assert_eq!(of(&by_header, &[("x-user-id", "")]), None);
        for line in [
            "uid=anna",
            "a=b; uid=anna",
            " uid=anna ; c=d",
            "xuid=bert; uid=anna",
        ] {
            assert_eq!(of(&by_cookie, &[("cookie", line)]), anna, "{line}");
        }
        for line in ["", "uid", "uid=", "xuid=anna", "uidx=anna"] {
            assert_eq!(of(&by_cookie, &[("cookie", line)]), None, "{line}");
        }
        assert_eq!(
            of(&by_cookie, &[("cookie", "a=b"), ("cookie", "uid=anna")]),
            anna
        );
    }
}
