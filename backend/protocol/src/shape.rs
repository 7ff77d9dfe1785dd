//! The axes of a tensor, with a product that cannot wrap.

use std::fmt;
use std::ops::Deref;

/// The most axes that a decoded tensor may have: a bound on what a client's
/// `shape` and nesting can make us track. `PyTorch` itself stops at 64.
pub const MAX_RANK: usize = 64;

/// Sizes of a tensor's axes, outermost first; empty for a scalar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape(Vec<usize>);

// === impl Shape ===

impl Shape {
    /// The number of elements; none where the product overflows.
    #[must_use]
    pub fn element_count(&self) -> Option<usize> {
        // A zero anywhere makes the count zero, whatever the others multiply to.
        if self.0.contains(&0) {
            return Some(0);
        }
        self.0
            .iter()
            .try_fold(1_usize, |product, &size| product.checked_mul(size))
    }

    /// The size of the first axis; none for a scalar.
    #[must_use]
    pub fn rows(&self) -> Option<usize> {
        self.0.first().copied()
    }

    /// The shape of one row: every axis but the first.
    #[must_use]
    pub fn row(&self) -> &[usize] {
        self.0.get(1..).unwrap_or_default()
    }

    /// The same shape with another number of rows; a scalar becomes `[rows]`.
    #[must_use]
    pub fn with_rows(&self, rows: usize) -> Self {
        let mut sizes = Vec::with_capacity(self.0.len().max(1));
        sizes.push(rows);
        sizes.extend_from_slice(self.row());
        Self(sizes)
    }
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl From<Vec<usize>> for Shape {
    fn from(sizes: Vec<usize>) -> Self {
        Self(sizes)
    }
}

impl From<&[usize]> for Shape {
    fn from(sizes: &[usize]) -> Self {
        Self(sizes.to_vec())
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(sizes: [usize; N]) -> Self {
        Self(sizes.to_vec())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (axis, size) in self.0.iter().enumerate() {
            let comma = if axis == 0 { "" } else { "," };
            write!(f, "{comma}{size}")?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scalar_has_one_element_and_no_rows() {
        let scalar = Shape::default();
        assert_eq!(scalar.element_count(), Some(1));
        assert_eq!(scalar.rows(), None);
    }

    #[test]
    fn a_product_that_overflows_is_none_unless_an_axis_is_empty() {
        assert_eq!(Shape::from([usize::MAX, 2]).element_count(), None);
        assert_eq!(Shape::from([usize::MAX, 2, 0]).element_count(), Some(0));
    }

    #[test]
    fn is_shown_as_the_wire_writes_it() {
        assert_eq!(Shape::from([1, 64]).to_string(), "[1,64]");
        assert_eq!(Shape::default().to_string(), "[]");
    }
}
