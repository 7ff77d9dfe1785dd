//! Requests added up, and in how many batches they would run.
//!
//! Those with as many rows as a batch may have run alone, however many they are; the others share. Into
//! one batch go as many of these as their mean rows say, since looking at each of them would make a
//! question of each request as long as the queue. Where all have as many rows as each other, or one beside
//! some that run alone, that is what the [batcher](super::Batcher) does.

/// Some requests of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those that share batches, and their rows.
    sharing: (usize, usize),
    /// Those that run alone, and their rows.
    alone: (usize, usize),
}

/// What they run in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batches {
    /// How many.
    pub count: usize,
    /// Rows of the last that is shared; 0 where none is.
    pub last: usize,
}

// === impl Tally ===

impl Tally {
    /// Adds a request of so many rows, where a batch may have `max_rows`.
    pub(crate) fn add(&mut self, rows: usize, max_rows: usize) {
        let (requests, sum) = self.side(rows, max_rows);
        *requests += 1;
        // A client may say any number of rows; their sum is advice.
        *sum = sum.saturating_add(rows);
    }

    /// Takes one out.
    pub(crate) fn remove(&mut self, rows: usize, max_rows: usize) {
        let (requests, sum) = self.side(rows, max_rows);
        *requests = requests.saturating_sub(1);
        *sum = sum.saturating_sub(rows);
    }

    /// How many requests they are.
    #[must_use]
    pub fn requests(self) -> usize {
        self.sharing.0 + self.alone.0
    }

    /// The rows of all of them.
    #[must_use]
    pub fn rows(self) -> usize {
        self.sharing.1.saturating_add(self.alone.1)
    }

    /// What they run in, where a batch may have `max_rows`.
    #[must_use]
    pub fn batches(self, max_rows: usize) -> Batches {
        let ((requests, rows), (alone, _)) = (self.sharing, self.alone);
        if requests == 0 {
            return Batches {
                count: alone,
                last: 0,
            };
        }
        // Requests of three rows do not fill a batch of eight.
        let each = rows.div_ceil(requests).max(1);
        let full = (max_rows / each * each).max(each);
        let shared = rows.div_ceil(full);
        Batches {
            count: alone + shared,
            last: rows - shared.saturating_sub(1) * full,
        }
    }

    fn side(&mut self, rows: usize, max_rows: usize) -> (&mut usize, &mut usize) {
        let (requests, sum) = if rows < max_rows {
            &mut self.sharing
        } else {
            &mut self.alone
        };
        (requests, sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 8;

    fn of(rows: &[usize]) -> (usize, usize) {
        let mut tally = Tally::default();
        for rows in rows {
            tally.add(*rows, MAX);
        }
        let Batches { count, last } = tally.batches(MAX);
        (count, last)
    }

    #[test]
    fn small_ones_share_and_large_ones_do_not() {
        assert_eq!(of(&[]), (0, 0));
        assert_eq!(of(&[1; 8]), (1, 8));
        assert_eq!(of(&[1; 9]), (2, 1));
        assert_eq!(of(&[3; 5]), (3, 3));
        assert_eq!(of(&[8, 16, 100]), (3, 0));
        assert_eq!(of(&[1, 100, 1, 16, 1]), (3, 3));
    }

    #[test]
    fn what_is_taken_out_is_as_if_it_had_never_been_there() {
        let mut tally = Tally::default();
        for rows in [1, usize::MAX, 5] {
            tally.add(rows, MAX);
        }
        assert_eq!((tally.requests(), tally.rows()), (3, usize::MAX));
        tally.remove(usize::MAX, MAX);
        tally.remove(5, MAX);
        assert_eq!((tally.requests(), tally.rows()), (1, 1));
        tally.remove(1, MAX);
        assert_eq!(tally, Tally::default());
    }
}
