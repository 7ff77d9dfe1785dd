//! Chance, in separate streams of one seed: a change of one part draws nothing
//! from another's, so that two scenarios of one seed see the same arrivals.

use rand::{SeedableRng, rngs::StdRng};

/// What a stream is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream {
    Arrivals,
    Pods,
    Checks,
    Proxy(u32),
}

/// The stream of a seed for one purpose.
pub(crate) fn stream(seed: u64, of: Stream) -> StdRng {
    let number = match of {
        Stream::Arrivals => 1,
        Stream::Pods => 2,
        Stream::Checks => 3,
        Stream::Proxy(number) => 100 + u64::from(number),
    };
    // The generator's own seeding mixes; it only has to be another number.
    StdRng::seed_from_u64(seed.rotate_left(32) ^ (number << 1))
}
