//! HTTP/2 without TLS (prior knowledge), on the port that serves HTTP/1.1.
//!
//! Which of the two a connection speaks is told by its first bytes: a look at
//! what has come in settles it for every client of HTTP/1.1 without taking a byte
//! away. pingora could do this too, but it waits for 24 bytes without a deadline,
//! which a short request of HTTP/1.0 does not have, and its loop over streams
//! neither counts them nor lets us close what is idle.
//!
//! Streams are tasks of their own; they share the connection's fate. A drain sends
//! GOAWAY in two steps, as h2 does it: the first says that the end is near, and the
//! second, a round trip later, names the last stream that will be answered, so
//! that none which the client has sent is lost. A connection that has not sent its
//! first request gets to send it before.
//!
//! A client that sends what only costs (`h2/flood.rs`) is told to calm down, and its
//! connection ends with all that it has asked.

use std::{sync::Arc, time::Duration};

use pingora_core::{
    apps::HttpServerApp,
    protocols::{
        Digest, Stream,
        http::{
            ServerSession,
            v2::server::{H2Accept, H2Options, HttpSession, handshake},
        },
        l4,
    },
};
use pingora_proxy::{HttpProxy, ProxyHttp};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{Limits, with_peer};
use crate::metrics::Metrics;

mod flood;
mod metered;

use metered::Metered;

/// How every connection of HTTP/2 begins (RFC 9113, 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client may send on all its streams before we have read it. One stream
/// alone has 64 KiB of it, so that one that is not read leaves room for others.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// After so many requests that make no sense a connection is closed.
const MAX_MALFORMED: u32 = 32;
/// The error that a client is told which sends too much (RFC 9113, 7).
const ENHANCE_YOUR_CALM: u32 = 0xb;
/// How long telling it may take, where it reads nothing.
const TELLING: Duration = Duration::from_secs(2);

/// What a connection turned out to speak.
pub(super) enum Start {
    /// HTTP/1.
    Http1(Box<l4::stream::Stream>),
    /// HTTP/2.
    Http2(Box<l4::stream::Stream>),
}

/// Whether these first bytes may be those of HTTP/2.
pub(super) fn may_begin(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .zip(PREFACE)
        .all(|(byte, expected)| byte == expected)
}

/// Reads until it is settled what the connection speaks; what was read is put
/// back. None when it closes or says too little for `within`.
pub(super) async fn read_start(mut tcp: TcpStream, within: Duration) -> Option<Start> {
    let until = Instant::now() + within;
    let mut start = [0; PREFACE.len()];
    let mut have = 0;
    while have < start.len() && may_begin(&start[..have]) {
        match timeout_at(until, tcp.read(&mut start[have..])).await {
            Ok(Ok(read @ 1..)) => have += read,
            _ => return None,
        }
    }
    let mut stream = with_peer(tcp);
    stream.rewind(&start[..have]);
    let stream = Box::new(stream);
    Some(if may_begin(&start[..have]) {
        Start::Http2(stream)
    } else {
        Start::Http1(stream)
    })
}

