//! Every datatype both ways, and everything that is no tensor.

use proptest::prelude::*;
use prost::Message;

use super::super::{InferParameter, InferRequestedOutput, ParameterChoice, Weighed};
use super::*;
use crate::parameters::Parameter;

fn input(datatype: &str, shape: &[i64], contents: TensorContents) -> InferInputTensor {
    InferInputTensor {
        name: "x".to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        contents: Some(contents),
        ..InferInputTensor::default()
    }
}

fn request(input: InferInputTensor, raw: &[&[u8]]) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "m".to_owned(),
        inputs: vec![input],
        raw_input_contents: raw.iter().map(|raw| Bytes::copy_from_slice(raw)).collect(),
        ..ModelInferRequest::default()
    }
}

fn typed_tensor(datatype: &str, contents: TensorContents) -> Result<Tensor, String> {
    let read = request(input(datatype, &[2], contents), &[]).into_request();
    let mut inputs = read.map_err(|error| error.to_string())?.inputs;
    Ok(inputs.remove(0).tensor)
}

fn error(input: InferInputTensor, raw: &[&[u8]]) -> String {
    let error = request(input, raw).into_request().unwrap_err();
    error.to_string()
}

fn none() -> TensorContents {
    TensorContents::default()
}

#[test]
fn each_datatype_is_read_from_its_own_list() {
    let ints = |ints: [i32; 2]| TensorContents {
        ints: ints.to_vec(),
        ..none()
    };
    let uints = |uints: [u32; 2]| TensorContents {
        uints: uints.to_vec(),
        ..none()
    };
    let cases = [
        (
            "INT8",
            ints([-128, 127]),
            Tensor::from_elements([2], &[-128_i8, 127]),
        ),
        (
            "INT16",
            ints([-3, 4]),
            Tensor::from_elements([2], &[-3_i16, 4]),
        ),
        (
            "INT32",
            ints([-3, 4]),
            Tensor::from_elements([2], &[-3_i32, 4]),
        ),
        (
            "UINT8",
            uints([0, 255]),
            Tensor::from_elements([2], &[0_u8, 255]),
        ),
        (
            "UINT16",
            uints([3, 4]),
            Tensor::from_elements([2], &[3_u16, 4]),
        ),
        (
            "UINT32",
            uints([3, u32::MAX]),
            Tensor::from_elements([2], &[3, u32::MAX]),
        ),
        (
            "INT64",
            TensorContents {
                int64s: vec![i64::MIN, 1],
                ..none()
            },
            Tensor::from_i64([2], &[i64::MIN, 1]),
        ),
        (
            "UINT64",
            TensorContents {
                uint64s: vec![u64::MAX, 1],
                ..none()
            },
            Tensor::from_elements([2], &[u64::MAX, 1]),
        ),
        (
            "FP32",
            TensorContents {
                fp32s: vec![0.5, -1.0],
                ..none()
            },
            Tensor::from_f32([2], &[0.5, -1.0]),
        ),
        (
            "FP64",
            TensorContents {
                fp64s: vec![0.5, -1.0],
                ..none()
            },
            Tensor::from_elements([2], &[0.5_f64, -1.0]),
        ),
        (
            "BOOL",
            TensorContents {
                bools: vec![true, false],
                ..none()
            },
            Tensor::from_elements([2], &[true, false]),
        ),
        (
            "BYTES",
            TensorContents {
                bytes: vec![Bytes::from_static(b"a\0"), Bytes::new()],
                ..none()
            },
            Tensor::from_strings([2], &[b"a\0".as_slice(), b""]),
        ),
    ];
    for (datatype, contents, expected) in cases {
        assert_eq!(
            typed_tensor(datatype, contents),
            Ok(expected.unwrap()),
            "{datatype}"
        );
    }
}

