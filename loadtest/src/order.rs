//! Which example a request carries: a shuffled deck, dealt again and again.
//!
//! Every pass over the deck sends every example once, so that an accuracy over
//! whole passes is the accuracy on the data, without sampling error.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// A fixed order over some examples.
#[derive(Clone, Debug)]
pub(crate) struct Order(Vec<usize>);

// === impl Order ===

impl Order {
    /// Shuffles the indices below `examples`.
    pub(crate) fn new(examples: usize, seed: u64) -> Self {
        let mut deck: Vec<_> = (0..examples).collect();
        deck.shuffle(&mut StdRng::seed_from_u64(seed));
        Self(deck)
    }

    /// The example of the request with that number, from 0.
    pub(crate) fn example(&self, request: u64) -> usize {
        let length = self.0.len() as u64;
        let place = request
            .checked_rem(length)
            .and_then(|place| usize::try_from(place).ok());
        place
            .and_then(|place| self.0.get(place))
            .copied()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pass_deals_every_example_once_in_the_seeds_order() {
        let order = Order::new(100, 3);
        let pass = |from: u64| {
            (from..from + 100)
                .map(|n| order.example(n))
                .collect::<Vec<_>>()
        };
        let first = pass(0);
        assert_eq!(first, pass(100));
        assert_ne!(first, (0..100).collect::<Vec<_>>());
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        assert_ne!(
            first,
            (0..100)
                .map(|n| Order::new(100, 4).example(n))
                .collect::<Vec<_>>()
        );
    }
}
