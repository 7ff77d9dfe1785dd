//! How long a client waits: the header `x-request-timeout-ms`, gRPC's own,
//! `grpc-timeout`, and the parameter `timeout` of an inference.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use crate::{Parameter, headers, text::excerpt};

/// The name of the parameter, which counts in microseconds as Triton does.
pub const PARAMETER: &str = "timeout";

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

/// The parameter says no time. The client's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parameters.timeout: expected whole microseconds >= 1, got {got}")]
pub struct BadParameter {
    /// Its value, cut.
    pub got: String,
}

/// What is read of an inference in JSON; all else is skipped where it stands.
#[derive(Deserialize)]
struct OnlyParameters {
    #[serde(default)]
    parameters: Option<OnlyTimeout>,
}

/// See [`PARAMETER`].
#[derive(Deserialize)]
struct OnlyTimeout {
    #[serde(default)]
    timeout: Option<Parameter>,
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

/// The time that the parameter asks for.
///
/// # Errors
///
/// When it is anything but a whole number from 1.
pub fn of_parameter(value: &Parameter) -> Result<Duration, BadParameter> {
    match value.as_i64().map(u64::try_from) {
        Some(Ok(us @ 1..)) => Ok(Duration::from_micros(us)),
        _ => Err(BadParameter {
            got: value.to_string(),
        }),
    }
}

/// The time that an inference in JSON asks for among its parameters. Its tensors are
/// skipped, and what is no such JSON asks for none: whoever reads all of it will say
/// what is wrong with it.
///
/// # Errors
///
/// As [`of_parameter`].
pub fn in_json(body: &[u8]) -> Result<Option<Duration>, BadParameter> {
    let read: Result<OnlyParameters, _> = serde_json::from_slice(body);
    let parameters = read.ok().and_then(|read| read.parameters);
    let timeout = parameters.and_then(|parameters| parameters.timeout);
    timeout.as_ref().map(of_parameter).transpose()
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
    fn the_parameter_is_in_microseconds() {
        assert_eq!(
            of_parameter(&Parameter::Int(250)),
            Ok(Duration::from_micros(250))
        );
        for value in [
            Parameter::Int(0),
            Parameter::Int(-5),
            Parameter::Float(1.5),
            Parameter::Bool(true),
            Parameter::String("5".to_owned()),
        ] {
            assert!(of_parameter(&value).is_err(), "{value:?}");
        }
        assert_eq!(
            of_parameter(&Parameter::Int(-5)).unwrap_err().to_string(),
            "parameters.timeout: expected whole microseconds >= 1, got -5"
        );
    }

    #[test]
    fn the_parameter_is_found_in_json_where_it_belongs() {
        let of = |body: &str| in_json(body.as_bytes());
        let us = |us| Ok(Some(Duration::from_micros(us)));
        let inputs = r#""inputs":[{"name":"x","parameters":{"timeout":1},"data":[[1,2],[3]]}]"#;
        for body in [
            r#"{"parameters":{"timeout":7}}"#.to_owned(),
            format!(r#"{{{inputs},"parameters":{{"a":"timeout","timeout":7}}}}"#),
            format!(r#"{{"parameters":{{"timeout" : 7 ,"b":1.5}},"id":"timeout",{inputs}}} "#),
        ] {
            assert_eq!(of(&body), us(7), "{body}");
        }
        for body in [
            format!("{{{inputs}}}"),
            r#"{"timeout":7}"#.to_owned(),
            r#"{"parameters":null}"#.to_owned(),
            r#"{"parameters":{"timeout":null}}"#.to_owned(),
            // A reader of all of it refuses these.
            r#"{"parameters":{"timeout":7}"#.to_owned(),
            r#"{"parameters":{"timeout":7},"parameters":{}}"#.to_owned(),
            r#"{"parameters":{"timeout":[7]}}"#.to_owned(),
            r#"[{"parameters":{"timeout":7}}]"#.to_owned(),
            "timeout".to_owned(),
        ] {
            assert_eq!(of(&body), Ok(None), "{body}");
        }
        assert!(of(r#"{"parameters":{"timeout":0}}"#).is_err());
        assert!(of(r#"{"parameters":{"timeout":18446744073709551615}}"#).is_err());
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
