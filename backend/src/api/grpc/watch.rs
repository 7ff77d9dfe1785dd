//! `grpc.health.v1.Health/Watch`: the state of a service, and again whenever it changes.

use std::sync::Arc;
use std::time::Duration;

use aegis_protocol::grpc::{self as wire, HealthCheckRequest, HealthCheckResponse, ServingStatus};
use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::super::{Answer, Refused};
use super::{SERVICES, Upload, decode, state, streamed, went_well};
use crate::app::{App, Phase};

pub(super) const PATH: &str = "/grpc.health.v1.Health/Watch";

/// How often the state is looked at. It depends on every instance of every model, which tell nobody.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Answers for as long as the client listens, or until the server goes away.
pub(super) fn watch(app: &Arc<App>, call: &Upload) -> Result<Answer, Refused> {
    let HealthCheckRequest { service } = decode(&call.bytes)?;
    let is_known = SERVICES.contains(&&*service);
    let (send, answers) = mpsc::channel(1);
    tokio::spawn(tell(Arc::clone(app), is_known, send));
    Ok(streamed(answers))
}

async fn tell(app: Arc<App>, is_known: bool, answers: mpsc::Sender<Frame<Bytes>>) {
    let mut told = None;
    loop {
        let now = if is_known {
            state(&app)
        } else {
            ServingStatus::ServiceUnknown
        };
        if told != Some(now) {
            let message = wire::frame(&HealthCheckResponse { status: now.into() });
            if answers.send(Frame::data(message)).await.is_err() {
                return;
            }
            told = Some(now);
        }
        tokio::select! {
            () = answers.closed() => return,
            () = app.reached(Phase::Closing) => break,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
    // All that there was to tell was told.
    let _ = answers.send(Frame::trailers(went_well())).await;
}
