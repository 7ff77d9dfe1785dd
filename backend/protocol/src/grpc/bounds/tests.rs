//! Small messages that would become large, and those that are as large as may be.

use proptest::prelude::*;

use super::super::{InferInputTensor, InferRequestedOutput, NamedParameter, TensorContents};
use super::*;

/// More than any message here becomes, but for those that are meant to.
const ENOUGH: usize = 1 << 16;

fn decoded(message: &Bytes, limit: usize) -> Result<ModelInferRequest, CallError> {
    Weighed::of(message, limit)?.decode()
}

fn read(message: &ModelInferRequest, limit: usize) -> Result<ModelInferRequest, String> {
    let bytes = Bytes::from(message.encode_to_vec());
    decoded(&bytes, limit).map_err(|error| error.to_string())
}

fn refused(bytes: impl Into<Bytes>, limit: usize) -> String {
    let read = decoded(&bytes.into(), limit);
    read.expect_err("it is too much").to_string()
}

/// What its lists become.
fn lists(bytes: impl Into<Bytes>) -> usize {
    Weighed::of(&bytes.into(), ENOUGH).unwrap().lists()
}

/// A message with one input, of these fields.
fn of_input(fields: &[u8]) -> Vec<u8> {
    let mut message = vec![0x2a];
    prost::encode_length_delimiter(fields.len(), &mut message).unwrap();
    message.extend_from_slice(fields);
    message
}

/// The same whose contents have these.
fn of_contents(fields: &[u8]) -> Vec<u8> {
    of_input(&of_input(fields))
}

#[test]
fn as_many_entries_as_may_be_are_decoded_and_one_more_is_refused_before() {
    let parameters = |count| vec![NamedParameter::default(); count];
    let input = |count| InferInputTensor {
        parameters: parameters(count),
        ..InferInputTensor::default()
    };
    let output = |count| InferRequestedOutput {
        parameters: parameters(count),
        ..InferRequestedOutput::default()
    };
    let of = |tensors: usize, count: usize| {
        [
            ModelInferRequest {
                parameters: parameters(count),
                ..ModelInferRequest::default()
            },
            ModelInferRequest {
                inputs: vec![input(0); tensors],
                ..ModelInferRequest::default()
            },
            ModelInferRequest {
                outputs: vec![output(0); tensors],
                ..ModelInferRequest::default()
            },
            ModelInferRequest {
                raw_input_contents: vec![Bytes::new(); tensors],
                ..ModelInferRequest::default()
            },
            ModelInferRequest {
                inputs: vec![input(0), input(count)],
                ..ModelInferRequest::default()
            },
            ModelInferRequest {
                outputs: vec![output(0), output(count)],
                ..ModelInferRequest::default()
            },
        ]
    };
    for message in of(MAX_TENSORS, MAX_PARAMETERS) {
        assert_eq!(read(&message, 0), Ok(message));
    }
    let expected = [
        "parameters: expected at most 256, got more",
        "inputs: expected at most 1024, got more",
        "outputs: expected at most 1024, got more",
        "raw_input_contents: expected at most 1024, got more",
        "inputs[1].parameters: expected at most 256, got more",
        "outputs[1].parameters: expected at most 256, got more",
    ];
    for (message, expected) in of(MAX_TENSORS + 1, MAX_PARAMETERS + 1).iter().zip(expected) {
        assert_eq!(read(message, ENOUGH), Err(expected.to_owned()));
    }
}

#[test]
fn lists_become_as_much_as_they_may_and_no_more() {
    let all_lists = |count: usize| {
        let none = TensorContents::default;
        [
            (
                1,
                TensorContents {
                    bools: vec![true; count],
                    ..none()
                },
            ),
            (
                4,
                TensorContents {
                    ints: vec![-1; count],
                    ..none()
                },
            ),
            (
                8,
                TensorContents {
                    int64s: vec![1; count],
                    ..none()
                },
            ),
            (
                4,
                TensorContents {
                    uints: vec![u32::MAX; count],
                    ..none()
                },
            ),
            (
                8,
                TensorContents {
                    uint64s: vec![0; count],
                    ..none()
                },
            ),
            (
                4,
                TensorContents {
                    fp32s: vec![0.5; count],
                    ..none()
                },
            ),
            (
                8,
                TensorContents {
                    fp64s: vec![0.5; count],
                    ..none()
                },
            ),
            (
                32,
                TensorContents {
                    bytes: vec![Bytes::from_static(b"a"); count],
                    ..none()
                },
            ),
        ]
    };
    for (size, contents) in all_lists(9) {
        let message = ModelInferRequest {
            inputs: vec![
                InferInputTensor {
                    shape: vec![9],
                    ..InferInputTensor::default()
                },
                InferInputTensor {
                    contents: Some(contents),
                    ..InferInputTensor::default()
                },
            ],
            ..ModelInferRequest::default()
        };
        let all = 8 + 9 * size;
        assert_eq!(read(&message, all), Ok(message.clone()), "{message:?}");
        let expected = format!(
            "inputs[1].contents: expected all lists of numbers and texts to become at most {} bytes, got more",
            all - 1
        );
        assert_eq!(read(&message, all - 1), Err(expected), "{message:?}");
    }
}

