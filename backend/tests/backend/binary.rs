//! Tensors behind the JSON, in and out.

use aegis_protocol::{
    InferRequest, InferResponse, NamedTensor, Parameter, RequestedOutput, Tensor,
};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use crate::support::{Backend, ECHO, Reply, echo_body, infer};

/// Echoes text.
const TEXT: &str = r#"
platform = "scripted"
[[inputs]]
name = "x"
datatype = "BYTES"
shape = [-1]
[[outputs]]
name = "y"
datatype = "BYTES"
shape = [-1]
[scripted]
answer = "identity"
"#;

/// Echoes anything, NaN too.
const UNCHECKED: &str = r#"
platform = "scripted"
[safety]
nan_inf_input = "off"
nan_inf_output = "off"
[[inputs]]
name = "x"
datatype = "FP32"
shape = [-1]
[[outputs]]
name = "y"
datatype = "FP32"
shape = [-1]
[scripted]
answer = "identity"
"#;

/// A request with `x`, and its answer's form.
fn asking(x: Tensor, binary_answer: bool) -> InferRequest {
    let all = (
        "binary_data_output".to_owned(),
        Parameter::Bool(binary_answer),
    );
    InferRequest {
        parameters: [all].into(),
        inputs: vec![NamedTensor::new("x", x)],
        ..InferRequest::default()
    }
}

fn binary(model: &str, request: &InferRequest) -> Request<Full<Bytes>> {
    let encoded = request.to_binary().unwrap();
    let length = encoded.json_length().unwrap();
    let mut request = infer(model, encoded.joined());
    let headers = request.headers_mut();
    headers.insert("inference-header-content-length", length.into());
    headers.insert("content-type", "application/octet-stream".parse().unwrap());
    request
}

/// Reads an answer in whatever form it has.
fn read(reply: &Reply) -> InferResponse {
    assert_eq!(reply.status, 200, "{:?}", reply.body);
    let length = aegis_protocol::binary::json_length(&reply.headers).unwrap();
    InferResponse::from_body(&reply.body, length).unwrap()
}

#[tokio::test]
async fn every_mixture_of_binary_and_json_gives_the_same_answer() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let x = Tensor::from_f32([2, 2], &[1.0, -0.5, 3.0, 4.0]).unwrap();
    for binary_in in [true, false] {
        for binary_out in [true, false] {
            let request = asking(x.clone(), binary_out);
            let sent = if binary_in {
                binary("echo", &request)
            } else {
                infer("echo", request.to_json().unwrap())
            };
            let reply = backend.send(sent).await;
            assert_eq!(read(&reply).output("y"), Some(&x));
            let is_binary = reply.header("inference-header-content-length").is_some();
            assert_eq!(is_binary, binary_out);
            let kind = if binary_out {
                "application/octet-stream"
            } else {
                "application/json"
            };
            assert_eq!(reply.header("content-type"), Some(kind));
        }
    }
}

#[tokio::test]
async fn an_outputs_own_word_counts_more_than_the_requests() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let x = Tensor::from_f32([1, 2], &[1.0, 2.0]).unwrap();
    let mut request = asking(x.clone(), false);
    request.outputs = vec![RequestedOutput {
        name: "y".to_owned(),
        parameters: [("binary_data".to_owned(), Parameter::Bool(true))].into(),
    }];
    let reply = backend.send(binary("echo", &request)).await;
    assert!(reply.header("inference-header-content-length").is_some());
    assert_eq!(read(&reply).output("y"), Some(&x));
}

#[tokio::test]
async fn a_megabyte_goes_in_and_out_and_next_requests_are_served() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let values: Vec<f32> = (0_u16..).map(f32::from).take(1 << 15).collect();
    let x = Tensor::from_f32([1 << 17, 2], &values.repeat(8)).unwrap();
    let reply = backend.send(binary("echo", &asking(x.clone(), true))).await;
    assert_eq!(read(&reply).output("y"), Some(&x));
    assert_eq!(
        backend.infer("echo", echo_body(&[2.0])).await.output(0),
        [2.0, 2.0]
    );
}

#[tokio::test]
async fn bytes_that_are_no_text_go_through_in_binary() {
    let backend = Backend::ready(&[("text", TEXT)]).await;
    let x = Tensor::from_strings([3], &[&b"\xff\0"[..], b"", b"plain"]).unwrap();
    let reply = backend.send(binary("text", &asking(x.clone(), true))).await;
    assert_eq!(read(&reply).output("y"), Some(&x));
    let reply = backend.send(binary("text", &asking(x, false))).await;
    assert_eq!(reply.status, 500, "JSON has no such text: {}", reply.text());
}

#[tokio::test]
async fn nan_is_answered_in_binary_where_the_checks_are_off() {
    let backend = Backend::ready(&[("raw", UNCHECKED), ("echo", ECHO)]).await;
    let x = Tensor::from_f32([2], &[f32::NAN, f32::INFINITY]).unwrap();
    let reply = backend.send(binary("raw", &asking(x.clone(), true))).await;
    assert_eq!(read(&reply).output("y").unwrap().data(), x.data());
    let x = Tensor::from_f32([1, 2], &[f32::NAN, 0.0]).unwrap();
    let reply = backend.send(binary("echo", &asking(x, true))).await;
    assert_eq!(reply.status, 422, "{}", reply.text());
    assert_eq!(reply.header("x-aegis-safety-flags"), Some("nan_inf_input"));
}

#[tokio::test]
async fn a_part_that_is_not_what_the_json_says_is_refused_by_name() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let x = Tensor::from_f32([1, 2], &[1.0, 2.0]).unwrap();
    let encoded = asking(x, true).to_binary().unwrap();
    let length = encoded.json_length().unwrap();
    let whole = encoded.joined();
    let mut longer = whole.clone();
    longer.push(0);
    let cut = whole[..whole.len() - 1].to_vec();
    for (header, body, text) in [
        (
            length.to_string(),
            cut,
            "binary_data_size: expected at most 7",
        ),
        (
            length.to_string(),
            longer,
            "body: expected 8 bytes behind the JSON",
        ),
        (
            "99999".to_owned(),
            whole.clone(),
            "inference-header-content-length: expected at most",
        ),
        (
            "-1".to_owned(),
            whole.clone(),
            "inference-header-content-length: expected a whole number",
        ),
        ((length - 1).to_string(), whole, "EOF while parsing"),
    ] {
        let mut request = infer("echo", body);
        let value = header.parse().unwrap();
        request
            .headers_mut()
            .insert("inference-header-content-length", value);
        let reply = backend.send(request).await;
        assert_eq!(reply.status, 400);
        assert_eq!(reply.header("x-aegis-reason"), Some("bad_request"));
        assert!(reply.error().contains(text), "{}", reply.error());
    }
}
