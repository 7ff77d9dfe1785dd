//! An error with all its causes, on one line.

use std::error::Error;
use std::fmt;

/// Displays an error and then each of its sources, with colons between.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'e>(pub &'e dyn Error);

// === impl Chain ===

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Chain;
    use crate::model::{LoadError, ModelError};

    #[test]
    fn every_cause_is_shown_once() {
        let error = LoadError::WarmUp {
            rows: 8,
            source: ModelError::Executor("bang".into()),
        };
        assert_eq!(
            Chain(&error).to_string(),
            "cannot run a batch of 8 zeroed rows: bang"
        );
    }
}
