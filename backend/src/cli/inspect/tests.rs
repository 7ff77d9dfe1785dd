//! Arguments and drafts, with functions in the place of models.

use aegis_protocol::{Datatype, Tensor};
use aegis_torch::Returned;
use aegis_torch::program::{Method, Parameter, Type};

use super::arguments::{Arguments, ArgumentsError, Axes, Given, Sent, What, arguments};
use super::draft::Draft;
use super::guess::complete;
use super::probe::{Behaviour, leave_out, probe};
use crate::repository::{ModelSpec, RawValue};

fn method(parameters: &[(&str, Type, Option<&str>)]) -> Method {
    let parameters = parameters.iter().map(|(name, ty, default)| Parameter {
        name: (*name).to_owned(),
        ty: ty.clone(),
        default: default.map(str::to_owned),
    });
    Method {
        name: "forward".to_owned(),
        parameters: parameters.collect(),
        returns: Type::Tensor,
        fields: Vec::new(),
    }
}

fn given(flags: &[&str]) -> Vec<Given> {
    flags.iter().map(|flag| flag.parse().unwrap()).collect()
}

fn axes(datatype: Datatype, shape: &[i64]) -> What {
    let shape = shape.to_vec();
    What::Tensor(Axes { datatype, shape })
}

fn image() -> Vec<Sent> {
    vec![Sent {
        name: "x".to_owned(),
        what: axes(Datatype::Fp32, &[-1, 2]),
        optional: false,
        list: None,
    }]
}

fn returned(tensor: Tensor) -> Vec<Returned> {
    vec![Returned { name: None, tensor }]
}

/// Runs a function on the numbers of the first input, row by row of two.
fn behaviour(f: impl Fn(Vec<f32>) -> Result<Tensor, String>) -> Result<Behaviour, String> {
    let run = |inputs: &[Tensor]| f(inputs[0].as_f32().unwrap()).map(returned);
    probe(&image(), &run)
}

/// The sum of each row of two.
fn sums(numbers: &[f32]) -> Vec<f32> {
    numbers.chunks(2).map(|row| row.iter().sum()).collect()
}

fn row(values: &[f32]) -> Tensor {
    Tensor::from_f32([values.len()], values).unwrap()
}

#[test]
fn arguments_are_what_their_types_and_the_command_line_say() {
    let optional = Type::Optional(Box::new(Type::Tensor));
    let method = method(&[
        ("x", Type::Tensor, None),
        ("texts", Type::List(Box::new(Type::Str)), None),
        ("k", Type::Int, Some("3")),
        ("how", Type::Str, Some("\"a\\\"b\"")),
        ("by", Type::Float, None),
        ("mask", optional, Some("None")),
        ("on", Type::Bool, Some("True")),
    ]);
    let found = arguments(&method, &given(&["x=INT64[-1, 4]", "by=2.5"])).unwrap();
    let whats: Vec<_> = found.sent.iter().map(|sent| sent.what.clone()).collect();
    assert_eq!(
        whats,
        [
            axes(Datatype::Int64, &[-1, 4]),
            axes(Datatype::Bytes, &[-1]),
            What::Plain(RawValue::Int(3)),
            What::Plain(RawValue::Str("a\"b".to_owned())),
            What::Plain(RawValue::Float(2.5)),
        ]
    );
    let optional: Vec<_> = found.sent.iter().map(|sent| sent.optional).collect();
    assert_eq!(optional, [false, false, true, true, false]);
    // What stands behind an argument that is left out is left out, too.
    assert_eq!(found.notes.len(), 2, "{:?}", found.notes);
    let all = arguments(&method, &given(&["x=FP32[-1]", "mask=BOOL[-1]"])).unwrap();
    assert_eq!(all.sent.len(), 7);
    assert_eq!(all.sent[5].what, axes(Datatype::Bool, &[-1]));
}

