//! An inference, whatever it came in by: check what is asked, queue it, check what is answered.
//!
//! A transport reads a body, makes an [`InferRequest`] of it, and writes an [`InferResponse`]; all
//! between the two is here, so that REST and gRPC cannot differ in it: what is counted, whose
//! deadline counts, which checks run. Nothing here knows a header or a message.
//!
//! ```text
//! InFlight::new ─▶ (read, decode) ─▶ Asked::check ─▶ run ─▶ Answered::response ─▶ (encode) ─▶ end
//! ```
//!
//! What takes time in proportion to a body, decoding and checking and encoding, is done where the
//! request is while it is small, and on a thread that may block (`work`) when it is large: a worker
//! of the runtime that spends 100 ms on one body holds up every connection of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aegis_protocol::{
    InferRequest, InferResponse, NamedTensor, Parameter, RequestedOutput, SAFETY_FLAGS, Tensor,
    excerpt,
};
use http::{HeaderValue, StatusCode};

use crate::api::Refused;
use crate::app::App;
use crate::batcher::Priority;
use crate::clock;
use crate::engine::Engine;
use crate::metrics::VersionMetrics;
use crate::repository::ModelSpec;
use crate::safety::Findings;
use crate::screen;
use crate::served::{Served, Standing};
use crate::signature::{Inputs, Names, TensorSpec};

mod caller;
mod deadline;
#[cfg(test)]
mod tests;

pub(crate) use caller::Caller;
pub use deadline::TimeoutError;
pub(crate) use deadline::deadline;

/// From this size on, work on a body takes so long that it must not hold up other connections.
const LARGE_BODY: usize = 256 << 10;

/// The longest `id` that a request may have, in bytes. It is kept for as long as the request waits, and a
/// queue counts tensors.
const MAX_ID: usize = 1 << 10;

/// A request, checked.
#[derive(Debug)]
pub(crate) struct Asked {
    id: Option<String>,
    /// What its parameters ask for.
    timeout: Option<Duration>,
    priority: Priority,
    /// Which of the model's outputs, in this order.
    wanted: Vec<usize>,
    inputs: Inputs,
    /// What safety checks found in them that blocks nothing.
    findings: Findings,
}

/// What the model made of it.
#[derive(Debug)]
pub(crate) struct Answered {
    model: String,
    version: String,
    id: Option<String>,
    wanted: Vec<usize>,
    outputs: Vec<Tensor>,
    /// What safety checks found on the way.
    findings: Findings,
}

/// A request that is somewhere between its head and its answer. One that is dropped has lost its
/// client.
pub(crate) struct InFlight<'m> {
    metrics: &'m VersionMetrics,
    caller: Caller<'m>,
    pub(crate) arrived: Instant,
    /// It was handed to the engine.
    queued: bool,
    ended: bool,
}

/// The parts of a version that is loaded.
///
/// # Errors
///
/// Why it is not.
pub(crate) fn loaded(served: &Served) -> Result<(&Arc<ModelSpec>, &Engine), Refused> {
    match (served.spec(), served.engine()) {
        (Some(spec), Some(engine)) => Ok((spec, engine)),
        _ => Err(not_ready(served, served.standing())),
    }
}

/// Queues a request and waits for its outputs. `patience` is what the transport was told.
///
/// # Errors
///
/// Why there are none.
pub(crate) async fn run(
    app: &App,
    served: &Served,
    asked: Asked,
    patience: Option<Duration>,
    in_flight: &mut InFlight<'_>,
) -> Result<Answered, Refused> {
    // First of all: they were found, whatever becomes of the request.
    let caller = in_flight.caller;
    screen::note_all(served, caller, &asked.findings);
    let (spec, engine) = loaded(served)?;
    let allowed = app.http.request_timeout;
    let deadline = deadline(in_flight.arrived, [patience, asked.timeout], allowed);
    in_time(deadline)?;
    let priority = asked.priority;
    let guards = screen::guards(app, served, caller, spec, &asked.inputs, deadline, priority);
    let guarded = guards.await?;
    let rows = asked.inputs.rows;
    in_flight.queued = true;
    let outputs = engine.infer(asked.inputs, deadline, priority).await?;
    in_time(deadline)?;
    let (outputs, found) = screen::outputs(served, caller, spec, outputs, rows).await?;
    Ok(Answered {
        model: served.name.clone(),
        version: served.version.clone(),
        id: asked.id,
        wanted: asked.wanted,
        outputs,
        findings: found.after(guarded).after(asked.findings),
    })
}

/// Counts a refusal, and what safety checks found; returns what to tell of that beside the refusal, in
/// [`aegis_protocol::headers::SAFETY_FLAGS`]. What the model or the server has failed at is logged, once a
/// second at the most.
pub(crate) fn count(
    app: &App,
    served: &Served,
    in_flight: &InFlight<'_>,
    refused: &Refused,
) -> Option<HeaderValue> {
    app.metrics.rejected(refused.reason());
    let caller = in_flight.caller;
    macro_rules! tell {
        ($level:ident) => {
            tracing::$level!(
                model = served.name,
                version = served.version,
                request_id = caller.request_id,
                traceparent = caller.traceparent,
                "refused: {}",
                refused.text()
            )
        };
    }
    if refused.status() == StatusCode::INTERNAL_SERVER_ERROR
        && served.failures_told.lock().lets_through(clock::now())
    {
        tell!(warn);
    } else {
        tell!(debug);
    }
    screen::refused(served, caller, refused)
}

