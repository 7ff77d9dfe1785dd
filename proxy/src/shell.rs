//! The life of a request, as pingora tells it: one short method a phase.
//!
//! ```text
//! request_filter      identify, refuse or answer, read the body, choose version and endpoint
//! upstream_peer       go there  ◀── again, elsewhere, when an attempt failed
//! fail_to_connect     ┐
//! error_while_proxy   ┴ what the attempt taught; whether another one helps
//! connected_to_upstream, upstream_request_filter, request_body_filter
//!                     the chosen version in the path, the body from its start
//! upstream_response_filter
//!                     what the answer taught; whether it is passed on; which version
//!                     answered, and why
//! upstream_response_body_filter
//!                     what passes is kept, if the shadow is to be asked too
//! upstream_response_trailer_filter
//!                     how a gRPC call ended
//! response_filter     how an answer of no known length ends for old clients
//! fail_to_proxy       nothing answered: say so
//! logging             count it
//! ```
//!
//! This file asks and does not decide: choices are made by `aegis-policy`, and
//! the state of one request is in [`Exchange`].

use std::{os::fd::RawFd, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Version, header};
use pingora_core::{
    Error, Result, modules::http::HttpModules, protocols::Digest, upstreams::peer::HttpPeer,
};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use crate::{
    accept::head,
    clock,
    exchange::{Exchange, failure::Stage},
    rescue::Connection,
    state::Shared,
};

/// The proxy, as an app of pingora.
pub struct Shell {
    shared: Arc<Shared>,
}

// === impl Shell ===

impl Shell {
    /// Serves from the state that everything shares.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[async_trait]
impl ProxyHttp for Shell {
    /// In a box: pingora's futures, which every connection holds, move it about.
    type CTX = Box<Exchange>;

    fn new_ctx(&self) -> Box<Exchange> {
        Box::new(Exchange::new(clock::now()))
    }

    fn init_downstream_modules(&self, _: &mut HttpModules) {
        // None: answers pass as the backend made them.
    }

    async fn request_filter(
        &self,
        session: &mut Session,
        exchange: &mut Box<Exchange>,
    ) -> Result<bool> {
        if let Some(client) = session.stream() {
            head::is_read(client);
        }
        exchange.begin(session, &self.shared).await
    }

    async fn upstream_peer(
        &self,
        _: &mut Session,
        exchange: &mut Box<Exchange>,
    ) -> Result<Box<HttpPeer>> {
        exchange.choose()
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        exchange: &mut Box<Exchange>,
        error: Box<Error>,
    ) -> Box<Error> {
        exchange.attempt_failed(error, Stage::Connect)
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        exchange: &mut Box<Exchange>,
        client_reused: bool,
    ) -> Box<Error> {
        let stage = Stage::of_session(session, client_reused);
        exchange.attempt_failed(error, stage)
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        _reused: bool,
        _: &HttpPeer,
        fd: RawFd,
        digest: Option<&Digest>,
        exchange: &mut Box<Exchange>,
    ) -> Result<()> {
        let socket = digest.and_then(|digest| digest.socket_digest.as_ref());
        let connection = socket.and_then(|socket| {
            let local = *socket.local_addr()?.as_inet()?;
            let peer = *socket.peer_addr()?.as_inet()?;
            Some(Connection { fd, local, peer })
        });
        exchange.connected(connection, self.shared.rescues())
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut Box<Exchange>,
    ) -> Result<()> {
        exchange.address_request(request)
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        chunk: &mut Option<Bytes>,
        end_of_stream: bool,
        exchange: &mut Box<Exchange>,
    ) -> Result<()> {
        exchange.send_body(chunk, end_of_stream)
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Box<Exchange>,
    ) -> Result<()> {
        exchange.judge(session, response)
    }

    fn upstream_response_body_filter(
        &self,
        _: &mut Session,
        piece: &mut Option<Bytes>,
        end_of_stream: bool,
        exchange: &mut Box<Exchange>,
    ) -> Result<Option<Duration>> {
        exchange.answer_passes(piece.as_ref(), end_of_stream)?;
        Ok(None)
    }

    fn upstream_response_trailer_filter(
        &self,
        _: &mut Session,
        trailers: &mut HeaderMap,
        exchange: &mut Box<Exchange>,
    ) -> Result<()> {
        exchange.ends(trailers);
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        _: &mut Box<Exchange>,
    ) -> Result<()> {
        let http_1_0 = session.req_header().version == Version::HTTP_10;
        if http_1_0 && response.remove_header(&header::TRANSFER_ENCODING).is_some() {
            // It knows no chunks: the answer ends with the connection.
            session.set_keepalive(None);
        }
        Ok(())
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        exchange: &mut Box<Exchange>,
    ) -> FailToProxy {
        FailToProxy {
            error_code: exchange.give_up(session, error, &self.shared).await,
            can_reuse_downstream: false,
        }
    }

    async fn logging(
        &self,
        session: &mut Session,
        error: Option<&Error>,
        exchange: &mut Box<Exchange>,
    ) {
        exchange.end(session, error, clock::now());
    }

    fn suppress_error_log(&self, _: &Session, _: &Box<Exchange>, _: &Error) -> bool {
        // A client can make errors as fast as it likes; they are counted.
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &Box<Exchange>,
        _: &Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}
