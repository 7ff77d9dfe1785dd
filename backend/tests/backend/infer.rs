//! What a good request gets.

use aegis_protocol::{InferResponse, ModelMetadata, ServerMetadata};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpStream;

use crate::support::{Backend, ECHO, echo_body, infer};

/// Two inputs, two outputs.
const SWAPPED: &str = r#"
platform = "scripted"
[[inputs]]
name = "a"
datatype = "FP32"
shape = [-1]
[[inputs]]
name = "b"
datatype = "INT64"
shape = [-1]
[[outputs]]
name = "p"
datatype = "FP32"
shape = [-1]
[[outputs]]
name = "q"
datatype = "INT64"
shape = [-1]
[scripted]
answer = "identity"
"#;

#[tokio::test]
async fn an_answer_names_model_version_and_id() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let body = json!({
        "id": "42",
        "parameters": { "timeout": 5_000_000 },
        "inputs": [{ "name": "x", "datatype": "FP32", "shape": [2, 2], "data": [[1, 2], [3, 4]] }],
    });
    let reply = backend.infer("echo", body.to_string()).await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("x-aegis-model-version"), Some("1"));
    let response = InferResponse::from_json(&reply.body).unwrap();
    assert_eq!(response.model_name, "echo");
    assert_eq!(response.model_version.as_deref(), Some("1"));
    assert_eq!(response.id.as_deref(), Some("42"));
    let y = response.output("y").unwrap();
    assert_eq!(y.as_f32().unwrap(), [1.0, 2.0, 3.0, 4.0]);
}

#[tokio::test]
async fn a_version_in_the_path_is_the_one_that_answers() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let reply = backend.infer("echo/versions/2", echo_body(&[1.0])).await;
    assert_eq!(reply.header("x-aegis-model-version"), Some("2"));
    assert_eq!(reply.json()["model_version"], "2");
}

#[tokio::test]
async fn inputs_come_in_any_order_and_only_the_outputs_asked_for_go_out() {
    let backend = Backend::ready(&[("swapped", SWAPPED)]).await;
    let inputs = json!([
        { "name": "b", "datatype": "INT64", "shape": [1], "data": [9_007_199_254_740_993_i64] },
        { "name": "a", "datatype": "FP32", "shape": [1], "data": [0.5] },
    ]);
    let all = backend
        .infer("swapped", json!({ "inputs": inputs }).to_string())
        .await
        .json();
    assert_eq!(all["outputs"][0]["name"], "p");
    assert_eq!(
        all["outputs"][1]["data"],
        json!([9_007_199_254_740_993_i64])
    );
    let asked = json!({ "inputs": inputs, "outputs": [{ "name": "q" }] });
    let one = backend.infer("swapped", asked.to_string()).await.json();
    assert_eq!(one["outputs"].as_array().unwrap().len(), 1);
    assert_eq!(one["outputs"][0]["name"], "q");
}

#[tokio::test]
async fn an_oversize_request_is_answered_whole() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let rows: Vec<f64> = (0..100).map(f64::from).collect();
    let output = backend.infer("echo", echo_body(&rows)).await.output(0);
    assert_eq!(output.len(), 200);
    assert!((output[199] - 99.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn a_large_body_is_read_beside_the_others() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let rows: Vec<f64> = (0..50_000).map(f64::from).collect();
    let body = echo_body(&rows);
    assert!(body.len() > 256 << 10, "it is large");
    let output = backend.infer("echo", body).await.output(0);
    assert_eq!(output.len(), 100_000);
}

#[tokio::test]
async fn the_server_and_its_models_describe_themselves() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let server: ServerMetadata = serde_json::from_slice(&backend.get("/v2").await.body).unwrap();
    assert_eq!(server.name, "aegis-backend");
    for path in ["/v2/models/echo", "/v2/models/echo/versions/2"] {
        let reply = backend.get(path).await;
        let model: ModelMetadata = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(model.name, "echo");
        assert_eq!(model.versions, ["1", "2"]);
        assert_eq!(model.platform, "scripted");
        assert_eq!(model.inputs[0].shape, [-1, 2]);
        assert_eq!(model.outputs[0].name, "y");
    }
    assert_eq!(backend.get("/v2/models/none").await.status, 404);
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_served_on_the_same_port() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let stream = TcpStream::connect(backend.address).await.unwrap();
    let io = TokioIo::new(stream);
    let (mut send, connection) =
        hyper::client::conn::http2::handshake::<_, _, Full<bytes::Bytes>>(TokioExecutor::new(), io)
            .await
            .unwrap();
    tokio::spawn(connection);
    for _ in 0..3 {
        let mut request = infer("echo", echo_body(&[7.0]));
        *request.uri_mut() = format!("http://test{}", request.uri()).parse().unwrap();
        let response = send.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let response = InferResponse::from_json(&body).unwrap();
        assert_eq!(response.outputs[0].tensor.as_f32().unwrap(), [7.0, 7.0]);
    }
}
