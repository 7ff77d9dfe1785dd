//! Connections, and the ways in which they end.

use std::convert::Infallible;
use std::future::pending;
use std::net::TcpStream as StdStream;
use std::sync::Arc;

use aegis_protocol::grpc::Code;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{Play, Script, Seen, answer, grpc, upgrade};

/// Why a connection ends without an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("the script says so")]
    Scripted,
    #[error(transparent)]
    Broken(#[from] hyper::Error),
}

type Answered = Result<answer::Answer, End>;

/// Accepts until it is aborted; every connection ends with it.
pub(super) async fn accept(listener: TcpListener, script: Arc<Script>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(serve(stream, Arc::clone(&script)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, script: Arc<Script>) {
    let Ok((stream, switch)) = ResetSwitch::install(stream) else {
        return;
    };
    let switch = Arc::new(switch);
    let service = service_fn(|request| {
        let (script, switch) = (Arc::clone(&script), Arc::clone(&switch));
        async move { respond(request, &script, &switch).await }
    });
    // A connection that ends in an error was meant to, or its client left.
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await;
}

async fn respond(
    mut request: Request<Incoming>,
    script: &Arc<Script>,
    switch: &ResetSwitch,
) -> Answered {
    let path = request.uri().path();
    if let Some(answer) = answer::health(path, script) {
        return Ok(answer);
    }
    let play = script.next_play(request.headers());
    if grpc::is_stream(path) {
        return Ok(grpc::stream(request, script));
    }
    if request.headers().contains_key(http::header::UPGRADE) {
        let upgraded = hyper::upgrade::on(&mut request);
        script.remember(receive(request, Play::HangUpEarly).await?);
        if let Play::AnswerAfter(delay) = play {
            tokio::time::sleep(delay).await;
        }
        return Ok(upgrade::accept(upgraded));
    }
    let seen = receive(request, play).await?;
    script.remember(seen.clone());
    let answer = perform(play, &seen, script, switch).await?;
    Ok(answer::with_load(answer, script))
}

/// Does to a request what the play says.
async fn perform(play: Play, seen: &Seen, script: &Script, switch: &ResetSwitch) -> Answered {
    match play {
        Play::Answer => Ok(answer::echo(seen, script)),
        Play::AnswerAfter(delay) => {
            tokio::time::sleep(delay).await;
            Ok(answer::echo(seen, script))
        }
        Play::Status(status) => Ok(answer::status(seen, status)),
        Play::StatusAfter(delay, status) => {
            tokio::time::sleep(delay).await;
            Ok(answer::status(seen, status))
        }
        Play::Refuse(reason) => Ok(answer::refuse(seen, reason)),
        Play::Events(count) => Ok(answer::events(count, script)),
        Play::FailLate => Ok(grpc::echo(seen, script, Code::Internal)),
        Play::HangUp | Play::HangUpEarly => Err(End::Scripted),
        Play::Reset => {
            switch.arm();
            Err(End::Scripted)
        }
        Play::Hang => Ok(pending::<Result<_, Infallible>>()
            .await
            .unwrap_or_else(|never| match never {})),
    }
}

/// Takes the request in, with its body unless the play does not wait for it.
async fn receive(request: Request<Incoming>, play: Play) -> Result<Seen, End> {
    let (head, body) = request.into_parts();
    let body = match play {
        Play::HangUpEarly => Bytes::new(),
        _ => body.collect().await?.to_bytes(),
    };
    let path = head
        .uri
        .path_and_query()
        .map_or("", |path| path.as_str())
        .to_owned();
    Ok(Seen {
        method: head.method,
        path,
        headers: head.headers,
        body,
    })
}

/// A second handle on a connection's socket, to make its close a reset.
struct ResetSwitch(StdStream);

// === impl ResetSwitch ===

impl ResetSwitch {
    fn install(stream: TcpStream) -> std::io::Result<(TcpStream, Self)> {
        let stream = stream.into_std()?;
        let switch = Self(stream.try_clone()?);
        Ok((TcpStream::from_std(stream)?, switch))
    }

    /// From now on, closing throws away what was not sent and sends a reset.
    fn arm(&self) {
        // Fails only for a socket that is gone already.
        let _ = rustix::net::sockopt::set_socket_linger(&self.0, Some(std::time::Duration::ZERO));
    }
}
