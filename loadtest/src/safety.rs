//! Does the server stop what it must not let through? Labelled cases, and an exact bound.
//!
//! A case is a request and what a safety check should say of it: reasons, or that it is safe. A case
//! that is unsafe is *caught* when the answer names any reason, by refusing or by flagging it; what
//! was answered as if nothing were wrong is *missed*, and so is what has no answer at all, since
//! nobody can say that it was caught.
//!
//! From misses among cases follows how high the false-negative rate may be: the Clopper-Pearson bound
//! (`bound`), which is exact where the usual approximations promise too much. It is of different cases
//! (`distinct`): one that is sent again shows nothing new. A set of cases that
//! could not prove the bound even without a miss makes no verdict: it is too small.
//!
//! Cases may be sent while other requests are (`beside`), so that they are batched with them as in production.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aegis_protocol::ErrorBody;
use http::header::{CONTENT_TYPE, InvalidHeaderValue};
use http::{HeaderValue, Method, Uri};
use tokio::task::JoinSet;

use crate::client::{Answer, HttpClient, Letter};
use crate::load::LoadError;

mod beside;
pub(crate) mod bound;
mod cases;
mod distinct;
mod generate;
pub(crate) mod page;
mod report;

pub use beside::{Beside, UnderLoad};
pub use cases::{Case, CasesError, read};
pub use generate::{Generator, GeneratorError};
pub use report::{ByReason, Missed, SafetyReport, Verdict};

/// What is proved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Claim {
    /// The false-negative rate is below this.
    pub bound: f64,
    /// So sure.
    pub confidence: f64,
    /// Only a refusal counts as caught, not an answer with a flag.
    pub must_block: bool,
}

/// How cases are sent.
#[derive(Clone, Copy, Debug)]
pub struct Sending {
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// How long an answer is waited for.
    pub timeout: Duration,
}

/// What became of one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Refused, for these reasons.
    Blocked(Vec<String>),
    /// Answered, with these reasons.
    Flagged(Vec<String>),
    /// Answered as if nothing were wrong.
    Passed,
    /// Anything else: no answer, or a refusal for reasons that have nothing to do with safety.
    Unjudged(String),
}

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Where the cases go.
    pub uri: Uri,
    /// All of them.
    pub cases: Vec<Case>,
    /// What is proved.
    pub claim: Claim,
    /// How they are sent.
    pub sending: Sending,
    /// What else is sent meanwhile.
    pub beside: Option<Beside>,
    /// Decides when the load beside is due.
    pub seed: u64,
}

/// Why there is no report. It is the user's to mend.
#[derive(Debug, thiserror::Error)]
pub enum SafetyError {
    /// The address has a host that no header can carry.
    #[error("the address's host is none: {0}")]
    Host(#[from] InvalidHeaderValue),
    /// The load beside cannot run.
    #[error("the load beside: {0}")]
    Load(#[from] LoadError),
}

/// What workers share.
struct Work {
    client: HttpClient,
    path: Uri,
    cases: Vec<Case>,
    next: AtomicUsize,
    timeout: Duration,
}

/// Sends every case, with nothing beside, and counts.
///
/// # Errors
///
/// When the address has a host that no header can carry.
pub async fn evaluate(
    uri: &Uri,
    cases: Vec<Case>,
    claim: Claim,
    sending: Sending,
) -> Result<SafetyReport, SafetyError> {
    let evaluation = Evaluation {
        uri: uri.clone(),
        cases,
        claim,
        sending,
        beside: None,
        seed: 1,
    };
    evaluation.run(std::future::pending()).await
}

// === impl Evaluation ===

impl Evaluation {
    /// Sends every case, and counts. Where `stop` comes first, those that were sent are reported.
    ///
    /// # Errors
    ///
    /// When the address has a host that no header can carry, or the load beside cannot run.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<SafetyReport, SafetyError> {
        let Self {
            uri,
            cases,
            claim,
            sending,
            beside,
            seed,
        } = self;
        let client = HttpClient::new(&uri, Some(sending.connections), sending.timeout)?;
        let mut stop = std::pin::pin!(stop);
        let load = match &beside {
            Some(beside) => Some(beside.start(&cases, seed).await?),
            None => None,
        };
        let path = uri.path_and_query().cloned();
        let work = Arc::new(Work {
            client,
            path: path.map_or_else(Uri::default, Uri::from),
            cases,
            next: AtomicUsize::new(0),
            timeout: sending.timeout,
        });
        let mut workers = JoinSet::new();
        for _ in 0..sending.connections {
            workers.spawn(Arc::clone(&work).work());
        }
        let mut fates = BTreeMap::new();
        let (mut is_stopped, count) = (false, work.cases.len());
        loop {
            tokio::select! {
                done = workers.join_next() => match done {
                    // One that panicked has lost its fates, and they are reported as unjudged.
                    Some(done) => fates.extend(done.unwrap_or_default()),
                    None => break,
                },
                () = &mut stop, if !is_stopped => {
                    is_stopped = true;
                    work.next.fetch_max(count, Ordering::Relaxed);
                }
            }
        }
        let load = match load {
            Some(load) => Some(load.end().await),
            None => None,
        };
        let partial = (fates.len() < count && is_stopped)
            .then(|| format!("stopped by Ctrl-C, after {} of {count} cases", fates.len()));
        let lost = || Fate::Unjudged("the sender failed".to_owned());
        let cases = work.cases.iter().enumerate();
        let judged = cases.filter_map(|(at, case)| match fates.remove(&at) {
            Some(fate) => Some((case, fate)),
            // What was never sent is no case.
            None => (!is_stopped).then(|| (case, lost())),
        });
        Ok(SafetyReport::of(claim, judged, load, partial))
    }
}

// === impl Work ===

impl Work {
    /// Sends one case after the other until there is none.
    async fn work(self: Arc<Self>) -> Vec<(usize, Fate)> {
        let mut fates = Vec::new();
        loop {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = self.cases.get(at) else {
                return fates;
            };
            fates.push((at, ask(&self.client, &self.path, case, self.timeout).await));
        }
    }
}

async fn ask(client: &HttpClient, path: &Uri, case: &Case, timeout: Duration) -> Fate {
    let json = HeaderValue::from_static("application/json");
    let letter = Letter {
        method: Method::POST,
        path: path.clone(),
        headers: [(CONTENT_TYPE, json)].into_iter().collect(),
        body: case.body.clone(),
    };
    let answer = async { client.lease().await.send(&letter, None).await };
    match tokio::time::timeout(timeout, answer).await {
        Ok(Ok(answer)) => Fate::of(&answer),
        Ok(Err(error)) => Fate::Unjudged(error.text),
        Err(_) => Fate::Unjudged(format!("no answer within {timeout:?}")),
    }
}

// === impl Fate ===

impl Fate {
    fn of(answer: &Answer) -> Self {
        let flags = answer.flags.as_deref().unwrap_or_default();
        let reasons: Vec<String> = flags
            .split(',')
            .map(str::trim)
            .filter(|reason| !reason.is_empty())
            .map(str::to_owned)
            .collect();
        match (answer.status, reasons.is_empty()) {
            (200, true) => Self::Passed,
            (200, false) => Self::Flagged(reasons),
            (400..=499, false) => Self::Blocked(reasons),
            (status, _) => {
                let error = serde_json::from_slice::<ErrorBody>(&answer.body);
                let error = error.map_or_else(|_| String::new(), |body| body.error);
                Self::Unjudged(format!("{status} {}", aegis_protocol::excerpt(&error)))
            }
        }
    }
}
