//! What a method takes, by its signature and by what the command line says of it.

use std::str::FromStr;

use aegis_protocol::Datatype;
use aegis_torch::program::{Method, Parameter, Type};

use crate::repository::RawValue;

/// What is expected of a tensor on the command line.
const TENSOR: &str = "a datatype of the protocol and a shape, as FP32[-1,64]";

/// A tensor as `model.toml` describes it: -1 for a free axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Axes {
    pub(super) datatype: Datatype,
    pub(super) shape: Vec<i64>,
}

/// One argument that requests bring.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sent {
    pub(super) name: String,
    pub(super) what: What,
    /// Whether a request may leave it out: the method has a default for it, or takes `None`.
    pub(super) optional: bool,
    /// The argument that it is an element of, which is a list of tensors.
    pub(super) list: Option<String>,
}

/// What an argument is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    /// A tensor, or a list of `str`.
    Tensor(Axes),
    /// A plain value, and what it is at warm-up.
    Plain(RawValue),
    /// A tensor that nobody has said anything of.
    Unknown,
}

/// The arguments of a method.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Arguments {
    pub(super) sent: Vec<Sent>,
    /// What the reader of the draft has to know.
    pub(super) notes: Vec<String>,
}

/// `NAME=WHAT` of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    name: String,
    what: String,
}

/// Why the arguments make no inputs.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ArgumentsError {
    #[error("--input {name}: `{method}` has no such argument; it takes {known}")]
    NoSuchArgument {
        name: String,
        method: String,
        known: String,
    },
    #[error("--input {name}: is there twice, and is no list of tensors")]
    Twice { name: String },
    #[error("--input {name}: expected {expected}, got `{got}`")]
    NotThat {
        name: String,
        expected: &'static str,
        got: String,
    },
    #[error(
        "argument `{name}`: the protocol carries tensors, numbers and texts, and no {ty}; wrap the module in one \
         that takes them"
    )]
    NotCarried { name: String, ty: String },
}

// === impl Given ===

impl FromStr for Given {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "expected NAME=DATATYPE[SHAPE], as image=FP32[-1,64], or NAME=VALUE";
        let (name, what) = text.split_once('=').ok_or(expected)?;
        if name.is_empty() || what.is_empty() {
            return Err(expected.to_owned());
        }
        Ok(Self {
            name: name.to_owned(),
            what: what.to_owned(),
        })
    }
}

impl FromStr for Axes {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (datatype, sizes) = text.split_once('[').ok_or(())?;
        let sizes = sizes.strip_suffix(']').ok_or(())?;
        let shape = sizes
            .split(',')
            .filter(|size| !size.trim().is_empty())
            .map(|size| {
                size.trim()
                    .parse()
                    .ok()
                    .filter(|size| *size == -1 || *size > 0)
            })
            .collect::<Option<Vec<i64>>>();
        Ok(Self {
            datatype: datatype.parse().map_err(|_| ())?,
            shape: shape.ok_or(())?,
        })
    }
}

// === impl Arguments ===

impl Arguments {
    /// Whether nothing has to be guessed.
    pub(super) fn is_known(&self) -> bool {
        self.sent.iter().all(|sent| sent.what != What::Unknown)
    }
}

/// What requests bring for a method's parameters.
pub(super) fn arguments(method: &Method, given: &[Given]) -> Result<Arguments, ArgumentsError> {
    let of = |name: &str| given.iter().find(|given| given.name == name);
    if let Some(stray) =
        (given.iter()).find(|given| !method.parameters.iter().any(|one| one.name == given.name))
    {
        let known: Vec<_> = method
            .parameters
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        return Err(ArgumentsError::NoSuchArgument {
            name: stray.name.clone(),
            method: method.name.clone(),
            known: known.join(", "),
        });
    }
    let names_list = |name: &str| {
        let parameters = method.parameters.iter();
        parameters.filter(|one| one.name == name).any(is_list)
    };
    let twice = |at: &usize| {
        let before = &given[..*at];
        let name = &given[*at].name;
        !names_list(name) && before.iter().any(|before| before.name == *name)
    };
    if let Some(at) = (0..given.len()).find(twice) {
        return Err(ArgumentsError::Twice {
            name: given[at].name.clone(),
        });
    }
    let mut arguments = Arguments {
        sent: Vec::new(),
        notes: Vec::new(),
    };
    let mut left_out: Option<&Parameter> = None;
    for parameter in &method.parameters {
        if is_list(parameter) && left_out.is_none() {
            let said = given.iter().filter(|given| given.name == parameter.name);
            arguments.sent.extend(elements(parameter, said)?);
            continue;
        }
        let what = what(parameter, of(&parameter.name))?;
        // Arguments go by their places: behind one that is left out, all are.
        match (what, left_out) {
            (Some(what), None) => arguments.sent.push(Sent {
                name: parameter.name.clone(),
                optional: match what {
                    What::Plain(_) => parameter.default.is_some(),
                    What::Tensor(_) | What::Unknown => is_optional(parameter),
                },
                what,
                list: None,
            }),
            (_, _) if parameter.default.is_some() && of(&parameter.name).is_none() => {
                left_out = left_out.or(Some(parameter));
                arguments.notes.push(format!(
                    "`{}: {}` is left out: the model takes its default",
                    parameter.name, parameter.ty
                ));
            }
            (what, before) => {
                let refused = if what.is_some() {
                    before.unwrap_or(parameter)
                } else {
                    parameter
                };
                return Err(ArgumentsError::NotCarried {
                    name: refused.name.clone(),
                    ty: refused.ty.to_string(),
                });
            }
        }
    }
    Ok(arguments)
}

