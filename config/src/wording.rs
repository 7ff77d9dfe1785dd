//! serde's messages in the words of somebody who edits a file.
//!
//! `invalid type: string "x", expected f64` says which Rust type the program
//! uses; `expected a number, got the string "x"` says what to write. A message
//! of another form passes through as it is.

use std::ops::RangeInclusive;

/// Below this likeness (1 is equal) a suggestion would be a guess.
const LIKENESS: f64 = 0.6;

/// Rewrites one message.
pub(crate) fn explain(message: &str) -> String {
    unknown(message)
        .or_else(|| invalid(message))
        .unwrap_or_else(|| message.to_owned())
}

/// ``unknown field `x`, expected one of `a`, `b` ``
fn unknown(message: &str) -> Option<String> {
    let (what, rest) = [("key", "unknown field `"), ("value", "unknown variant `")]
        .into_iter()
        .find_map(|(what, start)| Some((what, message.strip_prefix(start)?)))?;
    let Some((name, expected)) = rest.rsplit_once("`, expected ") else {
        let (name, _) = rest.rsplit_once("`, there are no ")?;
        return Some(format!("unknown {what} `{name}`: none is known here"));
    };
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    let hint = nearest(name, &known)
        .map(|near| format!(", did you mean `{near}`?"))
        .unwrap_or_default();
    let known = known.join(", ");
    Some(format!("unknown {what} `{name}`{hint} (known: {known})"))
}

/// `invalid type: string "x", expected f64`
fn invalid(message: &str) -> Option<String> {
    let rest = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))?;
    let (got, expected) = rest.rsplit_once(", expected ")?;
    Some(format!("expected {}, got {}", wanted(expected), found(got)))
}

/// The known key that was probably meant.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|candidate| {
            (
                strsim::normalized_damerau_levenshtein(name, candidate),
                *candidate,
            )
        })
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// What serde expects, for people.
fn wanted(expected: &str) -> String {
    let range = |range: RangeInclusive<i128>| {
        format!("a whole number from {} to {}", range.start(), range.end())
    };
    match expected {
        "f32" | "f64" => "a number".into(),
        "u8" => range(0..=u8::MAX.into()),
        "u16" => range(0..=u16::MAX.into()),
        "u32" => range(0..=u32::MAX.into()),
        "i8" => range(i8::MIN.into()..=i8::MAX.into()),
        "i16" => range(i16::MIN.into()..=i16::MAX.into()),
        "i32" => range(i32::MIN.into()..=i32::MAX.into()),
        "u64" | "usize" | "u128" => "a whole number >= 0".into(),
        "i64" | "isize" | "i128" => "a whole number".into(),
        "a boolean" => "true or false".into(),
        "a sequence" => "an array".into(),
        "a map" => "a table".into(),
        other if other.starts_with("struct ") => "a table".into(),
        other => other.to_owned(),
    }
}

/// What serde found, for people.
fn found(got: &str) -> String {
    match got.split_once(' ') {
        Some(("boolean" | "integer", value)) => value.trim_matches('`').to_owned(),
        Some(("floating", value)) => value
            .strip_prefix("point ")
            .unwrap_or(value)
            .trim_matches('`')
            .to_owned(),
        Some(("string", value)) => format!("the string {value}"),
        _ => match got {
            "map" => "a table".into(),
            "sequence" => "an array".into(),
            other => other.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::explain;

    #[test]
    fn an_unknown_key_names_the_nearest_and_all_that_are_known() {
        assert_eq!(
            explain("unknown field `wieght`, expected `weight` or `endpoints`"),
            "unknown key `wieght`, did you mean `weight`? (known: weight, endpoints)"
        );
        assert_eq!(
            explain("unknown field `zzz`, expected one of `a_key`, `b_key`"),
            "unknown key `zzz` (known: a_key, b_key)"
        );
        assert_eq!(
            explain("unknown field `x`, there are no fields"),
            "unknown key `x`: none is known here"
        );
    }

    #[test]
    fn a_wrong_type_says_what_to_write() {
        assert_eq!(
            explain("invalid type: string \"a, expected b\", expected f64"),
            "expected a number, got the string \"a, expected b\""
        );
        assert_eq!(
            explain("invalid value: integer `-3`, expected u16"),
            "expected a whole number from 0 to 65535, got -3"
        );
        assert_eq!(
            explain("invalid type: floating point `1.5`, expected u64"),
            "expected a whole number >= 0, got 1.5"
        );
        assert_eq!(
            explain("invalid type: sequence, expected struct RawListen"),
            "expected a table, got an array"
        );
    }

    #[test]
    fn what_is_not_understood_passes_through() {
        assert_eq!(
            explain("integer number overflowed"),
            "integer number overflowed"
        );
    }
}
