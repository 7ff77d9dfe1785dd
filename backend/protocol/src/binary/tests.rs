//! Parts behind the JSON: which are taken, which are refused, and that none is copied.

use http::HeaderValue;

use super::*;
use crate::{Datatype, InferResponse, NamedTensor, Parameter, RequestedOutput, Tensor};

/// A body of this JSON and these parts, read.
fn read(json: &str, parts: &[u8]) -> Result<InferRequest, DecodeError> {
    let body = Bytes::from([json.as_bytes(), parts].concat());
    InferRequest::from_body(&body, Some(json.len()))
}

fn fault(json: &str, parts: &[u8]) -> String {
    read(json, parts).expect_err(json).to_string()
}

/// The members of an input `name` whose data are behind the JSON.
fn input(name: &str, datatype: &str, shape: &str, size: &str) -> String {
    format!(
        r#"{{"name":"{name}","datatype":"{datatype}","shape":{shape},"parameters":{{"binary_data_size":{size}}}}}"#
    )
}

fn inputs(inputs: &[String]) -> String {
    format!(r#"{{"inputs":[{}]}}"#, inputs.join(","))
}

#[test]
fn parts_are_taken_in_order_beside_tensors_in_json() {
    let json = r#"{"name":"b","datatype":"INT8","shape":[2],"data":[7,8]}"#.to_owned();
    let (a, c) = (
        input("a", "UINT8", "[2]", "2"),
        input("c", "BYTES", "[2]", "11"),
    );
    let json = inputs(&[a, json, c]);
    let request = read(&json, b"\x01\x02\x03\0\0\0xyz\0\0\0\0").unwrap();
    assert_eq!(request.input("a").unwrap().data().as_ref(), [1, 2]);
    assert_eq!(request.input("b").unwrap().data().as_ref(), [7, 8]);
    let strings: Vec<_> = request.input("c").unwrap().strings().unwrap().collect();
    assert_eq!(strings, ["xyz", ""]);
}

#[test]
fn every_fault_names_the_field_and_what_was_expected_and_got() {
    let fp32 = |size: &str| inputs(&[input("x", "FP32", "[1,2]", size)]);
    let both = r#"{"inputs":[{"name":"x","datatype":"INT8","shape":[1],"data":[1],"parameters":{"binary_data_size":1}}]}"#;
    let huge = inputs(&[input("x", "FP64", "[4611686018427387904]", "8")]);
    let strings = inputs(&[input("x", "BYTES", "[1]", "6")]);
    let field = "inputs[0].parameters.binary_data_size";
    for (json, parts, text) in [
        (
            fp32("8"),
            &[0; 7][..],
            format!("{field}: expected at most 7, the bytes of the body that are left, got 8"),
        ),
        (
            fp32("8"),
            &[0; 9],
            "body: expected 8 bytes behind the JSON, the sum of all binary_data_size, got 9"
                .to_owned(),
        ),
        (
            fp32("4"),
            &[0; 4],
            "inputs[0]: expected 8 bytes for FP32 of shape [1,2], got 4".to_owned(),
        ),
        (
            fp32("-1"),
            &[],
            format!("{field}: expected a whole number of bytes, got -1"),
        ),
        (
            fp32("8.0"),
            &[0; 8],
            format!("{field}: expected a whole number of bytes, got 8"),
        ),
        (
            fp32("18446744073709551616"),
            &[0; 8],
            format!("{field}: expected a whole number of bytes, got 18446744073709552000"),
        ),
        (
            fp32("9223372036854775807"),
            &[0; 8],
            format!(
                "{field}: expected at most 8, the bytes of the body that are left, got 9223372036854775807"
            ),
        ),
        (
            both.to_owned(),
            &[1],
            "inputs[0].data: expected no data beside a binary_data_size, got both, the latter of 1"
                .to_owned(),
        ),
        (
            huge,
            &[0; 8],
            "inputs[0]: shape [4611686018427387904] has more elements than can be counted"
                .to_owned(),
        ),
        (
            strings,
            b"\x03\0\0\0ab",
            "inputs[0]: BYTES element 0 reaches past the end of the data".to_owned(),
        ),
        (
            inputs(&[input("x", "BOOL", "[1]", "1")]),
            &[2],
            "inputs[0]: expected 0 or 1 for BOOL element 0, got 2".to_owned(),
        ),
    ] {
        assert_eq!(fault(&json, parts), text, "{json}");
    }
}

#[test]
fn a_head_past_the_end_or_none_at_all_is_named() {
    let body = Bytes::from_static(br#"{"inputs":[]}"#);
    let fault = |body: &Bytes, head| InferRequest::from_body(body, head).unwrap_err().to_string();
    assert_eq!(
        fault(&body, Some(14)),
        "inference-header-content-length: expected at most 13, the length of the body, got 14"
    );
    assert_eq!(
        fault(&body, Some(0)),
        "body: expected a JSON object, got an empty body"
    );
    let body = Bytes::from(inputs(&[input("x", "INT8", "[1]", "1")]));
    let text = "inputs[0].parameters.binary_data_size: expected the header \
                inference-header-content-length beside it, got no such header";
    assert_eq!(fault(&body, None), text);
}

#[test]
fn the_header_is_one_whole_number() {
    let of = |values: &[&'static str]| {
        let pair = |value: &&'static str| (JSON_LENGTH, HeaderValue::from_static(value));
        json_length(&values.iter().map(pair).collect())
    };
    assert_eq!(of(&[]), Ok(None));
    assert_eq!(of(&["17"]), Ok(Some(17)));
    assert_eq!(of(&["17", "17"]), Ok(Some(17)));
    for values in [
        &[""][..],
        &["+1"],
        &["-1"],
        &["1.0"],
        &["0x10"],
        &["99999999999999999999"],
        &["17", "18"],
    ] {
        let text = of(values).unwrap_err().to_string();
        let start = "inference-header-content-length: expected a whole number of bytes, got `";
        assert!(text.starts_with(start), "{text}");
    }
}

#[test]
fn a_large_part_is_a_slice_of_the_body() {
    let values = vec![0.5; 1 << 18];
    let tensor = Tensor::from_f32([1 << 18], &values).unwrap();
    let request = InferRequest {
        inputs: vec![NamedTensor::new("x", tensor.clone())],
        ..InferRequest::default()
    };
    let encoded = request.to_binary().unwrap();
    // Written: the part is the tensor's own memory.
    let parts = encoded.parts.as_ref().unwrap();
    assert_eq!(parts[0].as_ptr_range(), tensor.data().as_ptr_range());
    // Read: the tensor is a piece of the body's memory.
    let head = encoded.json_length();
    let body = Bytes::from(encoded.joined());
    let read = InferRequest::from_body(&body, head).unwrap();
    let data = read.inputs[0].tensor.data();
    assert_eq!(data.as_ptr_range(), body[head.unwrap()..].as_ptr_range());
    assert_eq!(read, request);
}

#[test]
fn a_part_that_is_less_than_the_json_does_not_keep_the_json() {
    let json = inputs(&[input("x", "INT8", "[1]", "1")]) + &" ".repeat(100);
    let body = Bytes::from([json.as_bytes(), &[1]].concat());
    let read = InferRequest::from_body(&body, Some(json.len())).unwrap();
    let data = read.inputs[0].tensor.data().as_ptr();
    assert!(!body.as_ptr_range().contains(&data));
}

#[test]
fn an_output_says_its_form_and_the_request_that_of_the_others() {
    let ask = |all: Option<Parameter>, named: &[Option<Parameter>]| {
        let one = |name: &str, value: &Option<Parameter>| {
            let pair = |value: &Parameter| (name.to_owned(), value.clone());
            value.iter().map(pair).collect()
        };
        let outputs = named.iter().map(|value| RequestedOutput {
            name: "y".to_owned(),
            parameters: one("binary_data", value),
        });
        let request = InferRequest {
            parameters: one("binary_data_output", &all),
            outputs: outputs.collect(),
            ..InferRequest::default()
        };
        let forms = OutputForms::of(&request).map_err(|error| error.to_string())?;
        Ok::<_, String>([0, 1].map(|index| forms.is_binary(index)))
    };
    let [yes, no] = [true, false].map(|value| Some(Parameter::Bool(value)));
    assert_eq!(ask(None, &[]), Ok([false, false]));
    assert_eq!(ask(yes.clone(), &[]), Ok([true, true]));
    assert_eq!(ask(yes.clone(), &[no.clone(), None]), Ok([false, true]));
    assert_eq!(ask(no, &[yes.clone(), None]), Ok([true, false]));
    let text = "parameters.binary_data_output: expected true or false, got 1";
    assert_eq!(ask(Some(Parameter::Int(1)), &[]), Err(text.to_owned()));
    let text = "outputs[1].parameters.binary_data: expected true or false, got `x`";
    let x = Some(Parameter::String("x".to_owned()));
    assert_eq!(ask(None, &[yes, x]), Err(text.to_owned()));
}

#[test]
fn an_answer_mixes_both_forms_and_its_parts_carry_what_json_cannot() {
    let nan = Tensor::from_f32([2], &[f32::NAN, 1.0]).unwrap();
    let empty = Tensor::new(Datatype::Bytes, [0], Vec::new()).unwrap();
    let plain = Tensor::from_i64([1], &[5]).unwrap();
    let answer = InferResponse {
        model_name: "m".to_owned(),
        outputs: vec![
            NamedTensor::new("nan", nan),
            NamedTensor::new("plain", plain),
            NamedTensor::new("empty", empty),
        ],
        ..InferResponse::default()
    };
    let forms = OutputForms {
        all: true,
        named: vec![true, false],
    };
    let encoded = answer.encode(&forms).unwrap();
    let text = std::str::from_utf8(&encoded.head).unwrap();
    assert!(
        text.contains(r#""shape":[2],"parameters":{"binary_data_size":8}}"#),
        "{text}"
    );
    assert!(text.contains(r#""data":[5]"#), "{text}");
    let (size, head) = (encoded.len(), encoded.json_length());
    let body = Bytes::from(encoded.joined());
    assert_eq!(body.len(), size);
    let read = InferResponse::from_body(&body, head).unwrap();
    for (read, sent) in read.outputs.iter().zip(&answer.outputs) {
        assert_eq!(read.tensor.data(), sent.tensor.data());
    }
    assert!(answer.to_json().is_err(), "JSON has no NaN");
}