fn is_list(parameter: &Parameter) -> bool {
    matches!(&parameter.ty, Type::List(of) if **of == Type::Tensor)
}

fn is_optional(parameter: &Parameter) -> bool {
    matches!(&parameter.ty, Type::Optional(of) if **of == Type::Tensor)
}

/// The tensors of a list: as many as the command line says, or one of which nothing is known.
fn elements<'a>(
    parameter: &Parameter,
    said: impl Iterator<Item = &'a Given>,
) -> Result<Vec<Sent>, ArgumentsError> {
    let mut whats = Vec::new();
    for given in said {
        let axes = given.what.parse::<Axes>().ok();
        let axes = axes.filter(|axes| axes.datatype != Datatype::Bytes);
        whats.push(
            axes.map(What::Tensor)
                .ok_or_else(|| ArgumentsError::NotThat {
                    name: given.name.clone(),
                    expected: TENSOR,
                    got: given.what.clone(),
                })?,
        );
    }
    if whats.is_empty() {
        whats.push(What::Unknown);
    }
    let list = &parameter.name;
    let sent = whats.into_iter().enumerate().map(|(at, what)| Sent {
        name: format!("{list}_{at}"),
        what,
        optional: false,
        list: Some(list.clone()),
    });
    Ok(sent.collect())
}

/// What stands for a parameter; none where the protocol cannot carry it.
fn what(parameter: &Parameter, given: Option<&Given>) -> Result<Option<What>, ArgumentsError> {
    let ty = match &parameter.ty {
        // Something that is said of it makes it what it holds; and where nothing stands for it, it must be said.
        Type::Optional(of) if given.is_some() => of,
        Type::Optional(of) if parameter.default.is_none() && **of == Type::Tensor => of,
        ty => ty,
    };
    let not_that = |expected| {
        let given = given.into_iter();
        let (name, got) = given
            .map(|given| (given.name.clone(), given.what.clone()))
            .next()?;
        Some(ArgumentsError::NotThat {
            name,
            expected,
            got,
        })
    };
    let text = given.map(|given| given.what.as_str());
    let strings = matches!(ty, Type::List(of) if **of == Type::Str);
    if *ty == Type::Tensor || strings {
        let Some(text) = text else {
            let texts = Axes {
                datatype: Datatype::Bytes,
                shape: vec![-1],
            };
            let what = if strings {
                What::Tensor(texts)
            } else {
                What::Unknown
            };
            return Ok(Some(what));
        };
        let axes = text.parse::<Axes>().ok();
        let axes = axes.filter(|axes| strings == (axes.datatype == Datatype::Bytes));
        let expected = if strings {
            "BYTES[-1] or BYTES of one fixed axis"
        } else {
            TENSOR
        };
        return match (axes, not_that(expected)) {
            (None, Some(error)) => Err(error),
            (axes, _) => Ok(axes.map(What::Tensor)),
        };
    }
    let (expected, zero) = match ty {
        Type::Int => ("a whole number", RawValue::Int(0)),
        Type::Float => ("a number", RawValue::Float(0.0)),
        Type::Bool => ("true or false", RawValue::Bool(false)),
        Type::Str => ("a text", RawValue::Str(String::new())),
        _ => return Ok(None),
    };
    let default = parameter
        .default
        .as_deref()
        .and_then(|text| value(ty, text));
    match (text.map(|text| value(ty, text)), not_that(expected)) {
        (Some(None), Some(error)) => Err(error),
        (value, _) => Ok(Some(What::Plain(
            value.flatten().or(default).unwrap_or(zero),
        ))),
    }
}

/// A value as Python or the command line writes it.
fn value(ty: &Type, text: &str) -> Option<RawValue> {
    match ty {
        Type::Int => text.parse().ok().map(RawValue::Int),
        Type::Float => text
            .parse()
            .ok()
            .filter(|value: &f64| value.is_finite())
            .map(RawValue::Float),
        Type::Bool => match text {
            "True" | "true" => Some(RawValue::Bool(true)),
            "False" | "false" => Some(RawValue::Bool(false)),
            _ => None,
        },
        Type::Str => {
            let quoted = serde_json::from_str(text).ok();
            Some(RawValue::Str(quoted.unwrap_or_else(|| text.to_owned())))
        }
        _ => None,
    }
}
