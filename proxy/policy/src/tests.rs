//! What tests of several modules share.

use std::time::Instant;

/// Where time begins. Any instant will do; later ones are made by adding to it.
#[expect(
    clippy::disallowed_methods,
    reason = "any instant will do as the origin"
)]
pub(crate) fn origin() -> Instant {
    Instant::now()
}
