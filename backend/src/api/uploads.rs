//! A budget for the bodies that are being read and decoded, over all connections.
//!
//! One body has its limit, and so has a queue; between them, thousands of connections could each
//! send a body of the largest size and keep it unfinished. What arrives is reserved here first, as
//! it arrives and not by a client's claim, and given back when the body has been decoded, by then
//! the queue's to bound, or when its request has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The budget.
#[derive(Debug)]
pub struct Uploads {
    limit: usize,
    used: AtomicUsize,
}

/// One body's part of the budget, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Reserved {
    uploads: Arc<Uploads>,
    bytes: usize,
}

/// Says that the budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bodies that are being read fill `max_upload_bytes`, which is {limit}")]
pub struct UploadsFull {
    /// `max_upload_bytes`.
    pub limit: usize,
}

// === impl Uploads ===

impl Uploads {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        let used = AtomicUsize::new(0);
        Arc::new(Self { limit, used })
    }

    /// Bytes of bodies that are held now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

// === impl Reserved ===

impl Reserved {
    pub(super) fn none(uploads: &Arc<Uploads>) -> Self {
        Self {
            uploads: Arc::clone(uploads),
            bytes: 0,
        }
    }

    /// Takes so many bytes more.
    ///
    /// # Errors
    ///
    /// When they do not fit; then nothing is taken.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), UploadsFull> {
        let limit = self.uploads.limit;
        let more = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= limit);
        // The counter guards no other memory.
        self.uploads
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .map_err(|_used| UploadsFull { limit })?;
        self.bytes += bytes;
        Ok(())
    }

    /// So many of its bytes as a part of their own; fewer where there are not as many.
    pub(super) fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self {
            uploads: Arc::clone(&self.uploads),
            bytes,
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.uploads.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_given_back_by_itself() {
        let uploads = Uploads::new(10);
        let mut whole = Reserved::none(&uploads);
        whole.take(8).unwrap();
        let part = whole.split(5);
        drop(whole);
        assert_eq!(uploads.used(), 5);
        drop(part);
        assert_eq!(uploads.used(), 0);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_what_is_dropped_fits_again() {
        let uploads = Uploads::new(10);
        let mut one = Reserved::none(&uploads);
        let mut two = Reserved::none(&uploads);
        assert_eq!(one.take(6), Ok(()));
        assert_eq!(two.take(4), Ok(()));
        assert_eq!(two.take(1), Err(UploadsFull { limit: 10 }));
        assert_eq!(two.take(usize::MAX), Err(UploadsFull { limit: 10 }));
        drop(one);
        assert_eq!(uploads.used(), 4);
        assert_eq!(two.take(6), Ok(()));
        drop(two);
        assert_eq!(uploads.used(), 0);
    }
}
