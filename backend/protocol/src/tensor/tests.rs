use proptest::prelude::*;

use super::*;

#[test]
fn data_must_be_as_long_as_shape_and_datatype_say() {
    let error = Tensor::new(Datatype::Fp32, [2, 3], vec![0; 20]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "expected 24 bytes for FP32 of shape [2,3], got 20"
    );
    Tensor::new(Datatype::Fp32, [2, 3], vec![0; 24]).unwrap();
}

#[test]
fn a_shape_that_overflows_is_refused_in_elements_and_in_bytes() {
    let too_many = |shape: [usize; 2]| TensorError::TooManyElements {
        shape: shape.into(),
    };
    let elements = [usize::MAX, 2];
    assert_eq!(
        Tensor::new(Datatype::Int8, elements, vec![]),
        Err(too_many(elements))
    );
    let bytes = [usize::MAX / 4, 2];
    assert_eq!(
        Tensor::new(Datatype::Fp64, bytes, vec![]),
        Err(too_many(bytes))
    );
}

#[test]
fn booleans_are_only_0_and_1() {
    let error = Tensor::new(Datatype::Bool, [3], vec![1, 0, 2]).unwrap_err();
    assert_eq!(error, TensorError::NotBool { index: 2, got: 2 });
}

#[test]
fn strings_that_reach_past_the_end_are_refused() {
    let mut data = Vec::new();
    strings::put(&mut data, b"ab").unwrap();
    data.extend_from_slice(&[9, 0, 0, 0, b'c']);
    let error = Tensor::new(Datatype::Bytes, [2], data.clone()).unwrap_err();
    assert_eq!(error, TensorError::Truncated { index: 1 });
    data.truncate(8);
    let error = Tensor::new(Datatype::Bytes, [2], data).unwrap_err();
    assert_eq!(
        error,
        TensorError::Truncated { index: 1 },
        "a length that is cut itself"
    );
}

