//! A parsed text, with the way from a key path to a line and from a span to a
//! key path.
//!
//! Every key and value of `toml`'s tree knows its byte range in the text. Two
//! values never share theirs (a table's is that of its header), so that the
//! range in a deserialiser's error names one node.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::fault::{Fault, MAX_FAULTS, more};
use crate::{KeyPath, Segment};

/// A text without syntax errors.
#[derive(Debug)]
pub(crate) struct Document<'t> {
    text: Lines<'t>,
    root: Spanned<DeTable<'t>>,
}

/// Knows on which line a byte stands.
#[derive(Debug)]
struct Lines<'t> {
    text: &'t str,
    /// Offset of every newline.
    breaks: Vec<usize>,
}

// === impl Document ===

impl<'t> Document<'t> {
    /// Parses `text`; on failure, every syntax error with its line.
    pub(crate) fn parse(text: &'t str) -> Result<Self, Vec<Fault>> {
        let lines = Lines::new(text);
        let (root, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            return Ok(Self { text: lines, root });
        }
        let mut faults: Vec<Fault> = errors
            .iter()
            .take(MAX_FAULTS)
            .map(|error| lines.syntax_fault(error))
            .collect();
        faults.sort_by_key(|fault| fault.line.unwrap_or(usize::MAX));
        // One slip often upsets the parser twice at the same place.
        faults.dedup();
        if errors.len() > MAX_FAULTS {
            faults.push(more());
        }
        Err(faults)
    }

    /// The text itself.
    pub(crate) fn text(&self) -> &'t str {
        self.text.text
    }

    /// A tree that the caller may prune.
    pub(crate) fn tree(&self) -> Spanned<DeTable<'t>> {
        self.root.clone()
    }

    /// The line of `path`, or of the nearest table above it that exists.
    pub(crate) fn line_of(&self, path: &KeyPath) -> Option<usize> {
        let mut at = None;
        let mut node = Node::Table(self.root.get_ref());
        for segment in path.segments() {
            let Some((span, child)) = node.child(segment) else {
                break;
            };
            at = Some(span.start);
            node = child;
        }
        at.map(|offset| self.text.line_at(offset))
    }
}

// === impl Lines ===

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        let breaks = text.match_indices('\n').map(|(at, _)| at).collect();
        Self { text, breaks }
    }

    /// Line of a byte, from 1.
    fn line_at(&self, offset: usize) -> usize {
        self.breaks.partition_point(|newline| *newline < offset) + 1
    }

    fn syntax_fault(&self, error: &toml::de::Error) -> Fault {
        let span = error.span();
        let line = span.as_ref().map(|span| self.line_at(span.start));
        let mut message = error.message().to_owned();
        // The parser says "duplicate key" and leaves the key to its picture.
        if message == "duplicate key"
            && let Some(key) = span.and_then(|span| self.text.get(span))
        {
            message = format!("duplicate key `{key}`");
        }
        Fault {
            path: String::new(),
            line,
            message,
        }
    }
}

/// A table or an array, looked at alike.
#[derive(Clone, Copy)]
enum Node<'a, 't> {
    Table(&'a DeTable<'t>),
    Value(&'a DeValue<'t>),
}

// === impl Node ===

impl<'a, 't> Node<'a, 't> {
    /// The span that names a child (its key, or the element), and the child.
    fn child(self, segment: &Segment) -> Option<(Range<usize>, Self)> {
        match (self.table(), self, segment) {
            (Some(table), _, Segment::Key(key)) => {
                let (key, value) = table.get_key_value(key.as_str())?;
                Some((key.span(), Node::Value(value.get_ref())))
            }
            (None, Node::Value(DeValue::Array(array)), Segment::Index(index)) => {
                let value = array.get(*index)?;
                Some((value.span(), Node::Value(value.get_ref())))
            }
            _ => None,
        }
    }

    fn table(self) -> Option<&'a DeTable<'t>> {
        match self {
            Node::Table(table) | Node::Value(DeValue::Table(table)) => Some(table),
            Node::Value(_) => None,
        }
    }
}

/// The path of the node whose key or value has exactly this span, the deepest
/// if several do.
pub(crate) fn find(table: &DeTable<'_>, span: &Range<usize>) -> Option<KeyPath> {
    let mut segments = Vec::new();
    find_in_table(table, span, &mut segments).then(|| {
        segments.reverse();
        segments.into_iter().collect()
    })
}

/// Pushes the path from the inside out.
fn find_in_table(table: &DeTable<'_>, span: &Range<usize>, found: &mut Vec<Segment>) -> bool {
    table.iter().any(|(key, value)| {
        let here = find_in_value(value.get_ref(), span, found)
            || key.span() == *span
            || value.span() == *span;
        if here {
            found.push(Segment::Key(key.get_ref().to_string()));
        }
        here
    })
}

fn find_in_value(value: &DeValue<'_>, span: &Range<usize>, found: &mut Vec<Segment>) -> bool {
    match value {
        DeValue::Table(table) => find_in_table(table, span, found),
        DeValue::Array(array) => array.iter().enumerate().any(|(index, value)| {
            let here = find_in_value(value.get_ref(), span, found) || value.span() == *span;
            if here {
                found.push(Segment::Index(index));
            }
            here
        }),
        _ => false,
    }
}

/// Takes the node at `path` out; whether there was one.
pub(crate) fn prune(table: &mut DeTable<'_>, path: &[Segment]) -> bool {
    match path {
        [Segment::Key(key)] => table.remove(key.as_str()).is_some(),
        [Segment::Key(key), rest @ ..] => table
            .get_mut(key.as_str())
            .is_some_and(|value| prune_value(value.get_mut(), rest)),
        _ => false,
    }
}

fn prune_value(value: &mut DeValue<'_>, path: &[Segment]) -> bool {
    match (value, path) {
        (DeValue::Table(table), path) => prune(table, path),
        (DeValue::Array(array), [Segment::Index(index)]) => {
            let before = array.len();
            *array = std::mem::replace(array, DeArray::new())
                .into_iter()
                .enumerate()
                .filter(|(at, _)| at != index)
                .map(|(_, value)| value)
                .collect();
            array.len() < before
        }
        (DeValue::Array(array), [Segment::Index(index), rest @ ..]) => array
            .get_mut(*index)
            .is_some_and(|value| prune_value(value.get_mut(), rest)),
        _ => false,
    }
}
