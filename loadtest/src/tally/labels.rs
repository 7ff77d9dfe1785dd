//! A map whose keys come from a server, with a most number of them.

use std::collections::BTreeMap;

/// Where everything goes for which there is no room.
const OTHERS: &str = "(others)";

/// Values by label; labels beyond the limit share one value.
#[derive(Clone, Debug)]
pub(super) struct Labels<T> {
    values: BTreeMap<String, T>,
    max: usize,
}

// === impl Labels ===

impl<T> Default for Labels<T> {
    fn default() -> Self {
        Self::new(super::MAX_LABELS)
    }
}

impl<T> Labels<T> {
    pub(super) fn new(max: usize) -> Self {
        Self {
            values: BTreeMap::new(),
            max,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.values
            .iter()
            .map(|(label, value)| (label.as_str(), value))
    }
}

impl<T: Default> Labels<T> {
    pub(super) fn entry(&mut self, label: &str) -> &mut T {
        let has_room = self.values.len() < self.max;
        // Nearly always it is there, and then nothing is copied.
        if self.values.contains_key(label) {
            self.values.get_mut(label).expect("it is there")
        } else {
            let label = if has_room { label } else { OTHERS };
            self.values.entry(label.to_owned()).or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_beyond_the_limit_are_counted_together() {
        let mut labels = Labels::<u64>::new(2);
        for label in ["a", "b", "c", "a", "d"] {
            *labels.entry(label) += 1;
        }
        let counts: Vec<_> = labels
            .iter()
            .map(|(label, &count)| (label, count))
            .collect();
        assert_eq!(counts, [(OTHERS, 2), ("a", 2), ("b", 1)]);
    }
}
