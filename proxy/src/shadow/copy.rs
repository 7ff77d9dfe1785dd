//! Sends a copy to the shadow, and reads its answer.

use std::{net::SocketAddr, time::Duration};

use aegis_protocol::headers;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use super::{CopyClient, Ended, Shadow};

/// How long a connection may wait for the next copy.
const IDLE: Duration = Duration::from_secs(30);

/// A client for so many copies at once.
pub(super) fn client(connections: usize, connect: Duration) -> CopyClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(connect));
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(connections)
        .build(connector)
}

/// Asks the shadow at `at`, within its time, for the body of its answer.
pub(super) async fn ask(shadow: &Shadow, at: SocketAddr, body: Bytes) -> Result<Bytes, Ended> {
    let limit = usize::try_from(shadow.settings.max_kept_bytes).unwrap_or(usize::MAX);
    let exchange = async {
        let request = request(shadow, at, body).map_err(|_| Ended::Failed)?;
        let answer = shadow.client.request(request).await;
        let (head, body) = answer.map_err(|_| Ended::Failed)?.into_parts();
        if head.status != StatusCode::OK {
            return Err(Ended::Status);
        }
        let body = Limited::new(body, limit).collect().await;
        body.map(http_body_util::Collected::to_bytes)
            .map_err(|error| {
                if error.is::<LengthLimitError>() {
                    Ended::TooLarge
                } else {
                    Ended::Failed
                }
            })
    };
    tokio::time::timeout(shadow.settings.answer_timeout, exchange)
        .await
        .unwrap_or(Err(Ended::Timeout))
}

fn request(shadow: &Shadow, at: SocketAddr, body: Bytes) -> http::Result<Request<Full<Bytes>>> {
    let path = shadow.version.infer();
    let left = u64::try_from(shadow.settings.answer_timeout.as_millis()).unwrap_or(u64::MAX);
    Request::post(format!("http://{at}{path}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header(headers::SHADOW, "1")
        .header(headers::REQUEST_TIMEOUT_MS, HeaderValue::from(left))
        .body(Full::new(body))
}
