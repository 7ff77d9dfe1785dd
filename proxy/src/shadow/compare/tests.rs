#![expect(
    clippy::float_cmp,
    reason = "what is exact in the definition is exact here"
)]

use aegis_protocol::NamedTensor;
use proptest::prelude::*;

use super::*;

const TOLERANCE: Tolerance = Tolerance {
    relative: 1e-4,
    absolute: 1e-5,
};

fn answer(outputs: &[(&str, Tensor)]) -> InferResponse {
    let outputs = outputs.iter();
    InferResponse {
        model_name: "m".into(),
        outputs: outputs
            .map(|(name, tensor)| NamedTensor::new(*name, tensor.clone()))
            .collect(),
        ..InferResponse::default()
    }
}

fn f32s(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_f32(shape, values).unwrap()
}

#[track_caller]
fn one(a: Tensor, b: Tensor) -> Difference {
    let (a, b) = (answer(&[("y", a)]), answer(&[("y", b)]));
    compare(&a, &b, TOLERANCE).unwrap().remove(0)
}

#[test]
fn equal_answers_agree_in_everything() {
    let y = f32s(&[2, 3], &[0.1, f32::NAN, f32::INFINITY, -0.0, 2.0, 3.0]);
    let mut zero = y.as_f32().unwrap();
    zero[3] = 0.0;
    let difference = one(y, f32s(&[2, 3], &zero));
    let expected = Difference {
        output: "y".into(),
        absolute: 0.0,
        relative: 0.0,
        agrees: true,
        rows: 2,
        same_largest: 2,
    };
    assert_eq!(difference, expected);
}

#[test]
fn a_difference_is_measured_both_ways_and_held_to_the_tolerance() {
    let a = f32s(&[1, 3], &[1.0, 100.0, 0.0]);
    let difference = one(a.clone(), f32s(&[1, 3], &[1.001, 100.0, 0.0]));
    assert!((difference.absolute - 1e-3).abs() < 1e-6, "{difference:?}");
    assert!((difference.relative - 1e-3).abs() < 1e-5, "{difference:?}");
    assert!(!difference.agrees);
    // 5e-3 of 100 is within rtol, as 5e-6 of 0 is within atol.
    assert!(one(a.clone(), f32s(&[1, 3], &[1.0, 100.005, 5e-6])).agrees);
    assert!(!one(a, f32s(&[1, 3], &[1.0, 100.0, 5e-5])).agrees);
}

#[test]
fn a_number_and_no_number_are_infinitely_apart() {
    for (a, b) in [
        (1.0, f32::NAN),
        (f32::NAN, 1.0),
        (f32::INFINITY, 1.0),
        (f32::INFINITY, f32::NEG_INFINITY),
    ] {
        let difference = one(f32s(&[1], &[a]), f32s(&[1], &[b]));
        assert_eq!(difference.absolute, f64::INFINITY, "{a} and {b}");
        assert!(!difference.agrees);
    }
}

#[test]
fn the_place_of_the_largest_is_compared_row_by_row() {
    let a = f32s(&[3, 2], &[0.9, 0.1, 0.4, 0.6, 0.5, 0.5]);
    let b = f32s(&[3, 2], &[0.8, 0.2, 0.7, 0.3, 0.5, 0.4]);
    let difference = one(a, b);
    assert_eq!((difference.rows, difference.same_largest), (3, 2));
    let column = |value| f32s(&[2, 1], &[value, value]);
    assert_eq!(
        one(column(1.0), column(1.0)).rows,
        0,
        "nothing to choose from"
    );
}

#[test]
fn integers_are_subtracted_as_integers() {
    let a = Tensor::from_i64([2], &[i64::MAX, 7]).unwrap();
    let b = Tensor::from_i64([2], &[i64::MAX - 1, 7]).unwrap();
    let difference = one(a, b);
    assert_eq!(difference.absolute, 1.0);
    assert!(difference.agrees, "1 of 9e18 is within rtol");
    let far = one(
        Tensor::from_elements([1], &[u64::MAX]).unwrap(),
        Tensor::from_elements([1], &[0_u64]).unwrap(),
    );
    assert!(!far.agrees);
    assert_eq!(far.relative, 1.0);
}

#[test]
fn texts_and_booleans_are_alike_or_not() {
    let text = |text: &[u8]| {
        let mut raw = u32::try_from(text.len()).unwrap().to_le_bytes().to_vec();
        raw.extend_from_slice(text);
        Tensor::new(Datatype::Bytes, [1], raw).unwrap()
    };
    assert!(one(text(b"cat"), text(b"cat")).agrees);
    assert_eq!(one(text(b"cat"), text(b"horse")).absolute, 1.0);
    let bools = |values: &[bool]| Tensor::from_elements([2], values).unwrap();
    assert!(!one(bools(&[true, false]), bools(&[true, true])).agrees);
}

#[test]
fn answers_of_another_form_are_told_apart_from_other_numbers() {
    let y = f32s(&[1], &[1.0]);
    let two = answer(&[("y", y.clone()), ("z", y.clone())]);
    let single = answer(&[("y", y.clone())]);
    let missing = Mismatch::Outputs { output: "z".into() };
    assert_eq!(compare(&two, &single, TOLERANCE), Err(missing.clone()));
    assert_eq!(compare(&single, &two, TOLERANCE), Err(missing));
    let wider = answer(&[("y", f32s(&[1, 1], &[1.0]))]);
    let error = compare(&single, &wider, TOLERANCE).unwrap_err();
    assert_eq!(
        error.to_string(),
        "output \"y\" is FP32 [1] in one answer and FP32 [1,1] in the other"
    );
}

proptest! {
    /// Against the definition, element by element.
    #[test]
    fn the_largest_difference_is_found_wherever_it_is(
        a in proptest::collection::vec(-1e3_f32..1e3, 1..40),
        noise in proptest::collection::vec(-1e-2_f32..1e-2, 40),
    ) {
        let b: Vec<f32> = a.iter().zip(&noise).map(|(a, n)| a + n).collect();
        let difference = one(f32s(&[a.len()], &a), f32s(&[b.len()], &b));
        let pairs = || a.iter().zip(&b).map(|(a, b)| (f64::from(*a), f64::from(*b)));
        let absolute = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let agrees = pairs().all(|(a, b)| (a - b).abs() <= 1e-5 + 1e-4 * a.abs());
        prop_assert_eq!(difference.absolute, absolute);
        prop_assert_eq!(difference.agrees, agrees);
        prop_assert!(difference.relative <= 2.0);
    }
}
