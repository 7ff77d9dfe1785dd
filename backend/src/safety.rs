//! What a model must not be given and must not answer.
//!
//! A check looks at one tensor of one request and names the rows that it objects to. What is done
//! then is the model's choice, in its `model.toml`: *block* refuses the request, *flag* answers it and
//! says why beside the answer, *log* only writes it down; all are counted. Requests share batches
//! and never findings: a row that is blocked costs the request that holds it, and no other.
//!
//! Checks are values ([`Rule`]), put in order when `model.toml` is read: cheap ones first, since the
//! first that blocks ends the search. What is off is no rule, and costs nothing. Those of inputs run
//! before a request is queued, those of outputs before an answer is written; a guard model (`guard`)
//! is asked between the two kinds. A check that cannot do its work is a finding by itself, whose
//! action is the model's `on_error`.
//!
//! Everything here is pure. [`crate::infer`] calls it.

use aegis_protocol::{Datatype, Tensor};

use crate::signature::{Axis, Inputs, Signature, TensorSpec};

mod distance;
mod finding;
pub mod fit;
mod gaussian;
mod guard;
mod number;
mod range;
mod score;
mod statistics;
#[cfg(test)]
mod tests;
mod text;

pub use distance::Distance;
pub use finding::{Blocked, Finding, Findings, Place, Rows, What};
pub use gaussian::{Gaussian, GaussianError};
pub use guard::{Guard, GuardError};
pub use number::rows_of;
pub use range::Range;
pub use statistics::{FILE, Fitted, Provenance, Source, Statistics, StatisticsError, read_file};
pub use text::{Texts, TextsError};

/// A check; the label `reason` of `aegis_safety_flags_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Check {
    /// The inputs are what the signature says.
    Schema,
    /// The request is not too large.
    Size,
    /// No NaN or infinity in the inputs.
    NanInfInput,
    /// Inputs lie within bounds.
    Range,
    /// No text holds a word of a list.
    Blocklist,
    /// No text matches a pattern.
    Pattern,
    /// Inputs are like those that the model knows.
    OodInput,
    /// A guard model does not object.
    Guard,
    /// No NaN or infinity in the outputs.
    NanInfOutput,
    /// Outputs lie within bounds.
    OutputRange,
    /// The model is sure of its answer.
    LowConfidence,
    /// Outputs are like those that the model usually gives.
    OodOutput,
}

/// What is done about a finding; the label `action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The request is refused.
    Block,
    /// It is answered, and the answer says why it should not be trusted.
    Flag,
    /// It is answered, and a line of the log says why.
    Log,
}

/// What a model's checks do.
#[derive(Clone, Debug, PartialEq)]
pub struct Safety {
    /// What a check that cannot do its work amounts to.
    pub on_error: Action,
    /// Whether requests of another signature are counted here too; they are refused in any case.
    pub schema: Option<Action>,
    /// For numbers that no tensor can carry; those are refused in any case, too.
    pub nan_inf_input: Option<Action>,
    /// Bounds of a request.
    pub size: Option<Size>,
    /// Of inputs, cheap ones first.
    pub inputs: Vec<Rule>,
    /// Asked when the inputs have passed.
    pub guards: Vec<Guard>,
    /// Of outputs, cheap ones first.
    pub outputs: Vec<Rule>,
}

/// Bounds of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// What is done about one that is larger.
    pub action: Action,
    /// The most rows.
    pub rows: Option<usize>,
    /// The most elements, of all inputs together.
    pub elements: Option<usize>,
}

/// One check of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Which check it is.
    pub check: Check,
    /// What is done about a finding.
    pub action: Action,
    /// Which input or output.
    pub tensor: usize,
    /// How to look.
    pub test: Test,
}

/// How a rule looks at its tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// Numbers are numbers.
    Finite,
    /// Numbers lie within bounds.
    Range(Range),
    /// The largest of a row is at least this.
    Confidence(f64),
    /// Texts hold none of these.
    Texts(Texts),
    /// The energy of a row is at most this: from `model.toml`, or else fitted.
    Energy(Option<f64>),
    /// Rows are near what is known.
    Distance(Distance),
}

/// What a test objects to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Violation {
    pub(crate) rows: Rows,
    pub(crate) what: What,
}

/// Why a test could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unable {
    #[error("expected numbers, got {0}")]
    NoNumbers(Datatype),
    #[error("expected text, got {0}")]
    NoText(Datatype),
    #[error("element {element} is not UTF-8")]
    NotUtf8 { element: usize },
    #[error("there are no statistics")]
    NoStatistics,
    #[error("expected rows of {expected} numbers, got {got}")]
    Width { expected: usize, got: usize },
    #[error("expected a score in column {column}, got rows of {width} numbers")]
    NoScore { column: usize, width: usize },
}