#[test]
fn elements_that_are_not_packed_count_as_those_that_are() {
    // A boolean, a number of each kind, and sizes of a shape, each with a key of its own.
    for (element, size) in [
        (&b"\x08\x01"[..], 1),
        (b"\x10\x01", 4),
        (b"\x18\x01", 8),
        (b"\x35\0\0\0\0", 4),
        (b"\x39\0\0\0\0\0\0\0\0", 8),
        (b"\x42\0", 32),
    ] {
        let message = of_contents(&element.repeat(5));
        assert_eq!(lists(message.clone()), 5 * size, "{element:?}");
        assert!(refused(message, 5 * size - 1).starts_with("inputs[0].contents: "));
    }
    let message = of_input(&b"\x18\x01".repeat(5));
    assert_eq!(lists(message.clone()), 40);
    assert!(refused(message, 39).starts_with("inputs[0].shape: "));
}

#[test]
fn contents_that_come_in_several_pieces_count_together() {
    let piece = of_input(b"\x42\0\x42\0");
    let message = of_input(&piece.repeat(2));
    assert_eq!(lists(message.clone()), 4 * 32);
    assert!(refused(message, 4 * 32 - 1).starts_with("inputs[0].contents: "));
}

#[test]
fn a_message_within_a_message_cannot_reach_past_its_end_to_what_nobody_counted() {
    // The input is 8 bytes long; its contents say that they are all that follows.
    let mut message = b"\x2a\x08\x2a\x80\x80\x04".to_vec();
    message.extend(b"\x42\0".repeat(1 << 15));
    assert!(refused(message, ENOUGH).contains("cannot be read"));
}

#[test]
fn raw_contents_keep_a_message_only_where_they_are_most_of_it() {
    let of = |name: usize| {
        let message = ModelInferRequest {
            model_name: "m".repeat(name),
            raw_input_contents: vec![vec![7; 1_000].into(), vec![8; 24].into()],
            ..ModelInferRequest::default()
        };
        let bytes = Bytes::from(message.encode_to_vec());
        let read = decoded(&bytes, ENOUGH).unwrap();
        assert_eq!(read, message);
        let within = |raw: &Bytes| bytes.as_ptr_range().contains(&raw.as_ptr());
        let kept = read.raw_input_contents.iter().filter(|raw| within(raw));
        kept.count()
    };
    // Keys and lengths take 8 bytes.
    assert_eq!(of(1_016), 2);
    assert_eq!(of(1_017), 0);
}

#[test]
fn a_change_of_models_has_as_many_parameters_as_in_json() {
    let of = |count| RepositoryChangeRequest {
        parameters: vec![NamedParameter::default(); count],
        ..RepositoryChangeRequest::default()
    };
    let read = |message: &RepositoryChangeRequest| {
        RepositoryChangeRequest::read(&message.encode_to_vec()).map_err(|error| error.to_string())
    };
    let most = of(MAX_PARAMETERS);
    assert_eq!(read(&most), Ok(most));
    let expected = "parameters: expected at most 256, got more".to_owned();
    assert_eq!(read(&of(MAX_PARAMETERS + 1)), Err(expected));
}

proptest! {
    /// Whatever bytes come: what is read is what a decoder makes of them, and it is no more than it may be.
    #[test]
    fn what_is_read_is_what_is_there(bytes in prop::collection::vec(any::<u8>(), 0..100), limit in 0..200_usize) {
        let of = |wrap: fn(&[u8]) -> Vec<u8>| Bytes::from(wrap(&bytes));
        for message in [of(<[u8]>::to_vec), of(of_input), of(of_contents)] {
            let naive = ModelInferRequest::decode(message.clone());
            let Ok(read) = decoded(&message, limit) else {
                continue;
            };
            prop_assert_eq!(read.encode_to_vec(), naive.unwrap().encode_to_vec());
            let texts = read.inputs.iter().flat_map(|input| &input.contents);
            let texts: usize = texts.map(|contents| contents.bytes.len()).sum();
            prop_assert!(texts * size_of::<Bytes>() <= limit);
        }
    }
}
