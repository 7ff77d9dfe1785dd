//! That what is measured is work done: answers are libtorch's own, and the server counted as many
//! as the generator did. `h2load` takes a gRPC error for an answer, since its status is 200 too.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::{HeaderMap, Method, Request, StatusCode, Version, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::contender::{Contender, Server};
use super::form::{Examples, Form};
use crate::client::{self, Http};

/// How long a server may take to be ready, once it listens.
const READY: Duration = Duration::from_secs(30);

/// Asks for every example and compares the answers; waits until the first is there.
pub(super) async fn answers(
    contender: Contender,
    server: &Server,
    form: Form,
    examples: &Examples,
) -> Result<()> {
    let mut builder = Client::builder(TokioExecutor::new());
    let http: Http = builder.http2_only(form == Form::Grpc).build_http();
    let first = examples.rows().next().context("no examples")?;
    let ready = async {
        while ask(&http, contender, server, form, first).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(READY, ready).await.is_err() {
        // What it says now is why.
        ask(&http, contender, server, form, first).await?;
    }
    for (at, row) in examples.rows().enumerate() {
        let got = ask(&http, contender, server, form, row).await?;
        examples.check(at, &got)?;
    }
    Ok(())
}

async fn ask(
    http: &Http,
    contender: Contender,
    server: &Server,
    form: Form,
    row: &[f32],
) -> Result<Vec<f32>> {
    let body = form.body(contender, row);
    let (to, path, version) = match form {
        Form::Grpc => (
            server.grpc,
            "/inference.GRPCInferenceService/ModelInfer".to_owned(),
            Version::HTTP_2,
        ),
        _ => (server.process.address, contender.path(), Version::HTTP_11),
    };
    let mut request = Request::builder()
        .method(Method::POST)
        .version(version)
        .uri(format!("http://{to}{path}"))
        .header(header::CONTENT_TYPE, form.content_type());
    if let Some(length) = body.header_length {
        request = request.header("inference-header-content-length", length);
    }
    if form == Form::Grpc {
        request = request.header(header::TE, "trailers");
    }
    let response = http.request(request.body(Full::new(body.bytes))?).await?;
    let status = response.status();
    let length = number(response.headers(), "inference-header-content-length");
    let collected = response.into_body().collect().await?;
    let grpc_status = collected.trailers().and_then(|t| number(t, "grpc-status"));
    let bytes = collected.to_bytes();
    ensure!(
        status == StatusCode::OK && grpc_status.unwrap_or(0) == 0,
        "{}: {status}, grpc-status {grpc_status:?}: {}",
        contender.name(),
        String::from_utf8_lossy(&bytes[..bytes.len().min(300)])
    );
    form.read(contender, length.unwrap_or(0), &bytes)
}

fn number(headers: &HeaderMap, name: &str) -> Option<usize> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// How many inferences the server says that it has answered.
pub(super) async fn counted(contender: Contender, at: SocketAddr) -> Result<u64> {
    let text = client::metrics(&client::plain(), at).await?;
    let (name, label) = match contender {
        Contender::Aegis => ("aegis_inference_requests_total", "code=\"200\""),
        Contender::Mosec => ("mosec_service_throughput_total", "code=\"200\""),
        Contender::Triton | Contender::TritonWaits => ("nv_inference_request_success", "version"),
    };
    let series = text
        .lines()
        .filter(|line| line.starts_with(name) && line.contains(label));
    let mut total = None;
    for line in series {
        let (_, value) = line.rsplit_once(' ').context("no value")?;
        total = Some(total.unwrap_or(0) + value.parse::<u64>()?);
    }
    total.with_context(|| format!("{} does not tell {name}", contender.name()))
}
