//! Words and patterns that no text may hold.
//!
//! Both look at every element of a BYTES tensor in one pass whose time grows with the text alone:
//! an Aho-Corasick automaton for words, and for patterns `regex`, which has no backtracking and so no
//! text that makes it slow. Text that is not UTF-8 cannot be read, and so counts as a check that failed.
//!
//! Where case does not matter, words and text both go through Unicode's full case folding, which is made for
//! comparing: `ß` is `SS`, `ſ` is `s` and `ς` is `Σ`, where lower-casing leaves each as it is. It is done piece by
//! piece, since it makes a text up to three times as long. Patterns fold one character to one (`regex` has no
//! other way), so that `ß` and `SS` are two. Neither normalises: an accent of its own is none on a letter.

use aegis_protocol::Tensor;
use aho_corasick::{AhoCorasick, BuildError};
use regex::{RegexSet, RegexSetBuilder};
use unicase::UniCase;

use super::finding::{Rows, What};
use super::{Unable, Violation};

/// The most words of a list, and patterns of a set.
pub(super) const MAX_TERMS: usize = 10_000;

/// The most bytes that one compiled set of patterns may take.
const MAX_COMPILED: usize = 8 << 20;

/// So much of a text is folded at once, or as much as the longest word has, whichever is more.
const PIECE: usize = 4096;

/// Something that is looked for in text.
#[derive(Clone, Debug)]
pub struct Texts {
    search: Search,
    fold_case: bool,
    /// As written, to compare two of these by.
    written: Vec<String>,
}

#[derive(Clone, Debug)]
enum Search {
    Words(AhoCorasick),
    Folded(Folded),
    Patterns(RegexSet),
}

/// Words in any case.
#[derive(Clone, Debug)]
struct Folded {
    words: AhoCorasick,
    /// The length of the longest.
    longest: usize,
}

