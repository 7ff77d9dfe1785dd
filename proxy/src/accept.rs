//! The data port: accepts connections, and gives every one its answer before it goes.
//!
//! pingora's own `Server` cannot report a free port that the kernel chose,
//! lives on deaf when its port is taken, and sleeps its whole grace period on
//! SIGTERM. Its proxy is an app that takes any stream, so this loop feeds it.
//!
//! A drain has four steps:
//! 1. every answer says `Connection: close`, while new connections are still
//!    taken, for as long as load balancers need to look away;
//! 2. the listener is emptied of what the kernel has accepted, and closed;
//! 3. connections that have not sent their first request get a moment to do so,
//!    then those that are idle are closed;
//! 4. what still runs ends, or the grace period does.
//!
//! A connection speaks HTTP/1.1 or, when it begins with the preface of HTTP/2,
//! that (`accept/h2.rs`).

use std::{convert::Infallible, os::fd::AsRawFd, sync::Arc, time::Duration};

use aegis_listener::LastCall;
use pingora_core::{
    apps::HttpServerApp,
    protocols::{
        GetSocketDigest, SocketDigest,
        http::ServerSession,
        l4::{socket::SocketAddr, stream::Stream},
    },
};
use pingora_proxy::{HttpProxy, ProxyHttp};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{config::Drain, metrics::Metrics};

mod diagnosis;
mod farewell;
mod h2;
pub mod head;
mod outbox;

use head::{Guarded, HeadLimits};

/// How long a connection without a request may hold up a drain.
const FIRST_REQUEST_GRACE: Duration = Duration::from_millis(500);
/// After a failed accept (no file descriptor is free, say) the loop waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a connection is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; more wait in the kernel's backlog.
    pub connections: usize,
    /// The bounds of a request's head.
    pub head: HeadLimits,
    /// The longest wait for a first byte, and for each further piece of a request.
    pub read_timeout: Duration,
    /// How long a connection may wait for its next request.
    pub keepalive: Duration,
    /// Requests at once on one HTTP/2 connection.
    pub streams: u32,
}

/// Accepts connections for one proxy app.
pub struct Acceptor<SV> {
    listener: TcpListener,
    proxy: Arc<HttpProxy<SV>>,
    limits: Limits,
    metrics: Arc<Metrics>,
    /// Permits for further connections.
    room: Arc<Semaphore>,
    /// Every connection.
    connections: TaskTracker,
    /// Those that have not sent a byte yet.
    unspoken: TaskTracker,
    /// Ends those: the drain waits no longer for their first request.
    silence_over: CancellationToken,
    /// pingora asks it at every request whether to keep the connection.
    closing: watch::Sender<bool>,
}

// === impl Acceptor ===

