//! The floor: what pingora itself costs, with nothing of ours in it.
//!
//! Forwards every request to one of two endpoints in turn over kept connections, and writes one
//! line for each into the access log that aegis-proxy has. `make bench-proxy` measures it beside
//! aegis-proxy, built with the same profile and allocator, so that the difference is what our
//! decisions cost.
//!
//! ```text
//! bare LISTEN ENDPOINT ENDPOINT ACCESS_LOG
//! ```

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use aegis_proxy::{
    access_log::{AccessLog, Line},
    clock,
    config::{self, LogTarget},
    metrics::Metrics,
};

use aegis_allocator::Allocator;
use async_trait::async_trait;
use pingora_core::{
    Error, Result,
    apps::HttpServerApp,
    protocols::{http::ServerSession, l4::stream::Stream},
    server::configuration::ServerConf,
    upstreams::peer::HttpPeer,
};
use pingora_proxy::{HttpProxy, ProxyHttp, Session, http_proxy};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Kept connections, as many as aegis-proxy keeps.
const KEPT: usize = 1_024;

struct Bare {
    endpoints: [SocketAddr; 2],
    turn: AtomicUsize,
    log: AccessLog,
}

/// One request.
struct Passing {
    began: Instant,
    endpoint: Option<SocketAddr>,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = Passing;

    fn new_ctx(&self) -> Passing {
        Passing {
            began: clock::now(),
            endpoint: None,
        }
    }

    async fn upstream_peer(&self, _: &mut Session, passing: &mut Passing) -> Result<Box<HttpPeer>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let endpoint = self.endpoints[turn % self.endpoints.len()];
        passing.endpoint = Some(endpoint);
        Ok(Box::new(HttpPeer::new(endpoint, false, String::new())))
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, passing: &mut Passing) {
        let took = clock::now().saturating_duration_since(passing.began);
        let head = session.req_header();
        let answer = session.response_written();
        let client = session.client_addr().and_then(|client| client.as_inet());
        self.log.write(&Line {
            time: clock::calendar() - took,
            // What it has no notion of is left out.
            request_id: b"",
            trace_id: None,
            client: client.map(SocketAddr::ip),
            method: head.method.as_str().as_bytes(),
            path: head.uri.path().as_bytes(),
            protocol: "HTTP/1.1",
            model: None,
            version_asked: None,
            version_chosen: None,
            model_version: None,
            route: None,
            endpoint: passing.endpoint,
            attempts: 1,
            status: answer.map_or(0, |answer| answer.status.as_u16()),
            reason: None,
            failure: None,
            bytes_in: Some(session.body_bytes_read() as u64),
            bytes_out: Some(session.body_bytes_sent() as u64),
            first_byte: None,
            duration: took,
            sample: None,
        });
    }
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, one, other, log] = arguments.as_slice() else {
        return Err(io::Error::other(
            "usage: bare LISTEN ENDPOINT ENDPOINT ACCESS_LOG",
        ));
    };
    let address = |text: &String| text.parse().map_err(io::Error::other);
    let log = config::AccessLog {
        target: Some(LogTarget::File(PathBuf::from(log))),
        sample: 1.0,
        slow: Duration::MAX,
        buffer_bytes: 1 << 20,
    };
    let metrics = Metrics::new().map_err(io::Error::other)?;
    let log = AccessLog::open(&log, metrics.lost_lines()).map_err(io::Error::other)?;
    let bare = Bare {
        endpoints: [address(one)?, address(other)?],
        turn: AtomicUsize::new(0),
        log: log.ok_or_else(|| io::Error::other("no access log"))?,
    };
    let conf = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: KEPT,
        ..ServerConf::default()
    };
    let proxy = Arc::new(http_proxy(&Arc::new(conf), bare));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(accept(address(listen)?, proxy))
}

async fn accept(listen: SocketAddr, proxy: Arc<HttpProxy<Bare>>) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    // Nobody shuts this down but a signal.
    let (_keep, closing) = watch::channel(false);
    loop {
        let (tcp, _) = listener.accept().await?;
        tokio::spawn(serve(Arc::clone(&proxy), tcp, closing.clone()));
    }
}

async fn serve(proxy: Arc<HttpProxy<Bare>>, tcp: TcpStream, closing: watch::Receiver<bool>) {
    let _ = tcp.set_nodelay(true);
    let mut session = ServerSession::new_http1(Box::new(Stream::from(tcp)));
    session.set_keepalive(Some(60));
    while let Some(reused) = proxy.process_new_http(session, &closing).await {
        let (stream, settings) = reused.consume();
        session = ServerSession::new_http1(stream);
        if let Some(settings) = settings {
            settings.apply_to_session(&mut session);
        }
    }
}
