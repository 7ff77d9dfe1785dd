//! From `[safety]` to the checks, in their order.

use aegis_config::{Faults, KeyPath};
use aegis_protocol::Datatype;

use crate::repository::raw::{
    RawAction, RawBlocklist, RawGuard, RawMethod, RawOnError, RawOodOutput, RawPattern, RawSafety,
};
use crate::safety::{Action, Check, Distance, Guard, Range, Rule, Safety, Size, Test, Texts};
use crate::signature::{Signature, TensorSpec};

/// Names a tensor of the signature where a check is meant to look.
struct Sought<'a> {
    /// The key of the list, such as `range`.
    list: &'static str,
    at: usize,
    /// `input` or `output`.
    key: &'static str,
    name: &'a str,
    takes: Takes,
}

/// What became of a check.
enum Decided {
    /// A fault was reported.
    Wrong,
    Off,
    On(Rule),
}

#[derive(Clone, Copy)]
enum Takes {
    Numbers,
    Text,
}

/// Checks every check, and reports every fault.
pub(super) fn validate(
    raw: &RawSafety,
    signature: &Signature,
    faults: &mut Faults<'_>,
) -> Option<Safety> {
    let inputs = inputs(raw, signature, faults);
    let outputs = outputs(raw, signature, faults);
    let guards = raw.guard.iter().enumerate();
    let guards: Vec<_> = guards
        .map(|(at, raw)| guard(raw, at, signature, faults))
        .collect();
    let schema = action(raw.schema);
    if !matches!(schema, None | Some(Action::Block)) {
        let message = "expected block or off: a request of another signature cannot be run";
        faults.at(["safety", "schema"], message);
    }
    Some(Safety {
        on_error: raw.on_error.into(),
        schema,
        nan_inf_input: action(raw.nan_inf_input),
        size: size(raw),
        inputs: in_order(inputs)?,
        guards: guards.into_iter().flatten().collect(),
        outputs: in_order(outputs)?,
    })
}

/// Cheap ones first; what is off is left out. `None` where one is wrong.
fn in_order(rules: Vec<Decided>) -> Option<Vec<Rule>> {
    let mut taken = Vec::with_capacity(rules.len());
    for rule in rules {
        match rule {
            Decided::On(rule) => taken.push(rule),
            Decided::Off => {}
            Decided::Wrong => return None,
        }
    }
    taken.sort_by_key(|rule| rule.test.cost());
    Some(taken)
}

fn inputs(raw: &RawSafety, signature: &Signature, faults: &mut Faults<'_>) -> Vec<Decided> {
    let specs = &signature.inputs;
    let mut rules = finite(Check::NanInfInput, raw.nan_inf_input, specs);
    let sought = |list, at, name, takes| Sought {
        list,
        at,
        key: "input",
        name,
        takes,
    };
    for (at, raw) in raw.range.iter().enumerate() {
        let sought = sought("range", at, raw.input.as_str(), Takes::Numbers);
        let range = range(&sought, raw.min, raw.max, faults);
        let test = range.map(Test::Range);
        rules.push(rule(&sought, Check::Range, raw.action, test, specs, faults));
    }
    for (at, raw) in raw.blocklist.iter().enumerate() {
        let sought = sought("blocklist", at, raw.input.as_str(), Takes::Text);
        let test = words(&sought, raw, faults);
        rules.push(rule(
            &sought,
            Check::Blocklist,
            raw.action,
            test,
            specs,
            faults,
        ));
    }
    for (at, raw) in raw.pattern.iter().enumerate() {
        let sought = sought("pattern", at, raw.input.as_str(), Takes::Text);
        let test = patterns(&sought, raw, faults);
        rules.push(rule(
            &sought,
            Check::Pattern,
            raw.action,
            test,
            specs,
            faults,
        ));
    }
    for (at, raw) in raw.ood_input.iter().enumerate() {
        let sought = sought("ood_input", at, raw.input.as_str(), Takes::Numbers);
        let test = limit(&sought, raw.limit, faults).map(distance);
        rules.push(rule(
            &sought,
            Check::OodInput,
            raw.action,
            test,
            specs,
            faults,
        ));
    }
    rules
}

