//! The JSON codec of inference requests and answers.
//!
//! Lists of numbers, which are nearly all of a large body, are cut out of it first and read in one pass
//! (`cut`). For the rest, and wherever anything is wrong, two passes, because `data` may stand before the `datatype` that it needs:
//! serde reads the members and leaves each `data` as a borrowed, already
//! validated slice of the body (`wire`), then a walker reads that slice straight
//! into the raw encoding (`data`). No element is ever a value of its own: a
//! tensor of a million floats costs one allocation, bounded by the length of
//! its text and not by the shape that the client claims.
//!
//! Writing is one pass over the raw bytes (`encode`): flat, row-major, floats in
//! the shortest form that reads back to the same bits.

mod bounded;
mod cut;
mod data;
mod decode;
mod encode;
mod error;
mod fault;
mod wire;

#[cfg(test)]
mod tests;

pub use error::{DecodeError, EncodeError};
