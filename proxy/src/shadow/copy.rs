//! Sends a copy to the shadow, and reads its answer.

use std::{net::SocketAddr, time::Duration};

use aegis_protocol::{
    grpc::{Code, Versioner},
    headers, timeout,
};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use super::{CopyClient, Ended, Shadow, form::Form};

/// The path of the call.
const MODEL_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
/// How long a connection may wait for the next copy.
const IDLE: Duration = Duration::from_secs(30);

/// A client for so many copies at once; of `calls`, over HTTP/2.
pub(super) fn client(connections: usize, connect: Duration, calls: bool) -> CopyClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(connect));
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(connections)
        .http2_only(calls)
        .build(connector)
}

/// Asks the shadow at `at`, within its time, for the body of its answer.
pub(super) async fn ask(
    shadow: &Shadow,
    at: SocketAddr,
    (form, body): (Form, Bytes),
) -> Result<(Form, Bytes), Ended> {
    let limit = usize::try_from(shadow.settings.max_kept_bytes).unwrap_or(usize::MAX);
    let exchange = async {
        let (request, client) = if form == Form::Call {
            (call(shadow, at, body), &shadow.calls)
        } else {
            (request(shadow, at, body), &shadow.client)
        };
        let mut request = request.ok_or(Ended::Failed)?;
        form.tell(request.headers_mut());
        let answer = client.request(request).await;
        let (head, body) = answer.map_err(|_| Ended::Failed)?.into_parts();
        if head.status != StatusCode::OK {
            return Err(Ended::Status);
        }
        let form = Form::of(&head.headers).ok_or(Ended::Unsupported)?;
        let body = Limited::new(body, limit).collect().await;
        let body = body.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Ended::TooLarge
            } else {
                Ended::Failed
            }
        })?;
        // A call says in the end how it went, or at once where there is no answer.
        let trailers = body.trailers().unwrap_or(&head.headers);
        let status = trailers.get(headers::GRPC_STATUS).map(Code::of_header);
        if form == Form::Call && status != Some(Code::Ok) {
            return Err(Ended::Status);
        }
        Ok((form, body.to_bytes()))
    };
    tokio::time::timeout(shadow.settings.answer_timeout, exchange)
        .await
        .unwrap_or(Err(Ended::Timeout))
}

fn request(shadow: &Shadow, at: SocketAddr, body: Bytes) -> Option<Request<Full<Bytes>>> {
    let path = shadow.version.infer();
    let left = u64::try_from(shadow.settings.answer_timeout.as_millis()).unwrap_or(u64::MAX);
    Request::post(format!("http://{at}{path}"))
        .header(headers::SHADOW, "1")
        .header(headers::REQUEST_TIMEOUT_MS, HeaderValue::from(left))
        .body(Full::new(body))
        .ok()
}

/// The same of a call, whose message names another version.
fn call(shadow: &Shadow, at: SocketAddr, body: Bytes) -> Option<Request<Full<Bytes>>> {
    let body = Versioner::new(shadow.version.name()).pass(body).ok()?;
    let left = timeout::to_grpc(shadow.settings.answer_timeout);
    Request::post(format!("http://{at}{MODEL_INFER}"))
        .header(headers::SHADOW, "1")
        .header(headers::GRPC_TIMEOUT, left)
        .body(Full::new(body))
        .ok()
}
