//! Turns serde's faults into ours: a field, what was expected, what was there.
//!
//! This runs once for a bad body. It rewords only messages whose form is fixed
//! (`invalid type: A, expected B`, and our own `expected B, got A`); anything
//! else is passed on as the parser said it.

use serde_path_to_error::Path;

use super::error::DecodeError;
use crate::text::excerpt;

/// The longest field path shown, for a path may end in a client's own key.
pub(super) fn field(path: &Path) -> String {
    let path = path.to_string();
    // What serde_json calls the inside of a slice that it leaves unread.
    let path = path.split(".$serde_json").next().unwrap_or_default();
    match path {
        "" | "." => "body".to_owned(),
        path => excerpt(path).to_string(),
    }
}

/// Says what a parser's error means for `body`.
pub(super) fn from_serde(body: &[u8], field: String, error: &serde_json::Error) -> DecodeError {
    if !error.is_data() {
        return match non_finite_literal(body, error.line(), error.column()) {
            Some(got) => {
                let expected = "a finite number".to_owned();
                DecodeError::NonFinite {
                    field,
                    expected,
                    got: got.to_owned(),
                }
            }
            None => DecodeError::Malformed {
                field,
                problem: error.to_string(),
            },
        };
    }
    let text = error.to_string();
    let text = without_position(&text, error);
    match split(text) {
        Some((expected, got)) => {
            let (expected, got) = (expected.to_owned(), reword(got));
            DecodeError::Mismatch {
                field,
                expected,
                got,
            }
        }
        None => DecodeError::Malformed {
            field,
            problem: excerpt(text).to_string(),
        },
    }
}

fn without_position<'a>(text: &'a str, error: &serde_json::Error) -> &'a str {
    let position = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&position).unwrap_or(text)
}

/// Splits a message into what was expected and what was there.
fn split(text: &str) -> Option<(&str, &str)> {
    if let Some(rest) = text.strip_prefix("expected ") {
        return rest.split_once(", got ");
    }
    let rest = text
        .strip_prefix("invalid type: ")
        .or_else(|| text.strip_prefix("invalid value: "));
    // From the right: what was there may be a client's text with the same words.
    rest?
        .rsplit_once(", expected ")
        .map(|(got, expected)| (expected, got))
}

/// JSON's words for serde's.
fn reword(got: &str) -> String {
    match got {
        "map" => "an object".to_owned(),
        "sequence" => "a list".to_owned(),
        other => excerpt(other).to_string(),
    }
}

/// The literal at that position, where it is one that JavaScript or Python
/// write for a number that JSON does not have.
fn non_finite_literal(body: &[u8], line: usize, column: usize) -> Option<&str> {
    let line = body
        .split(|&byte| byte == b'\n')
        .nth(line.checked_sub(1)?)?;
    let is_word = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'-';
    let at = column.min(line.len());
    let before = line[..at]
        .iter()
        .rev()
        .take(16)
        .take_while(|byte| is_word(byte))
        .count();
    let after = line[at..]
        .iter()
        .take(16)
        .take_while(|byte| is_word(byte))
        .count();
    let word = std::str::from_utf8(&line[at - before..at + after]).ok()?;
    ["NaN", "Infinity", "-Infinity"]
        .contains(&word)
        .then_some(word)
}