/// Why a version does not answer.
pub(crate) fn not_ready(served: &Served, standing: Standing) -> Refused {
    Refused::NotReady {
        model: served.name.clone(),
        version: served.version.clone(),
        reason: standing.reason(),
    }
}

/// Works on so many bytes, on a thread of its own if they are many.
///
/// # Errors
///
/// When it panicked, or the process ends.
pub(crate) async fn work<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refused> {
    if bytes < LARGE_BODY {
        return Ok(work());
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| {
        if error.is_panic() {
            Refused::Panicked
        } else {
            Refused::CutOff
        }
    })
}

/// Nobody waits for what is late: no more work is put into it.
fn in_time(deadline: Instant) -> Result<(), Refused> {
    if clock::now() < deadline {
        Ok(())
    } else {
        Err(Refused::Late)
    }
}

// === impl Asked ===

impl Asked {
    /// Compares a request with what the model takes and returns.
    ///
    /// # Errors
    ///
    /// The first difference, or what a safety check has found.
    pub(crate) fn check(spec: &ModelSpec, request: InferRequest) -> Result<Self, Refused> {
        check_id(request.id.as_deref())?;
        let inputs = spec.signature.arrange(request.inputs)?;
        let timeout = deadline::parameter(&request.parameters)?;
        let priority = Priority::of_parameters(&request.parameters)?;
        let wanted = wanted(&spec.signature.outputs, &request.outputs)?;
        // Last, since what makes no sense needs no check, and findings would be lost with it.
        let findings = spec.safety.check_inputs(&spec.signature, &inputs)?;
        Ok(Self {
            id: request.id,
            timeout,
            priority,
            wanted,
            inputs,
            findings,
        })
    }
}

#[cfg(test)]
impl Asked {
    pub(crate) fn tensors(&self) -> &[Tensor] {
        &self.inputs.tensors
    }
}

// === impl Answered ===

impl Answered {
    /// Bytes of the outputs that were asked for.
    pub(crate) fn size(&self) -> usize {
        let sizes = self.wanted.iter().map(|at| self.outputs[*at].data().len());
        sizes.sum()
    }

    /// What to tell beside the answer, in [`aegis_protocol::headers::SAFETY_FLAGS`].
    pub(crate) fn flags(&self) -> Option<HeaderValue> {
        screen::header(&self.findings)
    }

    /// Names what was asked for.
    pub(crate) fn response(self, spec: &ModelSpec) -> InferResponse {
        let name = |at: &usize| {
            let name = spec.signature.outputs[*at].name.as_str();
            NamedTensor::new(name, self.outputs[*at].clone())
        };
        let outputs = self.wanted.iter().map(name).collect();
        let flags = self.findings.reasons_by_row().map(Parameter::String);
        let flags = flags.map(|flags| (SAFETY_FLAGS.to_owned(), flags));
        InferResponse {
            model_name: self.model,
            model_version: Some(self.version),
            id: self.id,
            parameters: flags.into_iter().collect(),
            outputs,
        }
    }
}

fn check_id(id: Option<&str>) -> Result<(), Refused> {
    match id.map_or(0, str::len) {
        got if got > MAX_ID => Err(Refused::IdTooLong { limit: MAX_ID, got }),
        _ => Ok(()),
    }
}

/// Which of the model's outputs are asked for, in the order asked; all, when none is named.
fn wanted(specs: &[TensorSpec], asked: &[RequestedOutput]) -> Result<Vec<usize>, Refused> {
    if asked.is_empty() {
        return Ok((0..specs.len()).collect());
    }
    let find = |output: &RequestedOutput| {
        specs
            .iter()
            .position(|spec| spec.name == output.name)
            .ok_or_else(|| {
                let got = excerpt(&output.name).to_string();
                Refused::UnknownOutput {
                    expected: Names::of(specs),
                    got,
                }
            })
    };
    asked.iter().map(find).collect()
}

// === impl InFlight ===

impl<'m> InFlight<'m> {
    /// It has just arrived.
    pub(crate) fn new(metrics: &'m VersionMetrics, caller: Caller<'m>, arrived: Instant) -> Self {
        metrics.in_flight.inc();
        Self {
            metrics,
            caller,
            arrived,
            queued: false,
            ended: false,
        }
    }

    /// It is answered, with this status.
    pub(crate) fn end(mut self, status: StatusCode) {
        self.ended = true;
        self.metrics.answered(status);
        // With another status the engine turned it away.
        if self.queued && matches!(status.as_u16(), 200 | 422 | 500 | 504) {
            let latency = clock::now().saturating_duration_since(self.arrived);
            self.metrics.took(latency);
        }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
        if !self.ended {
            self.metrics.client_left();
        }
    }
}
