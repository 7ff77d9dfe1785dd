use aegis_protocol::Shape;

use super::*;

fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
    let axis = |size: &i64| usize::try_from(*size).map_or(Axis::Free, Axis::Fixed);
    TensorSpec::new(name, datatype, shape.iter().map(axis).collect())
}

/// Two inputs, one of which has a free inner axis, and one output.
fn signature() -> Signature {
    Signature {
        batched: true,
        inputs: vec![
            spec("a", Datatype::Fp32, &[-1, 2]),
            spec("b", Datatype::Int64, &[-1, -1]),
        ],
        outputs: vec![spec("c", Datatype::Fp32, &[-1])],
    }
}

fn a(rows: usize) -> NamedTensor {
    NamedTensor::new(
        "a",
        Tensor::from_f32([rows, 2], &vec![0.5; rows * 2]).unwrap(),
    )
}

fn b(rows: usize) -> NamedTensor {
    NamedTensor::new(
        "b",
        Tensor::from_i64([rows, 3], &vec![7; rows * 3]).unwrap(),
    )
}

fn refusal(inputs: Vec<NamedTensor>) -> String {
    signature().arrange(inputs).unwrap_err().to_string()
}

#[test]
fn inputs_are_put_in_the_order_of_the_signature() {
    let inputs = signature().arrange(vec![b(3), a(3)]).unwrap();
    assert_eq!(
        inputs,
        Inputs {
            tensors: vec![a(3).tensor, b(3).tensor],
            rows: 3,
            plain: Vec::new(),
        }
    );
}

#[test]
fn every_difference_names_field_expected_and_got() {
    let renamed = |name: &str| NamedTensor {
        name: name.to_owned(),
        ..a(1)
    };
    assert_eq!(
        refusal(vec![a(1)]),
        "inputs: expected `b`, which is missing"
    );
    assert_eq!(
        refusal(vec![a(1), b(1), renamed("z")]),
        "inputs: expected `a`, `b`, got `z`"
    );
    assert_eq!(
        refusal(vec![a(1), a(1), b(1)]),
        "inputs: `a` is given twice"
    );
    assert_eq!(
        refusal(vec![
            NamedTensor {
                name: "a".to_owned(),
                ..b(1)
            },
            b(1)
        ]),
        "`a`.datatype: expected FP32, got INT64"
    );
    assert_eq!(
        refusal(vec![a(1), b(2)]),
        "`b`.shape: expected 1 rows, got 2"
    );
    assert_eq!(
        refusal(vec![a(0), b(0)]),
        "`a`.shape: expected 1 or more rows, got 0"
    );
    let flat = NamedTensor::new("a", Tensor::from_f32([2], &[0.0; 2]).unwrap());
    assert_eq!(
        refusal(vec![flat, b(1)]),
        "`a`.shape: expected [-1,2], got [2]"
    );
    let wide = NamedTensor::new("a", Tensor::from_f32([1, 3], &[0.0; 3]).unwrap());
    assert_eq!(
        refusal(vec![wide, b(1)]),
        "`a`.shape: expected [-1,2], got [1,3]"
    );
}

#[test]
fn a_clients_name_is_cut_before_it_is_quoted() {
    let name = "x".repeat(1_000_000);
    assert!(refusal(vec![NamedTensor { name, ..a(1) }]).len() < 200);
}

#[test]
fn outputs_must_have_the_rows_that_went_in() {
    let output = |rows: usize| vec![Tensor::from_f32([rows], &vec![0.0; rows]).unwrap()];
    assert_eq!(signature().check_outputs(&output(4), 4), Ok(()));
    let error = signature().check_outputs(&output(3), 4).unwrap_err();
    assert_eq!(error.to_string(), "`c`.shape: expected 4 rows, got 3");
    let error = signature().check_outputs(&[], 4).unwrap_err();
    assert_eq!(
        error,
        SignatureError::Count {
            expected: 1,
            got: 0
        }
    );
}

#[test]
fn what_does_not_batch_may_have_any_axes_and_is_one_row() {
    let signature = Signature {
        batched: false,
        inputs: vec![
            spec("s", Datatype::Fp32, &[]),
            spec("v", Datatype::Fp32, &[-1]),
        ],
        outputs: Vec::new(),
    };
    let scalar = NamedTensor::new("s", Tensor::from_f32(Shape::default(), &[1.0]).unwrap());
    let vector = NamedTensor::new("v", Tensor::from_f32([3], &[0.0; 3]).unwrap());
    assert_eq!(signature.arrange(vec![scalar, vector]).unwrap().rows, 1);
}

#[test]
fn an_input_that_is_empty_is_refused_whatever_its_other_axes_claim() {
    let empty = |shape: &[usize]| Tensor::from_i64(shape, &[]).unwrap();
    let mut signature = signature();
    signature.inputs.remove(0);
    let vast = NamedTensor::new("b", empty(&[usize::MAX, 0]));
    let error = signature.arrange(vec![vast]).unwrap_err().to_string();
    assert!(
        error.starts_with("`b`.shape: expected at least 1 on axis 1, got ["),
        "{error}"
    );
    signature.batched = false;
    signature.inputs[0].axes.remove(0);
    let error = signature
        .arrange(vec![NamedTensor::new("b", empty(&[0]))])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "`b`.shape: expected at least 1 on axis 0, got [0]"
    );
}