// === impl Check ===

impl Check {
    /// Every check, so that counters exist at 0 from the start.
    pub const ALL: [Self; 12] = [
        Self::Schema,
        Self::Size,
        Self::NanInfInput,
        Self::Range,
        Self::Blocklist,
        Self::Pattern,
        Self::OodInput,
        Self::Guard,
        Self::NanInfOutput,
        Self::OutputRange,
        Self::LowConfidence,
        Self::OodOutput,
    ];

    /// The name in labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Schema => "schema",
            Self::Size => "size",
            Self::NanInfInput => "nan_inf_input",
            Self::Range => "range",
            Self::Blocklist => "blocklist",
            Self::Pattern => "pattern",
            Self::OodInput => "ood_input",
            Self::Guard => "guard",
            Self::NanInfOutput => "nan_inf_output",
            Self::OutputRange => "output_range",
            Self::LowConfidence => "low_confidence",
            Self::OodOutput => "ood_output",
        }
    }
}

// === impl Action ===

impl Action {
    /// Every action.
    pub const ALL: [Self; 3] = [Self::Block, Self::Flag, Self::Log];

    /// The name in labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Flag => "flag",
            Self::Log => "log",
        }
    }
}

// === impl Safety ===

impl Safety {
    /// Looks at a request's inputs.
    ///
    /// # Errors
    ///
    /// All that was found up to the first check that blocks.
    pub fn check_inputs(
        &self,
        signature: &Signature,
        inputs: &Inputs,
    ) -> Result<Findings, Blocked> {
        let mut findings = Findings::default();
        if let Some(finding) = self.size.and_then(|size| size.look(inputs)) {
            findings.add(finding)?;
        }
        let place = |at: usize| Place::Input(signature.inputs[at].name.clone());
        // Of what a request has left out, there is nothing to say.
        let there = |rule: &&Rule| inputs.tensors[rule.tensor].element_count() > 0;
        let rules = self.inputs.iter().filter(there);
        self.look(rules, &inputs.tensors, inputs.rows, place, findings)
    }

    /// Looks at what the model answered for a request of so many rows.
    ///
    /// # Errors
    ///
    /// As [`check_inputs`](Self::check_inputs).
    pub fn check_outputs(
        &self,
        signature: &Signature,
        outputs: &[Tensor],
        rows: usize,
    ) -> Result<Findings, Blocked> {
        let place = |at: usize| Place::Output(signature.outputs[at].name.clone());
        self.look(
            self.outputs.iter(),
            outputs,
            rows,
            place,
            Findings::default(),
        )
    }

    fn look<'r>(
        &self,
        rules: impl Iterator<Item = &'r Rule>,
        tensors: &[Tensor],
        rows: usize,
        place: impl Fn(usize) -> Place,
        mut findings: Findings,
    ) -> Result<Findings, Blocked> {
        for rule in rules {
            let tensor = &tensors[rule.tensor];
            let mut looked = rule.test.look(tensor, seen_rows(tensor, rows));
            if let Ok(Some(violation)) = &mut looked
                && seen_rows(tensor, rows) != rows
            {
                violation.rows = Rows::all(rows);
            }
            let place = || place(rule.tensor);
            let finding = self.finding(rule.check, rule.action, looked, place, rows);
            if let Some(finding) = finding {
                findings.add(finding)?;
            }
        }
        Ok(findings)
    }

    /// What a guard's answer amounts to.
    pub(crate) fn guard_finding<E: std::fmt::Display>(
        &self,
        guard: &Guard,
        looked: Result<Option<Violation>, E>,
        rows: usize,
    ) -> Option<Finding> {
        let place = || Place::Guard(guard.model.clone());
        self.finding(Check::Guard, guard.action, looked, place, rows)
    }

    fn finding<E: std::fmt::Display>(
        &self,
        check: Check,
        action: Action,
        looked: Result<Option<Violation>, E>,
        place: impl Fn() -> Place,
        rows: usize,
    ) -> Option<Finding> {
        let (action, Violation { rows, what }) = match looked {
            Ok(None) => return None,
            Ok(Some(violation)) => (action, violation),
            Err(error) => {
                let (rows, what) = (Rows::all(rows), What::Unable(error.to_string()));
                (self.on_error, Violation { rows, what })
            }
        };
        Some(Finding {
            check,
            action,
            place: place(),
            rows,
            what,
        })
    }

    /// Whether a version needs statistics to be checked.
    #[must_use]
    pub fn needs_statistics(&self) -> bool {
        let needs = |rule: &Rule| match &rule.test {
            Test::Distance(distance) => distance.known.is_none(),
            Test::Energy(limit) => limit.is_none(),
            _ => false,
        };
        self.inputs.iter().chain(&self.outputs).any(needs)
    }

    /// These checks with the statistics of a version.
    ///
    /// # Errors
    ///
    /// When something that is checked is missing in them, or makes no sense.
    pub fn armed(
        &self,
        signature: &Signature,
        statistics: &Statistics,
    ) -> Result<Self, StatisticsError> {
        let mut armed = self.clone();
        for rule in &mut armed.inputs {
            let spec = &signature.inputs[rule.tensor];
            let width = signature.row_width(spec);
            rule.arm("input", spec, width, statistics.inputs.get(&spec.name))?;
        }
        for rule in &mut armed.outputs {
            let spec = &signature.outputs[rule.tensor];
            let width = signature.row_width(spec);
            rule.arm("output", spec, width, statistics.outputs.get(&spec.name))?;
        }
        Ok(armed)
    }
}

