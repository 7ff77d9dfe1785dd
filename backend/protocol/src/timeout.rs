//! How long a client waits: the header `x-request-timeout-ms`, and gRPC's own,
//! `grpc-timeout`.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{headers, text::excerpt};

/// The most digits that gRPC allows.
const GRPC_DIGITS: usize = 8;

/// The header says no time. The client's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{header}: expected {expected}, got `{got}`")]
pub struct BadTimeout {
    /// The header.
    pub header: HeaderName,
    /// What it may say.
    pub expected: &'static str,
    /// Its value, cut.
    pub got: String,
}

/// The time that a client's header asks for.
///
/// # Errors
///
/// When it is anything but a whole number from 1, or is there twice with two values.
pub fn from_headers(headers: &HeaderMap) -> Result<Option<Duration>, BadTimeout> {
    let expected = "whole milliseconds >= 1";
    read(headers, &headers::REQUEST_TIMEOUT_MS, expected, |text| {
        // Only digits: `parse` alone would take a sign.
        match text.parse() {
            Ok(ms @ 1_u64..) if is_digits(text) => Some(Duration::from_millis(ms)),
            _ => None,
        }
    })
}

/// The time that a gRPC call may take.
///
/// # Errors
///
/// When it is not what gRPC writes, or is there twice with two values.
pub fn of_grpc(headers: &HeaderMap) -> Result<Option<Duration>, BadTimeout> {
    let expected = "1 to 8 digits and one of H, M, S, m, u, n";
    read(headers, &headers::GRPC_TIMEOUT, expected, |text| {
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        if digits.len() > GRPC_DIGITS || !is_digits(digits) {
            return None;
        }
        let count = digits.parse().ok()?;
        Some(match unit {
            "H" => Duration::from_secs(count * 3_600),
            "M" => Duration::from_secs(count * 60),
            "S" => Duration::from_secs(count),
            "m" => Duration::from_millis(count),
            "u" => Duration::from_micros(count),
            "n" => Duration::from_nanos(count),
            _ => return None,
        })
    })
}

/// A time as gRPC writes it, in milliseconds where their digits suffice.
#[must_use]
pub fn to_grpc(time: Duration) -> HeaderValue {
    let text = match time.as_millis().max(1) {
        ms @ ..100_000_000 => format!("{ms}m"),
        _ => format!("{}S", time.as_secs().min(99_999_999)),
    };
    // Digits and a letter are always a value.
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("1S"))
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn read(
    headers: &HeaderMap,
    header: &HeaderName,
    expected: &'static str,
    parse: impl Fn(&str) -> Option<Duration>,
) -> Result<Option<Duration>, BadTimeout> {
    let mut values = headers.get_all(header).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let bad = |text: &str| BadTimeout {
        header: header.clone(),
        expected,
        got: excerpt(text).to_string(),
    };
    let text = value.to_str().map_err(|_| bad("not ASCII"))?;
    if let Some(other) = values.find(|other| *other != value) {
        let other = other.to_str().unwrap_or("not ASCII");
        return Err(bad(&format!("{text}, {other}")));
    }
    parse(text).map(Some).ok_or_else(|| bad(text))
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn grpc_counts_in_units_of_its_own() {
        let of = |value: &'static str| {
            let value = HeaderValue::from_static(value);
            of_grpc(&HeaderMap::from_iter([(headers::GRPC_TIMEOUT, value)]))
        };
        let ms = Duration::from_millis;
        for (text, time) in [
            ("2H", ms(7_200_000)),
            ("1M", ms(60_000)),
            ("3S", ms(3_000)),
            ("250m", ms(250)),
            ("1000u", ms(1)),
            ("99999999n", Duration::from_nanos(99_999_999)),
        ] {
            assert_eq!(of(text), Ok(Some(time)), "{text}");
        }
        for text in [
            "",
            "m",
            "5",
            "5s",
            "+5m",
            "-5m",
            "1.5S",
            "123456789m",
            "5 m",
        ] {
            assert!(of(text).is_err(), "{text}");
        }
        assert_eq!(of_grpc(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn what_is_written_for_grpc_reads_back() {
        for ms in [1, 250, 99_999_999, 100_000_000, 400_000_000] {
            let time = Duration::from_millis(ms);
            let header = HeaderMap::from_iter([(headers::GRPC_TIMEOUT, to_grpc(time))]);
            let read = of_grpc(&header).unwrap().unwrap();
            assert!(time.abs_diff(read) < Duration::from_secs(1), "{ms}");
        }
        assert_eq!(to_grpc(Duration::ZERO), "1m");
    }
}
