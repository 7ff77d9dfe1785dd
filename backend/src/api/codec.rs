//! Bodies in JSON: from one to a request that is checked, and from outputs to one.

use std::sync::Arc;

use aegis_protocol::InferRequest;

use super::Refused;
use super::body::Upload;
use crate::infer::{Answered, Asked, work};
use crate::repository::ModelSpec;

/// Decodes and checks a body, which is let go of then.
pub(super) async fn decode(spec: &Arc<ModelSpec>, body: Upload) -> Result<Asked, Refused> {
    let spec = Arc::clone(spec);
    work(body.bytes.len(), move || {
        Asked::check(&spec, InferRequest::from_json(&body.bytes)?)
    })
    .await?
}

/// Checks and writes the outputs that were asked for.
pub(super) async fn encode(spec: &Arc<ModelSpec>, answered: Answered) -> Result<Vec<u8>, Refused> {
    let spec = Arc::clone(spec);
    work(answered.size(), move || {
        Ok(answered.response(&spec)?.to_json()?)
    })
    .await?
}