/// Rows of a tensor of a request of so many: one where it is a plain argument, which is of all.
fn seen_rows(tensor: &Tensor, rows: usize) -> usize {
    if tensor.element_count() < rows {
        1
    } else {
        rows
    }
}

// === impl Size ===

impl Size {
    fn look(self, inputs: &Inputs) -> Option<Finding> {
        let elements = || inputs.tensors.iter().map(Tensor::element_count).sum();
        let too_many = |what, most: Option<usize>, got: &dyn Fn() -> usize| {
            let (most, got) = (most?, got());
            (got > most).then_some(What::TooMany { what, most, got })
        };
        let what = too_many("rows", self.rows, &|| inputs.rows)
            .or_else(|| too_many("elements", self.elements, &elements))?;
        Some(Finding {
            check: Check::Size,
            action: self.action,
            place: Place::Request,
            rows: Rows::all(inputs.rows),
            what,
        })
    }
}

// === impl Rule ===

impl Rule {
    fn arm(
        &mut self,
        side: &'static str,
        spec: &TensorSpec,
        width: Option<usize>,
        fitted: Option<&Fitted>,
    ) -> Result<(), StatisticsError> {
        let name = &spec.name;
        let missing = |method| StatisticsError::Missing {
            method,
            side,
            tensor: name.clone(),
        };
        match &mut self.test {
            Test::Distance(distance) => {
                let fitted = fitted.ok_or_else(|| missing("mahalanobis"))?;
                let known = fitted.gaussian(name, width)?;
                distance.known = Some(known.ok_or_else(|| missing("mahalanobis"))?);
                if distance.limit.is_none() {
                    distance.limit = Some(fitted.limit(name)?);
                }
            }
            Test::Energy(limit @ None) => match fitted {
                Some(fitted @ Fitted::Energy { .. }) => *limit = Some(fitted.limit(name)?),
                _ => return Err(missing("energy")),
            },
            _ => {}
        }
        Ok(())
    }
}

// === impl Test ===

impl Test {
    fn look(&self, tensor: &Tensor, rows: usize) -> Result<Option<Violation>, Unable> {
        match self {
            Self::Finite => Ok(range::finite(tensor, rows)),
            Self::Range(range) => range.look(tensor, rows),
            Self::Confidence(least) => score::unsure(*least, tensor, rows),
            Self::Texts(texts) => texts.look(tensor, rows),
            Self::Energy(limit) => {
                score::energetic(limit.ok_or(Unable::NoStatistics)?, tensor, rows)
            }
            Self::Distance(distance) => distance.look(tensor, rows),
        }
    }

    /// What it costs beside the others, to order them by.
    #[must_use]
    pub fn cost(&self) -> u8 {
        match self {
            Self::Finite => 0,
            Self::Range(_) | Self::Confidence(_) => 1,
            Self::Energy(_) => 2,
            Self::Texts(_) => 3,
            Self::Distance(_) => 4,
        }
    }
}

// === impl Signature ===

impl Signature {
    /// Elements of one row of a tensor, where all its axes but the batch axis are fixed.
    #[must_use]
    pub fn row_width(&self, spec: &TensorSpec) -> Option<usize> {
        let skipped = self.batched && !spec.is_plain();
        let inner = spec.axes.iter().skip(usize::from(skipped));
        inner
            .map(|axis| match axis {
                Axis::Fixed(size) => Some(*size),
                Axis::Free => None,
            })
            .try_fold(1_usize, |width, size| width.checked_mul(size?))
    }
}