#[test]
fn zeros_fit_the_signature_and_free_axes_take_their_example() {
    let mut signature = signature();
    signature.inputs[1].example = vec![5];
    signature.inputs.push(spec("t", Datatype::Bytes, &[-1, 2]));
    let zeros = signature.zeros(3);
    assert_eq!(zeros.rows, 3);
    let shapes: Vec<_> = zeros
        .tensors
        .iter()
        .map(|tensor| tensor.shape().to_string())
        .collect();
    assert_eq!(shapes, ["[3,2]", "[3,5]", "[3,2]"]);
    let named = signature.inputs.iter().zip(zeros.tensors);
    let named = named.map(|(spec, tensor)| NamedTensor::new(&spec.name, tensor));
    assert!(signature.arrange(named.collect()).is_ok());
}

fn plain(optional: bool) -> TensorSpec {
    TensorSpec {
        kind: Kind::Plain(Plain {
            value: Tensor::from_i64([1], &[5]).unwrap(),
            optional,
        }),
        ..spec("k", Datatype::Int64, &[1])
    }
}

#[test]
fn a_plain_argument_is_no_row_and_may_be_left_out_where_it_is_optional() {
    let mut signature = signature();
    signature.inputs.push(plain(true));
    let k = Tensor::from_i64([1], &[9]).unwrap();
    let given = signature
        .arrange(vec![a(3), NamedTensor::new("k", k.clone()), b(3)])
        .unwrap();
    assert_eq!((given.rows, &*given.plain), (3, &[2][..]));
    assert_eq!(given.tensors[2], k);
    let left_out = signature.arrange(vec![a(3), b(3)]).unwrap();
    assert_eq!(left_out.tensors[2].as_i64().unwrap(), [5]);
    assert_eq!(signature.zeros(4).tensors[2].as_i64().unwrap(), [5]);
    signature.inputs[2] = plain(false);
    let error = signature.arrange(vec![a(3), b(3)]).unwrap_err();
    assert_eq!(error.to_string(), "inputs: expected `k`, which is missing");
    let two = NamedTensor::new("k", Tensor::from_i64([2], &[9, 9]).unwrap());
    let error = signature.arrange(vec![a(3), two, b(3)]).unwrap_err();
    assert_eq!(error.to_string(), "`k`.shape: expected [1], got [2]");
}

#[test]
fn what_the_executor_cannot_take_is_refused_by_its_element() {
    let limited = |datatype| Signature {
        batched: true,
        inputs: vec![TensorSpec {
            kind: Kind::Limited,
            ..spec("x", datatype, &[-1])
        }],
        outputs: Vec::new(),
    };
    let refusal = |signature: &Signature, tensor| {
        let inputs = vec![NamedTensor::new("x", tensor)];
        signature.arrange(inputs).unwrap_err().to_string()
    };
    let texts = limited(Datatype::Bytes);
    for bytes in [&b"a\0"[..], b"\xff"] {
        let tensor = Tensor::from_strings([2], &[b"fine", bytes]).unwrap();
        assert_eq!(
            refusal(&texts, tensor),
            "`x`: expected UTF-8 without NUL, element 1 is something else"
        );
    }
    let counts = limited(Datatype::Uint64);
    let tensor = Tensor::from_elements([2], &[1, u64::MAX]).unwrap();
    assert!(refusal(&counts, tensor).starts_with("`x`: expected UINT64 up to 9223372036854775807"));
    let most = Tensor::from_elements([1], &[u64::MAX >> 1]).unwrap();
    assert!(counts.arrange(vec![NamedTensor::new("x", most)]).is_ok());
}

#[test]
fn a_tensor_that_is_optional_may_be_left_out_and_has_no_elements_then() {
    let mut signature = signature();
    signature.inputs[1].optional = true;
    let whole = signature.arrange(vec![b(3), a(3)]).unwrap();
    assert_eq!((whole.rows, &*whole.plain), (3, &[][..]));
    let short = signature.arrange(vec![a(3)]).unwrap();
    assert_eq!((short.rows, &*short.plain), (3, &[1][..]));
    assert_eq!(short.tensors[1].element_count(), 0);
    // That it may be missing does not let it be anything else.
    let refused = |input| {
        let error = signature.arrange(vec![a(3), input]).unwrap_err();
        error.to_string()
    };
    assert!(refused(b(2)).starts_with("`b`"), "{}", refused(b(2)));
    let name = &signature.inputs[1].name;
    let empty = Tensor::new(signature.inputs[1].datatype, [0, 2], Vec::new()).unwrap();
    let error = refused(NamedTensor::new(name, empty));
    assert!(error.contains("`b`"), "{error}");
    let plain = |signature: &Signature| -> Vec<Vec<usize>> {
        let all = signature.warm_ups(2).into_iter();
        all.map(|inputs| inputs.plain).collect()
    };
    assert_eq!(plain(&signature), [vec![], vec![1]]);
    signature.inputs[1].optional = false;
    assert_eq!(plain(&signature), [Vec::<usize>::new()]);
}
