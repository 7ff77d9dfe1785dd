//! Load beside the cases, so that what is proved holds while requests are batched.
//!
//! A case that comes alone is a batch of its own, and shows nothing of what a check sees of one row among others.
//! So requests that are safe are sent meanwhile, as users cause them, at a rate that keeps batches from being small;
//! what the servers count of their batches says how large those were.

use std::sync::Arc;
use std::time::Duration;

use aegis_protocol::InferRequest;
use serde::Serialize;

use super::Case;
use crate::load::{Handle, Load, LoadError};
use crate::measured::Measured;
use crate::plan::{Manner, Part, Pattern, Plan, Target};
use crate::report::Quantiles;
use crate::scrape::ScrapeUrl;
use crate::scrape::exposition::Exposition;
use crate::slo::{Invalid, Limits, invalid};
use crate::{Question, Questions, Rate, Schedule};

/// Sent before the first case.
const WARMUP: Duration = Duration::from_secs(1);

/// Longer than any cases take; it ends with them.
const LENGTH: Duration = Duration::from_hours(24);

/// What is sent beside the cases.
#[derive(Clone, Debug)]
pub struct Beside {
    /// Who is asked.
    pub target: Target,
    /// Requests a second.
    pub rate: Rate,
    /// What the load generator has to keep.
    pub limits: Limits,
    /// How long an answer is waited for.
    pub timeout: Duration,
    /// Whose batches are counted.
    pub(crate) scrape: Vec<ScrapeUrl>,
    /// The least rows of a batch, on average, for the proof to be one under load.
    pub least_batch: Option<f64>,
}

/// What came of the load.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UnderLoad {
    /// Requests a second that were to be sent.
    pub rate: f64,
    /// Answers a second.
    pub achieved_rate: f64,
    /// Requests that were due.
    pub requests: u64,
    /// Those without an answer of status 200.
    pub failed: u64,
    /// From when they were due.
    pub latency: Option<Quantiles>,
    /// Batches that ran while the cases were sent; none where no server says.
    pub batches: Option<f64>,
    /// Rows of one, on average.
    pub mean_batch_size: Option<f64>,
    /// What it had to be, where that was asked for.
    pub least_batch: Option<f64>,
    /// Why the load was not the one that was asked for.
    pub invalid: Vec<Invalid>,
}

/// The load while it runs.
#[derive(Debug)]
pub(super) struct Running<'b> {
    beside: &'b Beside,
    handle: Handle,
    before: Option<Batches>,
}

/// What servers counted of a model's batches.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Batches {
    count: f64,
    rows: f64,
}

// === impl Beside ===

impl Beside {
    /// Begins to send the safe ones of the cases, and waits until the load stands.
    ///
    /// # Errors
    ///
    /// When none of the cases is a request that is safe.
    pub(super) async fn start(&self, cases: &[Case], seed: u64) -> Result<Running<'_>, LoadError> {
        let safe = cases.iter().filter(|case| case.expect.is_empty());
        let requests = safe.filter_map(|case| InferRequest::from_json(&case.body).ok());
        let questions: Vec<_> = requests.map(Question::from).collect();
        let part = Part {
            name: "safe cases".to_owned(),
            weight: 1.0,
            target: self.target.clone(),
            questions: Questions::Made(Arc::new(questions)),
            manner: Manner::default(),
        };
        let pattern = Pattern::Open {
            schedule: Schedule::constant(self.rate, LENGTH),
            warmup: WARMUP,
        };
        let mut plan = Plan::of(vec![part], pattern);
        plan.timeout = self.timeout;
        plan.seed = seed;
        let handle = Load::new(plan)?.start();
        tokio::time::sleep(WARMUP).await;
        Ok(Running {
            beside: self,
            handle,
            before: self.batches().await,
        })
    }

    /// Batches so far, of all servers; none where one does not say.
    async fn batches(&self) -> Option<Batches> {
        let mut sum = Batches::default();
        for url in &self.scrape {
            let exposition = url.once().await?;
            let of = Batches::of(&exposition, &self.target)?;
            sum.count += of.count;
            sum.rows += of.rows;
        }
        Some(sum)
    }
}

// === impl Running ===

impl Running<'_> {
    /// Ends it, now that the cases are over.
    pub(super) async fn end(mut self) -> UnderLoad {
        let after = self.beside.batches().await;
        self.handle.end().await;
        let (measured, elapsed) = self.handle.measured();
        let batches = self.before.zip(after);
        let batches = batches.map(|(before, after)| Batches {
            count: after.count - before.count,
            rows: after.rows - before.rows,
        });
        UnderLoad::of(self.beside, &measured, elapsed, batches)
    }
}

// === impl UnderLoad ===

