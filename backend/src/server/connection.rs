//! One connection: HTTP/1.1 or HTTP/2 with prior knowledge, whichever the client speaks.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::api;
use crate::app::{App, Phase};
use crate::config::HttpLimits;

/// How long a closing server waits for the first request of a connection that it accepted: one
/// that is already on its way arrives in this time.
const LAST_CALL: Duration = Duration::from_millis(100);

/// Detects peers that are gone without a word.
const H2_PING: Duration = Duration::from_secs(20);

/// The most requests at a time on an HTTP/2 connection.
const H2_STREAMS: u32 = 256;

/// Serves the connection to its end.
pub(super) async fn serve(stream: TcpStream, app: &Arc<App>) {
    // An answer is one write; waiting to fill a packet only delays it.
    let _ = stream.set_nodelay(true);
    let had_request = Arc::new(AtomicBool::new(false));
    let shared = (Arc::clone(app), Arc::clone(&had_request));
    let service = service_fn(move |request: Request<Incoming>| {
        let (app, had_request) = shared.clone();
        async move {
            let is_first = !had_request.swap(true, Ordering::Relaxed);
            Ok::<_, Infallible>(api::handle(&app, request, is_first).await)
        }
    });
    let builder = builder(app.http);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // hyper's own header timeout begins when it knows the protocol, so that a client that sends
    // nothing, or half of HTTP/2's preface, would stay for ever.
    tokio::select! {
        biased;
        ended = &mut connection => return log(&ended),
        () = no_request_within(app.http.header_timeout, &had_request) => return,
        () = app.reached(Phase::Closing) => {}
    }
    if !had_request.load(Ordering::Relaxed)
        && let Ok(ended) = timeout(LAST_CALL, &mut connection).await
    {
        return log(&ended);
    }
    connection.as_mut().graceful_shutdown();
    log(&connection.await);
}

/// Ends when the time is over and there was no request; otherwise never.
async fn no_request_within(time: Duration, had_request: &AtomicBool) {
    sleep(time).await;
    if had_request.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

fn builder(limits: HttpLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // It also runs while a kept connection is idle.
        .header_read_timeout(limits.idle_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS)
        .keep_alive_interval(H2_PING)
        .keep_alive_timeout(H2_PING);
    builder
}

/// A client that breaks off or sends what is no HTTP is its own fault.
fn log<E: std::fmt::Display>(ended: &Result<(), E>) {
    if let Err(error) = ended {
        tracing::debug!("connection: {error}");
    }
}
