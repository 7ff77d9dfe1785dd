//! The names that a request brings: they come back with its answer, and stand in the log where it fails.

use std::io::Read;

use http::{HeaderValue, Request};
use http_body_util::Full;
use serde_json::Value;

use crate::cli::{Running, with_files};
use crate::support::{Backend, Client, ECHO, echo_body, infer, until};

const ID: &str = "x-request-id";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn a_request_id_comes_back_with_whatever_is_answered() {
    let backend = Backend::ready(&[("echo", ECHO)]).await;
    let named = |mut request: Request<Full<_>>, ids: &[&'static str]| {
        for id in ids {
            request
                .headers_mut()
                .append(ID, HeaderValue::from_static(id));
        }
        request
    };
    let good = || infer("echo", echo_body(&[1.0]));
    let reply = backend.send(named(good(), &["a-7"])).await;
    assert_eq!(
        (reply.status.as_u16(), reply.header(ID)),
        (200, Some("a-7"))
    );
    let reply = backend
        .send(named(infer("echo", "no JSON"), &["a-8"]))
        .await;
    assert_eq!(
        (reply.status.as_u16(), reply.header(ID)),
        (400, Some("a-8"))
    );
    let reply = backend.send(named(infer("none", "{}"), &["a-9"])).await;
    assert_eq!(
        (reply.status.as_u16(), reply.header(ID)),
        (404, Some("a-9"))
    );
    // Who brings none gets none, and what no log could hold is dropped.
    for ids in [&[][..], &["two words"], &["a", "b"], &[""]] {
        let reply = backend.send(named(good(), ids)).await;
        assert_eq!(
            (reply.status.as_u16(), reply.header(ID)),
            (200, None),
            "{ids:?}"
        );
    }
}

#[tokio::test]
async fn the_log_names_a_request_that_failed() {
    let failing = format!("{ECHO}\nfail_on = 666.0");
    let folder = with_files("log_format = \"json\"", &[("echo", &failing)]);
    let (mut running, address, _stdout) = Running::serve(folder.path());
    let mut client = Client::connect(address).await;
    until(|| async {
        let health = Request::get("/health").body(Full::default()).unwrap();
        Client::connect(address).await.send(health).await.status == 200
    })
    .await;
    let mut request = infer("echo", echo_body(&[666.0]));
    let headers = request.headers_mut();
    headers.insert(ID, HeaderValue::from_static("a-7"));
    headers.insert("traceparent", HeaderValue::from_static(TRACE));
    let reply = client.send(request).await;
    assert_eq!(reply.status, 500, "{}", reply.text());
    let mut log = String::new();
    let mut stderr = running.0.stderr.take().unwrap();
    drop(running);
    stderr.read_to_string(&mut log).unwrap();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let told: Vec<_> = lines.filter(|line| line["level"] == "WARN").collect();
    assert_eq!(told.len(), 1, "{log}");
    let fields = &told[0]["fields"];
    assert_eq!(
        (&fields["request_id"], &fields["traceparent"]),
        (&"a-7".into(), &TRACE.into()),
        "{log}"
    );
    assert_eq!(
        (&fields["model"], &fields["version"]),
        (&"echo".into(), &"1".into())
    );
    let message = fields["message"].as_str().unwrap();
    assert!(message.starts_with("refused: "), "{message}");
}