/// Why words or patterns cannot be looked for. Their author's fault.
#[derive(Debug, thiserror::Error)]
pub enum TextsError {
    /// There is nothing to look for.
    #[error("expected at least one")]
    None,
    /// There are too many.
    #[error("expected at most {MAX_TERMS}, got {got}")]
    TooMany {
        /// How many.
        got: usize,
    },
    /// An empty word is in every text.
    #[error("number {at} is empty")]
    Empty {
        /// Which, from 0.
        at: usize,
    },
    /// The words are too many or too long for an automaton.
    #[error(transparent)]
    Words(#[from] BuildError),
    /// A pattern is none, or too large.
    #[error(transparent)]
    Patterns(#[from] Box<regex::Error>),
}

// === impl Texts ===

impl Texts {
    /// Looks for words, anywhere in the text.
    ///
    /// # Errors
    ///
    /// See [`TextsError`].
    pub fn words(words: &[String], fold_case: bool) -> Result<Self, TextsError> {
        check(words)?;
        let search = if fold_case {
            Search::Folded(Folded::new(words)?)
        } else {
            Search::Words(AhoCorasick::new(words)?)
        };
        Ok(Self {
            search,
            fold_case,
            written: words.to_vec(),
        })
    }

    /// Looks for regular expressions.
    ///
    /// # Errors
    ///
    /// See [`TextsError`].
    pub fn patterns(patterns: &[String], fold_case: bool) -> Result<Self, TextsError> {
        check(patterns)?;
        let search = RegexSetBuilder::new(patterns)
            .case_insensitive(fold_case)
            .size_limit(MAX_COMPILED)
            .dfa_size_limit(MAX_COMPILED)
            .build()
            .map_err(Box::new)?;
        Ok(Self {
            search: Search::Patterns(search),
            fold_case,
            written: patterns.to_vec(),
        })
    }

    /// Finds elements that hold one.
    pub(super) fn look(&self, tensor: &Tensor, rows: usize) -> Result<Option<Violation>, Unable> {
        let elements = tensor
            .strings()
            .map_err(|_| Unable::NoText(tensor.datatype()))?;
        let width = (tensor.element_count() / rows.max(1)).max(1);
        let (mut bad, mut first) = (Rows::default(), None);
        for (element, text) in elements.enumerate() {
            let text = std::str::from_utf8(&text).map_err(|_| Unable::NotUtf8 { element })?;
            if let Some(term) = self.find(text) {
                bad.add(element / width);
                first.get_or_insert((term, element));
            }
        }
        Ok(first.map(|(term, element)| Violation {
            rows: bad,
            what: self.what(term, element),
        }))
    }

    /// The number of one that the text holds.
    fn find(&self, text: &str) -> Option<usize> {
        match &self.search {
            Search::Words(words) => words.find(text).map(|found| found.pattern().as_usize()),
            Search::Folded(words) => words.find(text),
            // To know only whether any matches is much cheaper than to know which.
            Search::Patterns(patterns) if !patterns.is_match(text) => None,
            Search::Patterns(patterns) => patterns.matches(text).iter().next(),
        }
    }

    fn what(&self, term: usize, element: usize) -> What {
        match self.search {
            Search::Words(_) | Search::Folded(_) => What::OnBlocklist { term, element },
            Search::Patterns(_) => What::Matches {
                pattern: term,
                element,
            },
        }
    }
}

// === impl Folded ===

impl Folded {
    fn new(words: &[String]) -> Result<Self, BuildError> {
        let folded: Vec<_> = words.iter().map(|word| fold(word)).collect();
        Ok(Self {
            words: AhoCorasick::new(&folded)?,
            longest: folded.iter().map(String::len).max().unwrap_or(0),
        })
    }

    /// The number of one that the text holds.
    fn find(&self, text: &str) -> Option<usize> {
        let piece = PIECE.max(self.longest);
        let mut rest = text;
        let mut seen: Vec<u8> = Vec::new();
        while !rest.is_empty() {
            let (next, more) = rest.split_at(rest.floor_char_boundary(piece));
            // A word may begin in what was seen, and all that were whole in it were found.
            let begun = self.longest.saturating_sub(1);
            seen.drain(..seen.len().saturating_sub(begun));
            seen.extend_from_slice(fold(next).as_bytes());
            if let Some(found) = self.words.find(&seen) {
                return Some(found.pattern().as_usize());
            }
            rest = more;
        }
        None
    }
}

/// One character has the same fold wherever it stands.
fn fold(text: &str) -> String {
    UniCase::new(text).to_folded_case()
}

fn check(terms: &[String]) -> Result<(), TextsError> {
    if terms.is_empty() {
        return Err(TextsError::None);
    }
    if terms.len() > MAX_TERMS {
        return Err(TextsError::TooMany { got: terms.len() });
    }
    match terms.iter().position(String::is_empty) {
        Some(at) => Err(TextsError::Empty { at }),
        None => Ok(()),
    }
}

impl PartialEq for Texts {
    fn eq(&self, other: &Self) -> bool {
        let is_patterns = |texts: &Self| matches!(texts.search, Search::Patterns(_));
        self.written == other.written
            && self.fold_case == other.fold_case
            && is_patterns(self) == is_patterns(other)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(elements: &[&str]) -> Tensor {
        Tensor::from_strings([elements.len(), 1], elements).unwrap()
    }

    fn owned(terms: &[&str]) -> Vec<String> {
        terms.iter().map(|term| (*term).to_owned()).collect()
    }

    #[test]
    fn words_are_found_in_any_case_and_their_rows_named() {
        let words = Texts::words(&owned(&["bomb", "ГРУСТЬ"]), true).unwrap();
        let tensor = texts(&["hello", "a BoMb here", "и грусть", "bom b"]);
        let found = words.look(&tensor, 4).unwrap().unwrap();
        assert_eq!(found.rows.named(), [1, 2]);
        assert_eq!(
            found.what,
            What::OnBlocklist {
                term: 0,
                element: 1
            }
        );
        let exact = Texts::words(&owned(&["bomb"]), false).unwrap();
        assert_eq!(exact.look(&tensor, 4), Ok(None));
    }

    #[test]
    fn case_is_folded_whole_and_not_lowered() {
        for (word, text) in [
            ("Straße", "STRASSE"),
            ("STRASSE", "straße"),
            ("Straße", "STRAẞE"),
            ("sin", "ſin"),
            ("ΌΣΟΣ", "όσος"),
            ("όσος", "ΌΣΟΣ είναι"),
            ("kelvin", "\u{212a}elvin"),
            ("office", "oﬃce"),
        ] {
            let words = Texts::words(&owned(&[word]), true).unwrap();
            assert_eq!(words.find(text), Some(0), "`{word}` in `{text}`");
            let exact = Texts::words(&owned(&[word]), false).unwrap();
            assert_eq!(exact.find(text), None, "`{word}` in `{text}`");
        }
        // One character for one, as the documents say.
        let patterns = Texts::patterns(&owned(&["straße", "ſ"]), true).unwrap();
        assert_eq!(patterns.find("STRAẞE"), Some(0));
        assert_eq!(patterns.find("straſſe"), Some(1));
        assert_eq!(patterns.find("x"), None);
        let pattern = Texts::patterns(&owned(&["straße"]), true).unwrap();
        assert_eq!(pattern.find("STRASSE"), None);
    }

    proptest! {
        /// Pieces change nothing: as if all of the text were folded at once.
        #[test]
        fn a_word_is_found_wherever_pieces_of_the_text_end(
            before in (PIECE - 40)..(PIECE + 4),
            filler in prop::sample::select(vec!["x", "ß", "ΐ", "𝒳"]),
            word in "[a-cß]{1,12}",
            is_there in any::<bool>(),
        ) {
            let mut text = filler.repeat(before / filler.len());
            if is_there {
                text += &word.to_uppercase();
            }
            text += &filler.repeat(20);
            let words = Texts::words(std::slice::from_ref(&word), true).unwrap();
            let whole = fold(&text).contains(&fold(&word));
            prop_assert_eq!(words.find(&text).is_some(), whole);
        }
    }

    #[test]
    fn a_pattern_is_named_by_its_number() {
        let patterns = owned(&["^never$", r"\b\d{3}-\d{2}-\d{4}\b"]);
        let patterns = Texts::patterns(&patterns, false).unwrap();
        let found = patterns.look(&texts(&["x", "is 123-45-6789."]), 2);
        let what = What::Matches {
            pattern: 1,
            element: 1,
        };
        assert_eq!(found.unwrap().unwrap().what, what);
    }

    #[test]
    fn a_text_that_makes_others_slow_is_read_in_its_length() {
        let patterns = Texts::patterns(&owned(&["(a*)*b$", "(x+x+)+y"]), false).unwrap();
        let text = "a".repeat(200_000) + &"x".repeat(200_000);
        assert_eq!(patterns.look(&texts(&[&text]), 1), Ok(None));
    }

    #[test]
    fn bytes_that_are_no_text_fail_the_check() {
        let words = Texts::words(&owned(&["x"]), true).unwrap();
        let tensor = Tensor::from_strings([2], &[b"ok".as_slice(), &[0xff]]).unwrap();
        assert_eq!(words.look(&tensor, 2), Err(Unable::NotUtf8 { element: 1 }));
        let numbers = Tensor::from_f32([1], &[0.0]).unwrap();
        assert!(words.look(&numbers, 1).is_err());
    }

    #[test]
    fn what_cannot_be_looked_for_is_refused() {
        for (error, message) in [
            (Texts::words(&[], true), "expected at least one"),
            (Texts::words(&owned(&["a", ""]), true), "number 1 is empty"),
            (Texts::patterns(&owned(&["("]), true), "unclosed group"),
            (
                Texts::patterns(&owned(&["(a{1000}){1000}"]), true),
                "size limit",
            ),
            (
                Texts::words(&vec!["a".to_owned(); MAX_TERMS + 1], true),
                "expected at most 10000, got 10001",
            ),
        ] {
            let error = error.unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
