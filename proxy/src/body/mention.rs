//! Whether a body mentions the parameter `timeout`, found as it passes.
//!
//! Few bodies do, and to know it of one that does not must cost next to nothing: a
//! search for its name in quotes runs at the speed of memory, and only where it is
//! found is the body read as JSON. Who writes the name with escapes goes unheard here,
//! and is heard by the server.

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// What is looked for.
const NAME: &[u8] = b"\"timeout\"";
/// So much of it may have come in with the piece before.
const SEAM: usize = NAME.len() - 1;

static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(NAME));

/// A search through a body that comes in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mention {
    wanted: bool,
    found: bool,
    /// The last bytes of the piece before.
    tail: [u8; SEAM],
    tail_length: usize,
}

// === impl Mention ===

impl Mention {
    /// A search; `wanted` says whether anybody wants to know.
    #[must_use]
    pub fn sought(wanted: bool) -> Self {
        Self {
            wanted,
            ..Self::default()
        }
    }

    /// Looks at the next piece.
    pub fn see(&mut self, piece: &[u8]) {
        if !self.wanted || self.found {
            return;
        }
        // The seam: what is left of the piece before, and the first of this one.
        let first = &piece[..piece.len().min(SEAM)];
        let length = self.tail_length + first.len();
        let mut seam = [0; 2 * SEAM];
        seam[..self.tail_length].copy_from_slice(&self.tail[..self.tail_length]);
        seam[self.tail_length..length].copy_from_slice(first);
        let seam = &seam[..length];
        self.found = FINDER.find(piece).is_some() || FINDER.find(seam).is_some();
        let all = if piece.len() < SEAM { seam } else { piece };
        let rest = &all[all.len().saturating_sub(SEAM)..];
        self.tail[..rest.len()].copy_from_slice(rest);
        self.tail_length = rest.len();
    }

    /// Whether it was found.
    #[must_use]
    pub fn is_found(&self) -> bool {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(pieces: &[&[u8]]) -> bool {
        let mut mention = Mention::sought(true);
        for piece in pieces {
            mention.see(piece);
        }
        mention.is_found()
    }

    #[test]
    fn it_is_found_whole_and_not_in_part() {
        assert!(found(&[br#"{"parameters":{"timeout":5}}"#]));
        assert!(!found(&[br#"{"timeouts":"timeout}"#]));
        assert!(!found(&[]));
        let mut unwanted = Mention::sought(false);
        unwanted.see(NAME);
        assert!(!unwanted.is_found());
    }

    proptest! {
        #[test]
        fn it_is_found_wherever_the_body_is_cut(
            before in 0_usize..20,
            after in 0_usize..20,
            cuts in prop::collection::vec(1_usize..12, 1..20),
            broken in prop::option::of(0..NAME.len()),
        ) {
            let mut body = [&vec![b'"'; before][..], NAME, &vec![b't'; after]].concat();
            if let Some(at) = broken {
                body[before + at] = b'x';
            }
            let mut rest = &body[..];
            let mut pieces = Vec::new();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, more) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = more;
            }
            prop_assert_eq!(found(&pieces), broken.is_none(), "{:?}", pieces);
        }
    }
}
