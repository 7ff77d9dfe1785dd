//! What a model must not be given and must not answer.
//!
//! A number that is not a number turns into a confident wrong answer somewhere downstream, so it
//! is stopped here, by request: a row with NaN never reaches the model, and an answer with NaN
//! costs its own request a 422 while its neighbours in the batch are answered.

use aegis_protocol::{Tensor, excerpt};

/// A check; the label `reason` of `aegis_safety_flags_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Check {
    /// No NaN or infinity in the inputs.
    NanInfInput,
    /// No NaN or infinity in the outputs.
    NanInfOutput,
}

/// What is done about a finding; the label `action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The request is refused.
    Block,
}

/// What a model's checks do; `None` is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Safety {
    /// For [`Check::NanInfInput`].
    pub nan_inf_input: Option<Action>,
    /// For [`Check::NanInfOutput`].
    pub nan_inf_output: Option<Action>,
}

/// A tensor that holds NaN or infinity.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{} `{}`: expected finite numbers, got {value} at element {index}", .side, excerpt(.name))]
pub struct NonFinite {
    /// Whether it was given or answered.
    pub side: Side,
    /// The tensor's name.
    pub name: String,
    /// Index of the first such element, in row-major order, of this request's rows.
    pub index: usize,
    /// What it is.
    pub value: f64,
}

/// Which side of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Given.
    Input,
    /// Answered.
    Output,
}

// === impl Check ===

impl Check {
    /// Every check, so that counters exist at 0 from the start.
    pub const ALL: [Self; 2] = [Self::NanInfInput, Self::NanInfOutput];

    /// The name in labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NanInfInput => "nan_inf_input",
            Self::NanInfOutput => "nan_inf_output",
        }
    }
}

// === impl Safety ===

impl Safety {
    /// What is done about a check's finding; `None` is off.
    #[must_use]
    pub const fn action(self, check: Check) -> Option<Action> {
        match check {
            Check::NanInfInput => self.nan_inf_input,
            Check::NanInfOutput => self.nan_inf_output,
        }
    }
}

// === impl Action ===

impl Action {
    /// The name in labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
        }
    }
}

// === impl Side ===

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Input => "input",
            Self::Output => "output",
        })
    }
}

/// Finds the first NaN or infinity.
///
/// # Errors
///
/// Which tensor holds it, and where.
pub fn finite<'a>(
    side: Side,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
) -> Result<(), NonFinite> {
    for (name, tensor) in tensors {
        if let Some((index, value)) = tensor.first_non_finite() {
            return Err(NonFinite {
                side,
                name: name.to_owned(),
                index,
                value,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_nan_is_named_with_its_place() {
        let good = Tensor::from_f32([2], &[0.0, -1.0]).unwrap();
        let bad = Tensor::from_f32([2, 2], &[0.0, 1.0, f32::NEG_INFINITY, f32::NAN]).unwrap();
        assert_eq!(finite(Side::Input, [("a", &good)]), Ok(()));
        let error = finite(Side::Output, [("a", &good), ("b", &bad)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "output `b`: expected finite numbers, got -inf at element 2"
        );
    }

    #[test]
    fn whole_numbers_are_always_finite() {
        let tensor = Tensor::from_i64([1], &[i64::MIN]).unwrap();
        assert_eq!(finite(Side::Input, [("a", &tensor)]), Ok(()));
    }
}