impl<SV> Acceptor<SV>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync + 'static,
{
    /// Serves `proxy` on a listener that is bound already.
    pub fn new(
        listener: TcpListener,
        proxy: Arc<HttpProxy<SV>>,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            listener,
            proxy,
            limits,
            metrics,
            room: Arc::new(Semaphore::new(limits.connections)),
            connections: TaskTracker::new(),
            unspoken: TaskTracker::new(),
            silence_over: CancellationToken::new(),
            closing: watch::Sender::new(false),
        }
    }

    /// Accepts until `drain` resolves, then goes through the drain's steps.
    /// Returns whether all connections ended within the grace period.
    pub async fn run(self, drain: impl Future<Output = Drain>) -> bool {
        let draining = async {
            let drain = drain.await;
            self.closing.send_replace(true);
            tokio::time::sleep(drain.delay).await;
            drain
        };
        let drain = tokio::select! {
            drain = draining => drain,
            never = self.accept_forever() => match never {},
        };
        let ended = async {
            self.accept_waiting().await;
            let Self {
                listener,
                proxy,
                connections,
                unspoken,
                silence_over,
                ..
            } = self;
            drop(listener);
            connections.close();
            unspoken.close();
            let _ = timeout(FIRST_REQUEST_GRACE, unspoken.wait()).await;
            silence_over.cancel();
            proxy.http_cleanup().await;
            connections.wait().await;
        };
        let left = drain.grace.saturating_sub(drain.delay);
        timeout(left, ended).await.is_ok()
    }

    /// Takes what the kernel has accepted already, however many those are: they
    /// were told that they are connected.
    async fn accept_waiting(&self) {
        let mut last_call = LastCall::new(&self.listener);
        loop {
            match last_call.next().await {
                Ok(Some(tcp)) => self.serve(tcp, None),
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "could not take a waiting connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn accept_forever(&self) -> Infallible {
        loop {
            // More connections than there may be wait in the kernel's backlog.
            let room = Arc::clone(&self.room).acquire_owned().await.ok();
            match self.listener.accept().await {
                Ok((tcp, _)) => self.serve(tcp, room),
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn serve(&self, tcp: TcpStream, room: Option<OwnedSemaphorePermit>) {
        let proxy = Arc::clone(&self.proxy);
        let closing = self.closing.subscribe();
        let limits = self.limits;
        let unspoken = self.unspoken.token();
        let open = self.metrics.connection_open();
        let metrics = Arc::clone(&self.metrics);
        let silence_over = self.silence_over.clone();
        self.connections.spawn(async move {
            // Not `readable()`, which may say so when nothing is there: such a
            // connection would count as idle, and be closed under its request.
            let mut start = [0; h2::PREFACE.len()];
            let spoke = tokio::select! {
                biased;
                spoke = timeout(limits.read_timeout, tcp.peek(&mut start)) => match spoke {
                    Ok(Ok(spoke)) => spoke,
                    _ => 0,
                },
                () = silence_over.cancelled() => 0,
            };
            drop(unspoken);
            let _ = tcp.set_nodelay(true);
            let guarded =
                |stream| Guarded::new(stream, limits.head, limits.keepalive, Arc::clone(&metrics));
            if spoke == 0 {
                // It closed, or never said a word.
            } else if !h2::may_begin(&start[..spoke]) {
                serve_http1(&proxy, guarded(with_peer(tcp)), limits, &closing).await;
            } else if let Some(start) = h2::read_start(tcp, limits.read_timeout).await {
                match start {
                    h2::Start::Http1(stream) => {
                        serve_http1(&proxy, guarded(*stream), limits, &closing).await;
                    }
                    h2::Start::Http2(stream) => {
                        // In a box: every connection of HTTP/1 would have its size.
                        let served =
                            h2::serve(&proxy, *stream, limits, metrics, closing, silence_over);
                        Box::pin(served).await;
                    }
                }
            }
            drop((open, room));
        });
    }
}

/// A connection that knows who is on its other end. pingora would ask the system
/// when somebody wants to know, and by then the descriptor may be another's.
fn with_peer(tcp: TcpStream) -> Stream {
    let digest = SocketDigest::from_raw_fd(tcp.as_raw_fd());
    let peer = tcp.peer_addr().ok().map(SocketAddr::Inet);
    // It was made a moment ago, and holds nothing yet.
    let _ = digest.peer_addr.set(peer);
    let mut stream = Stream::from(tcp);
    stream.set_socket_digest(digest);
    stream
}

/// Serves one HTTP/1.1 connection to its end.
async fn serve_http1<SV>(
    proxy: &Arc<HttpProxy<SV>>,
    client: Guarded,
    limits: Limits,
    closing: &watch::Receiver<bool>,
) where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync + 'static,
{
    let mut session = ServerSession::new_http1(Box::new(client));
    // The stream itself keeps the time between requests.
    session.set_keepalive(Some(0));
    session.set_pipelining_enabled(true);
    loop {
        session.set_read_timeout(Some(limits.read_timeout));
        // One that does not take its answer keeps an endpoint's slot.
        session.set_write_timeout(Some(limits.read_timeout));
        let Some(reused) = proxy.process_new_http(session, closing).await else {
            return;
        };
        let (stream, settings) = reused.consume();
        head::comes_next(&stream);
        session = ServerSession::new_http1(stream);
        if let Some(settings) = settings {
            settings.apply_to_session(&mut session);
        }
    }
}
