//! A table of the file, and the checks that every table needs.

use std::{fmt::Display, num::NonZeroU32, time::Duration};

use aegis_config::{Faults, KeyPath};

use crate::config::{
    Name,
    ranges::{Fraction, Range},
};

/// One table: knows its path, and where faults go.
pub(super) struct Scope<'a, 't> {
    path: KeyPath,
    faults: &'a mut Faults<'t>,
}

// === impl Scope ===

impl<'a, 't> Scope<'a, 't> {
    pub(super) fn new(path: impl Into<KeyPath>, faults: &'a mut Faults<'t>) -> Self {
        Self {
            path: path.into(),
            faults,
        }
    }

    /// The table `key` in this one.
    pub(super) fn child(&mut self, key: &str) -> Scope<'_, 't> {
        Scope::new(self.path.key(key), self.faults)
    }

    /// The table that is the element `index` of `key`.
    pub(super) fn element(&mut self, key: &str, index: usize) -> Scope<'_, 't> {
        Scope::new(self.path.key(key).index(index), self.faults)
    }

    /// Something is wrong with `key`.
    pub(super) fn fault(&mut self, key: &str, message: impl Into<String>) {
        self.faults.at(self.path.key(key), message);
    }

    /// Something is wrong with the element `index` of `key`.
    pub(super) fn element_fault(&mut self, key: &str, index: usize, message: impl Into<String>) {
        self.faults.at(self.path.key(key).index(index), message);
    }

    /// Something is wrong with what stands at and below `key` taken together,
    /// unless it only follows from what is known to be wrong there.
    pub(super) fn overall_fault(&mut self, key: &str, message: impl Into<String>) {
        let path = self.path.key(key);
        if !self.faults.failed_near(&path) {
            self.faults.at(path, message);
        }
    }

    /// A number within its range.
    pub(super) fn number(&mut self, key: &str, value: u64, range: Range) -> u64 {
        let Range { min, max } = range;
        if !(min..=max).contains(&value) {
            self.fault(key, format!("expected {min} to {max}, got {value}"));
        }
        value.clamp(min, max)
    }

    /// A number with a fraction, within its range.
    pub(super) fn fraction(&mut self, key: &str, value: f64, range: Fraction) -> f64 {
        let Fraction { min, max } = range;
        if !(min..=max).contains(&value) {
            self.fault(
                key,
                format!("expected a number from {min} to {max}, got {value}"),
            );
            return min;
        }
        value
    }

    /// As [`Scope::number`], in milliseconds.
    pub(super) fn millis(&mut self, key: &str, value: u64, range: Range) -> Duration {
        Duration::from_millis(self.number(key, value, range))
    }

    /// As [`Scope::number`]; 0 is out of every range that is asked for here.
    pub(super) fn count(&mut self, key: &str, value: u64, range: Range) -> NonZeroU32 {
        let number = self.number(key, value, range);
        u32::try_from(number)
            .ok()
            .and_then(NonZeroU32::new)
            .unwrap_or(NonZeroU32::MIN)
    }

    /// What a parser made of `key`.
    pub(super) fn parsed<T>(&mut self, key: &str, result: Result<T, impl Display>) -> Option<T> {
        result
            .map_err(|error| self.fault(key, error.to_string()))
            .ok()
    }

    /// A key that is itself a name.
    pub(super) fn name(&mut self, key: &str) -> Option<Name> {
        self.parsed(key, Name::new(key))
    }
}
