//! How many threads libtorch uses inside one operation.
//!
//! The count belongs to the calling thread (it is `OpenMP`'s), so each worker has to set its own.
//! One is the default: with other work on the machine, two threads that wait for each other inside
//! an operation were 3 to 25 times slower than one, and a server has requests enough to keep every
//! processor busy with a module of its own.

use std::cell::Cell;
use std::num::NonZeroU16;

thread_local! {
    static CURRENT: Cell<Option<NonZeroU16>> = const { Cell::new(None) };
}

/// Makes the calling thread use so many; free when it does already.
pub(crate) fn ensure(threads: NonZeroU16) {
    CURRENT.with(|current| {
        if current.get() != Some(threads) {
            tch::set_num_threads(i32::from(threads.get()));
            current.set(Some(threads));
        }
    });
}
