//! One request, from when it is due to when its fate is known.

use std::time::{Duration, Instant};

use aegis_protocol::{ErrorBody, InferRequest, NamedTensor, Tensor, excerpt};
use bytes::Bytes;

use crate::client::{Answer, HttpClient};
use crate::clock;
use crate::load::LoadError;
use crate::order::Order;
use crate::outcome::{ErrorKind, Outcome, Sample};
use crate::plan::Plan;
use crate::score::score;

/// Everything that is needed to send the request of a given number.
#[derive(Debug)]
pub(crate) struct Gun {
    client: HttpClient,
    order: Order,
    /// A body and the right label, for each example.
    rounds: Vec<(Bytes, i64)>,
    output: String,
    timeout: Duration,
}

// === impl Gun ===

impl Gun {
    /// Encodes every example once, so that sending costs next to nothing.
    pub(crate) fn new(plan: &Plan) -> Result<Self, LoadError> {
        let examples = plan.data.examples();
        let round = |example: &crate::Example| -> Result<_, LoadError> {
            let image = Tensor::from_f32([1, example.input.len()], &example.input)?;
            let inputs = vec![NamedTensor::new(plan.target.input.as_str(), image)];
            let body = InferRequest {
                inputs,
                ..InferRequest::default()
            }
            .to_json()?;
            Ok((Bytes::from(body), example.label))
        };
        Ok(Self {
            client: HttpClient::new(&plan.target.infer()?, plan.connections, plan.timeout)?,
            order: Order::new(examples.len(), plan.seed),
            rounds: examples.iter().map(round).collect::<Result<_, _>>()?,
            output: plan.target.output.clone(),
            timeout: plan.timeout,
        })
    }

    /// Sends the request of that number, which was due at `intended`, and waits
    /// for its answer until the timeout has passed since then.
    pub(crate) async fn fire(&self, request: u64, intended: Instant) -> Sample {
        let (body, label) = self.rounds[self.order.example(request)].clone();
        let began = clock::now();
        let mut started = None;
        let answer = async {
            // Waiting for a connection is part of the latency: `intended` stands.
            let lease = self.client.lease().await;
            started = Some(clock::now());
            lease.send(body).await
        };
        let deadline = tokio::time::Instant::from_std(intended + self.timeout);
        let outcome = match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => self.judge(answer, label),
            Ok(Err(error)) => Outcome::Failed {
                kind: error.kind,
                text: error.text,
            },
            Err(_) => Outcome::Failed {
                kind: ErrorKind::Timeout,
                text: format!("no answer within {:?}", self.timeout),
            },
        };
        Sample {
            intended,
            began,
            started,
            ended: clock::now(),
            outcome,
        }
    }

    fn judge(&self, answer: Answer, label: i64) -> Outcome {
        let Answer {
            status,
            mut from,
            reason,
            body,
            ..
        } = answer;
        if status != http::StatusCode::OK {
            let error = serde_json::from_slice::<ErrorBody>(&body).map(|body| body.error);
            let text = error.unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned());
            let text = excerpt(&text).to_string();
            return Outcome::Refused {
                from,
                status: status.as_u16(),
                reason,
                text,
            };
        }
        match score(&body, &self.output, label) {
            Ok(scored) => {
                from.version = from.version.or(scored.version);
                Outcome::Scored {
                    from,
                    right: Some(scored.right),
                }
            }
            Err(error) => Outcome::Failed {
                kind: ErrorKind::BadAnswer,
                text: error.to_string(),
            },
        }
    }
}
