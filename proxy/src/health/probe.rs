//! Asks one endpoint once, on a connection of its own.

use std::net::SocketAddr;

use aegis_protocol::{Reason, headers};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::verdict::{Answer, Down, MAX_BODY_BYTES};

/// Gets `path`. The caller bounds the time.
///
/// # Cancel safety
///
/// Dropping it closes the connection, and no task is left behind.
pub(super) async fn ask(address: SocketAddr, path: &str) -> Result<Answer, Down> {
    let tcp = TcpStream::connect(address)
        .await
        .map_err(|error| Down::Connect(error.to_string()))?;
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_BODY_BYTES)
        .handshake(TokioIo::new(tcp))
        .await
        .map_err(|error| broken(&error))?;
    let exchange = exchange(sender, address, path);
    tokio::pin!(exchange, connection);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        // The connection may be done before what it brought has been read.
        _ = &mut connection => exchange.await,
    }
}

async fn exchange(
    mut sender: http1::SendRequest<Empty<Bytes>>,
    address: SocketAddr,
    path: &str,
) -> Result<Answer, Down> {
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .header(header::USER_AGENT, "aegis-proxy health check")
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| Down::Broken(error.to_string()))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| broken(&error))?;
    let status = response.status().as_u16();
    let reason = reason_of(&response);
    let body = Limited::new(response.into_body(), MAX_BODY_BYTES)
        .collect()
        .await
        .map_err(|error| {
            if error.is::<LengthLimitError>() {
                Down::TooLong
            } else {
                Down::Broken(error.to_string())
            }
        })?;
    Ok(Answer {
        status,
        reason,
        body: body.to_bytes().to_vec(),
    })
}

fn reason_of(response: &Response<Incoming>) -> Option<Reason> {
    let value = response.headers().get(headers::REASON)?;
    value.to_str().ok()?.parse().ok()
}

fn broken(error: &hyper::Error) -> Down {
    Down::Broken(error.to_string())
}
