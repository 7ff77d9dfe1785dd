//! What takes time in proportion to a body: decoding and checking it, and writing an answer.
//!
//! Small bodies are worked on where they are; large ones on a thread that may block, because a
//! worker of the runtime that spends 100 ms on one body holds up every connection of its own.

use std::sync::Arc;
use std::time::Duration;

use super::body::Upload;
use super::{Refused, deadline};
use crate::repository::ModelSpec;
use crate::safety::{self, Side};
use crate::signature::{Inputs, Names, TensorSpec};
use aegis_protocol::{
    InferRequest, InferResponse, NamedTensor, Parameters, RequestedOutput, Tensor, excerpt,
};

/// From this size on, work on a body takes so long that it must not hold up other connections.
const LARGE_BODY: usize = 256 << 10;

/// A request, decoded and checked.
pub(super) struct Asked {
    pub(super) id: Option<String>,
    /// What its parameters ask for.
    pub(super) timeout: Option<Duration>,
    /// Which of the model's outputs, in this order.
    pub(super) wanted: Vec<usize>,
    pub(super) inputs: Inputs,
}

/// What an answer says besides its outputs.
pub(super) struct Head {
    pub(super) model: String,
    pub(super) version: String,
    pub(super) id: Option<String>,
}

/// Decodes and checks a body, which is let go of then.
pub(super) async fn decode(spec: &Arc<ModelSpec>, body: Upload) -> Result<Asked, Refused> {
    let spec = Arc::clone(spec);
    work(body.bytes.len(), move || asked(&spec, &body.bytes)).await?
}

/// Checks and writes the outputs that were asked for.
pub(super) async fn encode(
    spec: &Arc<ModelSpec>,
    head: Head,
    outputs: Vec<Tensor>,
    wanted: Vec<usize>,
) -> Result<Vec<u8>, Refused> {
    let size = wanted.iter().map(|at| outputs[*at].data().len()).sum();
    let spec = Arc::clone(spec);
    work(size, move || written(&spec, head, &outputs, &wanted)).await?
}

/// Works on so many bytes, on a thread of its own if they are many.
async fn work<T: Send + 'static>(
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

fn asked(spec: &ModelSpec, body: &[u8]) -> Result<Asked, Refused> {
    let request = InferRequest::from_json(body)?;
    Ok(Asked {
        timeout: deadline::parameter(&request.parameters)?,
        wanted: wanted(&spec.signature.outputs, &request.outputs)?,
        inputs: check_inputs(spec, request.inputs)?,
        id: request.id,
    })
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

fn check_inputs(spec: &ModelSpec, inputs: Vec<NamedTensor>) -> Result<Inputs, Refused> {
    let inputs = spec.signature.arrange(inputs)?;
    if spec.safety.nan_inf_input.is_some() {
        let names = spec.signature.inputs.iter().map(|spec| spec.name.as_str());
        safety::finite(Side::Input, names.zip(&inputs.tensors))?;
    }
    Ok(inputs)
}

fn written(
    spec: &ModelSpec,
    head: Head,
    outputs: &[Tensor],
    wanted: &[usize],
) -> Result<Vec<u8>, Refused> {
    let response = InferResponse {
        model_name: head.model,
        model_version: Some(head.version),
        id: head.id,
        parameters: Parameters::new(),
        outputs: check_outputs(spec, outputs, wanted)?,
    };
    Ok(response.to_json()?)
}

/// Names what is asked for, and checks what leaves.
fn check_outputs(
    spec: &ModelSpec,
    outputs: &[Tensor],
    wanted: &[usize],
) -> Result<Vec<NamedTensor>, Refused> {
    let name = |at: usize| {
        let name = spec.signature.outputs[at].name.as_str();
        NamedTensor::new(name, outputs[at].clone())
    };
    let named: Vec<_> = wanted.iter().map(|at| name(*at)).collect();
    if spec.safety.nan_inf_output.is_some() {
        let pairs = named
            .iter()
            .map(|named| (named.name.as_str(), &named.tensor));
        safety::finite(Side::Output, pairs)?;
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use aegis_protocol::Reason;

    use super::*;

    #[tokio::test]
    async fn only_large_bodies_leave_the_worker() {
        let here = thread::current().id();
        let small = work(LARGE_BODY - 1, || thread::current().id()).await;
        assert_eq!(small.unwrap(), here);
        let large = work(LARGE_BODY, || thread::current().id()).await;
        assert_ne!(large.unwrap(), here);
    }

    #[tokio::test]
    async fn a_large_answer_is_written_off_the_worker() {
        let text = "platform = \"scripted\"\n[[inputs]]\nname = \"x\"\ndatatype = \"BOOL\"\n\
                    shape = [-1]\n[[outputs]]\nname = \"y\"\ndatatype = \"BOOL\"\nshape = [-1]\n";
        let spec = Arc::new(ModelSpec::parse("model.toml", text).unwrap());
        let head = Head {
            model: "m".to_owned(),
            version: "1".to_owned(),
            id: None,
        };
        let data = vec![1; LARGE_BODY];
        let large = Tensor::new(aegis_protocol::Datatype::Bool, [LARGE_BODY], data).unwrap();
        // This thread runs nothing else: an answer written on it would be there at once.
        let mut answer = std::pin::pin!(encode(&spec, head, vec![large], vec![0]));
        assert!(futures::poll!(&mut answer).is_pending());
        assert!(answer.await.unwrap().len() > LARGE_BODY);
    }

    #[tokio::test]
    async fn a_panic_is_a_fault_and_not_a_drain() {
        let refused = work(LARGE_BODY, || panic!("bang")).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::ModelError);
        assert_eq!(Refused::CutOff.reason(), Reason::Draining);
    }
}
