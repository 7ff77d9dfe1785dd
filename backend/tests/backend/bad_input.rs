//! Every bad request gets its status, its reason, and a text that names the field.

use http::Request;
use http_body_util::Full;

use crate::support::{Backend, Client, ECHO, echo_body, infer, raw};

/// A model with two inputs, one of them with a free inner axis.
const PAIR: &str = r#"
platform = "scripted"
[[inputs]]
name = "a"
datatype = "FP32"
shape = [-1, 2]
[[inputs]]
name = "b"
datatype = "INT64"
shape = [-1, -1]
[[outputs]]
name = "c"
datatype = "FP32"
shape = [-1]
"#;

struct Case {
    model: &'static str,
    body: &'static str,
    status: u16,
    reason: &'static str,
    error: &'static str,
}

const fn bad(model: &'static str, body: &'static str, error: &'static str) -> Case {
    Case {
        model,
        body,
        status: 400,
        reason: "bad_request",
        error,
    }
}

const fn echo(body: &'static str, error: &'static str) -> Case {
    bad("echo", body, error)
}

#[rustfmt::skip]
const CASES: [Case; 29] = [
    Case { model: "none", body: "{}", status: 404, reason: "unknown_model", error: "unknown model `none`" },
    Case { model: "echo/versions/7", body: "{}", status: 404, reason: "unknown_version", error: "model `echo` has no version `7` here" },
    echo("", "body: expected a JSON object, got an empty body"),
    echo("nonsense", "body: expected"),
    echo("[]", "body: expected"),
    echo(r#"{"inputs":"#, "EOF while parsing"),
    echo("{\"inputs\": [{\"name\": \"\u{1}\"}]}", "control character"),
    echo("{}", "inputs: expected a list of tensors, got nothing"),
    echo(r#"{"inputs":[]}"#, "inputs: expected `x`, which is missing"),
    echo(r#"{"inputs":[{"datatype":"FP32","shape":[1,2],"data":[1,2]}]}"#, "inputs[0].name: expected the tensor's name, got nothing"),
    echo(r#"{"inputs":[{"name":"z","datatype":"FP32","shape":[1,2],"data":[1,2]}]}"#, "inputs: expected `x`, got `z`"),
    echo(r#"{"inputs":[{"name":"x","datatype":"FP31","shape":[1,2],"data":[1,2]}]}"#, "inputs[0].datatype: expected one of BOOL"),
    echo(r#"{"inputs":[{"name":"x","datatype":"INT32","shape":[1,2],"data":[1,2]}]}"#, "`x`.datatype: expected FP32, got INT32"),
    echo(r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,3],"data":[1,2,3]}]}"#, "`x`.shape: expected [-1,2], got [1,3]"),
    echo(r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[2],"data":[1,2]}]}"#, "`x`.shape: expected [-1,2], got [2]"),
    echo(r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[0,2],"data":[]}]}"#, "`x`.shape: expected 1 or more rows, got 0"),
    echo(r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[-1,2],"data":[1,2]}]}"#, "inputs[0].shape[0]: expected"),
    echo(r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[9223372036854775807,9],"data":[1]}]}"#, "9223372036854775807"),
    echo(r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1]}]}"#, "inputs[0].data: expected 2 elements for shape [1,2], got 1"),
    echo(r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,"2"]}]}"#, "inputs[0].data[1]: expected"),
    echo(r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,1e39]}]}"#, "inputs[0].data[1]: expected"),
    echo(r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,NaN]}]}"#, "NaN"),
    echo(r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]},{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}]}"#, "inputs[1].name: expected a name that is used once, got `x` again"),
    echo(r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}],"outputs":[{"name":"z"}]}"#, "outputs: expected `y`, got `z`"),
    echo(r#"{"parameters":{"timeout":-1},"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}]}"#, "parameters.timeout: expected whole microseconds >= 1, got -1"),
    echo(r#"{"parameters":{"timeout":"soon"},"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}]}"#, "parameters.timeout: expected whole microseconds >= 1, got `soon`"),
    bad("pair", r#"{"inputs":[{"name":"a","datatype":"FP32","shape":[1,2],"data":[1,2]}]}"#, "inputs: expected `b`, which is missing"),
    bad("pair", r#"{"inputs":[{"name":"a","datatype":"FP32","shape":[1,2],"data":[1,2]},{"name":"b","datatype":"INT64","shape":[2,1],"data":[1,2]}]}"#, "`b`.shape: expected 1 rows, got 2"),
    bad("pair", r#"{"inputs":[{"name":"a","datatype":"FP32","shape":[1,2],"data":[1,2]},{"name":"b","datatype":"INT64","shape":[1,1],"data":[1.5]}]}"#, "inputs[1].data[0]: expected"),
];

#[tokio::test]
async fn every_bad_body_is_refused_with_its_reason() {
    let backend = Backend::ready(&[("echo", ECHO), ("pair", PAIR)]).await;
    for Case {
        model,
        body,
        status,
        reason,
        error,
    } in CASES
    {
        let reply = backend.infer(model, body).await;
        let text = reply.text();
        assert_eq!(reply.status, status, "{model} {body}: {text}");
        assert_eq!(
            reply.header("x-aegis-reason"),
            Some(reason),
            "{model} {body}: {text}"
        );
        assert!(reply.error().contains(error), "{model} {body}: {text}");
        let known = if status == 404 { None } else { Some("1") };
        assert_eq!(
            reply.header("x-aegis-model-version"),
            known,
            "{model} {body}"
        );
    }
    let rejected = backend
        .metric("aegis_inference_rejected_total{reason=\"bad_request\"}")
        .await;
    assert!((rejected - 27.0).abs() < 0.5, "{rejected}");
    let flags = "aegis_safety_flags_total{action=\"block\",model=\"echo\",model_version=\"1\",\
                 reason=\"nan_inf_input\"}";
    assert!(
        (backend.metric(flags).await - 2.0).abs() < 0.5,
        "1e39 and NaN"
    );
    let asked = "aegis_inference_requests_total{code=\"400\",model=\"pair\",model_version=\"1\"}";
    assert!((backend.metric(asked).await - 3.0).abs() < 0.5);
}

#[tokio::test]
async fn a_body_that_is_no_utf8_is_refused() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let reply = backend.infer("echo", b"{\"id\": \"\xff\"}".to_vec()).await;
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert_eq!(reply.header("x-aegis-reason"), Some("bad_request"));
}

#[tokio::test]
async fn other_content_types_and_encodings_are_refused_by_name() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let cases = [
        ("content-type", "application/octet-stream", 200),
        ("content-type", "text/plain", 415),
        ("content-type", "Application/JSON; charset=utf-8", 200),
        ("content-encoding", "br", 415),
        ("content-encoding", "gzip", 400),
        ("content-encoding", "identity", 200),
    ];
    for (name, value, status) in cases {
        let mut request = infer("echo", echo_body(&[1.0]));
        request.headers_mut().insert(name, value.parse().unwrap());
        let reply = backend.send(request).await;
        assert_eq!(reply.status, status, "{name}: {value}");
        if status == 415 {
            assert_eq!(
                reply.header("x-aegis-reason"),
                Some("unsupported_media_type")
            );
            assert!(reply.error().contains(value) && reply.error().contains(name));
        }
    }
    let mut request = infer("echo", echo_body(&[1.0]));
    request.headers_mut().remove("content-type");
    assert_eq!(
        backend.send(request).await.status,
        200,
        "no content type is JSON"
    );
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_one() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let cases = [
        ("GET", "/v2/models/echo/infer", "POST"),
        ("PUT", "/v2/models/echo/infer", "POST"),
        ("POST", "/v2/models/echo", "GET, HEAD"),
        ("DELETE", "/v2/health/ready", "GET, HEAD"),
        ("POST", "/health", "GET, HEAD"),
        ("POST", "/metrics", "GET, HEAD"),
    ];
    for (method, path, allow) in cases {
        let request = Request::builder().method(method).uri(path);
        let reply = backend.send(request.body(Full::default()).unwrap()).await;
        assert_eq!(reply.status, 405, "{method} {path}");
        assert_eq!(reply.header("allow"), Some(allow), "{method} {path}");
        assert_eq!(reply.header("x-aegis-reason"), Some("method_not_allowed"));
        assert!(reply.error().contains(method), "{}", reply.error());
    }
}

#[tokio::test]
async fn unknown_paths_are_404_whatever_the_method() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let long = format!("/v2/models/{}/infer", "x".repeat(5000));
    let paths = [
        "/",
        "/v3",
        "/v2/nothing",
        "/v2/models",
        "/v2/models//infer",
        &long,
    ];
    for path in paths {
        for method in ["GET", "POST", "DELETE"] {
            let request = Request::builder().method(method).uri(path);
            let reply = backend.send(request.body(Full::default()).unwrap()).await;
            assert_eq!(reply.status, 404, "{method} {path}");
            assert_eq!(reply.header("x-aegis-reason"), Some("unknown_model"));
            assert!(reply.error().len() < 200, "{}", reply.error());
        }
    }
}

#[tokio::test]
async fn a_bad_timeout_header_is_refused() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    for value in ["0", "-1", "1.5", "soon", "99999999999999999999"] {
        let mut request = infer("echo", echo_body(&[1.0]));
        request
            .headers_mut()
            .insert("x-request-timeout-ms", value.parse().unwrap());
        let reply = backend.send(request).await;
        assert_eq!(reply.status, 400, "{value}");
        let expected =
            format!("x-request-timeout-ms: expected whole milliseconds >= 1, got `{value}`");
        assert_eq!(reply.error(), expected);
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_the_client_reads_why() {
    let backend = Backend::ready_with("max_body_bytes = 1000", &[("echo", ECHO)]).await;
    let fits = format!("{:<1000}", echo_body(&[1.0]));
    assert_eq!(backend.infer("echo", fits).await.status, 200);
    // Bodies that are sent whole before the answer is read: far more than the sockets' buffers.
    for size in [1_001, 2_000_000] {
        let reply = backend.infer("echo", vec![b' '; size]).await;
        assert_eq!(reply.status, 413, "{size}");
        assert_eq!(reply.header("x-aegis-reason"), Some("body_too_large"));
        assert_eq!(reply.error(), "body: expected at most 1000 bytes, got more");
    }
}

#[tokio::test]
async fn a_chunked_body_is_measured_while_it_is_read() {
    let backend = Backend::ready_with("max_body_bytes = 1000", &[("echo", ECHO)]).await;
    let chunk = format!("1f4\r\n{}\r\n", " ".repeat(500));
    let head = "POST /v2/models/echo/infer HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\
                transfer-encoding: chunked\r\n\r\n";
    let body = format!("{head}{}0\r\n\r\n", chunk.repeat(3));
    let answer = raw(backend.address, body.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let good = echo_body(&[1.0]);
    let body = format!("{head}{:x}\r\n{good}\r\n0\r\n\r\n", good.len());
    let answer = raw(backend.address, body.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_connection_is_good_for_more_after_a_refusal() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let mut client = Client::connect(backend.address).await;
    assert_eq!(
        client.send(infer("none", vec![b' '; 100_000])).await.status,
        404
    );
    assert_eq!(client.send(infer("echo", "{}")).await.status, 400);
    assert_eq!(
        client.send(infer("echo", echo_body(&[1.0]))).await.status,
        200
    );
}

#[tokio::test]
async fn a_number_that_json_cannot_carry_is_no_finding_of_a_check_that_is_off() {
    let model = format!("{ECHO}\n[safety]\nnan_inf_input = \"off\"");
    let backend = Backend::ready(&[("off", &model), ("on", ECHO)]).await;
    let body = echo_body(&[1.0]).replace("1.0", "1e999");
    for (model, flagged) in [("off", 0.0), ("on", 1.0)] {
        let reply = backend.infer(model, body.clone()).await;
        assert_eq!(reply.status, 400, "{}", reply.text());
        let flags = format!(
            "aegis_safety_flags_total{{action=\"block\",model=\"{model}\",model_version=\"1\",\
             reason=\"nan_inf_input\"}}"
        );
        let got = backend.metric(&flags).await;
        assert!((got - flagged).abs() < 0.5, "{model}: {got}");
    }
}

#[tokio::test]
async fn what_makes_no_tensor_is_said_once() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let body = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[9223372036854775807,9223372036854775807],"data":[1]}]}"#;
    let error = backend.infer("echo", body).await.error();
    assert_eq!(error.matches("9223372036854775807,").count(), 1, "{error}");
}
