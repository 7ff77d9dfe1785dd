//! What is written to the terminal, or to a file when there is none.

use std::fmt::Display;
use std::io::{IsTerminal, Write, stdout};

/// How text looks: in colour where somebody looks at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    colour: bool,
}

/// Writes a line. Whoever closed the other end does not want to know more.
pub(crate) fn say(text: impl Display) {
    let mut out = stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

// === impl Screen ===

impl Screen {
    /// Colour only for a terminal, and only if it is wanted: <https://no-color.org>.
    pub(crate) fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            colour: wanted && stdout().is_terminal(),
        }
    }

    /// The text as a heading.
    pub(crate) fn bold(self, text: impl Display) -> String {
        self.code("1", text)
    }

    /// The text as something of less importance.
    pub(crate) fn dim(self, text: impl Display) -> String {
        self.code("2", text)
    }

    /// The text as good news, or as bad.
    pub(crate) fn verdict(self, good: bool, text: impl Display) -> String {
        self.code(if good { "1;32" } else { "1;31" }, text)
    }

    fn code(self, code: &str, text: impl Display) -> String {
        if self.colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_string()
        }
    }
}
