//! How long a client waits: the header `x-request-timeout-ms`.

use std::time::Duration;

use http::HeaderMap;

use crate::{headers, text::excerpt};

/// The header says no time. The client's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}: expected whole milliseconds >= 1, got `{got}`",
    headers::REQUEST_TIMEOUT_MS
)]
pub struct BadTimeout {
    /// Its value, cut.
    pub got: String,
}

/// The time that a client's header asks for.
///
/// # Errors
///
/// When it is anything but a whole number from 1, or is there twice with two values.
pub fn from_headers(headers: &HeaderMap) -> Result<Option<Duration>, BadTimeout> {
    let mut values = headers.get_all(headers::REQUEST_TIMEOUT_MS).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let bad = |text: &str| BadTimeout {
        got: excerpt(text).to_string(),
    };
    let text = value.to_str().map_err(|_| bad("not ASCII"))?;
    if let Some(other) = values.find(|other| *other != value) {
        let other = other.to_str().unwrap_or("not ASCII");
        return Err(bad(&format!("{text}, {other}")));
    }
    // Only digits: `parse` alone would take a sign.
    match text.parse() {
        Ok(ms @ 1_u64..) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(Some(Duration::from_millis(ms)))
        }
        _ => Err(bad(text)),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(values: &[&'static str]) -> Result<Option<Duration>, BadTimeout> {
        let pair =
            |value: &&'static str| (headers::REQUEST_TIMEOUT_MS, HeaderValue::from_static(value));
        from_headers(&values.iter().map(pair).collect())
    }

    #[test]
    fn whole_milliseconds_are_a_time() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["250"]), Ok(Some(Duration::from_millis(250))));
        assert!(of(&["18446744073709551615"]).is_ok());
    }

    #[test]
    fn anything_but_a_whole_number_from_1_is_refused() {
        for value in [
            "",
            "0",
            "-1",
            "+1",
            "1.5",
            "1e3",
            " 1",
            "soon",
            "99999999999999999999",
        ] {
            assert!(of(&[value]).is_err(), "{value}");
        }
        let error = of(&["soon"]).unwrap_err().to_string();
        assert_eq!(
            error,
            "x-request-timeout-ms: expected whole milliseconds >= 1, got `soon`"
        );
    }

    #[test]
    fn a_header_that_is_there_twice_must_say_one_thing() {
        assert!(of(&["5", "6"]).is_err());
        assert_eq!(of(&["5", "5"]), Ok(Some(Duration::from_millis(5))));
    }
}
