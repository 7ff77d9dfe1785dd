//! One connection: HTTP/1.1 or HTTP/2 with prior knowledge, whichever the client speaks.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::activity::{Activity, Sent, Stream};
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
    let activity = Arc::new(Activity::default());
    let shared = (Arc::clone(app), Arc::clone(&activity));
    let service = service_fn(move |request: Request<Incoming>| {
        let (app, activity) = shared.clone();
        let is_stream = request.version() == Version::HTTP_2;
        let stream = is_stream.then(|| Stream::open(&activity));
        async move {
            let answer = api::handle(&app, request, activity.is_first()).await;
            Ok::<_, Infallible>(answer.map(|payload| Sent::new(payload, stream)))
        }
    });
    let limits = app.http;
    let builder = builder(limits);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // hyper's own header timeout begins when it knows the protocol, so that a client that sends
    // nothing, or half of HTTP/2's preface, would stay for ever.
    tokio::select! {
        biased;
        ended = &mut connection => return log(&ended),
        () = activity.silent_for(limits.header_timeout) => return,
        () = activity.idle_for(limits.idle_timeout) => {}
        () = app.reached(Phase::Closing) => {}
    }
    if !activity.had_request()
        && let Ok(ended) = timeout(LAST_CALL, &mut connection).await
    {
        return log(&ended);
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        biased;
        ended = &mut connection => log(&ended),
        // Over HTTP/2 the client has a word in this. One that does not say it is not waited for.
        () = activity.idle_for(limits.idle_timeout) => {}
    }
}

fn builder(limits: HttpLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // It also runs while a kept connection is idle; over HTTP/2 `Activity` sees to that.
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