fn outputs(raw: &RawSafety, signature: &Signature, faults: &mut Faults<'_>) -> Vec<Decided> {
    let specs = &signature.outputs;
    let mut rules = finite(Check::NanInfOutput, raw.nan_inf_output, specs);
    let sought = |list, at, name| Sought {
        list,
        at,
        key: "output",
        name,
        takes: Takes::Numbers,
    };
    for (at, raw) in raw.output_range.iter().enumerate() {
        let sought = sought("output_range", at, raw.output.as_str());
        let range = range(&sought, raw.min, raw.max, faults);
        let test = range.map(Test::Range);
        rules.push(rule(
            &sought,
            Check::OutputRange,
            raw.action,
            test,
            specs,
            faults,
        ));
    }
    for (at, raw) in raw.low_confidence.iter().enumerate() {
        let sought = sought("low_confidence", at, raw.output.as_str());
        let test = finite_number(&sought, "min", raw.min, faults).map(Test::Confidence);
        rules.push(rule(
            &sought,
            Check::LowConfidence,
            raw.action,
            test,
            specs,
            faults,
        ));
    }
    for (at, raw) in raw.ood_output.iter().enumerate() {
        let sought = sought("ood_output", at, raw.output.as_str());
        let test = ood_output(&sought, raw, faults);
        rules.push(rule(
            &sought,
            Check::OodOutput,
            raw.action,
            test,
            specs,
            faults,
        ));
    }
    rules
}

/// A check of every tensor that can hold NaN.
fn finite(check: Check, raw: RawAction, specs: &[TensorSpec]) -> Vec<Decided> {
    let floats = [
        Datatype::Fp16,
        Datatype::Bf16,
        Datatype::Fp32,
        Datatype::Fp64,
    ];
    let Some(action) = action(raw) else {
        return Vec::new();
    };
    let specs = specs.iter().enumerate();
    let specs = specs.filter(|(_, spec)| floats.contains(&spec.datatype));
    specs
        .map(|(tensor, _)| {
            Decided::On(Rule {
                check,
                action,
                tensor,
                test: Test::Finite,
            })
        })
        .collect()
}

fn rule(
    sought: &Sought<'_>,
    check: Check,
    raw: RawAction,
    test: Option<Test>,
    specs: &[TensorSpec],
    faults: &mut Faults<'_>,
) -> Decided {
    let tensor = sought.find(specs, faults);
    let (Some(test), Some(tensor)) = (test, tensor) else {
        return Decided::Wrong;
    };
    match action(raw) {
        None => Decided::Off,
        Some(action) => Decided::On(Rule {
            check,
            action,
            tensor,
            test,
        }),
    }
}

fn range(
    sought: &Sought<'_>,
    min: Option<f64>,
    max: Option<f64>,
    faults: &mut Faults<'_>,
) -> Option<Range> {
    if min.is_none() && max.is_none() {
        return faults.refuse(sought.path(), "expected min or max, or both");
    }
    let min = min.map_or(Some(f64::NEG_INFINITY), |min| {
        finite_number(sought, "min", min, faults)
    });
    let max = max.map_or(Some(f64::INFINITY), |max| {
        finite_number(sought, "max", max, faults)
    });
    let (min, max) = (min?, max?);
    if min > max {
        let message = format!("expected at least {min}, which is min, got {max}");
        return faults.refuse(sought.path().key("max"), message);
    }
    Some(Range { min, max })
}

fn words(sought: &Sought<'_>, raw: &RawBlocklist, faults: &mut Faults<'_>) -> Option<Test> {
    match Texts::words(&raw.words, raw.fold_case) {
        Ok(texts) => Some(Test::Texts(texts)),
        Err(error) => faults.refuse(sought.path().key("words"), error.to_string()),
    }
}

fn patterns(sought: &Sought<'_>, raw: &RawPattern, faults: &mut Faults<'_>) -> Option<Test> {
    match Texts::patterns(&raw.patterns, raw.fold_case) {
        Ok(texts) => Some(Test::Texts(texts)),
        Err(error) => faults.refuse(sought.path().key("patterns"), error.to_string()),
    }
}

fn ood_output(sought: &Sought<'_>, raw: &RawOodOutput, faults: &mut Faults<'_>) -> Option<Test> {
    let limit = limit(sought, raw.limit, faults)?;
    Some(match raw.method {
        RawMethod::Energy => Test::Energy(limit),
        RawMethod::Mahalanobis => distance(limit),
    })
}

