//! Names that servers send, numbered as they come, at most so many.

use std::time::Duration;

use super::bucket::Latency;

/// What the names count as for which there is no room.
const OTHERS: &str = "(others)";

/// Names by number; the last stands for all that came too late.
#[derive(Debug)]
pub(super) struct Names {
    seen: Vec<(Seen, Latency)>,
    max: usize,
}

/// A name, how often it came, and when, in seconds since the start.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) count: u64,
    pub(crate) first: f64,
    pub(crate) last: f64,
}

// === impl Names ===

impl Names {
    /// Tells so many apart, and the others from them.
    pub(super) fn new(max: usize) -> Self {
        let seen = Vec::new();
        Self { seen, max }
    }

    /// The number of a name that was seen at that time.
    pub(super) fn saw(&mut self, name: &str, at: Duration) -> usize {
        let at = at.as_secs_f64();
        let index = self.index(name, at);
        if let Some((seen, _)) = self.seen.get_mut(index) {
            seen.count += 1;
            seen.first = seen.first.min(at);
            seen.last = seen.last.max(at);
        }
        index
    }

    fn index(&mut self, name: &str, at: f64) -> usize {
        let named = |(seen, _): &(Seen, Latency)| seen.name == name;
        if let Some(index) = self.seen.iter().position(named) {
            return index;
        }
        if self.seen.len() > self.max {
            return self.max;
        }
        let is_last = self.seen.len() == self.max;
        let seen = Seen {
            name: if is_last { OTHERS } else { name }.to_owned(),
            count: 0,
            first: at,
            last: at,
        };
        self.seen.push((seen, Latency::default()));
        self.seen.len() - 1
    }

    /// The latencies under a number that was given out.
    pub(super) fn latency(&mut self, index: usize) -> &mut Latency {
        &mut self.seen[index].1
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Seen, &Latency)> {
        self.seen.iter().map(|(seen, latency)| (seen, latency))
    }
}