#[test]
fn strings_are_counted_against_the_shape() {
    let error = Tensor::from_strings([3], &["a", "b"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "expected 3 elements for shape [3], got 2"
    );
    let two = Tensor::from_strings([2], &["a", ""]).unwrap();
    assert_eq!(two.strings().unwrap().collect::<Vec<_>>(), ["a", ""]);
    let error = Tensor::new(Datatype::Bytes, [1], two.data().clone()).unwrap_err();
    assert!(matches!(
        error,
        TensorError::ElementCount {
            expected: 1,
            got: 2,
            ..
        }
    ));
}

#[test]
fn elements_come_back_only_as_their_own_type() {
    let tensor = Tensor::from_f32([2], &[1.5, -2.0]).unwrap();
    assert_eq!(tensor.as_f32().unwrap(), [1.5, -2.0]);
    let error = tensor.as_i64().unwrap_err();
    assert_eq!(error.to_string(), "expected INT64 elements, got FP32");
    assert!(tensor.strings().is_err());
}

#[test]
fn the_first_non_finite_element_is_found_in_every_float_type() {
    use half::{bf16, f16};
    let infinity = Some((1, f64::INFINITY));
    let found = |tensor: Result<Tensor, TensorError>| tensor.unwrap().first_non_finite();
    assert_eq!(
        found(Tensor::from_elements([2], &[f16::ZERO, f16::INFINITY])),
        infinity
    );
    assert_eq!(
        found(Tensor::from_elements([2], &[bf16::ZERO, bf16::INFINITY])),
        infinity
    );
    assert_eq!(
        found(Tensor::from_f32([2], &[0.0, f32::INFINITY])),
        infinity
    );
    assert_eq!(
        found(Tensor::from_elements([2], &[0.0, f64::INFINITY])),
        infinity
    );
    let (index, value) = found(Tensor::from_f32([1], &[f32::NAN])).unwrap();
    assert!(index == 0 && value.is_nan());
    assert_eq!(found(Tensor::from_i64([1], &[i64::MAX])), None);
    assert_eq!(found(Tensor::from_f32([1], &[f32::MAX])), None);
}

#[test]
fn rows_of_other_shapes_or_types_are_not_joined() {
    let square = Tensor::from_f32([1, 2], &[1.0, 2.0]).unwrap();
    let wide = Tensor::from_f32([1, 3], &[1.0, 2.0, 3.0]).unwrap();
    let whole = Tensor::from_i64([1, 2], &[1, 2]).unwrap();
    let scalar = Tensor::from_f32([], &[1.0]).unwrap();
    let error = Tensor::concat(&[&square, &wide]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "expected rows of the shape of [1,2], got [1,3]"
    );
    assert!(matches!(
        Tensor::concat(&[&square, &whole]),
        Err(TensorError::WrongDatatype { .. })
    ));
    assert_eq!(
        Tensor::concat(&[&square, &scalar]),
        Err(TensorError::NoRows)
    );
    assert_eq!(Tensor::concat(&[&scalar]), Err(TensorError::NoRows));
    assert_eq!(Tensor::concat(&[]), Err(TensorError::NothingToJoin));
}

#[test]
fn parts_must_sum_to_the_rows() {
    let tensor = Tensor::from_i64([3], &[1, 2, 3]).unwrap();
    let error = tensor.split_rows(&[1, 1]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "expected parts that sum to 3 rows, got 2"
    );
    let error = tensor.split_rows(&[usize::MAX, usize::MAX]).unwrap_err();
    assert!(matches!(error, TensorError::RowCount { expected: 3, .. }));
}

#[test]
fn a_part_shares_the_memory_of_the_whole() {
    let tensor = Tensor::from_i64([3], &[1, 2, 3]).unwrap();
    let parts = tensor.split_rows(&[1, 2]).unwrap();
    assert_eq!(parts[1].data().as_ptr(), tensor.data()[8..].as_ptr());
}

#[test]
fn rows_without_elements_can_be_split() {
    let tensor = Tensor::from_f32([3, 0], &[]).unwrap();
    let parts = tensor.split_rows(&[1, 2]).unwrap();
    assert_eq!(parts[1].shape(), &Shape::from([2, 0]));
    let empty = Tensor::new(Datatype::Fp32, [0, usize::MAX, 2], vec![]).unwrap();
    assert_eq!(empty.split_rows(&[0]).unwrap()[0], empty);
}

/// Some tensors of the same datatype and row shape, with any numbers of rows.
fn batch() -> impl Strategy<Value = Vec<Tensor>> {
    let row = prop::collection::vec(0_usize..4, 0..3);
    let rows = prop::collection::vec(0_usize..5, 1..6);
    (0..Datatype::ALL.len(), row, rows).prop_flat_map(|(datatype, row, rows)| {
        let tensor = move |rows: usize| {
            let mut shape = vec![rows];
            shape.extend_from_slice(&row);
            tensor_of(Datatype::ALL[datatype], shape)
        };
        rows.into_iter().map(tensor).collect::<Vec<_>>()
    })
}

fn tensor_of(datatype: Datatype, shape: Vec<usize>) -> BoxedStrategy<Tensor> {
    let elements: usize = shape.iter().product();
    match datatype.size() {
        Some(size) => {
            let max = if datatype == Datatype::Bool {
                1
            } else {
                u8::MAX
            };
            prop::collection::vec(0..=max, elements * size)
                .prop_map(move |data| Tensor::new(datatype, shape.clone(), data).unwrap())
                .boxed()
        }
        None => prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6), elements)
            .prop_map(move |values| Tensor::from_strings(shape.clone(), &values).unwrap())
            .boxed(),
    }
}

proptest! {
    #[test]
    fn what_was_joined_is_cut_apart_unchanged(tensors in batch()) {
        let whole = Tensor::concat(&tensors.iter().collect::<Vec<_>>()).unwrap();
        let rows: Vec<_> = tensors.iter().map(|tensor| tensor.rows().unwrap()).collect();
        prop_assert_eq!(whole.rows(), Some(rows.iter().sum()));
        let checked = Tensor::new(whole.datatype(), whole.shape().clone(), whole.data().clone());
        prop_assert_eq!(checked.as_ref(), Ok(&whole));
        prop_assert_eq!(whole.split_rows(&rows).unwrap(), tensors);
    }

    #[test]
    fn no_bytes_make_a_string_tensor_panic(
        data in prop::collection::vec(0_u8..4, 0..40),
        elements in 0_usize..6,
    ) {
        if let Ok(tensor) = Tensor::new(Datatype::Bytes, [elements], data) {
            prop_assert_eq!(tensor.strings().unwrap().count(), elements);
        }
    }
}
