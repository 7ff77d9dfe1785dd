//! The floor: what pingora itself costs, with nothing of ours in it.
//!
//! Forwards every request to one of two endpoints in turn over kept connections, and writes one
//! access line for each. `make bench-proxy` measures it beside aegis-proxy, built with the same
//! profile and allocator, so that the difference is what our decisions cost.
//!
//! ```text
//! bare LISTEN ENDPOINT ENDPOINT ACCESS_LOG
//! ```

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

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
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Kept connections, as many as aegis-proxy keeps.
const KEPT: usize = 1_024;

struct Bare {
    endpoints: [SocketAddr; 2],
    turn: AtomicUsize,
    log: Mutex<BufWriter<File>>,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let endpoint = self.endpoints[turn % self.endpoints.len()];
        Ok(Box::new(HttpPeer::new(endpoint, false, String::new())))
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, (): &mut ()) {
        let head = session.req_header();
        let status = session
            .response_written()
            .map_or(0, |answer| answer.status.as_u16());
        if let Ok(mut log) = self.log.lock() {
            // The disk's troubles are not what is measured.
            let _ = writeln!(log, "{} {} {status}", head.method, head.uri.path());
        }
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
    let bare = Bare {
        endpoints: [address(one)?, address(other)?],
        turn: AtomicUsize::new(0),
        log: Mutex::new(BufWriter::new(File::create(log)?)),
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
