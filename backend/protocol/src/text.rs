//! User text, cut before it reaches an error, a log or an answer.
//!
//! A body may be 64 MiB of one string. Whatever is quoted from it is bounded
//! here, once, and control characters are escaped so that a quoted name cannot
//! forge a log line.

use std::fmt;

/// The most characters of user text that are ever shown.
const SHOWN: usize = 64;
/// The most names that are ever listed.
const LISTED: usize = 16;

/// Shows at most 64 characters of user text, escaped, with `…` where it was cut.
#[derive(Clone, Copy, Debug)]
pub struct Excerpt<'a>(&'a str);

/// Wraps `text` so that its `Display` is short and on one line.
#[must_use]
pub fn excerpt(text: &str) -> Excerpt<'_> {
    Excerpt(text)
}

/// Lists names for an error text, sorted; says how many were left out.
pub fn listed<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    let more = names.len().saturating_sub(LISTED);
    names.truncate(LISTED);
    let names = names.join(", ");
    match more {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

// === impl Excerpt ===

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        for c in chars.by_ref().take(SHOWN) {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        if chars.next().is_some() {
            f.write_str("…")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_text_is_shown_whole() {
        assert_eq!(excerpt("digits").to_string(), "digits");
    }

    #[test]
    fn long_text_is_cut_on_a_character() {
        let shown = excerpt(&"é".repeat(1_000_000)).to_string();
        assert_eq!(shown, format!("{}…", "é".repeat(SHOWN)));
    }

    #[test]
    fn control_characters_cannot_start_a_new_line() {
        assert_eq!(excerpt("a\nb\u{1b}").to_string(), "a\\nb\\u{1b}");
    }
}
