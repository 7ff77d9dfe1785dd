//! A claim of a JSON Web Token (RFC 7519), as the key of a client.
//!
//! **The signature is not verified.** The claim does nothing but choose a version,
//! as any header would that the client writes itself; whoever forges one gets the
//! version of somebody else and nothing more. Who may ask at all is not decided
//! here.
//!
//! The payload is read as a stream: one member is kept, and the rest is skipped,
//! so that a token costs one buffer for its decoded text.

use std::{borrow::Cow, fmt};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName};
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor},
};

/// The longest payload that is read, encoded.
const MAX_PAYLOAD_BYTES: usize = 8 * 1024;
const BEARER: &[u8] = b"Bearer ";

/// The value of a claim, as text. None when there is no token, or it has no such
/// claim that is a text or a number.
pub(super) fn claim(headers: &HeaderMap, header: &HeaderName, name: &str) -> Option<String> {
    let value = headers.get(header)?.as_bytes();
    let payload = payload(token(value))?;
    let mut json = serde_json::Deserializer::from_slice(&payload);
    let claim = Find(name).deserialize(&mut json).ok()??;
    json.end().ok()?;
    match claim {
        Claim::Text(text) => Some(text.into_owned()),
        Claim::Number(number) => Some(number.to_string()),
        Claim::Other(_) => None,
    }
}

/// The token without the scheme that may stand before it (RFC 6750).
fn token(value: &[u8]) -> &[u8] {
    let scheme = value.get(..BEARER.len());
    let has_scheme = scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(BEARER));
    let token = if has_scheme {
        &value[BEARER.len()..]
    } else {
        value
    };
    token.trim_ascii()
}

/// The second of the three parts.
fn payload(token: &[u8]) -> Option<Vec<u8>> {
    let mut parts = token.split(|byte| *byte == b'.');
    let (Some(_), Some(payload), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    if payload.len() > MAX_PAYLOAD_BYTES {
        return None;
    }
    BASE64_URL_SAFE_NO_PAD.decode(payload).ok()
}

/// A claim that may be a key, or another one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Claim<'j> {
    Text(#[serde(borrow)] Cow<'j, str>),
    Number(serde_json::Number),
    Other(IgnoredAny),
}

/// Finds one member of an object; the last, where there are several, as most
/// readers of JSON do.
struct Find<'n>(&'n str);

impl<'j> DeserializeSeed<'j> for Find<'_> {
    type Value = Option<Claim<'j>>;

    fn deserialize<D: Deserializer<'j>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'j> Visitor<'j> for Find<'_> {
    type Value = Option<Claim<'j>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of claims")
    }

    fn visit_map<A: MapAccess<'j>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<Cow<'j, str>>()? {
            if name == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};

    use super::*;

    fn encoded(payload: &str) -> String {
        format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(payload))
    }

    /// The claim `sub` of a header's value.
    fn sub(value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        claim(&headers, &header::AUTHORIZATION, "sub")
    }

    #[test]
    fn a_text_or_a_number_is_found_wherever_it_stands() {
        for (payload, expected) in [
            (r#"{"sub":"anna"}"#, "anna"),
            (
                r#"{"a":{"sub":"x"},"b":[1,{"sub":2}],"sub":"anna","c":null}"#,
                "anna",
            ),
            (r#"{"sub":"an\u006ea é"}"#, "anna é"),
            (r#"{"\u0073ub":"anna"}"#, "anna"),
            (r#"{"sub":42}"#, "42"),
            (r#"{"sub":-1.5}"#, "-1.5"),
            (r#"{"sub":"first","sub":"last"}"#, "last"),
        ] {
            let token = encoded(payload);
            for value in [
                token.clone(),
                format!("Bearer {token}"),
                format!("bearer   {token} "),
            ] {
                assert_eq!(sub(&value).as_deref(), Some(expected), "{payload}");
            }
        }
    }

    #[test]
    fn whatever_is_no_token_or_has_no_such_claim_makes_no_key() {
        for payload in [
            "{}",
            r#"{"sub":null}"#,
            r#"{"sub":["a"]}"#,
            r#"{"sub":{"a":1}}"#,
            r#"{"sub":true}"#,
            r#"["sub"]"#,
            r#"{"sub":"a"} x"#,
            r#"{"sub":"a""#,
            "",
        ] {
            assert_eq!(sub(&encoded(payload)), None, "{payload}");
        }
        let good = encoded(r#"{"sub":"a"}"#);
        for value in [
            "",
            "Bearer",
            "Basic YTpi",
            "a.b",
            "e30..c2ln",
            &format!("{good}.more"),
            &good.replace('.', ","),
            "e30.!!!!.c2ln",
        ] {
            assert_eq!(sub(value), None, "{value}");
        }
    }

    #[test]
    fn a_payload_beyond_the_bound_is_not_read() {
        let of = |bytes: usize| encoded(&format!(r#"{{"sub":"{}"}}"#, "x".repeat(bytes)));
        assert!(sub(&of(6_000)).is_some());
        assert_eq!(sub(&of(6_200)), None);
        let deep = format!("{{\"a\":{}", "[".repeat(5_000));
        assert_eq!(sub(&encoded(&deep)), None);
    }
}
