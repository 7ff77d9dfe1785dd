//! Many clients that ask as fast as they are answered, and count every answer.
//!
//! For questions of loss and of shares, not of latency: a closed loop slows down with the server,
//! which `aegis-loadtest` exists to avoid.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Result, ensure};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::{Answer, Client};
use crate::wait::until;

/// Failures described; the rest are only counted.
const MAX_FAILURES: usize = 20;

/// A running load.
#[derive(Debug)]
pub struct Hammer {
    tally: Arc<Mutex<Tally>>,
    stop: watch::Sender<bool>,
    workers: JoinSet<()>,
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests that got an answer or failed.
    pub asked: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Answers with status 200 by version and route.
    pub answered: BTreeMap<(String, String), u64>,
    /// Requests that were refused a connection.
    pub unconnected: u64,
    /// Requests that were sent and got no whole answer.
    pub lost: u64,
    /// Descriptions of the first requests that were not answered 200.
    pub failures: Vec<String>,
}

/// What every client sends.
#[derive(Clone, Debug)]
struct Question {
    at: SocketAddr,
    path: String,
    body: Bytes,
    /// A client that is refused a connection asks no more.
    leave_when_refused: bool,
}

// === impl Hammer ===

impl Hammer {
    /// Starts `clients` clients that send `body` to `path`, each on a connection of its own.
    #[must_use]
    pub fn start(at: SocketAddr, path: &str, body: impl Into<Bytes>, clients: usize) -> Self {
        let (path, body) = (path.to_owned(), body.into());
        Self::run(
            &Question {
                at,
                path,
                body,
                leave_when_refused: false,
            },
            clients,
        )
    }

    /// The same for a server that will end: a client leaves once it is refused a connection.
    #[must_use]
    pub fn until_refused(
        at: SocketAddr,
        path: &str,
        body: impl Into<Bytes>,
        clients: usize,
    ) -> Self {
        let (path, body) = (path.to_owned(), body.into());
        Self::run(
            &Question {
                at,
                path,
                body,
                leave_when_refused: true,
            },
            clients,
        )
    }

    fn run(question: &Question, clients: usize) -> Self {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let (stop, stopped) = watch::channel(false);
        let mut workers = JoinSet::new();
        for _ in 0..clients {
            workers.spawn(work(question.clone(), Arc::clone(&tally), stopped.clone()));
        }
        Self {
            tally,
            stop,
            workers,
        }
    }

    /// What came back so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally.lock().clone()
    }

    /// Waits until `more` requests have been asked from now on.
    ///
    /// # Errors
    ///
    /// When the load stands still.
    pub async fn ask(&self, more: u64) -> Result<()> {
        let goal = self.tally.lock().asked + more;
        until(&format!("{goal} requests"), async || {
            let tally = self.tally();
            ensure!(tally.asked >= goal, "asked {}", tally.asked);
            Ok(())
        })
        .await
    }

    /// Stops after the requests that run, and says what came back.
    pub async fn stop(mut self) -> Tally {
        self.stop.send_replace(true);
        while self.workers.join_next().await.is_some() {}
        self.tally()
    }

    /// Waits until every client was refused a connection, and says what came back.
    pub async fn refused(mut self) -> Tally {
        while self.workers.join_next().await.is_some() {}
        self.tally()
    }
}

async fn work(question: Question, tally: Arc<Mutex<Tally>>, stopped: watch::Receiver<bool>) {
    let client = Client::new();
    while !*stopped.borrow() {
        let answer = client
            .post(question.at, &question.path, question.body.clone())
            .await;
        let refused = tally.lock().count(answer);
        if refused && question.leave_when_refused {
            return;
        }
    }
}

// === impl Tally ===

impl Tally {
    /// Counts one answer; says whether there was no connection to ask on.
    fn count(&mut self, answer: Result<Answer>) -> bool {
        self.asked += 1;
        match answer {
            Ok(answer) => {
                *self.statuses.entry(answer.status.as_u16()).or_default() += 1;
                if answer.status.is_success() {
                    let arm = (answer.version().to_owned(), answer.route().to_owned());
                    *self.answered.entry(arm).or_default() += 1;
                } else {
                    self.describe(|| format!("{} {}", answer.status, answer.text()));
                }
                false
            }
            Err(error) if is_refusal(&error) => {
                self.unconnected += 1;
                true
            }
            Err(error) => {
                self.lost += 1;
                self.describe(|| format!("{error:#}"));
                false
            }
        }
    }

    fn describe(&mut self, failure: impl FnOnce() -> String) {
        if self.failures.len() < MAX_FAILURES {
            self.failures.push(failure());
        }
    }

    /// Answers with status 200.
    #[must_use]
    pub fn ok(&self) -> u64 {
        self.statuses.get(&200).copied().unwrap_or_default()
    }

    /// Answers with status 200 by this version, however it was chosen.
    #[must_use]
    pub fn by_version(&self, version: &str) -> u64 {
        self.answered
            .iter()
            .filter(|((v, _), _)| v == version)
            .map(|(_, count)| count)
            .sum()
    }

    /// Answers with status 200 that came by this route, whatever the version.
    #[must_use]
    pub fn by_route(&self, route: &str) -> u64 {
        self.answered
            .iter()
            .filter(|((_, r), _)| r == route)
            .map(|(_, count)| count)
            .sum()
    }

    /// Checks that every request was answered with status 200.
    ///
    /// # Errors
    ///
    /// What came back instead.
    pub fn all_ok(&self) -> Result<()> {
        ensure!(
            self.asked > 0 && self.ok() == self.asked,
            "not every request was answered: {self:#?}"
        );
        Ok(())
    }
}

/// Whether the connection itself was refused, so that no request was sent.
fn is_refusal(error: &anyhow::Error) -> bool {
    let client = error.downcast_ref::<hyper_util::client::legacy::Error>();
    client.is_some_and(hyper_util::client::legacy::Error::is_connect)
        || error.chain().any(|cause| {
            let io = cause.downcast_ref::<std::io::Error>();
            io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused)
        })
}