#[test]
fn lists_of_tensors_are_as_long_as_it_is_said_and_what_may_be_none_is_optional() {
    let optional = || Type::Optional(Box::new(Type::Tensor));
    let list = || Type::List(Box::new(Type::Tensor));
    let takes = method(&[
        ("xs", list(), None),
        ("mask", optional(), None),
        ("bias", optional(), Some("None")),
    ]);
    let flags = ["xs=FP32[-1,4]", "mask=BOOL[-1]", "xs=INT64[-1]"];
    let found = arguments(&takes, &given(&flags)).unwrap();
    let named: Vec<_> = found.sent.iter().map(|sent| &*sent.name).collect();
    assert_eq!(named, ["xs_0", "xs_1", "mask"]);
    assert_eq!(found.sent[1].what, axes(Datatype::Int64, &[-1]));
    assert_eq!(found.sent[1].list.as_deref(), Some("xs"));
    assert!(found.sent[2].optional && !found.sent[0].optional);
    // Nobody says what they are, and only the last has a default.
    let found = arguments(&takes, &[]).unwrap();
    let whats: Vec<_> = found.sent.iter().map(|sent| sent.what.clone()).collect();
    assert_eq!(whats, [What::Unknown, What::Unknown]);
    let error = arguments(&takes, &given(&["xs=BYTES[-1]"])).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("--input xs: expected a datatype")
    );
    let mut unknown = Arguments {
        sent: found.sent,
        notes: Vec::new(),
    };
    let run = |_: &[Tensor]| Err("no".to_owned());
    let asked = complete(&mut unknown, &[], &run, &mut Vec::new()).unwrap();
    assert!(
        asked.contains("--input 'xs=FP32[-1,…]' --input 'mask=FP32[-1,…]'"),
        "{asked}"
    );
}

#[test]
fn what_may_be_none_by_its_type_alone_is_not_optional() {
    let mut sent = image();
    sent.push(Sent {
        name: "mask".to_owned(),
        what: axes(Datatype::Fp32, &[-1]),
        optional: true,
        list: None,
    });
    let takes_none = |inputs: &[Tensor]| Ok(returned(inputs[0].clone()));
    let mut notes = Vec::new();
    leave_out(&mut sent, &takes_none, &mut notes);
    assert!(sent[1].optional && notes.is_empty());
    let takes_no_none = |inputs: &[Tensor]| match inputs[1].element_count() {
        0 => Err("mask is None".to_owned()),
        _ => Ok(returned(inputs[0].clone())),
    };
    leave_out(&mut sent, &takes_no_none, &mut notes);
    assert!(
        !sent[1].optional && notes[0].contains("`mask`"),
        "{notes:?}"
    );
}

#[test]
fn what_makes_no_input_is_named() {
    let dict = Type::Dict(Box::new(Type::Str), Box::new(Type::Tensor));
    let takes = method(&[("x", Type::Tensor, None), ("all", dict.clone(), None)]);
    assert_eq!(
        arguments(&takes, &[]).unwrap_err(),
        ArgumentsError::NotCarried {
            name: "all".to_owned(),
            ty: dict.to_string()
        }
    );
    let mask = Type::Optional(Box::new(Type::Int));
    let before = method(&[("mask", mask, Some("None")), ("x", Type::Tensor, None)]);
    let error = arguments(&before, &[]).unwrap_err().to_string();
    assert!(error.contains("`mask`"), "{error}");
    let plain = method(&[("x", Type::Tensor, None), ("k", Type::Int, None)]);
    for (flag, told) in [
        ("y=FP32[-1]", "no such argument; it takes x, k"),
        ("x=FP33[-1]", "expected a datatype of the protocol"),
        ("x=FP32[-2]", "as FP32[-1,64], got `FP32[-2]`"),
        ("x=BYTES[-1]", "expected a datatype"),
        ("k=2.5", "expected a whole number, got `2.5`"),
    ] {
        let error = arguments(&plain, &given(&[flag])).unwrap_err().to_string();
        assert!(error.contains(told), "{flag}: {error}");
    }
    let twice = arguments(&plain, &given(&["k=1", "k=2"])).unwrap_err();
    assert_eq!(
        twice.to_string(),
        "--input k: is there twice, and is no list of tensors"
    );
    for flag in ["x", "=FP32[1]", "x="] {
        assert!(flag.parse::<Given>().unwrap_err().contains("NAME=DATATYPE"));
    }
}

#[test]
fn rows_that_do_not_see_each_other_batch() {
    let found = behaviour(|numbers| Ok(row(&sums(&numbers)))).unwrap();
    assert_eq!(found.alone, None);
    assert!(!found.stateful);
    assert_eq!(found.outputs[0].axes.shape, [-1]);
}

#[test]
fn a_row_that_depends_on_others_runs_alone() {
    let found = behaviour(|numbers| {
        let mean = numbers.iter().sum::<f32>();
        Ok(row(&sums(&numbers)
            .iter()
            .map(|sum| sum - mean)
            .collect::<Vec<_>>()))
    });
    let why = found.unwrap().alone.unwrap();
    assert!(why.contains("depends on the rows beside it"), "{why}");
    let found = behaviour(|numbers| Ok(row(&[numbers.iter().sum()])));
    let why = found.unwrap().alone.unwrap();
    assert!(
        why.contains("no row for each of 3: its shape is [1]"),
        "{why}"
    );
}