fn distance(limit: Option<f64>) -> Test {
    Test::Distance(Distance { known: None, limit })
}

/// A limit that may be left out.
#[expect(clippy::option_option, reason = "the outer says whether it is right")]
fn limit(sought: &Sought<'_>, limit: Option<f64>, faults: &mut Faults<'_>) -> Option<Option<f64>> {
    match limit {
        None => Some(None),
        Some(limit) => finite_number(sought, "limit", limit, faults).map(Some),
    }
}

fn finite_number(
    sought: &Sought<'_>,
    key: &str,
    number: f64,
    faults: &mut Faults<'_>,
) -> Option<f64> {
    if number.is_finite() {
        return Some(number);
    }
    let message = format!("expected a finite number, got {number}");
    faults.refuse(sought.path().key(key), message)
}

fn size(raw: &RawSafety) -> Option<Size> {
    let bound = |most| (most > 0).then_some(most);
    let (rows, elements) = (bound(raw.size.max_rows), bound(raw.size.max_elements));
    let action = action(raw.size.action)?;
    (rows.is_some() || elements.is_some()).then_some(Size {
        action,
        rows,
        elements,
    })
}

/// `None` where it is off.
fn guard(
    raw: &RawGuard,
    at: usize,
    signature: &Signature,
    faults: &mut Faults<'_>,
) -> Option<Guard> {
    let path = KeyPath::from(["safety", "guard"]).index(at);
    for (key, text) in [("model", &raw.model), ("output", &raw.output)] {
        if text.is_empty() {
            faults.at(path.key(key), "expected a name, got none");
        }
    }
    if raw.inputs.is_empty() {
        faults.at(path.key("inputs"), "expected at least one");
    }
    if !raw.max.is_finite() {
        let message = format!("expected a finite number, got {}", raw.max);
        faults.at(path.key("max"), message);
    }
    let mut inputs = Vec::with_capacity(raw.inputs.len());
    for (theirs, ours) in &raw.inputs {
        match signature.inputs.iter().position(|spec| spec.name == *ours) {
            Some(at) => inputs.push((theirs.clone(), at)),
            None => faults.at(
                path.key("inputs").key(theirs.as_str()),
                format!("expected one of our inputs, got `{ours}`"),
            ),
        }
    }
    Some(Guard {
        action: action(raw.action)?,
        model: raw.model.clone(),
        version: raw.version.clone(),
        inputs,
        output: raw.output.clone(),
        column: raw.column,
        limit: raw.max,
    })
}

fn action(raw: RawAction) -> Option<Action> {
    match raw {
        RawAction::Block => Some(Action::Block),
        RawAction::Flag => Some(Action::Flag),
        RawAction::Log => Some(Action::Log),
        RawAction::Off => None,
    }
}

impl From<RawOnError> for Action {
    fn from(raw: RawOnError) -> Self {
        match raw {
            RawOnError::Block => Self::Block,
            RawOnError::Flag => Self::Flag,
            RawOnError::Log => Self::Log,
        }
    }
}

// === impl Sought ===

impl Sought<'_> {
    fn path(&self) -> KeyPath {
        KeyPath::from(["safety", self.list]).index(self.at)
    }

    /// The number of the tensor, if there is one of that name and kind.
    fn find(&self, specs: &[TensorSpec], faults: &mut Faults<'_>) -> Option<usize> {
        let (key, name) = (self.key, self.name);
        let path = self.path().key(key);
        let Some(at) = specs.iter().position(|spec| spec.name == name) else {
            let known: Vec<_> = specs.iter().map(|spec| spec.name.as_str()).collect();
            let message = format!("expected one of {}, got `{name}`", known.join(", "));
            return faults.refuse(path, message);
        };
        let datatype = specs[at].datatype;
        let fits = match self.takes {
            Takes::Text => datatype == Datatype::Bytes,
            Takes::Numbers => !matches!(datatype, Datatype::Bytes | Datatype::Bool),
        };
        if !fits {
            let expected = match self.takes {
                Takes::Text => "text (BYTES)",
                Takes::Numbers => "numbers",
            };
            let message = format!("expected an {key} of {expected}, `{name}` is {datatype}");
            return faults.refuse(path, message);
        }
        Some(at)
    }
}
