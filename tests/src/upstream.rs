//! A scripted server inside the test, for endpoints that should misbehave on cue.
//!
//! It answers the protocol's health paths and any inference, echoes in its answer what it was
//! asked, and keeps the last requests for the test to look at. What it does to an inference is
//! its [`Play`]: the one that stands, after those that were queued for one request each. It speaks
//! HTTP/1.1 and HTTP/2, and gRPC on the latter. Health
//! answers follow [`Health`] and nothing else, so that an endpoint can look well and be ill.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aegis_protocol::grpc::ModelInferResponse;
use aegis_protocol::{Reason, headers};
use anyhow::Result;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

mod answer;
mod connection;
mod grpc;
mod upgrade;

/// Requests kept with their bodies.
const MAX_SEEN: usize = 64;

/// A running server; it and its connections end when this is dropped.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    script: Arc<Script>,
    accepting: JoinHandle<()>,
}

/// What happens to an inference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Play {
    /// 200, at once.
    Answer,
    /// 200, after a while.
    AnswerAfter(Duration),
    /// This status, with an error in the body.
    Status(StatusCode),
    /// The same, after a while.
    StatusAfter(Duration, StatusCode),
    /// This refusal, as our backend sends it.
    Refuse(Reason),
    /// The body is read, then the connection closes.
    HangUp,
    /// The connection closes as soon as the head of the request is there.
    HangUpEarly,
    /// The body is read, then the connection is reset.
    Reset,
    /// The body is read, and nothing comes back.
    Hang,
    /// 200, with so many events, each as soon as [`Upstream::allow_event`] says so.
    Events(u64),
    /// Over gRPC: an answer, and then trailers that say that it failed.
    FailLate,
}

/// What the health paths say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Loaded, warm and serving.
    Ready,
    /// Alive, with a model that could not be loaded.
    NotLoaded,
    /// Going away.
    Draining,
}

/// One inference as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; empty where the play did not read it.
    pub body: Bytes,
}

/// What is shared between the test and the connections.
#[derive(Debug)]
struct Script {
    model: String,
    version: String,
    asked: AtomicU64,
    state: Mutex<State>,
    events: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    standing: Play,
    first_attempts: Option<Play>,
    queued: VecDeque<Play>,
    health: Health,
    /// The body of a 200; none echoes what was asked.
    answer: Option<Bytes>,
    /// How much of it is JSON, where tensors follow.
    json_length: Option<usize>,
    /// The message that answers a call; none echoes what was asked.
    call_answer: Option<ModelInferResponse>,
    /// What it says of its load beside each answer.
    load: Option<HeaderValue>,
    seen: VecDeque<Seen>,
}

// === impl Upstream ===

impl Upstream {
    /// Starts one that is well and claims to serve this version of this model.
    ///
    /// # Errors
    ///
    /// When there is no free port.
    pub async fn start(model: &str, version: &str) -> Result<Self> {
        Self::start_at(([127, 0, 0, 1], 0).into(), model, version).await
    }

    /// The same at an address that the test chooses: endpoints of one name share a port.
    ///
    /// # Errors
    ///
    /// When the address is taken.
    pub async fn start_at(address: SocketAddr, model: &str, version: &str) -> Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let state = State {
            standing: Play::Answer,
            first_attempts: None,
            queued: VecDeque::new(),
            health: Health::Ready,
            answer: None,
            json_length: None,
            call_answer: None,
            load: None,
            seen: VecDeque::new(),
        };
        let script = Arc::new(Script {
            model: model.to_owned(),
            version: version.to_owned(),
            asked: AtomicU64::new(0),
            state: Mutex::new(state),
            events: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(connection::accept(listener, Arc::clone(&script)));
        Ok(Self {
            address,
            script,
            accepting,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it does from now on.
    pub fn play(&self, play: Play) {
        self.script.state.lock().standing = play;
    }

    /// What it does to the next inference that has nothing queued yet.
    pub fn play_once(&self, play: Play) {
        self.script.state.lock().queued.push_back(play);
    }

    /// What it does from now on to a request that no other endpoint had before.
    pub fn play_first_attempts(&self, play: Play) {
        self.script.state.lock().first_attempts = Some(play);
    }

    /// What its health paths say from now on.
    pub fn set_health(&self, health: Health) {
        self.script.state.lock().health = health;
    }

    /// What it answers with 200 from now on, where it would echo what it was asked.
    pub fn set_answer(&self, json: impl Into<Bytes>) {
        let mut state = self.script.state.lock();
        state.answer = Some(json.into());
        state.json_length = None;
    }

    /// The same, with tensors behind the JSON, which is so long.
    pub fn set_binary_answer(&self, json_length: usize, body: impl Into<Bytes>) {
        let mut state = self.script.state.lock();
        state.answer = Some(body.into());
        state.json_length = Some(json_length);
    }

    /// What it answers calls with from now on, where it would echo what it was asked.
    pub fn set_call_answer(&self, message: ModelInferResponse) {
        self.script.state.lock().call_answer = Some(message);
    }

    /// What it says of its load beside each answer from now on, asked or not.
    pub fn report_load(&self, report: &'static str) {
        self.script.state.lock().load = Some(HeaderValue::from_static(report));
    }

    /// Lets every answer in events send one more.
    pub fn allow_event(&self) {
        self.script.events.send_modify(|allowed| *allowed += 1);
    }

    /// Inferences that arrived.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.script.asked.load(Ordering::Relaxed)
    }

    /// Takes out the last inferences that arrived, oldest first.
    #[must_use]
    pub fn take_seen(&self) -> Vec<Seen> {
        self.script.state.lock().seen.drain(..).collect()
    }

    /// Closes the port and every connection, as the end of a process does.
    pub async fn stop(mut self) {
        self.accepting.abort();
        // Once the task is gone, so is the listener: the next connection is refused.
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

// === impl Script ===

impl Script {
    /// Counts an inference and says what happens to it.
    fn next_play(&self, headers: &HeaderMap) -> Play {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let first = headers
            .get(headers::ATTEMPT)
            .is_some_and(|attempt| attempt == "1");
        let mut state = self.state.lock();
        let on_first = state.first_attempts.filter(|_| first);
        on_first
            .or_else(|| state.queued.pop_front())
            .unwrap_or(state.standing)
    }

    fn remember(&self, seen: Seen) {
        let mut state = self.state.lock();
        if state.seen.len() == MAX_SEEN {
            state.seen.pop_front();
        }
        state.seen.push_back(seen);
    }

    fn answer(&self) -> Option<(Bytes, Option<usize>)> {
        let state = self.state.lock();
        Some((state.answer.clone()?, state.json_length))
    }

    fn call_answer(&self) -> Option<ModelInferResponse> {
        self.state.lock().call_answer.clone()
    }

    fn load(&self) -> Option<HeaderValue> {
        self.state.lock().load.clone()
    }

    fn health(&self) -> Health {
        self.state.lock().health
    }
}

#[cfg(test)]
mod tests;
