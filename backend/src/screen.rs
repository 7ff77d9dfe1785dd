//! Safety checks as they are made: off the worker when a tensor is large, guard models asked, and
//! what they find counted, logged and told.
//!
//! [`crate::safety`] decides; this does what it says. Only a request that makes sense in everything else is
//! looked at. A finding is counted before anything more is done with the request, so that one is not lost
//! when the request fails later for another reason; one that blocks is counted with the refusal that it
//! becomes.

use std::sync::Arc;
use std::time::Instant;

use aegis_protocol::Tensor;
use http::HeaderValue;

use crate::api::Refused;
use crate::app::App;
use crate::batcher::Priority;
use crate::chain::Chain;
use crate::clock;
use crate::engine::InferError;
use crate::infer::Caller;
use crate::repository::ModelSpec;
use crate::safety::{Action, Blocked, Check, Finding, Findings, Guard, GuardError, What};
use crate::served::{NotFound, Served};
use crate::signature::Inputs;

/// Why a guard has no answer.
#[derive(Debug, thiserror::Error)]
enum Unasked {
    #[error("it is not served here")]
    NotServed,
    #[error("{0}")]
    NotReady(String),
    #[error(transparent)]
    Guard(#[from] GuardError),
    #[error(transparent)]
    Infer(#[from] InferError),
    #[error("{0}")]
    Score(String),
}

/// Asks the guards of a model about inputs that its other checks let pass.
///
/// # Errors
///
/// When one blocks the request; or it could not be asked now, and a check that fails blocks: there was no
/// time or no room, or it is not ready. A retry helps then, later or elsewhere, which a finding would deny.
pub(crate) async fn guards(
    app: &App,
    served: &Served,
    caller: Caller<'_>,
    spec: &ModelSpec,
    inputs: &Inputs,
    deadline: Instant,
    priority: Priority,
) -> Result<Findings, Refused> {
    let mut findings = Findings::default();
    for guard in &spec.safety.guards {
        let looked = match ask(app, guard, inputs, deadline, priority).await {
            Err(error) if error.may_pass() && spec.safety.on_error == Action::Block => {
                return Err(error.refusal(served, guard));
            }
            Err(error) => Err(Chain(&error).to_string()),
            Ok(looked) => Ok(looked),
        };
        if let Some(finding) = spec.safety.guard_finding(guard, looked, inputs.rows) {
            if finding.action != Action::Block {
                note(served, caller, &finding);
            }
            findings.add(finding).map_err(Blocked::last_alone)?;
        }
    }
    Ok(findings)
}

/// Asks one guard.
async fn ask(
    app: &App,
    guard: &Guard,
    inputs: &Inputs,
    deadline: Instant,
    priority: Priority,
) -> Result<Option<crate::safety::Violation>, Unasked> {
    let found = app.models.find(&guard.model, guard.version.as_deref());
    let served = found.map_err(|_: NotFound| Unasked::NotServed)?;
    let (Some(spec), Some(engine)) = (served.spec(), served.engine()) else {
        return Err(Unasked::NotReady(served.standing().reason()));
    };
    let (question, output) = guard.question(&spec.signature, inputs)?;
    let rows = question.rows;
    let outputs = engine.infer(question, deadline, priority).await?;
    let looked = guard.judge(&outputs[output], rows, inputs.rows);
    looked.map_err(|error| Unasked::Score(error.to_string()))
}

/// Looks at what a model answered for so many rows.
///
/// # Errors
///
/// When a check blocks the answer.
pub(crate) async fn outputs(
    served: &Served,
    caller: Caller<'_>,
    spec: &Arc<ModelSpec>,
    outputs: Vec<Tensor>,
    rows: usize,
) -> Result<(Vec<Tensor>, Findings), Refused> {
    if spec.safety.outputs.is_empty() {
        return Ok((outputs, Findings::default()));
    }
    let size = outputs.iter().map(|tensor| tensor.data().len()).sum();
    let spec = Arc::clone(spec);
    let look = move || {
        let looked = spec.safety.check_outputs(&spec.signature, &outputs, rows);
        looked.map(|findings| (outputs, findings))
    };
    let (outputs, findings) = crate::infer::work(size, look).await??;
    note_all(served, caller, &findings);
    Ok((outputs, findings))
}

/// Counts findings that block nothing.
pub(crate) fn note_all(served: &Served, caller: Caller<'_>, findings: &Findings) {
    for finding in findings.iter() {
        note(served, caller, finding);
    }
}

/// Counts what checks found in a request that is refused; returns what to tell of it in a header.
pub(crate) fn refused(
    served: &Served,
    caller: Caller<'_>,
    refused: &Refused,
) -> Option<HeaderValue> {
    if let Refused::Unsafe(blocked) = refused {
        note_all(served, caller, blocked.findings());
        return header(blocked.findings());
    }
    // These cannot be run whatever the checks are; whether they count as unsafe is the model's say.
    let safety = &served.spec()?.safety;
    let (check, action) = match refused {
        Refused::Decode(error) if error.is_non_finite() => {
            (Check::NanInfInput, safety.nan_inf_input)
        }
        Refused::Input(_) => (Check::Schema, safety.schema),
        _ => return None,
    };
    action?;
    served.metrics.flagged(check, Action::Block);
    Some(HeaderValue::from_static(check.name()))
}

/// What an answer says of itself in [`aegis_protocol::headers::SAFETY_FLAGS`].
pub(crate) fn header(findings: &Findings) -> Option<HeaderValue> {
    HeaderValue::try_from(findings.reasons()?).ok()
}

fn note(served: &Served, caller: Caller<'_>, finding: &Finding) {
    served.metrics.flagged(finding.check, finding.action);
    let is_told = finding.action == Action::Log || matches!(finding.what, What::Unable(_));
    if is_told && served.findings_told.lock().lets_through(clock::now()) {
        tracing::warn!(
            model = served.name,
            version = served.version,
            request_id = caller.request_id,
            traceparent = caller.traceparent,
            reason = finding.check.name(),
            action = finding.action.name(),
            rows = %finding.rows,
            "safety: {finding}"
        );
    }
}

// === impl Unasked ===

impl Unasked {
    /// Whether it says nothing of the request, and may be otherwise later or elsewhere.
    fn may_pass(&self) -> bool {
        match self {
            Self::NotServed | Self::NotReady(_) => true,
            Self::Infer(error) => matches!(
                error,
                InferError::Deadline | InferError::Refused(_) | InferError::Stopped
            ),
            Self::Guard(_) | Self::Score(_) => false,
        }
    }

    /// What it is to the client, where it [may pass](Self::may_pass).
    fn refusal(self, served: &Served, guard: &Guard) -> Refused {
        match self {
            Self::Infer(error @ (InferError::Deadline | InferError::Refused(_))) => error.into(),
            other => Refused::NotReady {
                model: served.name.clone(),
                version: served.version.clone(),
                reason: guard.says(Chain(&other)),
            },
        }
    }
}
