//! The name of one request, by which a client's log, ours and a server's meet.
//!
//! A client's own `x-request-id` is taken where it is one value of 1 to 128
//! visible ASCII characters, so that it fits into any log; whatever else stands
//! there is replaced. It goes upstream with every attempt, and back on the
//! answer.

use aegis_protocol::headers;
use http::{HeaderMap, HeaderValue};
use rand::{Rng, RngExt};

/// The name of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId {
    value: HeaderValue,
}

// === impl RequestId ===

impl RequestId {
    /// The client's, or a new one.
    pub fn of(headers: &HeaderMap, rng: &mut impl Rng) -> Self {
        match headers::request_id(headers) {
            Some(value) => Self {
                value: value.clone(),
            },
            None => Self::new(rng),
        }
    }

    /// A new one.
    pub fn new(rng: &mut impl Rng) -> Self {
        Self { value: random(rng) }
    }

    /// The id as a header's value.
    #[must_use]
    pub fn value(&self) -> &HeaderValue {
        &self.value
    }

    /// Writes it into a request that goes upstream.
    pub fn write(&self, request: &mut HeaderMap) {
        // Even if it was there: the client may have named it in Connection, and pingora
        // has taken it out.
        request.insert(headers::REQUEST_ID, self.value.clone());
    }

    /// Writes it on an answer, in the place of any other.
    pub fn sign(&self, response: &mut HeaderMap) {
        response.insert(headers::REQUEST_ID, self.value.clone());
    }
}

/// 32 hexadecimal digits.
fn random(rng: &mut impl Rng) -> HeaderValue {
    let text = hex(rng.random());
    // Digits and letters make a header's value.
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("none"))
}

/// A number as 32 hexadecimal digits.
#[must_use]
pub fn hex(number: u128) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|at| DIGITS[(number >> (124 - 4 * at)) as usize & 0xf])
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn of(values: &[&'static str]) -> RequestId {
        let pairs = values
            .iter()
            .map(|value| (headers::REQUEST_ID, HeaderValue::from_static(value)));
        let mut headers = HeaderMap::new();
        pairs.for_each(|(name, value)| {
            headers.append(name, value);
        });
        RequestId::of(&headers, &mut StdRng::seed_from_u64(1))
    }

    #[test]
    fn a_sane_id_is_taken_and_whatever_else_is_replaced() {
        let long: &'static str = "x".repeat(128).leak();
        let longer: &'static str = "x".repeat(129).leak();
        for sane in ["a", "7b3c-42/é".split_once('/').unwrap().0, long] {
            assert_eq!(of(&[sane]).value(), sane);
        }
        for values in [&[][..], &[""], &["a b"], &["a\tb"], &[longer], &["a", "a"]] {
            let made = of(values);
            assert_eq!(made.value().len(), 32, "{values:?}");
            assert!(made.value().as_bytes().iter().all(u8::is_ascii_hexdigit));
        }
    }

    #[test]
    fn two_requests_are_told_apart() {
        let mut rng = StdRng::seed_from_u64(2);
        let headers = HeaderMap::new();
        let (a, b) = (
            RequestId::of(&headers, &mut rng),
            RequestId::of(&headers, &mut rng),
        );
        assert_ne!(a, b);
    }

    #[test]
    fn a_number_is_written_with_its_zeros() {
        assert_eq!(&hex(0x2a), b"0000000000000000000000000000002a");
        assert_eq!(&hex(u128::MAX), &[b'f'; 32]);
    }
}
