//! The forms of a body that are taken, and the one that is written.

use half::{bf16, f16};

use crate::{
    Datatype, EncodeError, InferRequest, InferResponse, NamedTensor, Parameter, RequestedOutput,
    Shape, Tensor,
};

/// The tensor of a request with one input of these members.
fn input(members: &str) -> Tensor {
    let body = format!(r#"{{"inputs": [{{"name": "x", {members}}}]}}"#);
    let mut request = InferRequest::from_json(body.as_bytes()).expect(members);
    request.inputs.remove(0).tensor
}

fn request(tensor: Tensor) -> InferRequest {
    InferRequest {
        inputs: vec![NamedTensor::new("x", tensor)],
        ..InferRequest::default()
    }
}

#[test]
fn a_whole_request_is_read() {
    let body = br#"{
        "id": "a-1",
        "parameters": {"priority": 3, "sticky": true},
        "inputs": [
            {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0.5, -1]},
            {"name": "y", "shape": [1], "datatype": "BYTES", "data": ["h\u00e9\n"]}
        ],
        "outputs": [{"name": "label", "parameters": {"binary_data": false}}],
        "an_extension": {"deep": [[[]]]}
    }"#;
    let request = InferRequest::from_json(body).unwrap();
    assert_eq!(request.id.as_deref(), Some("a-1"));
    assert_eq!(request.parameters["priority"], Parameter::Int(3));
    assert_eq!(request.input("x").unwrap().as_f32().unwrap(), [0.5, -1.0]);
    let text: Vec<_> = request.input("y").unwrap().strings().unwrap().collect();
    assert_eq!(text, ["hé\n"]);
    assert_eq!(request.input("z"), None);
    let asked = RequestedOutput {
        name: "label".to_owned(),
        parameters: [("binary_data".to_owned(), Parameter::Bool(false))].into(),
    };
    assert_eq!(request.outputs, [asked]);
}

#[test]
fn data_may_be_nested_as_the_shape_is() {
    let flat = input(r#""datatype": "INT32", "shape": [2, 1, 3], "data": [1, 2, 3, 4, 5, 6]"#);
    let nested =
        input(r#""datatype": "INT32", "shape": [2, 1, 3], "data": [[[1, 2, 3]], [[4, 5, 6]]]"#);
    assert_eq!(flat, nested);
    assert_eq!(flat.shape(), &Shape::from([2, 1, 3]));
}

#[test]
fn data_may_stand_before_its_datatype() {
    let tensor = input(r#""data": [1, 2], "shape": [2], "datatype": "UINT16""#);
    assert_eq!(
        tensor.elements::<u16>().unwrap().collect::<Vec<_>>(),
        [1, 2]
    );
}

#[test]
fn empty_axes_and_scalars_are_tensors() {
    for data in ["[]", "[[], []]"] {
        let members = format!(r#""datatype": "FP64", "shape": [2, 0], "data": {data}"#);
        assert_eq!(input(&members).element_count(), 0, "{data}");
    }
    let scalar = input(r#""datatype": "FP64", "shape": [], "data": [7]"#);
    assert_eq!(scalar.elements::<f64>().unwrap().next(), Some(7.0));
}

#[test]
fn decimals_round_to_the_nearest_value_of_their_type() {
    let single = input(
        r#""datatype": "FP32", "shape": [2], "data": [0.1, 1.00000005960464477539062500001]"#,
    );
    // The second lies a hair above the middle of two floats: by way of f64 it
    // would land on the middle and then round to the even, lower one.
    assert_eq!(single.as_f32().unwrap(), [0.1, 1.000_000_1]);
    let half = input(r#""datatype": "FP16", "shape": [1], "data": [0.1]"#);
    assert_eq!(half.elements().unwrap().next(), Some(f16::from_f32(0.1)));
    let brain = input(r#""datatype": "BF16", "shape": [1], "data": [2.72]"#);
    assert_eq!(brain.elements().unwrap().next(), Some(bf16::from_f32(2.72)));
}

#[test]
fn integers_keep_all_their_bits() {
    let members = format!(
        r#""datatype": "UINT64", "shape": [1], "data": [{}]"#,
        u64::MAX
    );
    assert_eq!(input(&members).elements().unwrap().next(), Some(u64::MAX));
    let members = format!(
        r#""datatype": "INT64", "shape": [1], "data": [{}]"#,
        i64::MIN
    );
    assert_eq!(input(&members).as_i64().unwrap(), [i64::MIN]);
}

#[test]
fn a_request_is_written_flat_and_short() {
    let tensor = Tensor::from_f32([1, 2], &[0.1, 16.0]).unwrap();
    let mut request = request(tensor);
    request.id = Some("q\"1".to_owned());
    request.outputs = vec![RequestedOutput {
        name: "label".into(),
        parameters: [].into(),
    }];
    assert_eq!(
        String::from_utf8(request.to_json().unwrap()).unwrap(),
        r#"{"id":"q\"1","inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[0.1,16.0]}],"outputs":[{"name":"label"}]}"#
    );
}

#[test]
fn an_answer_is_written_and_read_back() {
    let response = InferResponse {
        model_name: "digits".to_owned(),
        model_version: Some("2".to_owned()),
        outputs: vec![
            NamedTensor::new("label", Tensor::from_i64([2], &[3, 8]).unwrap()),
            NamedTensor::new("note", Tensor::from_strings([1], &["\u{1}\"é"]).unwrap()),
        ],
        ..InferResponse::default()
    };
    let body = response.to_json().unwrap();
    assert!(body.starts_with(br#"{"model_name":"digits","model_version":"2","outputs":[{"name":"#));
    assert_eq!(InferResponse::from_json(&body), Ok(response));
}

#[test]
fn what_json_cannot_say_is_not_written() {
    let error = request(Tensor::from_f32([2], &[0.0, f32::NAN]).unwrap())
        .to_json()
        .unwrap_err();
    assert_eq!(error.to_string(), "x[1]: expected a finite number, got NaN");

    let bytes = Tensor::from_strings([1], &[[0xff]]).unwrap();
    let error = request(bytes).to_json().unwrap_err();
    assert_eq!(
        error,
        EncodeError::NotText {
            tensor: "x".to_owned(),
            index: 0
        }
    );

    let parameters = [("t".to_owned(), Parameter::Float(f64::INFINITY))].into();
    let error = InferRequest {
        parameters,
        ..InferRequest::default()
    }
    .to_json()
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "parameters.t: expected a finite number, got inf"
    );
}

#[test]
fn memory_follows_the_text_and_not_the_claimed_shape() {
    let body = br#"{"inputs":[{"name":"x","datatype":"FP64","shape":[1000000000000],"data":[1]}]}"#;
    let error = InferRequest::from_json(body).unwrap_err().to_string();
    assert!(error.ends_with("expected 1000000000000 elements for shape [1000000000000], got 1"));
    assert_eq!(Datatype::Fp64.size(), Some(8));
}
