//! Connections that turn into something else: what comes in goes back, byte by byte.

use http::{Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::answer::Answer;

/// Agrees, and echoes until the other side closes.
pub(super) fn accept(upgraded: OnUpgrade) -> Answer {
    tokio::spawn(async move {
        if let Ok(upgraded) = upgraded.await {
            let (mut reading, mut writing) = tokio::io::split(TokioIo::new(upgraded));
            // It ends when its client leaves.
            let _ = tokio::io::copy(&mut reading, &mut writing).await;
        }
    });
    let mut answer = Response::new(Empty::new().boxed());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    let value = header::HeaderValue::from_static;
    headers.insert(header::CONNECTION, value("upgrade"));
    headers.insert(header::UPGRADE, value("websocket"));
    answer
}
