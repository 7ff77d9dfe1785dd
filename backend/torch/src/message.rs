//! What may be told of a libtorch error.
//!
//! Messages come with a traceback of the model's source, with the C++ stack, and now and then with
//! a whole tensor: megabytes, and a client's data. One line of bounded length leaves the crate.

use tch::TchError;

/// The longest message that an error carries, in characters.
pub const MAX_MESSAGE_CHARS: usize = 300;

/// How the interpreter begins when a model fails: with this, then a traceback, then the error.
const TRACEBACK: &str = "The following operation failed in the TorchScript interpreter.";
/// The end of each place that a traceback points at.
const HERE: &str = "<--- HERE";

/// Returns the line that says what went wrong, cut to [`MAX_MESSAGE_CHARS`].
pub(crate) fn brief(error: &TchError) -> String {
    match error {
        TchError::Torch(text) => cut(telling_line(text)),
        other => cut(first_line(&other.to_string())),
    }
}

/// The first line, or, after a traceback, the line of the error itself.
fn telling_line(text: &str) -> &str {
    let text = text.trim_start();
    let traced = text
        .strip_prefix(TRACEBACK)
        .and_then(|rest| rest.rsplit_once(HERE));
    // The source goes on for a few lines after the place that failed, indented; the error is not.
    let begins = |line: &&str| line.starts_with(char::is_alphabetic);
    let error = traced.and_then(|(_, rest)| rest.lines().skip(1).find(begins));
    error.unwrap_or_else(|| first_line(text))
}

fn first_line(text: &str) -> &str {
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or("no message")
}

fn cut(line: &str) -> String {
    let mut cut: String = line.chars().take(MAX_MESSAGE_CHARS).collect();
    if cut.len() < line.len() {
        cut.pop();
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn torch(text: &str) -> String {
        brief(&TchError::Torch(text.to_owned()))
    }

    #[test]
    fn only_the_first_line_is_told() {
        assert_eq!(torch("\n  shapes differ\n[ 1.0 2.0 ]\n"), "shapes differ");
    }

    #[test]
    fn a_traceback_is_skipped() {
        let source = format!("Traceback\n    x = y\n        ~ {HERE}\n    return x\n");
        let text = format!("{TRACEBACK}\n{source}RuntimeError: no y\n[ 1.0 2.0 ]");
        assert_eq!(torch(&text), "RuntimeError: no y");
    }

    #[test]
    fn a_traceback_without_an_error_still_says_what_failed() {
        assert_eq!(torch(TRACEBACK), TRACEBACK);
    }

    #[test]
    fn a_line_is_cut_between_characters() {
        let cut = torch(&"é".repeat(MAX_MESSAGE_CHARS + 1));
        assert_eq!(cut.chars().count(), MAX_MESSAGE_CHARS);
        assert!(cut.ends_with("é…"));
        let whole = "é".repeat(MAX_MESSAGE_CHARS);
        assert_eq!(torch(&whole), whole);
    }

    #[test]
    fn an_empty_message_is_told_as_such() {
        assert_eq!(torch(" \n "), "no message");
    }
}
