//! Does the server stop what it must not let through? Labelled cases, and an exact bound.
//!
//! A case is a request and what a safety check should say of it: reasons, or that it is safe. A case
//! that is unsafe is *caught* when the answer names any reason, by refusing or by flagging it; what
//! was answered as if nothing were wrong is *missed*, and so is what has no answer at all, since
//! nobody can say that it was caught.
//!
//! From misses among cases follows how high the false-negative rate may be: the Clopper-Pearson bound
//! (`bound`), which is exact where the usual approximations promise too much. A set of cases that
//! could not prove the bound even without a miss makes no verdict: it is too small.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aegis_protocol::ErrorBody;
use http::header::{CONTENT_TYPE, InvalidHeaderValue};
use http::{HeaderValue, Method, Uri};
use tokio::task::JoinSet;

use crate::client::{Answer, HttpClient, Letter};

pub(crate) mod bound;
mod cases;
mod generate;
pub(crate) mod page;
mod report;

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

/// Sends every case, and counts.
///
/// # Errors
///
/// When the address has a host that no header can carry.
pub async fn evaluate(
    uri: &Uri,
    cases: Vec<Case>,
    claim: Claim,
    sending: Sending,
) -> Result<SafetyReport, InvalidHeaderValue> {
    let client = HttpClient::new(uri, Some(sending.connections), sending.timeout)?;
    let path = uri.path_and_query().cloned();
    let path = path.map_or_else(Uri::default, Uri::from);
    let shared = std::sync::Arc::new((client, cases, AtomicUsize::new(0), path));
    let mut workers = JoinSet::new();
    for _ in 0..sending.connections {
        let shared = std::sync::Arc::clone(&shared);
        workers.spawn(async move {
            let (client, cases, next, path) = &*shared;
            let mut fates = Vec::new();
            while let Some((at, case)) = take(cases, next) {
                fates.push((at, ask(client, path, case, sending.timeout).await));
            }
            fates
        });
    }
    let mut fates = BTreeMap::new();
    while let Some(done) = workers.join_next().await {
        // One that panicked has lost its fates, and they are reported as unjudged.
        fates.extend(done.unwrap_or_default());
    }
    let (_, cases, ..) = &*shared;
    let lost = || Fate::Unjudged("the sender failed".to_owned());
    let judged = cases
        .iter()
        .enumerate()
        .map(|(at, case)| (case, fates.remove(&at).unwrap_or_else(lost)));
    Ok(SafetyReport::of(claim, judged))
}

fn take<'c>(cases: &'c [Case], next: &AtomicUsize) -> Option<(usize, &'c Case)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    cases.get(at).map(|case| (at, case))
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