impl UnderLoad {
    fn of(
        beside: &Beside,
        measured: &Measured,
        elapsed: Duration,
        batches: Option<Batches>,
    ) -> Self {
        // A server that was started anew counts from nothing.
        let batches = batches.filter(|batches| batches.count >= 0.0 && batches.rows >= 0.0);
        let dropped = measured.dropped.len();
        Self {
            rate: beside.rate.per_second(),
            achieved_rate: measured.rate(elapsed),
            requests: measured.finished() + dropped,
            failed: measured.failed() + dropped,
            latency: measured.latency.quantiles(),
            batches: batches.map(|batches| batches.count),
            mean_batch_size: batches
                .filter(|batches| batches.count > 0.0)
                .map(|batches| batches.rows / batches.count),
            least_batch: beside.least_batch,
            invalid: invalid(measured, beside.limits),
        }
    }

    /// Why nothing is shown under load; empty where it is.
    pub(super) fn reasons(&self) -> Vec<String> {
        let mut reasons: Vec<_> = self.invalid.iter().map(Invalid::to_string).collect();
        if self.requests > 0 && self.failed == self.requests {
            reasons.push("no request of the load was answered".to_owned());
        }
        if let Some(least) = self.least_batch {
            match self.mean_batch_size {
                Some(mean) if mean >= least => {}
                Some(mean) => reasons.push(format!(
                    "batches had {mean:.2} rows on average, of {least} that were asked for"
                )),
                None => reasons.push(
                    "no server says how large batches were: --scrape names those that run the model"
                        .to_owned(),
                ),
            }
        }
        reasons
    }
}

// === impl Batches ===

impl Batches {
    /// What an exposition says of a model; none where it says nothing.
    fn of(exposition: &Exposition, target: &Target) -> Option<Self> {
        let version = target.version().map(|version| ("model_version", version));
        let labels = [("model", target.model())].into_iter().chain(version);
        let labels: Vec<_> = labels.collect();
        Some(Self {
            count: exposition.sum("aegis_inference_batch_size_count", &labels)?,
            rows: exposition.sum("aegis_inference_batch_size_sum", &labels)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beside(least_batch: Option<f64>) -> Beside {
        Beside {
            target: Target::new("http://h", "m").unwrap().pinned("2"),
            rate: Rate::new(100.0).unwrap(),
            limits: Limits {
                lag: Duration::from_secs(1),
            },
            timeout: Duration::from_secs(1),
            scrape: Vec::new(),
            least_batch,
        }
    }

    fn under(least_batch: Option<f64>, batches: Option<(f64, f64)>) -> UnderLoad {
        let mut measured = Measured::default();
        for _ in 0..50 {
            measured.latency.record(Duration::from_millis(5));
        }
        let batches = batches.map(|(count, rows)| Batches { count, rows });
        let beside = beside(least_batch);
        UnderLoad::of(&beside, &measured, Duration::from_secs(1), batches)
    }

    #[test]
    fn batches_are_those_of_the_model_and_version_that_are_asked() {
        let text = "aegis_inference_batch_size_count{model=\"m\",model_version=\"2\"} 5\n\
                    aegis_inference_batch_size_sum{model=\"m\",model_version=\"2\"} 20\n\
                    aegis_inference_batch_size_count{model=\"m\",model_version=\"1\"} 99\n\
                    aegis_inference_batch_size_sum{model=\"m\",model_version=\"1\"} 99\n";
        let exposition = Exposition::parse(text).unwrap();
        let of = |target: &Target| Batches::of(&exposition, target);
        let two = Batches {
            count: 5.0,
            rows: 20.0,
        };
        assert_eq!(of(&beside(None).target), Some(two));
        assert_eq!(of(&Target::new("http://h", "other").unwrap()), None);
    }

    #[test]
    fn batches_that_are_too_small_or_unknown_are_no_proof_under_load() {
        let load = under(None, Some((10.0, 40.0)));
        assert_eq!((load.mean_batch_size, load.reasons()), (Some(4.0), vec![]));
        assert!((load.achieved_rate - 50.0).abs() < 1e-9);
        assert!(under(Some(4.0), Some((10.0, 40.0))).reasons().is_empty());
        let small = under(Some(4.5), Some((10.0, 40.0))).reasons();
        assert_eq!(
            small,
            ["batches had 4.00 rows on average, of 4.5 that were asked for"]
        );
        for unknown in [None, Some((0.0, 0.0)), Some((-3.0, -9.0))] {
            let reasons = under(Some(1.0), unknown).reasons();
            assert!(reasons[0].contains("--scrape"), "{reasons:?}");
            assert!(under(None, unknown).reasons().is_empty());
        }
    }

    #[test]
    fn a_load_that_nobody_answered_was_none() {
        let mut measured = Measured::default();
        measured.failures.record(Duration::from_millis(5));
        let load = UnderLoad::of(&beside(None), &measured, Duration::from_secs(1), None);
        assert_eq!(load.reasons(), ["no request of the load was answered"]);
    }
}
