//! One request that was drawn: its copy, and what passes of the primary's answer.

use std::{net::SocketAddr, sync::Arc};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use tokio::sync::OwnedSemaphorePermit;

use super::{Ended, Shadow, compare, copy, form::Form};

/// A request whose answer is on its way to the client, and is kept beside. Dropped
/// before its answer was whole it is counted as cut short.
#[derive(Debug)]
pub struct Sample {
    shadow: Arc<Shadow>,
    /// Where the copy goes.
    at: SocketAddr,
    request: (Form, Bytes),
    answer: (Form, BytesMut),
    limit: usize,
    /// None once it has ended, in one way or another.
    slot: Option<OwnedSemaphorePermit>,
}

// === impl Shadow ===

impl Shadow {
    /// Begins to keep the answer to a request that was drawn. `request` is its body,
    /// as far as it was kept; `at` says where a copy may go. What stands in the
    /// way is counted.
    #[must_use]
    pub fn sample(
        self: &Arc<Self>,
        asked: &HeaderMap,
        answered: &HeaderMap,
        request: Option<Bytes>,
        at: impl FnOnce() -> Option<SocketAddr>,
    ) -> Option<Sample> {
        match self.try_sample(asked, answered, request, at) {
            Ok(sample) => Some(sample),
            Err(ended) => {
                self.tally.ended(ended);
                None
            }
        }
    }

    fn try_sample(
        self: &Arc<Self>,
        asked: &HeaderMap,
        answered: &HeaderMap,
        request: Option<Bytes>,
        at: impl FnOnce() -> Option<SocketAddr>,
    ) -> Result<Sample, Ended> {
        let limit = usize::try_from(self.settings.max_kept_bytes).unwrap_or(usize::MAX);
        let asked = Form::of(asked).ok_or(Ended::Unsupported)?;
        let form = Form::of(answered).ok_or(Ended::Unsupported)?;
        let request = request.ok_or(Ended::NotKept)?;
        // The version of a message that is compressed cannot be set.
        if asked == Form::Call && request.first() != Some(&0) {
            return Err(Ended::Unsupported);
        }
        if request.len() > limit || length(answered).is_some_and(|length| length > limit) {
            return Err(Ended::TooLarge);
        }
        let slots = Arc::clone(&self.slots);
        let slot = slots.try_acquire_owned().map_err(|_| Ended::Busy)?;
        Ok(Sample {
            shadow: Arc::clone(self),
            at: at().ok_or(Ended::NoEndpoint)?,
            request: (asked, request),
            answer: (form, BytesMut::with_capacity(length(answered).unwrap_or(0))),
            limit,
            slot: Some(slot),
        })
    }
}

fn length(headers: &HeaderMap) -> Option<usize> {
    let length = headers.get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.trim().parse().ok()
}

// === impl Sample ===

impl Sample {
    /// Keeps a piece of the answer.
    pub fn keep(&mut self, piece: &[u8]) {
        if self.slot.is_none() {
            return;
        }
        let (_, answer) = &mut self.answer;
        if answer.len() + piece.len() > self.limit {
            *answer = BytesMut::new();
            self.end(Ended::TooLarge);
        } else {
            answer.extend_from_slice(piece);
        }
    }

    /// The client has its answer: asks the shadow, and compares. Call it within a
    /// tokio runtime.
    pub fn send(mut self) {
        let Some(slot) = self.slot.take() else {
            return;
        };
        let shadow = Arc::clone(&self.shadow);
        let (form, answer) = &mut self.answer;
        let answer = (*form, std::mem::take(answer).freeze());
        let (request, at) = (self.request.clone(), self.at);
        tokio::spawn(async move {
            match copy::ask(&shadow, at, request).await {
                Ok(other) => weigh(&shadow, [answer, other]).await,
                Err(ended) => shadow.tally.ended(ended),
            }
            drop(slot);
        });
    }

    fn end(&mut self, how: Ended) {
        if self.slot.take().is_some() {
            self.shadow.tally.ended(how);
        }
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        self.end(Ended::CutShort);
    }
}

/// Reads both answers and compares them, where it holds up no connection.
async fn weigh(shadow: &Arc<Shadow>, answers: [(Form, Bytes); 2]) {
    let here = Arc::clone(shadow);
    let work = move || match answers.map(|(form, body)| form.read(&body)) {
        [Some(primary), Some(shadow)] => {
            let result = compare(&primary, &shadow, here.tolerance());
            here.tally.compared(here.version.name(), &result);
        }
        _ => here.tally.ended(Ended::Unreadable),
    };
    // It ends with the runtime at the worst.
    let _ = tokio::task::spawn_blocking(work).await;
}
