//! Durations as people write them: `1500ms`, `30s`, `2m`.

use std::time::Duration;

/// The longest: a day.
const MAX: Duration = Duration::from_hours(24);

/// Reads a number and its unit.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let refused =
        || format!("expected a duration up to a day, such as 1500ms, 30s or 2m, got `{text}`");
    let digits = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(refused()),
    };
    let number: f64 = number.parse().map_err(|_| refused())?;
    let duration = Duration::try_from_secs_f64(number * seconds).map_err(|_| refused())?;
    if duration.is_zero() && number != 0.0 || duration > MAX {
        Err(refused())
    } else {
        Ok(duration)
    }
}

/// Reads one that is longer than nothing.
pub(super) fn positive(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err(format!("expected more than nothing, got `{text}`")),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_of_nothing_is_none() {
        assert_eq!(positive("1ms"), Ok(Duration::from_millis(1)));
        assert!(positive("0s").unwrap_err().ends_with("got `0s`"));
    }

    #[test]
    fn a_number_and_a_unit_make_a_duration() {
        for (text, millis) in [
            ("1500ms", 1500),
            ("30s", 30_000),
            ("2m", 120_000),
            ("1.5h", 5_400_000),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "30", "s", "-1s", "1d", "1e9s", "25h", "1 s s", "nans"] {
            let error = parse(text).unwrap_err();
            assert!(error.ends_with(&format!("got `{text}`")), "{error}");
        }
    }
}
