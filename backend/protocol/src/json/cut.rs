//! Lists of numbers, cut out of a body before serde reads it.
//!
//! Nearly all of a large body is numbers. serde would walk over each of them only to know where `data`
//! ends, and the walker over each again for its value. So what looks like a list of numbers is cut out,
//! an empty list put in its place, and the list read in one pass that is as strict as JSON ([`numbers`]).
//! Both rely on the shape that the body claims, which is known by then, wherever it stands.
//!
//! **All or nothing.** Only what is read whole and without a fault counts: whatever is wrong anywhere, the
//! body is read again as it is, and what that finds is told. So there is one reader that decides what a body
//! must be, and one set of words for faults, whose lines and columns are those of the body.
//!
//! **No confusion.** A list is cut out behind `"data"` and a colon. In well-formed JSON the second of those
//! quotes ends a string in any case, and a string before a colon is a key; and a list without quotes in it
//! ends where its brackets do. Lists are found again by where they stood, and every one of them must have been
//! read in the end, so that none is left out because it stood where nobody looks.

use std::cell::Cell;
use std::ops::Range;

use memchr::{memchr3_iter, memmem};

use crate::datatype::Datatype;
use crate::shape::{MAX_RANK, Shape};

mod number;
mod numbers;
#[cfg(test)]
mod tests;

/// What stands before a list.
const KEY: &[u8] = b"\"data\"";
/// What stands in its place.
const STUB: &[u8] = b"[]";

/// A body without its lists of numbers.
#[derive(Debug)]
pub(super) struct Cut<'a> {
    text: Vec<u8>,
    lists: Vec<List<'a>>,
    taken: Cell<usize>,
}

/// A list that was cut out.
#[derive(Debug)]
struct List<'a> {
    /// Where its stub begins in the text that is left.
    stub: usize,
    text: &'a [u8],
}

// === impl Cut ===

impl<'a> Cut<'a> {
    /// Cuts the lists out of a body; none where there are none.
    pub(super) fn of(body: &'a [u8]) -> Option<Self> {
        let (mut text, mut lists) = (Vec::new(), Vec::new());
        let mut copied = 0;
        for key in memmem::find_iter(body, KEY) {
            let Some(list) = list_behind(body, key + KEY.len()) else {
                continue;
            };
            text.extend_from_slice(body.get(copied..list.start)?);
            let stub = text.len();
            text.extend_from_slice(STUB);
            copied = list.end;
            lists.push(List {
                stub,
                text: body.get(list)?,
            });
        }
        if lists.is_empty() {
            return None;
        }
        text.extend_from_slice(body.get(copied..)?);
        Some(Self {
            text,
            lists,
            taken: Cell::new(0),
        })
    }

    /// What is left of the body.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// The elements of the list in whose place this part of the text stands. None where there was no such
    /// list, or it is not what the shape says.
    pub(super) fn elements(
        &self,
        stub: &str,
        datatype: Datatype,
        shape: &Shape,
    ) -> Option<Vec<u8>> {
        let at = stub
            .as_ptr()
            .addr()
            .checked_sub(self.text.as_ptr().addr())?;
        let index = self
            .lists
            .binary_search_by_key(&at, |list| list.stub)
            .ok()?;
        let elements = numbers::read(self.lists.get(index)?.text, datatype, shape)?;
        self.taken.set(self.taken.get() + 1);
        Some(elements)
    }

    /// Whether every list was read.
    pub(super) fn is_used_up(&self) -> bool {
        self.taken.get() == self.lists.len()
    }
}

/// Where the list is that follows a key: its brackets match, and no string is in it.
fn list_behind(body: &[u8], key_end: usize) -> Option<Range<usize>> {
    let colon = number::behind(body.get(key_end..)?, b':')?;
    let list = number::spaces(colon);
    if list.first() != Some(&b'[') {
        return None;
    }
    // Lists of anything else are not read here.
    let first = list.iter().find(|byte| !b"[ \t\n\r".contains(byte))?;
    if !matches!(first, b'-' | b'0'..=b'9') {
        return None;
    }
    let start = body.len() - list.len();
    let mut open = 0_usize;
    for at in memchr3_iter(b'[', b']', b'"', list) {
        match list.get(at) {
            Some(b'[') if open < MAX_RANK => open += 1,
            Some(b']') if open > 1 => open -= 1,
            Some(b']') => return Some(start..start + at + 1),
            _ => return None,
        }
    }
    None
}
