//! The audit log: one line for every change that somebody makes to what runs, and for
//! every try that came to nothing.
//!
//! A line says when (the log's own time), by whom, what was done to what, how that
//! ended, and what is different now. It has the target `audit`, by which a collector
//! of logs tells it from others, and is written whatever `RUST_LOG` says, unless that
//! names `audit` itself.

use std::{fmt, net::SocketAddr};

/// The target of the lines.
pub const TARGET: &str = "audit";

/// The most facts of a difference that one line holds.
const MAX_FACTS: usize = 100;

/// Who makes a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The file says something new.
    File,
    /// SIGHUP.
    Signal,
    /// A client of the admin port.
    Admin(SocketAddr),
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The configuration is read from its file.
    Reload,
    /// The configuration that ran before is put back.
    Rollback,
    /// An endpoint is taken out of the choice.
    Drain,
    /// It is put back.
    Undrain,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in force.
    Applied,
    /// It was so already.
    Unchanged,
    /// It was refused, and what ran still runs.
    Refused,
}

/// One line.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Who.
    pub by: By,
    /// What.
    pub action: Action,
    /// Of what: a file, or an endpoint.
    pub subject: &'a str,
    /// How it ended.
    pub outcome: Outcome,
    /// The number of the configuration that runs now, where the change made one.
    pub generation: Option<u64>,
    /// What is different now, or why nothing is: one fact each.
    pub facts: &'a [String],
}

/// Facts in one line of text.
struct Joined<'a>(&'a [String]);

// === impl Entry ===

impl Entry<'_> {
    /// Writes the line.
    pub fn write(self) {
        tracing::info!(
            target: TARGET,
            by = %self.by,
            action = self.action.label(),
            subject = self.subject,
            outcome = self.outcome.label(),
            generation = self.generation,
            facts = %Joined(self.facts),
            "a change by an operator"
        );
    }
}

// === impl By ===

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("file"),
            Self::Signal => f.write_str("SIGHUP"),
            Self::Admin(client) => write!(f, "admin {client}"),
        }
    }
}

// === impl Action ===

impl Action {
    fn label(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Rollback => "rollback",
            Self::Drain => "drain",
            Self::Undrain => "undrain",
        }
    }
}

// === impl Outcome ===

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

// === impl Joined ===

impl fmt::Display for Joined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fact) in self.0.iter().take(MAX_FACTS).enumerate() {
            let between = if i == 0 { "" } else { "; " };
            // A fault may quote a file, and a line is one line.
            write!(f, "{between}{}", fact.escape_debug())?;
        }
        match self.0.len().checked_sub(MAX_FACTS) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, "; and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_one_line_and_bounded() {
        let facts: Vec<String> = (0..102).map(|i| format!("fact\n{i}")).collect();
        let text = Joined(&facts).to_string();
        assert!(text.starts_with("fact\\n0; fact\\n1; "), "{text}");
        assert!(text.ends_with("fact\\n99; and 2 more"), "{text}");
        assert_eq!(Joined(&facts[..1]).to_string(), "fact\\n0");
        assert_eq!(Joined(&[]).to_string(), "");
    }

    #[test]
    fn whoever_makes_a_change_has_a_name() {
        let client = By::Admin(([127, 0, 0, 1], 4_000).into());
        assert_eq!(client.to_string(), "admin 127.0.0.1:4000");
        assert_eq!(By::File.to_string(), "file");
        assert_eq!(By::Signal.to_string(), "SIGHUP");
    }
}