#[test]
fn a_model_of_single_rows_runs_alone() {
    let found = behaviour(|numbers| match numbers.len() {
        2 => Ok(row(&[numbers[0]])),
        _ => Err("expected one row".to_owned()),
    });
    let found = found.unwrap();
    let why = found.alone.unwrap();
    assert!(why.contains("fails on 3 rows: expected one row"), "{why}");
    assert_eq!(found.outputs[0].axes.shape, [1]);
    assert_eq!(behaviour(|_| Err("no".to_owned())).unwrap_err(), "no");
}

#[test]
fn a_module_that_counts_has_state() {
    let count = std::cell::Cell::new(0.0_f32);
    let found = behaviour(|numbers| {
        count.set(count.get() + 1.0);
        Ok(row(&sums(&numbers)
            .iter()
            .map(|sum| sum + count.get())
            .collect::<Vec<_>>()))
    });
    let found = found.unwrap();
    assert!(found.stateful);
    assert!(found.alone.unwrap().contains("keeps state"));
}

#[test]
fn an_input_that_no_memory_holds_is_refused() {
    for size in [9_000_000_000_000_000_000, 64_000_000_000] {
        let sent = [Sent {
            name: "x".to_owned(),
            what: axes(Datatype::Fp32, &[-1, size]),
            optional: false,
            list: None,
        }];
        let run = |_: &[Tensor]| Err("it is run".to_owned());
        let error = probe(&sent, &run).unwrap_err();
        assert!(error.contains(&size.to_string()), "{error}");
    }
}

#[test]
fn axes_that_follow_free_ones_are_free() {
    let sent = [Sent {
        name: "x".to_owned(),
        what: axes(Datatype::Fp32, &[-1, -1, 2]),
        optional: false,
        list: None,
    }];
    // Each position to a class of four.
    let run = |inputs: &[Tensor]| {
        let shape = inputs[0].shape();
        let shape = [shape[0], shape[1], 4];
        Ok(returned(
            Tensor::from_f32(shape, &vec![0.5; shape.iter().product()]).unwrap(),
        ))
    };
    let found = probe(&sent, &run).unwrap();
    assert_eq!(found.outputs[0].axes.shape, [-1, -1, 4]);
    let arguments = Arguments {
        sent: sent.to_vec(),
        notes: Vec::new(),
    };
    let mut draft = Draft::new("a\nb.pt".as_ref(), "__torch__.Net", "encode");
    draft.known(arguments, &method(&[]), found);
    let text = draft.to_string();
    ModelSpec::parse("draft", &text).unwrap();
    assert!(text.contains("warm_up = [16]"), "{text}");
    assert!(text.contains("method = \"encode\""), "{text}");
}

#[test]
fn what_the_first_layer_takes_is_guessed_and_only_what_runs_is_taken() {
    let unknown = || Arguments {
        sent: vec![Sent {
            name: "x".to_owned(),
            what: What::Unknown,
            optional: false,
            list: None,
        }],
        notes: Vec::new(),
    };
    let parameters = |shape: &[i64]| {
        [
            ("first.bias".to_owned(), vec![4]),
            ("first.weight".to_owned(), shape.to_vec()),
        ]
    };
    // Runs on this shape alone, whatever the rows.
    let only = |datatype: Datatype, row: &'static [usize]| {
        move |inputs: &[Tensor]| {
            let input = &inputs[0];
            if input.datatype() == datatype && input.shape().row() == row {
                Ok(returned(input.clone()))
            } else {
                Err("another shape".to_owned())
            }
        }
    };
    for (weight, datatype, row, shape) in [
        (&[8, 64][..], Datatype::Fp32, &[64][..], &[-1, 64][..]),
        (&[8, 64], Datatype::Int64, &[16], &[-1, -1]),
        (
            &[8, 3, 3, 3],
            Datatype::Fp32,
            &[3, 28, 28],
            &[-1, 3, 28, 28],
        ),
    ] {
        let mut arguments = unknown();
        let mut notes = Vec::new();
        let missing = complete(
            &mut arguments,
            &parameters(weight),
            &only(datatype, row),
            &mut notes,
        );
        assert_eq!(missing, None);
        assert_eq!(arguments.sent[0].what, axes(datatype, shape));
        assert!(notes[0].contains("`x` is a guess"), "{notes:?}");
    }
    let mut arguments = unknown();
    let run = only(Datatype::Bool, &[1]);
    let missing = complete(&mut arguments, &parameters(&[8, 64]), &run, &mut Vec::new());
    assert!(missing.unwrap().contains("--input 'x=FP32[-1,…]'"));
    assert_eq!(arguments, unknown());
}
