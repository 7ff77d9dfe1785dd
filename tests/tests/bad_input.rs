//! What is wrong with a request is said by field, with what was expected and what was there, the
//! same by the server itself and through the proxy.

use std::net::SocketAddr;

use aegis_e2e::digits::MODEL;
use aegis_e2e::{
    Answer, Backend, BackendSetup, Binaries, Client, Proxy, ProxySetup, STABLE, raw_exchange,
};
use aegis_protocol::path;
use anyhow::{Context, Result, ensure};
use http::{Method, Request};

const MAX_BODY: usize = 64 * 1024;

/// A request and how it is refused.
struct Case {
    what: &'static str,
    method: Method,
    path: String,
    body: String,
    status: u16,
    reason: &'static str,
    /// What the error must name.
    says: &'static [&'static str],
}

fn infer(
    what: &'static str,
    body: impl Into<String>,
    status: u16,
    reason: &'static str,
    says: &'static [&'static str],
) -> Case {
    let (method, path) = (Method::POST, path::infer(MODEL, Some(STABLE)));
    Case {
        what,
        method,
        path,
        body: body.into(),
        status,
        reason,
        says,
    }
}

fn input(name: &str, datatype: &str, shape: &str, data: &str) -> String {
    let tensor =
        format!(r#"{{"name":"{name}","datatype":"{datatype}","shape":{shape},"data":[{data}]}}"#);
    format!(r#"{{"inputs":[{tensor}]}}"#)
}

fn image(data: &str) -> String {
    input("image", "FP32", "[1,64]", data)
}

fn numbers(count: usize) -> String {
    vec!["1"; count].join(",")
}

fn bad(what: &'static str, body: impl Into<String>, says: &'static [&'static str]) -> Case {
    infer(what, body, 400, "bad_request", says)
}

/// Bodies that are not what the protocol or the model's signature says.
fn bad_bodies() -> Vec<Case> {
    let good = image(&numbers(64));
    let tensor = &good["{\"inputs\":[".len()..good.len() - 2];
    let with = |number: &str| image(&format!("{},{number}", numbers(63)));
    let typed = |datatype: &str| input("image", datatype, "[1,64]", &numbers(64));
    let shaped = |shape: &str, count: usize| input("image", "FP32", shape, &numbers(count));
    vec![
        bad("no JSON", "{\"inputs\":", &["line 1"]),
        bad("an empty body", "", &["empty"]),
        bad("no inputs", "{}", &["inputs"]),
        bad("another name", good.replace("image", "picture"), &["image"]),
        bad(
            "another datatype",
            typed("INT64"),
            &["image", "FP32", "INT64"],
        ),
        bad("no datatype", typed("FP31"), &["FP31"]),
        bad(
            "another shape",
            shaped("[1,63]", 63),
            &["image", "64", "63"],
        ),
        bad("another rank", shaped("[64]", 64), &["image", "64"]),
        bad("a negative axis", shaped("[-1,64]", 64), &["shape", "-1"]),
        bad("no rows", shaped("[0,64]", 0), &["image", "0"]),
        bad(
            "an overflow",
            shaped("[4294967296,4294967296]", 1),
            &["shape"],
        ),
        bad("too few elements", image(&numbers(63)), &["64", "63"]),
        bad("too many elements", image(&numbers(65)), &["64", "65"]),
        bad("a string among numbers", with("\"1\""), &["data"]),
        bad("not a number", with("NaN"), &["finite", "NaN"]),
        bad("infinity by overflow", with("1e39"), &["1e39"]),
        bad("too deep", "[".repeat(50_000), &[]),
        bad(
            "an input twice",
            format!("{{\"inputs\":[{tensor},{tensor}]}}"),
            &["image", "once"],
        ),
        bad(
            "an unknown output",
            good.replacen('{', r#"{"outputs":[{"name":"colour"}],"#, 1),
            &["colour", "label"],
        ),
    ]
}

/// Requests for what is not there, and bodies that are too long.
fn bad_requests() -> Vec<Case> {
    let good = || image(&numbers(64));
    vec![
        infer(
            "a long body",
            " ".repeat(MAX_BODY + 1),
            413,
            "body_too_large",
            &["65536"],
        ),
        Case {
            path: path::infer("nothing", None),
            ..infer("another model", good(), 404, "unknown_model", &["nothing"])
        },
        Case {
            path: path::infer(MODEL, Some("9")),
            ..infer(
                "another version",
                good(),
                404,
                "unknown_version",
                &["9", "1"],
            )
        },
        Case {
            path: "/v2/models/digits/inferr".into(),
            ..infer("another path", good(), 404, "unknown_model", &[])
        },
        Case {
            method: Method::GET,
            ..infer("another method", "", 405, "method_not_allowed", &["POST"])
        },
        Case {
            method: Method::DELETE,
            path: "/v2".into(),
            ..infer(
                "another method on metadata",
                "",
                405,
                "method_not_allowed",
                &["GET"],
            )
        },
    ]
}

async fn ask(at: SocketAddr, case: &Case) -> Result<Answer> {
    let request = Request::builder()
        .method(case.method.clone())
        .uri(format!("http://{at}{}", case.path))
        .header("content-type", "application/json")
        .body(case.body.clone().into_bytes().into())?;
    Client::new().send(request).await
}

fn check(case: &Case, answer: &Answer) -> Result<()> {
    ensure!(
        answer.status.as_u16() == case.status,
        "status {}: {}",
        answer.status,
        answer.text()
    );
    ensure!(
        answer.reason() == case.reason,
        "reason `{}`: {}",
        answer.reason(),
        answer.text()
    );
    let error = answer.error()?;
    let missing = case.says.iter().find(|part| !error.contains(**part));
    ensure!(missing.is_none(), "no {missing:?} in: {error}");
    ensure!(error.len() < 2_000, "an error of {} bytes", error.len());
    Ok(())
}

/// Asks everything, and returns what was not as it should be.
async fn wrong_answers(at: SocketAddr) -> String {
    let mut wrong = Vec::new();
    for case in bad_bodies().into_iter().chain(bad_requests()) {
        let checked = async { check(&case, &ask(at, &case).await?) }.await;
        if let Err(error) = checked.context(case.what) {
            wrong.push(format!("{error:#}"));
        }
    }
    wrong.join("\n")
}

/// A backend and a proxy before it, both with this limit on bodies.
async fn limited_to(bytes: usize) -> Result<(Backend, Proxy)> {
    let (programs, limit) = (Binaries::built()?, i64::try_from(bytes)?);
    let setup = BackendSetup::new(MODEL, &[STABLE]).set("max_body_bytes", limit);
    let backend = setup.start(programs).await?;
    backend.ready().await?;
    let setup = ProxySetup::new(MODEL).pool(STABLE, 1, &[backend.address()]);
    let proxy = setup
        .set("limits.max_body_bytes", limit)
        .start(programs)
        .await?;
    Ok((backend, proxy))
}

#[tokio::test]
async fn the_backend_refuses_every_bad_request_with_its_reason() {
    let (backend, _proxy) = limited_to(MAX_BODY).await.unwrap();
    let wrong = wrong_answers(backend.address()).await;
    assert_eq!(wrong, "");
    let good = backend
        .infer(&path::infer(MODEL, None), image(&numbers(64)))
        .await
        .unwrap();
    assert_eq!(good.status, http::StatusCode::OK, "{good:?}");
}

#[tokio::test]
async fn the_proxy_refuses_every_bad_request_with_its_reason() {
    let (_backend, proxy) = limited_to(MAX_BODY).await.unwrap();
    let wrong = wrong_answers(proxy.data()).await;
    assert_eq!(wrong, "");

    // The endpoint is not blamed for its clients.
    let good = proxy.infer(image(&numbers(64))).await.unwrap();
    assert_eq!(good.status, http::StatusCode::OK, "{good:?}");
    let metrics = proxy.metrics().await.unwrap();
    let labels = [("model", MODEL), ("model_version", STABLE)];
    assert_eq!(
        metrics.value("aegis_proxy_breaker_state", &labels),
        Some(0.0),
        "closed"
    );
}

/// Most clients send the whole body before they read. A server that closes as soon as it has
/// answered resets the connection under them, and they never see why.
#[tokio::test]
async fn a_client_that_sends_all_before_it_reads_hears_that_it_was_too_much() {
    // More than fits into the buffers on the way.
    const SIZE: usize = 6 * 1024 * 1024;
    let (backend, proxy) = limited_to(SIZE - 2 * 1024 * 1024).await.unwrap();
    let path = path::infer(MODEL, None);
    // The exchange ends when the connection does; a body that was read to its end would keep it.
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {SIZE}\r\n\r\n"
    );
    let body = vec![b' '; SIZE];
    for (face, at) in [("backend", backend.address()), ("proxy", proxy.data())] {
        for _ in 0..20 {
            let raw = raw_exchange(at, &[head.as_bytes(), &body]).await;
            let answer = raw.and_then(|raw| raw.answer()).context(face).unwrap();
            assert_eq!(
                (answer.status.as_u16(), answer.reason()),
                (413, "body_too_large")
            );
        }
    }
}