#[test]
fn what_stands_in_the_wrong_place_is_named() {
    let fp32s = || TensorContents {
        fp32s: vec![1.0, 2.0],
        ..none()
    };
    let ints = TensorContents {
        ints: vec![1, 300],
        ..none()
    };
    let raw: &[&[u8]] = &[&[0; 8]];
    for (text, expected) in [
        (
            error(input("FP32", &[2], fp32s()), raw),
            "inputs[0].contents: expected none beside",
        ),
        (
            error(input("INT32", &[2], fp32s()), &[]),
            "inputs[0].contents: expected int_contents for INT32",
        ),
        (
            error(input("FP16", &[2], none()), &[]),
            "inputs[0].contents: expected raw_input_contents for FP16",
        ),
        (
            error(input("INT8", &[2], ints), &[]),
            "inputs[0].contents: expected INT8 at element 1, got 300",
        ),
        (
            error(input("FP33", &[2], none()), raw),
            "inputs[0].datatype: ",
        ),
        (
            error(input("FP32", &[-2], none()), raw),
            "inputs[0].shape: expected at most 64 sizes >= 0, got -2",
        ),
        (
            error(input("FP32", &[1; 65], none()), raw),
            "inputs[0].shape: expected at most 64 sizes >= 0, got 65",
        ),
        (
            error(input("FP32", &[3], none()), raw),
            "inputs[0]: expected 12 bytes",
        ),
        (
            error(input("FP32", &[i64::MAX, 3], none()), raw),
            "inputs[0]: shape",
        ),
        (
            error(input("FP32", &[2], none()), &[&[0; 8], &[]]),
            "raw_input_contents: expected 1, one for each input, got 2",
        ),
        (
            error(input("BYTES", &[1], none()), &[&[9, 0, 0, 0, 1]]),
            "inputs[0]: BYTES element 0",
        ),
        (
            error(input("FP32", &[2], none()), &[]),
            "inputs[0]: expected 8 bytes",
        ),
    ] {
        assert!(text.starts_with(expected), "{text:?} is not {expected:?}");
    }
}

#[test]
fn a_name_that_stands_twice_is_refused() {
    let mut twice = request(input("FP32", &[0], none()), &[]);
    twice.inputs.push(input("FP32", &[0], none()));
    let error = twice.into_request().unwrap_err().to_string();
    assert_eq!(error, "inputs[1].name: `x` is given twice");
    let output = InferRequestedOutput {
        name: "y".to_owned(),
        ..InferRequestedOutput::default()
    };
    let twice = ModelInferRequest {
        outputs: vec![output.clone(), output],
        ..request(input("FP32", &[0], none()), &[])
    };
    let error = twice.into_request().unwrap_err().to_string();
    assert_eq!(error, "outputs[1].name: `y` is given twice");
}

#[test]
fn more_tensors_than_anybody_has_are_refused_before_they_are_compared() {
    let mut many = request(input("FP32", &[0], none()), &[]);
    many.inputs = vec![input("FP32", &[0], none()); MAX_TENSORS + 1];
    let error = many.into_request().unwrap_err().to_string();
    assert_eq!(error, "inputs: expected at most 1024, got 1025");
}

#[test]
fn parameters_and_the_id_come_along() {
    let parameter = |name: &str, choice| NamedParameter {
        name: name.to_owned(),
        value: Some(InferParameter {
            choice: Some(choice),
        }),
    };
    let asked = ModelInferRequest {
        id: "7".to_owned(),
        parameters: vec![
            parameter("priority", ParameterChoice::Uint(1)),
            parameter("priority", ParameterChoice::Uint(2)),
            parameter("a", ParameterChoice::Text("b".to_owned())),
        ],
        ..request(input("FP32", &[0], none()), &[])
    };
    let read = asked.into_request().unwrap();
    assert_eq!(read.id.as_deref(), Some("7"));
    assert_eq!(read.parameters["priority"], Parameter::Int(2));
    assert_eq!(read.parameters["a"].as_str(), Some("b"));
}

#[test]
fn raw_contents_are_not_copied_on_their_way_from_a_message_to_a_tensor_and_back() {
    let sent = request(input("UINT8", &[1 << 20], none()), &[&vec![7; 1 << 20]]);
    let body = crate::grpc::frame(&sent);
    let within = body.as_ptr_range();
    let (compressed, message) = crate::grpc::message_of(&body).unwrap();
    assert!(!compressed);
    let weighed = Weighed::of(&message, 1 << 10).unwrap();
    let request = weighed.decode().unwrap().into_request().unwrap();
    let tensor = request.inputs[0].tensor.clone();
    assert!(
        within.contains(&tensor.data().as_ptr()),
        "the tensor was copied"
    );
    let response = InferResponse {
        outputs: request.inputs,
        ..InferResponse::default()
    };
    let response = ModelInferResponse::from(response);
    assert_eq!(
        response.raw_output_contents[0].as_ptr(),
        tensor.data().as_ptr()
    );
}

proptest! {
    /// Whatever bytes come, they are a request or named as none, and a request says the same again.
    #[test]
    fn any_message_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = ModelInferRequest::decode(&*bytes)
            && let Ok(request) = message.into_request()
        {
            for named in request.inputs {
                prop_assert!(named.tensor.element_count() <= named.tensor.data().len().max(1));
            }
        }
    }
}
