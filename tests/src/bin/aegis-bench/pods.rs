//! Fake pods: a service time, so many requests in parallel, and a fault that can be switched on.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aegis_protocol::{Reason, headers};
use anyhow::Result;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustix::net::sockopt::set_socket_linger;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::{JoinHandle, JoinSet};

use crate::clock;

/// Marks an input to which every pod answers 500.
pub(crate) const POISON: HeaderName = HeaderName::from_static("x-poison");
/// Says how many milliseconds an input takes. Of these, a pod heeds the time that it is told
/// to have, as our backend does: when that is over, it answers 504 with the reason `deadline`.
pub(crate) const HEAVY: HeaderName = HeaderName::from_static("x-heavy");
/// Marks an input that every pod refuses as our backend refuses what would be late: 429
/// with the reason `queue_full` and `Retry-After`.
pub(crate) const TOO_MUCH: HeaderName = HeaderName::from_static("x-too-much");

/// What is wrong with a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Every answer takes this long.
    Slow(Duration),
    /// Nothing is answered, health checks neither.
    Hung,
    /// Every answer is this one.
    Status(u16),
    /// Every other answer is this one.
    Half(u16),
    /// The connection is reset once the request is there.
    Reset,
    /// The port is closed, and every connection.
    Killed,
}

/// One pod.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    fault: Mutex<Fault>,
    service: Duration,
    slots: Semaphore,
    asked: AtomicU64,
    /// When inferences came in, the last of them.
    seen: Mutex<VecDeque<Instant>>,
}

/// Instants that a pod keeps.
const KEPT: usize = 100_000;

// === impl Pod ===

impl Pod {
    pub(crate) async fn start(service: Duration, parallel: usize) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            fault: Mutex::new(Fault::None),
            service,
            slots: Semaphore::new(parallel),
            asked: AtomicU64::new(0),
            seen: Mutex::default(),
        });
        let accepting = Some(tokio::spawn(accept(listener, Arc::clone(&state))));
        Ok(Self {
            address,
            state,
            accepting,
        })
    }

    pub(crate) async fn set(&mut self, fault: Fault) {
        *self.state.fault.lock() = fault;
        if fault == Fault::Killed
            && let Some(accepting) = self.accepting.take()
        {
            accepting.abort();
            // Once the task is gone, so are the port and the connections.
            let _ = accepting.await;
        }
        if fault != Fault::Killed && self.accepting.is_none() {
            // Nobody else was given the port meanwhile, or the row says that it never came back.
            if let Ok(listener) = TcpListener::bind(self.address).await {
                let state = Arc::clone(&self.state);
                self.accepting = Some(tokio::spawn(accept(listener, state)));
            }
        }
    }

    /// Inferences that came in between two instants.
    pub(crate) fn seen(&self, from: Instant, to: Instant) -> usize {
        let seen = self.state.seen.lock();
        seen.iter().filter(|at| (from..to).contains(*at)).count()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                connections.spawn(serve(stream, Arc::clone(&state)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    // Small answers must not wait for each other.
    let _ = stream.set_nodelay(true);
    let resets = Arc::new(Notify::new());
    let Ok(copy) = rustix::io::dup(&stream) else {
        return;
    };
    let service = {
        let resets = Arc::clone(&resets);
        service_fn(move |request| answer(request, Arc::clone(&state), Arc::clone(&resets)))
    };
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = connection => {}
        () = resets.notified() => {
            // Closing now sends a reset instead of an end.
            let _ = set_socket_linger(&copy, Some(Duration::ZERO));
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<State>,
    resets: Arc<Notify>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let fault = *state.fault.lock();
    if fault == Fault::Hung {
        std::future::pending::<()>().await;
    }
    if request.method() == Method::GET {
        return Ok(Response::new(Full::new(Bytes::from_static(
            b"{\"ready\":true}",
        ))));
    }
    let count = state.asked.fetch_add(1, Ordering::Relaxed);
    {
        let mut seen = state.seen.lock();
        if seen.len() == KEPT {
            seen.pop_front();
        }
        seen.push_back(clock::now());
    }
    let came = clock::now();
    let poisoned = request.headers().contains_key(POISON);
    let refused = request.headers().contains_key(TOO_MUCH);
    let heavy = milliseconds(&request, &HEAVY);
    let told = milliseconds(&request, &headers::REQUEST_TIMEOUT_MS);
    // The body counts as read, whatever is in it.
    let _ = request.into_body().collect().await;
    if refused {
        return Ok(refusal(Reason::QueueFull));
    }
    if let Some(heavy) = heavy {
        let work = async {
            let _slot = state.slots.acquire().await;
            tokio::time::sleep(heavy).await;
        };
        let until = came + told.unwrap_or(heavy * 2);
        return Ok(match tokio::time::timeout_at(until.into(), work).await {
            Ok(()) => answered(StatusCode::OK),
            Err(_) => refusal(Reason::Deadline),
        });
    }
    let _slot = state.slots.acquire().await;
    let (wait, status) = match fault {
        _ if poisoned => (Duration::ZERO, 500),
        Fault::Slow(slow) => (slow, 200),
        Fault::Status(status) => (Duration::ZERO, status),
        Fault::Half(status) if count.is_multiple_of(2) => (Duration::ZERO, status),
        Fault::Reset => {
            resets.notify_one();
            std::future::pending().await
        }
        Fault::None | Fault::Half(_) | Fault::Hung | Fault::Killed => (state.service, 200),
    };
    tokio::time::sleep(wait).await;
    Ok(answered(StatusCode::from_u16(status).unwrap_or_default()))
}

fn answered(status: StatusCode) -> Response<Full<Bytes>> {
    let body: &'static [u8] = b"{\"model_name\":\"m\",\"outputs\":[]}";
    let mut response = Response::new(Full::new(Bytes::from_static(body)));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// As our backend refuses.
fn refusal(reason: Reason) -> Response<Full<Bytes>> {
    let mut response = answered(reason.status());
    let headers = response.headers_mut();
    headers.insert(headers::REASON, HeaderValue::from_static(reason.name()));
    if reason.is_pushback() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn milliseconds(request: &Request<Incoming>, name: &HeaderName) -> Option<Duration> {
    let text = request.headers().get(name)?.to_str().ok()?;
    Some(Duration::from_millis(text.parse().ok()?))
}
