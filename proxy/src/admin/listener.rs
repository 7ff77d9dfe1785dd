//! Accepts operators' connections, within bounds.
//!
//! A client that sends its headers slowly, reads its answer slowly or keeps its
//! connection for ever takes one of a few slots; the timeouts give it back, so
//! that readiness probes always find one.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::ConnectInfo};
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

/// Connections at once.
const MAX_CONNECTIONS: usize = 256;
/// The longest that headers may take, also those of the next request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection takes no further request after this.
const LIFETIME: Duration = Duration::from_mins(5);
/// And what runs by then may take this long.
const LAST_REQUEST: Duration = Duration::from_secs(10);
/// The longest header.
const MAX_HEADER_BYTES: usize = 32 * 1024;
/// After a failed accept (no file descriptor is free, say) the loop waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts until it is dropped.
pub(super) async fn serve(listener: TcpListener, router: Router) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((tcp, peer)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    converse(tcp, peer, router).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the admin port");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection to its end; handlers are told whose it is.
async fn converse(tcp: TcpStream, peer: SocketAddr, router: Router) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(tcp), service);
    tokio::pin!(connection);
    // How it ends is the client's business.
    tokio::select! {
        _ = &mut connection => {}
        () = sleep(LIFETIME) => {
            connection.as_mut().graceful_shutdown();
            let _ = timeout(LAST_REQUEST, connection).await;
        }
    }
}
