//! Asks the processor for memory before it is needed.
//!
//! A decision among ten thousand endpoints reads the lines of two that are in no
//! cache. To wait for each of them in turn costs more than the decision itself,
//! so the pair for the next decision is drawn ahead, and what will be read of it is
//! under way when that decision is made. A hint changes nothing that could be
//! observed, except the time.

/// Bytes that are fetched at a time.
const LINE: usize = 64;

/// Asks for the lines of `value` from the `from`-th to before the `to`-th.
#[inline]
pub(crate) fn lines<T>(value: &T, from: usize, to: usize) {
    debug_assert!((to - 1) * LINE < size_of::<T>(), "beyond the value");
    let start = std::ptr::from_ref(value).cast::<u8>();
    for line in from..to {
        ask(start.wrapping_add(line * LINE));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn ask(at: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch reads nothing and faults nowhere, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
}

/// Elsewhere there is no stable way to say it.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn ask(_at: *const u8) {}