/// Serves one connection to its end.
pub(super) async fn serve<SV>(
    proxy: &Arc<HttpProxy<SV>>,
    stream: l4::stream::Stream,
    limits: Limits,
    metrics: Arc<Metrics>,
    closing: watch::Receiver<bool>,
    silence_over: CancellationToken,
) where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync + 'static,
{
    let flooded = CancellationToken::new();
    let stream: Stream = Box::new(Metered::new(stream, metrics, flooded.clone()));
    let digest = Arc::new(Digest {
        ssl_digest: None,
        timing_digest: stream.get_timing_digest(),
        proxy_digest: stream.get_proxy_digest(),
        socket_digest: stream.get_socket_digest(),
    });
    let handshake = handshake(stream, Some(options(limits)));
    let Ok(Ok(mut connection)) = timeout(limits.read_timeout, handshake).await else {
        return;
    };
    let mut streams = JoinSet::new();
    let mut last_call = closing.clone();
    let (mut begun, mut told, mut malformed) = (false, false, 0);
    let mut idle_until = Instant::now() + limits.keepalive;
    loop {
        tokio::select! {
            biased;
            () = flooded.cancelled() => break,
            accepted = HttpSession::from_h2_conn(&mut connection, Arc::clone(&digest)) => match accepted {
                Ok(Some(H2Accept::Session(session))) => {
                    begun = true;
                    streams.spawn(serve_stream(Arc::clone(proxy), session, limits, closing.clone()));
                }
                Ok(Some(H2Accept::Rejected)) if malformed < MAX_MALFORMED => malformed += 1,
                _ => break,
            },
            Some(_) = streams.join_next() => idle_until = Instant::now() + limits.keepalive,
            _ = last_call.wait_for(|closing| *closing), if begun && !told => {
                connection.graceful_shutdown();
                told = true;
            }
            () = silence_over.cancelled(), if streams.is_empty() => break,
            () = sleep_until(idle_until), if streams.is_empty() => break,
        }
    }
    if flooded.is_cancelled() {
        connection.abrupt_shutdown(ENHANCE_YOUR_CALM.into());
        let told = async { while let Some(Ok(_unanswered)) = connection.accept().await {} };
        let _ = timeout(TELLING, told).await;
    }
    drop(connection);
    // They hear that their client is gone, and give back what they hold.
    while streams.join_next().await.is_some() {}
}

async fn serve_stream<SV>(
    proxy: Arc<HttpProxy<SV>>,
    session: HttpSession,
    limits: Limits,
    closing: watch::Receiver<bool>,
) where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync + 'static,
{
    let mut session = ServerSession::new_http2(session);
    session.set_write_timeout(Some(limits.read_timeout));
    proxy.process_new_http(session, &closing).await;
}

fn options(limits: Limits) -> H2Options {
    let mut options = H2Options::default();
    options
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.head.bytes).unwrap_or(u32::MAX))
        .initial_connection_window_size(CONNECTION_WINDOW)
        // All that it has may be taken back before we have looked at it, some times over; the library's own
        // 20 would end the connection of a client with short deadlines. How many it may take back at all is
        // for the meter to say.
        .max_pending_accept_reset_streams(4 * limits.streams as usize);
    options
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    /// What a connection is taken for that sends these pieces one after the other.
    async fn taken_for(pieces: &[&[u8]]) -> Option<(&'static str, Vec<u8>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        client.set_nodelay(true).unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let reading = read_start(server, Duration::from_secs(10));
        let sending = async {
            for piece in pieces {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
        };
        let (start, ()) = tokio::join!(reading, sending);
        let (name, mut stream): (_, Stream) = match start? {
            Start::Http1(stream) => ("HTTP/1", stream),
            Start::Http2(stream) => ("HTTP/2", stream),
        };
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        Some((name, rest))
    }

    #[tokio::test]
    async fn a_preface_in_pieces_is_http_2_and_nothing_of_it_is_lost() {
        let (name, bytes) = taken_for(&[b"PRI", b" * HTTP/2.0\r\n\r\nS", b"M\r\n\r\n", b"rest"])
            .await
            .unwrap();
        assert_eq!(
            (name, &*bytes),
            ("HTTP/2", &[&PREFACE[..], b"rest"].concat()[..])
        );
    }

    #[tokio::test]
    async fn a_request_that_begins_like_a_preface_is_http_1() {
        let request = b"PUT /v2 HTTP/1.0\r\n\r\n";
        let (name, bytes) = taken_for(&[&request[..1], &request[1..]]).await.unwrap();
        assert_eq!((name, &*bytes), ("HTTP/1", &request[..]));
    }

    #[tokio::test]
    async fn half_a_preface_is_nothing() {
        assert!(taken_for(&[b"PRI * HT"]).await.is_none());
    }

    #[test]
    fn a_request_is_told_from_a_preface_by_what_there_is_of_it() {
        assert!(may_begin(b"P") && may_begin(&PREFACE[..]));
        assert!(!may_begin(b"POST / HTTP/1.1\r\n") && !may_begin(b"G"));
    }
}
